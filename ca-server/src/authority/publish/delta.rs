//! Delta CRLs (RFC 5280, section 5.2.4), for who has asked for them in the settings: what has changed since a complete
//! CRL of about a day ago, signed when somebody asks. Never in a bundle: several verifiers take a delta for the whole.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use bytes::Bytes;

use super::{PublishError, Published, Publisher, make::template, pending::Pending, sha256};
use crate::{
    identity::{IssuerId, SerialNumber, Timestamp},
    pki::{Edit, EntryList, IssuerCertificate, ParsedDelta},
    store::CrlHead,
};

/// How long a delta is good. The next one comes with the next complete CRL.
const LIFETIME: Duration = Duration::from_secs(3600);
/// For how long at least a complete CRL can be brought up to date by deltas; for twice as long at most.
const REACH: Duration = Duration::from_secs(24 * 3600);
/// How many entries a delta has at most; who is behind by more gets the whole.
const MOST: usize = 100_000;

/// The deltas of one issuer.
#[derive(Default)]
pub(super) struct Deltas {
    base: Option<Base>,
    /// The next base, when the time of that one is over.
    next: Option<Base>,
    made: Option<Arc<Published>>,
}

/// What is to be known of the complete CRL that a delta begins with: the change log knows the rest.
#[derive(Clone, Copy)]
struct Base {
    number: u64,
    this_update: Timestamp,
    watermark: u64,
    horizon: Timestamp,
}

impl Base {
    fn of(head: &CrlHead) -> Self {
        let CrlHead { number, this_update, horizon, .. } = *head;
        // What was taken back may lack changes from before its watermark.
        let watermark = if head.der.is_some() { 0 } else { head.watermark };
        Self { number, this_update, watermark, horizon }
    }
}

impl Deltas {
    /// A complete CRL is served.
    fn note(&mut self, head: &CrlHead) {
        let new = Base::of(head);
        self.made = None;
        self.base.get_or_insert(new);
        let next = *self.next.get_or_insert(new);
        if new.this_update.since(next.this_update) >= REACH {
            (self.base, self.next) = (Some(next), Some(new));
        }
    }
}

impl Publisher {
    /// From here on there are deltas.
    pub fn offer_deltas(&self) {
        self.offer_deltas_of(MOST);
    }

    /// The same, with so many entries at most.
    pub(crate) fn offer_deltas_of(&self, most: usize) {
        // The first word counts: the settings are read once.
        let _ = self.most_in_delta.set(most);
    }

    /// A complete CRL is served: deltas may begin with it.
    pub(super) fn note_delta_base(&self, head: &CrlHead) {
        self.deltas.lock().unwrap_or_else(PoisonError::into_inner).entry(head.issuer).or_default().note(head);
    }

    /// What has changed since a complete CRL of about a day ago: a delta with number and date of the complete CRL that is
    /// served. `None`: there are none, or nothing has been published since the first CRL that could be their base.
    pub async fn delta(&self, issuer: &IssuerId) -> Result<Option<Arc<Published>>, PublishError> {
        let Some(&most) = self.most_in_delta.get() else { return Ok(None) };
        let online = self.online(issuer)?;
        // One at a time: who has waited finds it made.
        let _bench = self.delta_bench.lock().await;
        let (full, base, head) = {
            // What is served and its head are of one moment. What takes its time comes after that: who asks keeps no
            // publication waiting.
            let engines = self.engines.lock().await;
            let full = self.current(issuer).ok_or(PublishError::UnknownIssuer)?;
            let deltas = self.deltas.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(deltas) = deltas.get(issuer) else { return Ok(None) };
            if let Some(made) = deltas.made.as_ref().filter(|made| made.number == full.number) {
                return Ok(Some(made.clone()));
            }
            let Some(base) = deltas.base.filter(|base| base.number < full.number) else { return Ok(None) };
            let head = engines.get(issuer).and_then(|engine| engine.head.as_ref());
            let head = head.filter(|head| head.number == full.number).ok_or(PublishError::UnknownIssuer)?;
            (full, base, head.clone())
        };
        let mut pending = Pending::after(base.watermark);
        self.catch_up(*issuer, &mut pending, Some(head.watermark)).await?;
        let expired = self.store.expired(*issuer, base.horizon, head.horizon).await?;
        // What counts is what the complete CRL says: applied to any CRL since the base, the delta makes just that one.
        let turn = pending.until(head.horizon, expired);
        let changes: Vec<_> = turn.edits().map(|(serial, _)| (serial, full.listed.get(&serial))).collect();
        if changes.len() > most {
            self.move_base(&head);
            return Ok(None);
        }
        let next_update = full.this_update + LIFETIME;
        let head = CrlHead { next_update, ..head };
        let prepared = template(online.issuer.certificate(), &head).prepare_delta(base.number, &changes);
        let signature = online.signer.sign(prepared.tbs())?;
        let der = check(
            online.issuer.certificate(),
            &head,
            base.number,
            (&full.listed, &changes),
            prepared.assemble(&signature),
        )?;
        let delta = Arc::new(Published {
            next_update,
            entries: changes.len() as u64,
            sha256: sha256(&der),
            head_signature: Bytes::new(),
            der,
            listed: Arc::default(),
            ..(*full).clone()
        });
        let mut deltas = self.deltas.lock().unwrap_or_else(PoisonError::into_inner);
        match self.current(issuer) {
            // The CA stands still since.
            None => return Ok(None),
            Some(served) if served.number == full.number => {
                deltas.entry(*issuer).or_default().made = Some(delta.clone())
            }
            // The complete CRL that has come since has a delta of its own.
            Some(_) => {}
        }
        Ok(Some(delta))
    }

    /// From here on deltas begin with this CRL.
    fn move_base(&self, head: &CrlHead) {
        let base = Some(Base::of(head));
        let mut deltas = self.deltas.lock().unwrap_or_else(PoisonError::into_inner);
        deltas.insert(head.issuer, Deltas { base, next: base, made: None });
    }
}

/// Reads back what was written: our issuer's signature, from which complete CRL it leads to which, and of everybody who is to
/// be named, in the order of serials, what the complete CRL says of him now.
fn check(
    issuer: &IssuerCertificate,
    head: &CrlHead,
    base: u64,
    (listed, named): (&EntryList, &[Edit]),
    der: Bytes,
) -> Result<Bytes, PublishError> {
    let delta = ParsedDelta::parse(der)?;
    delta.verify(issuer)?;
    let (this_update, next_update) = (head.this_update.floor_secs(), head.next_update.floor_secs());
    if (delta.base(), delta.number()) != (base, head.number)
        || base >= head.number
        || (delta.this_update(), delta.next_update()) != (this_update, next_update)
    {
        return Err(PublishError::OtherDelta);
    }
    if !delta.changes().is_sorted_by(|(one, _), (next, _)| one < next) {
        return Err(PublishError::Order);
    }
    let says = |(serial, entry): &&Edit| listed.get(serial) != *entry;
    if let Some((serial, _)) = delta.changes().iter().find(says) {
        return Err(PublishError::LosesEntry((*serial).into()));
    }
    let is_named = |serial: &SerialNumber| delta.changes().binary_search_by_key(serial, |(named, _)| *named).is_ok();
    match named.iter().find(|(serial, _)| !is_named(serial)) {
        Some((serial, _)) => Err(PublishError::LosesEntry((*serial).into())),
        None if delta.changes().len() != named.len() => Err(PublishError::OtherDelta),
        None => Ok(delta.into_der()),
    }
}

#[cfg(test)]
mod tests {
    use RevocationReason::{CertificateHold, KeyCompromise, Superseded};

    use super::*;
    use crate::{
        identity::RevocationReason,
        pki::{
            CaRole, CrlEntry, CrlError, ParsedCrl,
            fixture::{NOW, TestCa, serial},
        },
    };

    #[test]
    fn a_complete_crl_can_be_brought_up_to_date_for_a_day_at_least_and_two_at_most() {
        let mut deltas = Deltas::default();
        let mut oldest = Vec::new();
        for hour in 0..100u64 {
            let head = CrlHead {
                issuer: "0123456789abcdef".parse().unwrap(),
                number: hour,
                this_update: Timestamp::from_secs(hour as i64 * 3600),
                next_update: Timestamp::default(),
                watermark: hour,
                horizon: Timestamp::default(),
                sha256: [0; 32],
                signature: Vec::new(),
                der: None,
            };
            deltas.note(&head);
            oldest.push(hour - deltas.base.unwrap().number);
        }
        assert_eq!((oldest[23], oldest[47], oldest[48]), (23, 47, 24));
        assert!(oldest[24..].iter().all(|age| (24..48).contains(age)), "{oldest:?}");
    }

    #[test]
    fn a_delta_that_is_not_what_was_to_be_written_is_given_to_nobody() {
        let (ca, other) = (TestCa::root(CaRole::DeviceRoot), TestCa::root(CaRole::DeviceRoot));
        let entry =
            |number: u8, reason| (serial(number), Some(CrlEntry { serial: serial(number), revoked_at: NOW, reason }));
        let off = |number: u8| (serial(number), None);
        let head = CrlHead {
            issuer: ca.issuer.certificate().id(),
            number: 9,
            this_update: NOW,
            next_update: NOW + LIFETIME,
            watermark: 0,
            horizon: NOW,
            sha256: [0; 32],
            signature: Vec::new(),
            der: None,
        };
        let on_list = [entry(1, KeyCompromise), entry(3, CertificateHold), entry(5, Superseded)];
        let complete = template(ca.issuer.certificate(), &head).prepare(None, on_list);
        let signature = ca.key.sign(complete.tbs());
        let complete = ParsedCrl::parse(complete.assemble(&signature)).unwrap();
        let due = [entry(1, KeyCompromise), off(2), entry(3, CertificateHold)];
        let checked = |by: &TestCa, from: u64, head: &CrlHead, written: &[Edit]| {
            let prepared = template(ca.issuer.certificate(), head).prepare_delta(from, written);
            let signature = by.key.sign(prepared.tbs());
            let der = prepared.assemble(&signature);
            let expected = CrlHead { number: 9, this_update: NOW, next_update: NOW + LIFETIME, ..head.clone() };
            check(ca.issuer.certificate(), &expected, 4, (complete.entries(), &due), der)
        };
        checked(&ca, 4, &head, &due).unwrap();
        let refused = |written: &[Edit]| checked(&ca, 4, &head, written).unwrap_err();
        for (written, of) in [
            // Forgotten; let in again; said to be something else; said to be on the list, and off it.
            (vec![due[0], due[1]], 3),
            (vec![due[0], due[1], off(3)], 3),
            (vec![entry(1, Superseded), due[1], due[2]], 1),
            (vec![due[0], entry(2, KeyCompromise), due[2]], 2),
            (vec![due[0], due[1], due[2], off(5)], 5),
        ] {
            let why = refused(&written);
            assert!(
                matches!(why, PublishError::LosesEntry(which) if which == serial(of).into()),
                "{written:?}: {why:?}"
            );
        }
        assert!(matches!(refused(&[due[0], due[2], due[1]]), PublishError::Order));
        assert!(matches!(refused(&[due[0], due[0], due[1], due[2]]), PublishError::Order));
        assert!(matches!(refused(&[due[0], due[1], due[2], entry(5, Superseded)]), PublishError::OtherDelta));
        let later = CrlHead { this_update: NOW + LIFETIME / 2, ..head.clone() };
        let next = CrlHead { number: 10, ..head.clone() };
        for (from, head) in [(3, &head), (4, &later), (4, &next)] {
            let why = checked(&ca, from, head, &due).unwrap_err();
            assert!(matches!(why, PublishError::OtherDelta), "{why:?}");
        }
        let why = checked(&other, 4, &head, &due).unwrap_err();
        assert!(matches!(why, PublishError::Crl(CrlError::Signature)), "{why:?}");
    }
}
