//! Renew and confirm: from one certificate to the next. Who calls is the certificate of the connection; what may happen
//! is decided by `inventory::lineage`.

use super::{Authority, Grant, MAX_ATTEMPTS, Refusal, Refused, Terms, to_its_end};
use crate::{
    attestation::AttestationError,
    audit::Draft,
    identity::{RevocationReason, SerialNumber, Subject, Timestamp},
    inventory::{
        device::Status,
        fleet::{Policy, Tier},
        lineage::{Decision, Facts, Lineage, Position, Request, decide},
    },
    pki::{Csr, PeerCertificate, PublicKey},
    store::{Attested, CertificateRow, Confirmation, Cutoff, Holder, KeyUse, Peer, Renewal, RenewalFacts},
};

/// The status reason of a device that was put on hold because two held its identity.
pub const FORK: &str = "lineage fork";

/// What [`Authority::confirm`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// How many certificates of this lineage have been in force.
    pub generation: u64,
    /// The server's clock.
    pub now: Timestamp,
}

impl Authority {
    /// Who presents this certificate: only one that the store has, byte for byte, in the role that it says.
    pub async fn identify(&self, presented: &PeerCertificate) -> Result<Peer, Refused> {
        let peer = self.store.peer(presented.serial).await?.ok_or(Refusal::CertificateUnknown)?;
        refuse_other(&peer, presented)?;
        Ok(peer)
    }

    /// The same, for every call but renewal: the holder is active, the certificate in force or pending, valid now and
    /// not revoked. A copy of a key that has been renewed since is worth nothing here.
    pub async fn authenticate(&self, presented: &PeerCertificate) -> Result<Peer, Refused> {
        let peer = self.identify(presented).await?;
        let about = Refused::about(&peer.holder.subject);
        refuse_inactive(peer.holder.status).map_err(&about)?;
        self.refuse_of_revoked(&peer).map_err(&about)?;
        if peer.certificate.revoked.is_some() {
            return Err(about(Refusal::CertificateRevoked));
        }
        // A notBefore ahead of our clock is of our own making: the store knows the certificate.
        if presented.not_after < self.now().floor_secs() {
            return Err(about(Refusal::CertificateExpired));
        }
        match peer.certificate.position {
            Position::Head | Position::Pending => Ok(peer),
            Position::Former | Position::Superseded => Err(about(Refusal::CertificateSuperseded)),
        }
    }

    /// The next certificate for whoever presents this one, with the key of a CSR (DER).
    pub async fn renew(&self, presented: &PeerCertificate, csr: &[u8]) -> Result<Grant, Refused> {
        let about = Refused::about(&presented.subject);
        self.refuse_restored().map_err(&about)?;
        let key = match Csr::parse(csr) {
            Ok(csr) => csr.into_public_key(),
            Err(error) => {
                self.identify(presented).await?;
                return Err(about(error.into()));
            }
        };
        for _ in 0..MAX_ATTEMPTS {
            // Again: a restored past may be why the attempt failed.
            self.refuse_restored().map_err(&about)?;
            match self.renew_once(presented, &key).await {
                Err(Refusal::Contended) => continue,
                // Not in the store: one of a lost time may be taken in, and is judged anew then.
                Err(Refusal::CertificateUnknown) => {
                    self.take_in_forgotten(presented, Request::Renew { answered: false }).await?;
                }
                outcome => return outcome.map_err(&about),
            }
        }
        Err(about(Refusal::Contended))
    }

    async fn renew_once(&self, presented: &PeerCertificate, key: &PublicKey) -> Result<Grant, Refusal> {
        let now = self.now();
        let facts = self.store.renewal(presented.serial, &key.fingerprint()).await?;
        let mut facts = facts.ok_or(Refusal::CertificateUnknown)?;
        refuse_other(&facts.peer, presented)?;
        self.refuse_of_revoked(&facts.peer)?;
        // What a release has taken away is not given again: the caller is to make a new key.
        let answers = |row: &&CertificateRow| row.presented == Some(presented.serial) && !is_withdrawn(row);
        let answer = facts.key_use.certificates.iter().find(answers);
        let holder = &facts.peer.holder;
        let terms = Terms::new(holder.subject.kind, holder.fleet.as_ref(), facts.policy.take())?;
        match judge(&facts, &terms.policy, presented, key, answer.is_some(), now)? {
            Decision::Issue { promote, .. } => self.issue_next(facts, &terms, key, promote, now).await,
            Decision::Again => {
                let row = answer.ok_or(Refusal::Internal("nothing was answered"))?;
                self.grant_again(row.serial, row.position.is_unconfirmed()).await
            }
            refused => Err(self.refuse(&facts.peer, refused, now).await?),
        }
    }

    /// Puts the presented certificate in force.
    pub async fn confirm(&self, presented: &PeerCertificate) -> Result<Confirmed, Refused> {
        let about = Refused::about(&presented.subject);
        for _ in 0..MAX_ATTEMPTS {
            self.refuse_restored().map_err(&about)?;
            let peer = match self.identify(presented).await {
                Err(Refused { why: Refusal::CertificateUnknown, .. }) => {
                    self.take_in_forgotten(presented, Request::Confirm).await?;
                    continue;
                }
                peer => peer?,
            };
            match self.confirm_once(&peer).await {
                Err(Refusal::Contended) => continue,
                outcome => return outcome.map_err(&about),
            }
        }
        Err(about(Refusal::Contended))
    }

    async fn confirm_once(&self, peer: &Peer) -> Result<Confirmed, Refusal> {
        let now = self.now();
        let holder = &peer.holder;
        self.refuse_of_revoked(peer)?;
        let terms = self.terms(holder.subject.kind, holder.fleet.as_ref()).await?;
        match decide_lineage(peer, &terms.policy, Request::Confirm, now) {
            Decision::Promote => {
                let subject = holder.subject.to_string();
                let lineage = holder.lineage.promoted();
                let generation = lineage.generation;
                let audit = Draft::done(now, &subject, "certificate.confirmed", subject.clone())
                    .serial(peer.certificate.serial)
                    .fact("generation", generation);
                let record = Confirmation { holder: holder.version, lineage, at: now, audit };
                self.store.record_confirmation(record).await?;
                Ok(Confirmed { generation, now })
            }
            Decision::Done { late } => {
                if late {
                    let detail = format!("serial {}", peer.certificate.serial);
                    self.telemetry.event("lineage.late_confirm", &holder.subject.to_string(), &detail, now);
                }
                Ok(Confirmed { generation: holder.lineage.generation, now })
            }
            refused => Err(self.refuse(peer, refused, now).await?),
        }
    }

    async fn issue_next(
        &self,
        facts: RenewalFacts,
        terms: &Terms,
        key: &PublicKey,
        promote: bool,
        now: Timestamp,
    ) -> Result<Grant, Refusal> {
        let RenewalFacts { peer, trust_bundle, .. } = facts;
        let holder = &peer.holder;
        let subject = holder.subject.to_string();
        // What the certificate presented descends from, whatever its holder has proven since.
        let tier = peer.certificate.attested.as_ref().and_then(Attested::tier);
        let mut certificate = self.sign_leaf(&holder.subject, &holder.handle, terms, key, tier, now)?;
        certificate.presented = Some(peer.certificate.serial);
        let superseded = if promote { None } else { holder.lineage.pending };
        let mut audit = Draft::done(now, &subject, "certificate.issued", subject.clone())
            .serial(certificate.serial)
            .fact("by", "renewal")
            .fact("presented", peer.certificate.serial.to_string())
            .fact("key", certificate.key.to_string());
        if promote {
            audit = audit.fact("confirmed", peer.certificate.serial.to_string());
        }
        if let Some(serial) = superseded {
            audit = audit.fact("superseded", serial.to_string());
        }
        let record = Renewal {
            holder: holder.version,
            lineage: holder.lineage.issued(promote, certificate.serial),
            superseded,
            certificate: certificate.clone(),
            at: now,
            audit,
        };
        let kind = holder.subject.kind.as_str();
        let serial = certificate.serial;
        let (store, telemetry, publisher) = (self.store.clone(), self.telemetry.clone(), self.publisher.clone());
        to_its_end(async move {
            store.record_renewal(record).await?;
            telemetry.issued(kind, "renewal");
            if let Some(replaced) = superseded {
                telemetry.event(
                    "lineage.second_key",
                    &subject,
                    &format!("pending {replaced} replaced by {serial}"),
                    now,
                );
            }
            publisher.wake_if(superseded.is_some());
            Ok(())
        })
        .await?;
        self.grant(certificate, self.trust_bundle_numbered(trust_bundle).await?, true)
    }

    /// Carries out a refusal: a fork puts the device on hold before anybody hears of it.
    async fn refuse(&self, peer: &Peer, decision: Decision, now: Timestamp) -> Result<Refusal, Refusal> {
        match decision {
            Decision::Fork { hold } | Decision::Exhausted { hold } => {
                let Holder { subject, lineage, .. } = &peer.holder;
                self.fork(subject, peer.certificate.serial, lineage, hold, now).await
            }
            other => plain_refusal(other),
        }
    }

    /// Two holders of one identity: refused, and where the fleet wants it so, on hold before anybody hears of it.
    pub(super) async fn fork(
        &self,
        subject: &Subject,
        presented: SerialNumber,
        lineage: &Lineage,
        hold: bool,
        now: Timestamp,
    ) -> Result<Refusal, Refusal> {
        let detail = fork_detail(presented, lineage);
        // Here and before anything is awaited: who hangs up never hears the refusal, and the event is told all the same.
        self.telemetry.event("lineage.fork", &subject.to_string(), &detail, now);
        if hold {
            let cutoff = Cutoff {
                subject: subject.clone(),
                status: Status::Held,
                reason: RevocationReason::CertificateHold,
                status_reason: FORK.into(),
                at: now,
                audit: Draft::done(now, "system", "device.held", subject.to_string())
                    .serial(presented)
                    .fact("reason", FORK)
                    .fact("serials", detail.clone()),
            };
            let (store, telemetry, publisher) = (self.store.clone(), self.telemetry.clone(), self.publisher.clone());
            to_its_end(async move {
                store.record_cutoff(cutoff).await?;
                telemetry.changed("held");
                publisher.wake_if(true);
                Ok(())
            })
            .await?;
        }
        Ok(Refusal::Fork { detail })
    }
}

/// What the facts allow whoever presents a certificate and asks for one with this key.
pub(super) fn judge(
    facts: &RenewalFacts,
    policy: &Policy,
    presented: &PeerCertificate,
    key: &PublicKey,
    answered: bool,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let decision = decide_lineage(&facts.peer, policy, Request::Renew { answered }, now);
    if let Decision::Issue { .. } = decision {
        refuse_key(facts, presented, key)?;
        if facts.oldest_that_counts.is_some_and(|not_after| not_after >= now) {
            return Err(Refusal::Overloaded);
        }
    }
    Ok(decision)
}

/// Whether a decision gives a certificate, which is to be confirmed then; or why not. Nobody is put on hold.
pub(super) fn gives(decision: Decision) -> Result<bool, Refusal> {
    match decision {
        Decision::Issue { .. } | Decision::Again => Ok(true),
        Decision::Fork { .. } | Decision::Exhausted { .. } => Err(Refusal::Fork { detail: String::new() }),
        other => Err(plain_refusal(other)?),
    }
}

/// What a decision that changes nothing is to the caller.
pub(super) fn plain_refusal(decision: Decision) -> Result<Refusal, Refusal> {
    match decision {
        Decision::Expired => Ok(Refusal::CertificateExpired),
        Decision::CertificateRevoked => Ok(Refusal::CertificateRevoked),
        Decision::Unknown => Ok(Refusal::CertificateUnknown),
        Decision::NotActive(status) => {
            refuse_inactive(status)?;
            Ok(Refusal::NotEnrolled)
        }
        Decision::Again
        | Decision::Issue { .. }
        | Decision::Promote
        | Decision::Adopt
        | Decision::Done { .. }
        | Decision::Fork { .. }
        | Decision::Exhausted { .. } => Ok(Refusal::Internal("not a refusal")),
    }
}

/// Asks the table.
fn decide_lineage(peer: &Peer, policy: &Policy, request: Request, now: Timestamp) -> Decision {
    decide(Facts {
        status: peer.holder.status,
        on_fork: policy.on_fork,
        presented: Some(peer.certificate.position),
        lost: None,
        revoked: is_withdrawn(&peer.certificate),
        expired: peer.certificate.not_after < now.floor_secs(),
        request,
        has_pending: peer.holder.lineage.pending.is_some(),
        replacements: peer.holder.lineage.replacements,
    })
}

/// What is presented is what the store has under that serial, byte for byte.
pub(super) fn refuse_other(peer: &Peer, presented: &PeerCertificate) -> Result<(), Refusal> {
    let same = peer.certificate.hash == presented.hash && peer.holder.subject == presented.subject;
    if same { Ok(()) } else { Err(Refusal::CertificateUnknown) }
}

fn fork_detail(presented: SerialNumber, lineage: &Lineage) -> String {
    let text = |serial: Option<SerialNumber>| serial.map_or_else(|| "none".into(), |serial| serial.to_string());
    format!("presented {presented}, head {}, pending {}", text(lineage.head), text(lineage.pending))
}

/// A key that is in use cannot be certified again: each renewal brings a fresh one, so that a copied key dies with its
/// certificate. A key in hardware can't be copied, and of a fresh one nobody would know where it is: it stays.
///
/// Of a certificate out of a lost time nobody knows where its key is, unless the key was certified before. Where its holder
/// is known by hardware, the key is taken for one that stays; of anybody else it may be one or not.
fn refuse_key(facts: &RenewalFacts, presented: &PeerCertificate, key: &PublicKey) -> Result<(), Refusal> {
    let KeyUse { banned, certificates } = &facts.key_use;
    if *banned {
        return Err(Refusal::KeyCompromised);
    }
    let (same, is_taken_in) = (presented.key == *key, facts.peer.certificate.attested.is_none());
    if recorded_tier(&facts.peer) == Tier::Hardware {
        return if same { Ok(()) } else { Err(Refusal::Attestation(AttestationError::OtherKey)) };
    }
    if certificates.is_empty() || is_taken_in && same { Ok(()) } else { Err(Refusal::KeyReused) }
}

/// The tier of what was proven that this certificate descends from, whatever its holder has proven since. Of one out of a
/// lost time: that of its holder.
pub(super) fn recorded_tier(peer: &Peer) -> Tier {
    let attested = peer.certificate.attested.as_ref().or(peer.holder.attested.as_ref());
    attested.and_then(Attested::tier).unwrap_or(Tier::Token)
}

/// Whether an operator has taken this certificate from its holder. One that was replaced while it was pending is revoked,
/// too; but who comes with that is a second holder.
pub(super) fn is_withdrawn(row: &CertificateRow) -> bool {
    row.revoked.is_some_and(|revoked| revoked.reason != RevocationReason::Superseded)
}

pub(super) fn refuse_inactive(status: Status) -> Result<(), Refusal> {
    match status {
        Status::Active => Ok(()),
        Status::Held => Err(Refusal::Held),
        Status::Revoked => Err(Refusal::Revoked),
        Status::Decommissioned => Err(Refusal::Decommissioned),
        Status::Registered | Status::Pending => Err(Refusal::NotEnrolled),
    }
}
