//! Recognize: who shows a certificate that was revoked in a lost time says by that whose it was.

use super::{
    Authority, Refusal, TAKEN_BACK,
    revoke::{LOST_HOLD, action},
    to_its_end,
};
use crate::{
    audit::Draft,
    identity::{RevocationReason::CertificateHold, Timestamp},
    inventory::device::Status,
    pki::PeerCertificate,
    store::{Cutoff, Holder, NewCertificate, Recognition, Revoked},
};

impl Authority {
    /// Refuses a certificate of which the revocation only is known, and cuts its holder off. The certificate becomes one
    /// of his, on hold or revoked as it was: so that a release decides upon it once, and theft bans its key.
    pub(super) async fn refuse_orphan(
        &self,
        presented: &PeerCertificate,
        holder: Option<&Holder>,
        revoked: Revoked,
        now: Timestamp,
    ) -> Result<Refusal, Refusal> {
        let theirs = |holder: &&Holder| !revoked.reason.is_lineages() && !is_of_an_earlier_life(presented, holder);
        let Some(holder) = holder.filter(theirs) else { return Ok(Refusal::CertificateRevoked) };
        self.refuse_key(presented).await?;
        let subject = &presented.subject;
        let made_at = presented.serial.made_at();
        let restoration = self.store.restorations().await?.into_iter().find(|one| one.covers(made_at));
        let hold = revoked.reason == CertificateHold;
        let status = if hold { Status::Held } else { Status::Revoked };
        let cutoff = Cutoff {
            subject: subject.clone(),
            status,
            reason: revoked.reason,
            status_reason: if hold { LOST_HOLD.into() } else { revoked.reason.to_string() },
            at: now,
            audit: Draft::done(now, "system", action(subject.kind, status), subject.to_string())
                .serial(presented.serial)
                .fact("by", TAKEN_BACK)
                .fact("reason", revoked.reason.as_str()),
        };
        let certificate = as_shown(presented);
        let recognition = Recognition { restoration: restoration.map(|one| one.key), certificate, cutoff };
        let (store, telemetry, publisher) = (self.store.clone(), self.telemetry.clone(), self.publisher.clone());
        let was = holder.status;
        let receipt = to_its_end(async move {
            let receipt = store.record_recognition(recognition).await?;
            if receipt.certificates > 0 || receipt.status != was {
                telemetry.changed(receipt.status.as_str());
                publisher.wake_if(true);
            }
            Ok(receipt)
        });
        Ok(match receipt.await?.status {
            Status::Held => Refusal::Held,
            Status::Revoked => Refusal::Revoked,
            Status::Decommissioned => Refusal::Decommissioned,
            Status::Registered | Status::Pending | Status::Active => Refusal::CertificateRevoked,
        })
    }

    /// Refuses a certificate that is to become known and whose key is banned, or another's.
    pub(super) async fn refuse_key(&self, presented: &PeerCertificate) -> Result<(), Refusal> {
        let key_use = self.store.key_use(&presented.key_fingerprint()).await?;
        if key_use.banned {
            return Err(Refusal::KeyCompromised);
        }
        if key_use.certificates.iter().any(|row| row.holder != presented.subject) {
            return Err(Refusal::KeyReused);
        }
        Ok(())
    }
}

/// Whether the ID was given again since: who enrolled and was cut off in the lost time is known by his certificate only,
/// and whoever has his ID now is somebody else.
fn is_of_an_earlier_life(presented: &PeerCertificate, holder: &Holder) -> bool {
    holder.created_at > presented.serial.made_at()
}

/// A certificate that the store does not have, as its holder shows it.
pub(super) fn as_shown(presented: &PeerCertificate) -> NewCertificate {
    NewCertificate {
        serial: presented.serial,
        issuer: presented.issuer,
        key: presented.key_fingerprint(),
        hash: presented.hash,
        not_before: presented.not_before,
        not_after: presented.not_after,
        presented: None,
        token: None,
        der: presented.der.clone(),
    }
}
