//! Delta CRLs (RFC 5280, section 5.2.4), for who has asked for them in the settings: what has changed since a complete
//! CRL of about a day ago, signed when somebody asks. Never in a bundle: several verifiers take a delta for the whole.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;

use super::{PublishError, Published, Publisher, pending::Pending, sha256, turn::template};
use crate::{
    identity::{IssuerId, Timestamp},
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
        self.offers_deltas.store(true, Ordering::SeqCst);
    }

    /// A complete CRL is served: deltas may begin with it.
    pub(super) fn note_delta_base(&self, head: &CrlHead) {
        self.deltas.lock().unwrap_or_else(PoisonError::into_inner).entry(head.issuer).or_default().note(head);
    }

    /// What has changed since a complete CRL of about a day ago: a delta with number and date of the complete CRL that is
    /// served. `None`: there are none, or nothing has been published since the first CRL that could be their base.
    pub async fn delta(&self, issuer: &IssuerId) -> Result<Option<Arc<Published>>, PublishError> {
        if !self.offers_deltas.load(Ordering::SeqCst) {
            return Ok(None);
        }
        let online = self.online(issuer)?;
        // Held while signing: what is served, and what is read after it, are of one moment.
        let engines = self.engines.lock().await;
        let full = self.current(issuer).ok_or(PublishError::UnknownIssuer)?;
        let base = {
            let deltas = self.deltas.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(deltas) = deltas.get(issuer) else { return Ok(None) };
            if let Some(made) = &deltas.made {
                return Ok(Some(made.clone()));
            }
            deltas.base
        };
        let Some(base) = base.filter(|base| base.number < full.number) else { return Ok(None) };
        let engine = engines.get(issuer).ok_or(PublishError::UnknownIssuer)?;
        let head = engine.head.as_ref().filter(|head| head.number == full.number).ok_or(PublishError::UnknownIssuer)?;
        let mut pending = Pending::after(base.watermark);
        self.catch_up(*issuer, &mut pending, Some(head.watermark)).await?;
        let expired = self.store.expired(*issuer, base.horizon, head.horizon).await?;
        // What counts is what the complete CRL says: applied to any CRL since the base, the delta makes just that one.
        let turn = pending.until(head.horizon, expired);
        let changes: Vec<_> = turn.edits().map(|(serial, _)| (serial, full.listed.get(&serial))).collect();
        if changes.len() > MOST {
            self.move_base(head);
            return Ok(None);
        }
        let next_update = full.this_update + LIFETIME;
        let head = CrlHead { next_update, ..head.clone() };
        let prepared = template(online.issuer.certificate(), &head).prepare_delta(base.number, &changes);
        let signature = online.signer.sign(prepared.tbs())?;
        let der = prepared.assemble(&signature);
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
        deltas.entry(*issuer).or_default().made = Some(delta.clone());
        Ok(Some(delta))
    }

    /// From here on deltas begin with this CRL.
    fn move_base(&self, head: &CrlHead) {
        let base = Some(Base::of(head));
        let mut deltas = self.deltas.lock().unwrap_or_else(PoisonError::into_inner);
        deltas.insert(head.issuer, Deltas { base, next: base, made: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
