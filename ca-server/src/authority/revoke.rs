//! Revoke, hold, release, decommission: one transaction, then the CRL that holds it, then the receipt.

use std::time::Duration;

use tokio::time::Instant;

use super::{Authority, MAX_ATTEMPTS, Refusal, renew::FORK};
use crate::{
    audit::Draft,
    identity::{IssuerId, Kind, RevocationReason, SerialNumber, Subject, Timestamp},
    inventory::device::Status,
    store::{Cutoff, CutoffReceipt, Holder, Release, StoreError, UNREADABLE},
};

/// How long a revoked device may enroll once more, where nothing is said, and at most.
const WAY_BACK: Duration = Duration::from_secs(7 * 24 * 3600);
const LONGEST_WAY_BACK: Duration = Duration::from_secs(30 * 24 * 3600);

/// The status reason of a device that is on hold because a CRL of a lost time says so. Why is not known: it may have been
/// a fork.
pub(super) const LOST_HOLD: &str = "hold of a lost time";

/// The change is durable, and the CRLs named here, which hold it, are signed and served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Whom it is about.
    pub subject: Subject,
    /// The state after it.
    pub status: Status,
    /// Certificates whose revocation changed.
    pub certificates: u32,
    /// Tokens ended or suspended.
    pub tokens: u32,
    /// Issuer and CRL number.
    pub crls: Vec<(IssuerId, u64)>,
    /// Certificates whose rows can't be read: they stay as they are.
    pub unreadable: u32,
}

impl Authority {
    /// Cuts a holder off. `actor` is who asked: `operator/ana`.
    pub async fn revoke(&self, subject: &Subject, reason: RevocationReason, actor: &str) -> Result<Receipt, Refusal> {
        refuse_reason(reason)?;
        self.cut_off(subject, Status::Revoked, reason, actor).await
    }

    /// Cuts a device off until it is released.
    pub async fn hold(&self, subject: &Subject, actor: &str) -> Result<Receipt, Refusal> {
        self.cut_off(subject, Status::Held, RevocationReason::CertificateHold, actor).await
    }

    /// Cuts a device off for good.
    pub async fn decommission(&self, subject: &Subject, actor: &str) -> Result<Receipt, Refusal> {
        self.cut_off(subject, Status::Decommissioned, RevocationReason::CessationOfOperation, actor).await
    }

    async fn cut_off(
        &self,
        subject: &Subject,
        status: Status,
        reason: RevocationReason,
        actor: &str,
    ) -> Result<Receipt, Refusal> {
        let before = match self.store.holder(subject).await {
            // A row that can't be read keeps nobody from being cut off.
            Err(StoreError::Damaged(_)) => None,
            found => Some(found?.ok_or(Refusal::NotFound(subject.kind.as_str()))?.status),
        };
        if let Some(before) = before
            && status == Status::Held
            && !before.may_become(Status::Held)
        {
            return Err(Refusal::State(format!("a {} that is {before} can't be held", subject.kind.as_str())));
        }
        let (now, began) = (self.now(), Instant::now());
        let cutoff = Cutoff {
            subject: subject.clone(),
            status,
            reason,
            status_reason: reason.to_string(),
            at: now,
            audit: Draft::done(now, actor, action(subject.kind, status), subject.to_string())
                .fact("reason", reason.as_str()),
        };
        let receipt = self.store.record_cutoff(cutoff).await?;
        self.tell_of_unreadable(&subject.to_string(), receipt.unreadable.into(), now);
        if receipt.certificates > 0 || Some(receipt.status) != before {
            self.telemetry.changed(receipt.status.as_str());
        }
        let changed = receipt.certificates > 0;
        if changed {
            self.word.cut_off(&receipt.watermarks, began);
        }
        let receipt = self.receipt(subject, receipt).await?;
        if changed {
            self.telemetry.signed_after(began.elapsed());
        }
        Ok(receipt)
    }

    /// Ends a hold. After a fork, or where there may have been one, somebody has to say which certificate is the honest
    /// one's.
    pub async fn release(
        &self,
        subject: &Subject,
        keep: Option<SerialNumber>,
        actor: &str,
    ) -> Result<Receipt, Refusal> {
        for _ in 0..MAX_ATTEMPTS {
            let now = self.now();
            let holder = self.store.holder(subject).await?.ok_or(Refusal::NotFound(subject.kind.as_str()))?;
            // Where all have expired there is nothing to choose: the device comes back by attesting again.
            let why = holder.status_reason.as_str();
            let forked = NEEDS_CHOICE.contains(&why)
                && (why == UNREADABLE || !self.store.live_certificates(subject, now).await?.is_empty());
            match (holder.status, keep) {
                (Status::Active | Status::Registered, None) => {
                    return self.in_force_already(subject, holder.status).await;
                }
                (Status::Active, Some(serial)) if holder.lineage.head == Some(serial) => {
                    return self.in_force_already(subject, holder.status).await;
                }
                (Status::Held, None) if forked => {
                    return Err(Refusal::State(
                        "held because two hold this identity, or by a CRL of a lost time, which does not say why, or out of \
                         a state that could not be read: find out which certificate is genuine (`device show`) and say \
                         --keep SERIAL, or revoke the device"
                            .into(),
                    ));
                }
                (Status::Held, _) => {}
                (status, _) => return Err(Refusal::State(format!("not held but {status}"))),
            }
            let mut audit = Draft::done(now, actor, RELEASED, subject.to_string());
            if let Some(serial) = keep {
                audit = audit.serial(serial).fact("kept", serial.to_string());
            }
            let lineage = keep.map_or_else(|| holder.lineage.clone(), |serial| holder.lineage.kept(serial));
            let release = Release { holder: holder.version, keep, lineage, at: now, audit };
            match self.store.record_release(release).await.map_err(Refusal::from) {
                Err(Refusal::Contended) => continue,
                Err(other) => return Err(other),
                Ok(receipt) => {
                    self.telemetry.changed("released");
                    self.tell_of_unreadable(&subject.to_string(), receipt.unreadable.into(), now);
                    return self.receipt(subject, receipt).await;
                }
            }
        }
        Err(Refusal::Contended)
    }

    /// Lets a revoked device enroll once more for this long (zero: 7 days), by what it has proven before or by more. Its
    /// certificates stay revoked, and banned keys stay banned. Said again, the last word counts.
    pub async fn allow_reenroll(&self, subject: &Subject, lifetime: Duration, actor: &str) -> Result<Holder, Refusal> {
        if lifetime > LONGEST_WAY_BACK {
            return Err(Refusal::invalid("lifetime", "must be at most 30 days"));
        }
        let now = self.now();
        let until = now + if lifetime.is_zero() { WAY_BACK } else { lifetime };
        for _ in 0..MAX_ATTEMPTS {
            let holder = self.store.holder(subject).await?.ok_or(Refusal::NotFound(subject.kind.as_str()))?;
            if holder.status != Status::Revoked {
                return Err(Refusal::State(format!("not revoked but {}", holder.status)));
            }
            if holder.reenroll_until == Some(until) {
                return Ok(holder);
            }
            let audit = Draft::done(now, actor, "device.reenroll_allowed", subject.to_string())
                .fact("until", until.to_string());
            match self.store.record_reenrollment(holder.version, until, audit).await.map_err(Refusal::from) {
                Err(Refusal::Contended) => continue,
                Err(other) => return Err(other),
                // As it is now, which may be revoked once more: what has ended since is not allowed again.
                Ok(()) => return self.store.holder(subject).await?.ok_or(Refusal::NotFound(subject.kind.as_str())),
            }
        }
        Err(Refusal::Contended)
    }

    async fn in_force_already(&self, subject: &Subject, status: Status) -> Result<Receipt, Refusal> {
        let receipt = CutoffReceipt { status, certificates: 0, tokens: 0, watermarks: Vec::new(), unreadable: 0 };
        self.receipt(subject, receipt).await
    }

    /// Rows that can't be read were passed over.
    pub(super) fn tell_of_unreadable(&self, subject: &str, rows: u64, now: Timestamp) {
        if rows > 0 {
            tracing::error!(subject, rows, "rows can't be read: these certificates may not be on a CRL");
            let detail = format!("rows that were passed over: {rows}");
            self.telemetry.event("crl.unreadable", subject, &detail, now);
        }
    }

    /// Waits until the CRLs that hold the change are served.
    async fn receipt(&self, subject: &Subject, receipt: CutoffReceipt) -> Result<Receipt, Refusal> {
        let crls = self.publisher.in_force(&receipt.watermarks).await?;
        Ok(Receipt {
            subject: subject.clone(),
            status: receipt.status,
            certificates: receipt.certificates,
            tokens: receipt.tokens,
            crls,
            unreadable: receipt.unreadable,
        })
    }
}

/// Refuses a reason that is not for people to give, or not of devices.
pub(super) fn refuse_reason(reason: RevocationReason) -> Result<(), Refusal> {
    match reason {
        RevocationReason::CertificateHold => {
            Err(Refusal::invalid("reason", "certificateHold is what `device hold` is for"))
        }
        RevocationReason::CaCompromise => Err(Refusal::invalid("reason", "cACompromise is for issuing CAs")),
        lineages if lineages.is_lineages() => {
            let why = format!("{lineages} is what this CA says of single certificates; say cessationOfOperation");
            Err(Refusal::invalid("reason", why))
        }
        _ => Ok(()),
    }
}

/// What the audit log calls the end of a hold.
pub(super) const RELEASED: &str = "device.released";

/// The status reasons of holds that end only where somebody says which certificate is genuine.
pub(super) const NEEDS_CHOICE: [&str; 3] = [FORK, LOST_HOLD, UNREADABLE];

/// What the audit log calls it.
pub(super) fn action(kind: Kind, status: Status) -> &'static str {
    match (kind, status) {
        (Kind::Device, Status::Held) => "device.held",
        (Kind::Device, Status::Decommissioned) => "device.decommissioned",
        (Kind::Device, _) => "device.revoked",
        (Kind::Gateway, _) => "gateway.revoked",
        (Kind::Operator, _) => "operator.revoked",
        (Kind::Server, _) => "server.revoked",
    }
}
