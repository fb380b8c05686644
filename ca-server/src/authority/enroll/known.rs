//! Enrollment by an identity that was registered for a device: the same for every method that proves one.

use super::{admit::Decision, request::Asks, verify::Proven};
use crate::{
    authority::{Authority, Refusal, refuse_barred},
    identity::{HardwareId, Kind, Timestamp},
    inventory::{
        device::Status,
        fleet::{Policy, Tier},
        lineage::Position,
    },
    store::{Attested, CertificateRow, Hardware, Holder, KeyUse, MAX_LIVE},
};

/// What is proven is a device's, and the caller does not ask for another name.
pub(super) fn check_name(asks: Asks<'_>, holder: &Holder) -> Result<(), Refusal> {
    let other = asks.id.is_some_and(|id| *id != holder.subject.id);
    if asks.kind != Kind::Device || other { Err(Refusal::IdRefused) } else { Ok(()) }
}

/// Whose hardware this is. What was retired is nobody's to enroll with, its own device's neither.
pub(super) async fn owner(authority: &Authority, id: &HardwareId) -> Result<Option<Holder>, Refusal> {
    match authority.store.holder_of_hardware(id).await? {
        Some((Hardware { retired_at: Some(_), .. }, holder)) => Err(Refusal::HardwareRetired(holder.subject)),
        found => Ok(found.map(|(_, holder)| holder)),
    }
}

/// Step 5, for a device that the evidence has named.
pub(super) async fn decide(
    authority: &Authority,
    holder: &Holder,
    proven: &Proven,
    policy: &Policy,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    refuse_barred(holder, now)?;
    let key_use = authority.store.key_use(&proven.key.fingerprint()).await?;
    if key_use.banned {
        return Err(Refusal::KeyCompromised);
    }
    if let Some(row) = key_use.certificates.iter().find(|row| is_answer(row, holder, proven, now)) {
        return Ok(Decision::Again { serial: row.serial, confirm_required: row.position.is_unconfirmed() });
    }
    refuse_used_key(&key_use, holder, proven)?;
    // Another root, another key banned: what was held against the policy before may hold no more.
    let newcomer = proven.newcomer.as_ref().map(|newcomer| &newcomer.policy);
    if proven.judged.as_ref().or(newcomer).is_some_and(|judged| judged != policy) {
        return Err(Refusal::Contended);
    }
    check_policy(policy, holder, proven, authority.is_stranded(holder).await?)?;
    if let Some(used) = proven.assertion
        && authority.store.is_assertion_used(&used.hash).await?
    {
        return Err(Refusal::Attestation(crate::attestation::AttestationError::Replayed));
    }
    // Whoever enrolls in a loop would fill the disk, and the CRL once it is revoked.
    if authority.store.live_certificates(&holder.subject, now).await?.len() >= MAX_LIVE as usize {
        return Err(Refusal::Overloaded);
    }
    Ok(Decision::Admit { holder: Box::new(holder.clone()), promote: false })
}

/// Whether this certificate was the answer to the same proof for the same key: its reply was lost. What was revoked, is
/// of before its holder was, or was followed by another, answers nothing: who renews with a former one is a second holder.
fn is_answer(row: &CertificateRow, holder: &Holder, proven: &Proven, now: Timestamp) -> bool {
    let same = row.attested.as_ref().is_some_and(|attested| {
        attested.method == proven.claims.method.as_str() && attested.identity == proven.claims.identity
    });
    let first = row.presented.is_none() && row.token.is_none();
    same && first
        && row.holder == holder.subject
        && row.not_after >= now
        && row.revoked.is_none()
        && matches!(row.position, Position::Head | Position::Pending)
        && holder.status != Status::Revoked
}

/// A key comes back with its own holder's hardware, and with nothing else.
pub(super) fn refuse_used_key(key_use: &KeyUse, holder: &Holder, proven: &Proven) -> Result<(), Refusal> {
    let own = |row: &CertificateRow| proven.claims.tier == Tier::Hardware && row.holder == holder.subject;
    if key_use.certificates.iter().all(own) { Ok(()) } else { Err(Refusal::KeyReused) }
}

/// What the fleet demands, and what was recorded before.
fn check_policy(policy: &Policy, holder: &Holder, proven: &Proven, stranded: bool) -> Result<(), Refusal> {
    let claims = &proven.claims;
    policy.admit(claims.method, claims.tier)?;
    if claims.tier < recorded_tier(holder) {
        return Err(Refusal::TierRefused);
    }
    // Who has lost his certificate with his issuing CA is as one who has none.
    let may_again = stranded || policy.reenroll.is_some_and(|least| claims.tier >= least);
    if holder.status == Status::Active && !may_again {
        return Err(Refusal::AlreadyEnrolled(claims.method));
    }
    Ok(())
}

/// The tier that a holder proved when it enrolled last.
pub(super) fn recorded_tier(holder: &Holder) -> Tier {
    holder.attested.as_ref().and_then(Attested::tier).unwrap_or(Tier::Token)
}
