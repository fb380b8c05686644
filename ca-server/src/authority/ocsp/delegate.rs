//! Who signs the answers: for each issuer a key that is nowhere but in memory, with a certificate for hours. Made when
//! somebody asks for the first time, and again when half of its time is over.

use std::{sync::Arc, time::Duration};

use ring::rand::SystemRandom;

use super::{LIFETIME, OcspResponder};
use crate::{
    audit::Draft,
    authority::{OnlineIssuer, Refusal, random, to_its_end},
    identity::{IssuerId, SerialNumber, Timestamp},
    pki::{Certificate, OcspFailure, ResponderRequest},
    signer::{Signer, SoftwareSigner},
};

/// How long its certificate is valid: a stolen key is of no use any longer.
const VALIDITY: Duration = Duration::from_secs(8 * 3600);
/// How long nothing is tried after a failure.
const PAUSE: Duration = Duration::from_secs(10);

/// A key and its certificate.
pub(super) struct Delegate {
    pub(super) key: SoftwareSigner,
    pub(super) certificate: Certificate,
    renew_at: Timestamp,
}

/// Where an issuer's delegate is kept.
#[derive(Default)]
pub(super) struct Slot {
    delegate: Option<Arc<Delegate>>,
    /// By a clock that nobody sets.
    not_before: Duration,
}

impl Slot {
    fn fresh(&self, now: Timestamp) -> Option<Arc<Delegate>> {
        self.delegate.clone().filter(|delegate| (delegate.certificate.not_before..delegate.renew_at).contains(&now))
    }

    /// One that is due, but good.
    fn good(&self, now: Timestamp) -> Option<Arc<Delegate>> {
        let good = |delegate: &Arc<Delegate>| {
            delegate.certificate.not_before <= now && now + LIFETIME <= delegate.certificate.not_after
        };
        self.delegate.clone().filter(good)
    }
}

impl OcspResponder {
    /// Who signs answers for this issuer now.
    pub(super) async fn delegate(
        self: &Arc<Self>,
        online: &OnlineIssuer,
        now: Timestamp,
    ) -> Result<Arc<Delegate>, OcspFailure> {
        let (responder, id) = (self.clone(), online.issuer.id());
        let known = self.known(online);
        if let Ok(slot) = known.delegate.try_lock()
            && let Some(delegate) = slot.fresh(now)
        {
            return Ok(delegate);
        }
        // To its end: who hangs up must not have another one made by the next who asks.
        let renewed = to_its_end(async move {
            let mut slot = known.delegate.lock().await;
            if let Some(delegate) = slot.fresh(now) {
                return Ok(Some(delegate));
            }
            if responder.clock.elapsed() < slot.not_before {
                return Ok(slot.good(now));
            }
            match responder.make(id, now).await {
                Ok(delegate) => slot.delegate = Some(Arc::new(delegate)),
                Err(error) => {
                    slot.not_before = responder.clock.elapsed() + PAUSE;
                    tracing::error!(%error, issuer = %id, "no new OCSP responder's certificate; trying again");
                }
            }
            Ok(slot.good(now))
        });
        renewed.await.ok().flatten().ok_or(OcspFailure::TryLater)
    }

    /// Makes a key, signs its certificate and writes that down.
    async fn make(&self, id: IssuerId, now: Timestamp) -> Result<Delegate, Refusal> {
        let online = self.issuers.online().find(|online| online.issuer.id() == id);
        let online = online.ok_or(Refusal::NotFound("issuer"))?;
        let key = SoftwareSigner::generate()?;
        let not_after = (now + VALIDITY).min(online.issuer.certificate().not_after());
        let prepared = online.issuer.prepare_responder(&ResponderRequest {
            key: key.public_key(),
            serial: SerialNumber::new(now, random(&SystemRandom::new())?),
            not_before: now - self.backdate,
            not_after,
        })?;
        let signature = online.signer.sign(prepared.tbs())?;
        let certificate = prepared.assemble(&signature);
        let audit = Draft::done(now, "system", "certificate.issued", format!("issuer/{id}"))
            .serial(certificate.serial)
            .fact("by", "ocsp")
            .fact("key", certificate.key.to_string());
        self.store.record_audit(audit).await?;
        Ok(Delegate { key, certificate, renew_at: now + not_after.since(now) / 2 })
    }
}
