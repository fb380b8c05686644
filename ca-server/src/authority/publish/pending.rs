//! What has changed since a CRL: fed by the change log, in the order of serials. Pure.

use std::{
    collections::{BTreeSet, btree_set},
    iter::Peekable,
    slice,
    time::Duration,
};

use crate::{
    identity::{RevocationReason, SerialNumber, Timestamp},
    pki::{CrlEntry, Edit, RETENTION},
    store::{Change, Revoked},
};

/// For how many changes room is made ahead, at most: what is not used is never touched.
const MOST_ROOM: u64 = 16_000_000;
/// How far the horizon may move at once. A clock that jumped this far ahead has not yet passed the expiry of any
/// certificate whose entry it would drop.
const MAX_STRIDE: Duration = RETENTION;

/// Changes of one issuer's certificates. From the first change on, each certificate's last one is all that is revoked or on
/// hold: a million of them at a start, so that they stand one behind the other.
#[derive(Clone, Debug, Default)]
pub struct Pending {
    changed: Vec<Changed>,
    watermark: u64,
}

/// What a certificate became. There may be a million of them: 40 octets each.
#[derive(Clone, Copy, Debug)]
struct Changed {
    serial: SerialNumber,
    not_after: Timestamp,
    revoked_at: Timestamp,
    /// Why; none where it was released.
    reason: Option<RevocationReason>,
    /// Which of the changes of one certificate is the last.
    order: u32,
}

impl Changed {
    /// Its entry on a CRL whose entries are of certificates that expire at `horizon` or later.
    fn listed(&self, horizon: Timestamp) -> Option<CrlEntry> {
        let reason = self.reason.filter(|_| self.not_after >= horizon)?;
        Some(CrlEntry { serial: self.serial, revoked_at: self.revoked_at, reason })
    }
}

impl Pending {
    /// What comes after this change.
    pub fn after(watermark: u64) -> Self {
        Self { watermark, ..Self::default() }
    }

    /// Makes room for so many changes, so that it is not made again and again.
    pub fn reserve(&mut self, changes: u64) {
        self.changed.reserve_exact(usize::try_from(changes.min(MOST_ROOM)).unwrap_or_default());
    }

    /// Takes the next change. `false`: it is not the next one, and nothing was changed.
    #[must_use]
    pub fn apply(&mut self, change: &Change) -> bool {
        if change.sequence != self.watermark + 1 {
            return false;
        }
        self.watermark = change.sequence;
        self.push(change);
        true
    }

    /// Takes what is left of changes after the last one taken, up to this number: each counts more than what was taken before.
    pub fn take_left(&mut self, changes: &[Change], last: u64) {
        changes.iter().for_each(|change| self.push(change));
        self.watermark = self.watermark.max(last);
    }

    fn push(&mut self, change: &Change) {
        let Change { serial, not_after, revoked, .. } = *change;
        let (revoked_at, reason) = match revoked {
            Some(Revoked { at, reason }) => (at, Some(reason)),
            None => (not_after, None),
        };
        // Never as many as it can count: they are made fewer at each publication.
        let order = self.changed.len() as u32 + 1;
        self.changed.push(Changed { serial, not_after, revoked_at, reason, order });
    }

    /// Nothing has become of these.
    pub fn forget(&mut self, serials: &BTreeSet<SerialNumber>) {
        self.changed.retain(|changed| !serials.contains(&changed.serial));
    }

    /// The last change taken.
    pub fn watermark(&self) -> u64 {
        self.watermark
    }

    /// What this makes of a CRL whose entries are of certificates that expire at `horizon` or later. `expired`: what the
    /// CRL before it may list, and has expired since.
    pub fn until(&mut self, horizon: Timestamp, expired: impl IntoIterator<Item = SerialNumber>) -> Turn<'_> {
        // In place: no room beside it is needed. Of the changes of one certificate the last takes the place of those before it.
        self.changed.sort_unstable_by_key(|changed| (changed.serial, changed.order));
        self.changed.dedup_by(|later, earlier| {
            let same = later.serial == earlier.serial;
            if same {
                *earlier = *later;
            }
            same
        });
        // Before all that comes.
        self.changed.iter_mut().for_each(|changed| changed.order = 0);
        let mut turn = Turn { changed: &self.changed, horizon, expired: BTreeSet::new() };
        let expired = expired.into_iter().filter(|serial| turn.changed(serial).is_none());
        turn.expired = expired.collect();
        turn
    }
}

/// What becomes of the entries of a CRL at one publication.
pub struct Turn<'a> {
    /// In the order of serials, each once.
    changed: &'a [Changed],
    horizon: Timestamp,
    /// Not among the changes.
    expired: BTreeSet<SerialNumber>,
}

impl<'a> Turn<'a> {
    /// Whether the entry of this certificate is taken off: it was released, or has expired.
    pub fn takes_off(&self, serial: &SerialNumber) -> bool {
        let is_off = |changed: &Changed| changed.listed(self.horizon).is_none();
        self.expired.contains(serial) || self.changed(serial).is_some_and(is_off)
    }

    /// Every certificate whose entry would be taken off, if it had one.
    pub fn all_off(&self) -> impl Iterator<Item = SerialNumber> {
        self.edits().filter_map(|(serial, entry)| entry.is_none().then_some(serial))
    }

    /// Whether the changes alone list this certificate.
    pub fn lists(&self, serial: &SerialNumber) -> bool {
        self.changed(serial).is_some_and(|changed| changed.listed(self.horizon).is_some())
    }

    fn changed(&self, serial: &SerialNumber) -> Option<&'a Changed> {
        let place = self.changed.binary_search_by_key(serial, |changed| changed.serial).ok()?;
        self.changed.get(place)
    }

    /// What becomes of which entry, in the order of serials.
    pub fn edits(&self) -> Edits<'_> {
        let (changed, expired) = (self.changed.iter().peekable(), self.expired.iter().peekable());
        Edits { changed, horizon: self.horizon, expired }
    }
}

/// Both kinds of edits, in one order.
pub struct Edits<'a> {
    changed: Peekable<slice::Iter<'a, Changed>>,
    horizon: Timestamp,
    expired: Peekable<btree_set::Iter<'a, SerialNumber>>,
}

impl Iterator for Edits<'_> {
    type Item = Edit;

    fn next(&mut self) -> Option<Edit> {
        let horizon = self.horizon;
        let changed = |changed: &Changed| (changed.serial, changed.listed(horizon));
        match (self.changed.peek(), self.expired.peek()) {
            (Some(next), other) if other.is_none_or(|other| next.serial < **other) => self.changed.next().map(changed),
            _ => self.expired.next().map(|serial| (*serial, None)),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let length = self.changed.len() + self.expired.len();
        (length, Some(length))
    }
}

/// The horizon of the next publication: entries of certificates that expired before it leave. It never goes back, and
/// where the clock leaps it stands still (`true`) until somebody says that the clock is right: a clock that jumps stops
/// removals, never additions.
pub fn next_horizon(last: Option<Timestamp>, now: Timestamp, clock_accepted: bool) -> (Timestamp, bool) {
    let wanted = now - RETENTION;
    match last {
        None => (wanted, false),
        Some(last) if wanted <= last => (last, false),
        Some(last) if wanted.since(last) > MAX_STRIDE && !clock_accepted => (last, true),
        Some(_) => (wanted, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serial(n: u8) -> SerialNumber {
        SerialNumber::from_bytes([n; 16])
    }

    fn change(sequence: u64, n: u8, revoked: bool) -> Change {
        let revocation = Revoked { at: Timestamp::from_secs(50), reason: RevocationReason::KeyCompromise };
        Change {
            sequence,
            serial: serial(n),
            not_after: Timestamp::from_secs(100 + i64::from(n)),
            revoked: revoked.then_some(revocation),
        }
    }

    fn listed(turn: &Turn<'_>) -> Vec<SerialNumber> {
        turn.edits().filter_map(|(serial, entry)| entry.map(|_| serial)).collect()
    }

    #[test]
    fn of_each_certificate_the_last_change_counts() {
        let mut pending = Pending::default();
        for next in [change(1, 7, true), change(2, 3, true), change(3, 7, false)] {
            assert!(pending.apply(&next));
        }
        assert_eq!(pending.watermark(), 3);
        let turn = pending.until(Timestamp::default(), []);
        assert_eq!((listed(&turn), turn.edits().size_hint()), (vec![serial(3)], (2, Some(2))));
        assert!(turn.takes_off(&serial(7)) && !turn.takes_off(&serial(3)) && !turn.takes_off(&serial(4)));
        // What was looked at before comes before.
        for next in [change(4, 7, true), change(5, 3, false), change(6, 3, true), change(7, 3, false)] {
            assert!(pending.apply(&next));
        }
        assert_eq!(listed(&pending.until(Timestamp::default(), [])), [serial(7)]);
    }

    #[test]
    fn a_gap_in_the_log_is_not_passed_over() {
        let mut pending = Pending::after(4);
        assert!(!pending.apply(&change(6, 7, true)));
        assert_eq!((pending.changed.len(), pending.watermark()), (0, 4));
        assert!(pending.apply(&change(5, 7, true)));
    }

    #[test]
    fn an_entry_leaves_when_the_horizon_has_passed_its_expiry() {
        let mut pending = Pending::default();
        assert!(pending.apply(&change(1, 1, true)) && pending.apply(&change(2, 9, true)));
        let turn = pending.until(Timestamp::from_secs(105), [9, 5, 200, 0].map(serial));
        let edits: Vec<_> = turn.edits().map(|(serial, entry)| (serial, entry.is_some())).collect();
        let expected = [(0, false), (1, false), (5, false), (9, true), (200, false)];
        assert_eq!(edits, expected.map(|(n, stays)| (serial(n), stays)));
        assert!([0, 1, 5, 200].iter().all(|n| turn.takes_off(&serial(*n))) && !turn.takes_off(&serial(9)));
        // A clock that steps back before it is published brings them back.
        assert_eq!(listed(&pending.until(Timestamp::from_secs(0), [])), [serial(1), serial(9)]);
    }

    #[test]
    fn the_horizon_stands_still_where_the_clock_leaps() {
        let at = |hours: i64| Timestamp::from_secs(hours * 3600);
        assert_eq!(next_horizon(None, at(100), false), (at(76), false));
        assert_eq!(next_horizon(Some(at(76)), at(101), false), (at(77), false));
        assert_eq!(next_horizon(Some(at(76)), at(90), false), (at(76), false), "never back");
        assert_eq!(next_horizon(Some(at(76)), at(9000), false), (at(76), true), "stopped");
        assert_eq!(next_horizon(Some(at(76)), at(9000), true), (at(8976), false), "somebody checked the clock");
    }
}
