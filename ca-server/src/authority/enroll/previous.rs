//! Enrollment by an expired certificate: a device that slept too long comes back, as who it was.

use fleetca_proto::v1;

use super::{
    EnrollmentRequest, Trail,
    admit::Decision,
    known,
    verify::{CsrKey, Proven, Verified},
};
use crate::{
    attestation,
    authority::{Authority, Refusal, refuse_cut_off, renew},
    identity::{DeviceId, Kind, Timestamp},
    inventory::{
        fleet::{Policy, Tier},
        lineage::{Facts, Recovery, Request, recover},
    },
    pki::PeerCertificate,
    store::{CertificateRow, RenewalFacts},
};

/// Step 3: the certificate's key has signed the transcript, and the store knows the certificate.
pub(super) async fn verify(
    authority: &Authority,
    request: &EnrollmentRequest,
    certificate: &PeerCertificate,
    challenge: &[u8],
    proof: &v1::Proof,
    trail: &mut Trail,
) -> Result<Verified, Refusal> {
    if request.kind() != Kind::Device || certificate.subject.kind != Kind::Device {
        return Err(Refusal::MethodRefused);
    }
    let claims =
        |tier| attestation::previous::verify(request.start(), challenge, &proof.evidence_signature, certificate, tier);
    // Who has not got the key learns nothing about the certificate.
    claims(Tier::Token).map_err(Refusal::Attestation)?;
    let peer = authority.identify(certificate).await.map_err(|refused| refused.why)?;
    trail.proven(format_args!("certificate/{}", certificate.serial));
    trail.device(&peer.holder);
    let recorded = renew::recorded_tier(&peer);
    let key = certificate.key.spki_der().to_vec();
    // A key that lives in hardware stays: one that came in its place would not be vouched for by anything.
    let csr_key = if recorded == Tier::Hardware { CsrKey::This(key) } else { CsrKey::OtherThan(key) };
    Ok(Verified {
        claims: claims(recorded).map_err(Refusal::Attestation)?,
        csr_key,
        assertion: None,
        judged: None,
        newcomer: None,
    })
}

/// What the store knows of the certificate, its holder and the CSR's key, in one look.
pub(super) async fn facts(
    authority: &Authority,
    asked: Option<&DeviceId>,
    certificate: &PeerCertificate,
    proven: &Proven,
) -> Result<RenewalFacts, Refusal> {
    let facts = authority.store.renewal(certificate.serial, &proven.key.fingerprint()).await?;
    let facts = facts.ok_or(Refusal::CertificateUnknown)?;
    renew::refuse_other(&facts.peer, certificate)?;
    if asked.is_some_and(|id| *id != facts.peer.holder.subject.id) {
        return Err(Refusal::IdRefused);
    }
    // What followed a certificate may be forgotten, and that it was revoked: what has expired is on no CRL.
    let restorations = authority.store.restorations().await?;
    if restorations.iter().any(|restoration| certificate.serial.made_at() <= restoration.lost_until) {
        return Err(Refusal::CertificateExpired);
    }
    Ok(facts)
}

/// Step 5.
pub(super) fn decide(
    authority: &Authority,
    facts: &RenewalFacts,
    proven: &Proven,
    policy: &Policy,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let RenewalFacts { peer, key_use, oldest_that_counts, .. } = facts;
    let (holder, presented) = (&peer.holder, &peer.certificate);
    refuse_cut_off(holder)?;
    if key_use.banned {
        return Err(Refusal::KeyCompromised);
    }
    // What a release has taken away, or has expired since, is not given again: the caller is to make a new key.
    let answers = |row: &&CertificateRow| {
        row.presented == Some(presented.serial) && !renew::is_withdrawn(row) && row.not_after >= now
    };
    let answer = key_use.certificates.iter().find(answers);
    let facts = Facts {
        status: holder.status,
        on_fork: policy.on_fork,
        presented: Some(presented.position),
        lost: None,
        revoked: renew::is_withdrawn(presented),
        // What a revoked issuing CA signed is of no more use than what has expired; that it is his the store knows.
        expired: presented.not_after < now.floor_secs() || authority.issuers().is_revoked(&presented.issuer),
        request: Request::Renew { answered: answer.is_some() },
        has_pending: holder.lineage.pending.is_some(),
        replacements: holder.lineage.replacements,
    };
    // A fleet without grace lets nobody back by a certificate, though that of a revoked issuing CA may not have expired.
    let in_grace = policy.grace_secs > 0 && now <= presented.not_after + policy.grace();
    match recover(facts, in_grace) {
        Recovery::Again => {
            let row = answer.ok_or(Refusal::Internal("nothing was answered"))?;
            Ok(Decision::Again { serial: row.serial, confirm_required: row.position.is_unconfirmed() })
        }
        Recovery::Issue { promote } => {
            known::refuse_used_key(key_use, holder, proven)?;
            if oldest_that_counts.is_some_and(|not_after| not_after >= now) {
                return Err(Refusal::Overloaded);
            }
            Ok(Decision::Admit { holder: Box::new(holder.clone()), promote })
        }
        Recovery::NotExpired => Err(Refusal::State("the certificate has not expired: renew it".into())),
        Recovery::TooLate => Err(Refusal::CertificateExpired),
        Recovery::Stale => Err(Refusal::CertificateSuperseded),
        Recovery::CertificateRevoked => Err(Refusal::CertificateRevoked),
        Recovery::NotActive(_) => Err(Refusal::NotEnrolled),
    }
}
