//! What stands on an issuer's CRL: fed by the change log, in the order of serials. Pure.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    identity::{SerialNumber, Timestamp},
    pki::CrlEntry,
    store::{Change, Revoked},
};

/// How long an entry stays after its certificate expired.
pub const RETENTION: Duration = Duration::from_secs(24 * 3600);
/// How far the horizon may move at once. A clock that jumped this far ahead has not yet passed the expiry of any
/// certificate whose entry it would drop.
const MAX_STRIDE: Duration = RETENTION;

/// The certificates of one issuer that are revoked or on hold.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    revoked: BTreeMap<SerialNumber, (Revoked, Timestamp)>,
    watermark: u64,
}

impl Entries {
    /// Takes the next change. `false`: it is not the next one, and nothing was changed.
    #[must_use]
    pub fn apply(&mut self, change: &Change) -> bool {
        if change.sequence != self.watermark + 1 {
            return false;
        }
        self.watermark = change.sequence;
        match change.revoked {
            Some(revoked) => self.revoked.insert(change.serial, (revoked, change.not_after)),
            None => self.revoked.remove(&change.serial),
        };
        true
    }

    /// The last change taken.
    pub fn watermark(&self) -> u64 {
        self.watermark
    }

    /// Lets go of entries whose certificates expired before `horizon`.
    pub fn drop_expired(&mut self, horizon: Timestamp) {
        self.revoked.retain(|_, (_, not_after)| *not_after >= horizon);
    }

    /// Whether the certificate with this serial is here.
    pub fn contains(&self, serial: &SerialNumber) -> bool {
        self.revoked.contains_key(serial)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.revoked.len()
    }

    /// What goes into a CRL, in order.
    pub fn iter(&self) -> impl Iterator<Item = CrlEntry> + Clone {
        self.revoked.iter().map(|(serial, (revoked, _))| CrlEntry {
            serial: *serial,
            revoked_at: revoked.at,
            reason: revoked.reason,
        })
    }

    /// Those of these serials that are here, in order.
    pub fn only(&self, serials: &[SerialNumber]) -> Vec<CrlEntry> {
        let mut entries: Vec<CrlEntry> = serials
            .iter()
            .filter_map(|serial| {
                let (revoked, _) = self.revoked.get(serial)?;
                Some(CrlEntry { serial: *serial, revoked_at: revoked.at, reason: revoked.reason })
            })
            .collect();
        entries.sort_by_key(|entry| entry.serial);
        entries
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
    use crate::identity::RevocationReason;

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

    #[test]
    fn entries_are_what_the_log_folds_to() {
        let mut entries = Entries::default();
        for next in [change(1, 7, true), change(2, 3, true), change(3, 7, false)] {
            assert!(entries.apply(&next));
        }
        assert_eq!(entries.iter().map(|entry| entry.serial).collect::<Vec<_>>(), [serial(3)]);
        assert_eq!(entries.watermark(), 3);
    }

    #[test]
    fn a_gap_in_the_log_is_not_passed_over() {
        let mut entries = Entries::default();
        assert!(!entries.apply(&change(2, 7, true)));
        assert_eq!((entries.len(), entries.watermark()), (0, 0));
    }

    #[test]
    fn an_entry_leaves_when_the_horizon_has_passed_its_expiry() {
        let mut entries = Entries::default();
        assert!(entries.apply(&change(1, 1, true)) && entries.apply(&change(2, 9, true)));
        entries.drop_expired(Timestamp::from_secs(105));
        assert_eq!(entries.only(&[serial(9), serial(1)]).len(), 1);
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
