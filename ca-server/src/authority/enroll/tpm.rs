//! Enrollment by a TPM: a secret that only it can unwrap, and a key that it certifies.

use std::collections::BTreeSet;

use fleetca_proto::v1;
use ring::rand::SystemRandom;

use super::{
    EnrollmentRequest, Trail, known, takers, unknown,
    verify::{CsrKey, Verified},
};
use crate::{
    attestation::{
        AttestationError, Claims,
        chain::{ChainError, Leaf, Roots, Rules},
        tpm::{Evidence, Proof, Secret, TpmError},
    },
    authority::{Authority, Refusal},
    identity::{HardwareId, KeyFingerprint},
    inventory::fleet::{Method, Policy},
};

/// What `Start` says of a TPM.
#[derive(Debug)]
pub(super) struct Tpm {
    evidence: Evidence,
    /// The endorsement key's certificate and those above it (DER), if any were sent.
    chain: Vec<Vec<u8>>,
}

/// Step 1: three keys, fit for their roles by what they say of themselves; and certificates, if there are any, of which the
/// first is the endorsement key's, pinned roots or not. Whether they lead to a root is looked at once the TPM is proven:
/// before that nobody has a signature looked at, nor hears by it what which fleet pins.
pub(super) fn read(wire: v1::TpmEvidence) -> Result<Tpm, Refusal> {
    let evidence = Evidence::read(&wire.ek_public, &wire.ak_public, &wire.key_public).map_err(refused)?;
    if !wire.ek_chain.is_empty() {
        evidence.check_certified(&wire.ek_chain).map_err(refused)?;
    }
    Ok(Tpm { evidence, chain: wire.ek_chain })
}

/// Step 2: the challenge's part for the TPM, and the secret in it. Everybody gets one: whether a TPM is registered is for
/// those to learn who have it.
pub(super) fn challenge(tpm: &Tpm) -> Result<(v1::TpmChallenge, Secret), Refusal> {
    let (credential, secret) = tpm.evidence.challenge(&SystemRandom::new()).map_err(refused)?;
    let part = v1::TpmChallenge { credential_blob: credential.blob, encrypted_secret: credential.encrypted_secret };
    Ok((part, secret))
}

/// Step 3: the TPM has unwrapped the secret and certified a key, both for this enrollment; it is registered, or comes by a
/// root of a fleet that takes devices that nobody registered; and where the device's fleet pins roots of TPMs, the
/// endorsement key's certificate leads to one. Who has not unwrapped the secret has no signature looked at.
pub(super) async fn verify(
    authority: &Authority,
    request: &EnrollmentRequest,
    tpm: &Tpm,
    (challenge, secret): (&[u8], Option<&Secret>),
    proof: &v1::Proof,
    trail: &mut Trail,
) -> Result<Verified, Refusal> {
    let secret = secret.ok_or(Refusal::Internal("a challenge without its secret"))?;
    let proof = proof.tpm.as_ref().ok_or(Refusal::Protocol("Proof has nothing of a TPM in it"))?;
    let proof = Proof { mac: &proof.mac, attest: &proof.attest, signature: &proof.signature };
    let key = tpm.evidence.verify(request.start(), challenge, secret, proof).map_err(refused)?;
    let id = identity(tpm);
    trail.proven(format_args!("ek:{id}"));
    let (judged, newcomer) = match known::owner(authority, &id).await? {
        Some(holder) => {
            trail.device(&holder);
            let policy = authority.terms(holder.subject.kind, holder.fleet.as_ref()).await?.policy;
            let roots = Some(&policy.tpm_roots.0).filter(|roots| !roots.is_empty());
            let roots = roots.map(|roots| takers::read(roots)).transpose()?;
            check_endorsement(authority, tpm, &policy, roots.as_ref())?;
            (Some(policy), None)
        }
        None => {
            // Nobody has registered it: so a maker has to vouch for it.
            let newcomer = unknown::welcome(authority, &id, |takers| {
                let taker = takers.taker(Method::Tpm, &tpm.chain).map_err(Refusal::Attestation)?;
                trail.fleet(Some(&taker.name));
                // Of the keys that a TPM has one is its identity.
                let kind = tpm.evidence.endorsement_kind();
                if kind.is_none() || kind != taker.policy.unknown.ek_kind {
                    return Err(Refusal::Attestation(AttestationError::OtherKind));
                }
                check_endorsement(authority, tpm, &taker.policy, Some(&taker.roots))?;
                Ok(taker)
            });
            (None, Some(newcomer.await?))
        }
    };
    let tier = Method::Tpm.tier().ok_or(Refusal::Internal("a method without tier"))?;
    let claims = Claims { method: Method::Tpm, tier, identity: id.to_string() };
    Ok(Verified { claims, csr_key: CsrKey::This(key.spki_der().to_vec()), assertion: None, judged, newcomer })
}

/// Whether the endorsement key is what its fleet takes: not banned, and where the fleet pins roots, under one of them.
fn check_endorsement(authority: &Authority, tpm: &Tpm, policy: &Policy, roots: Option<&Roots>) -> Result<(), Refusal> {
    if policy.bans(&identity(tpm)) {
        return Err(refused(TpmError::Chain(ChainError::Banned)));
    }
    let Some(roots) = roots else { return Ok(()) };
    let banned: BTreeSet<KeyFingerprint> = policy.banned_keys.iter().copied().collect();
    let validity = policy.factory_validity.rule();
    let rules = Rules { roots, leaf: Leaf::EndorsementKey, validity, banned: &banned };
    tpm.evidence.verify_endorsement(&tpm.chain, &rules, authority.now()).map_err(refused)
}

/// What tells it from all others.
pub(super) fn identity(tpm: &Tpm) -> HardwareId {
    HardwareId::Ek(*tpm.evidence.endorsement_key().as_bytes())
}

fn refused(error: TpmError) -> Refusal {
    Refusal::Attestation(AttestationError::Tpm(error))
}
