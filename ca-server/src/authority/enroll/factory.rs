//! Enrollment by an IDevID.

use std::collections::BTreeSet;

use fleetca_proto::v1;

use super::{
    EnrollmentRequest, Trail, known, takers, unknown,
    verify::{CsrKey, Verified},
};
use crate::{
    attestation::{
        AttestationError,
        chain::{ChainError, Roots, Validity},
        factory::{Expected, Identified, identify, verify as verify_signature},
    },
    authority::{Authority, Refusal},
    identity::KeyFingerprint,
    inventory::fleet::{Method, Policy},
};

/// Step 3: the chain leads to a root of the device's own fleet, or of one that takes devices that nobody registered; and
/// the IDevID's key has signed the transcript.
pub(super) async fn verify(
    authority: &Authority,
    request: &EnrollmentRequest,
    chain: &[Vec<u8>],
    challenge: &[u8],
    proof: &v1::Proof,
    trail: &mut Trail,
) -> Result<Verified, Refusal> {
    // Whose fleet's rules count is known once the device is: so the chain is held against all roots first, in the most
    // lenient way, and then against its own fleet's.
    let all = authority.factory_roots().await?;
    let lenient = Expected { roots: &all, validity: Validity::AtBirth, banned: &BTreeSet::new() };
    let identified = identify(chain, lenient, authority.now()).map_err(Refusal::Attestation)?;
    // Chains are no secret: who has not got the key has nothing more looked up or computed.
    let claims = verify_signature(request.start(), challenge, &proof.evidence_signature, &identified);
    let claims = claims.map_err(Refusal::Attestation)?;
    trail.proven(format_args!("idevid:{}", identified.id));
    let (judged, newcomer) = match known::owner(authority, &identified.id).await? {
        Some(holder) => {
            trail.device(&holder);
            let policy = authority.terms(holder.subject.kind, holder.fleet.as_ref()).await?.policy;
            check(authority, chain, &identified, &policy, &takers::read(&policy.factory_roots.0)?)?;
            (Some(policy), None)
        }
        None => {
            let newcomer = unknown::welcome(authority, &identified.id, |takers| {
                let taker = takers.taker(Method::Factory, chain).map_err(Refusal::Attestation)?;
                trail.fleet(Some(&taker.name));
                let own = check(authority, chain, &identified, &taker.policy, &taker.roots)?;
                // Nobody has said of it what it is, so no certificate on the path that lets it in must say that it is
                // something else.
                if own.is_for_something_else {
                    return Err(Refusal::Attestation(AttestationError::Chain(ChainError::Purpose)));
                }
                Ok(taker)
            });
            (None, Some(newcomer.await?))
        }
    };
    let csr_key = CsrKey::OtherThan(identified.key.spki_der().to_vec());
    Ok(Verified { claims, csr_key, assertion: None, judged, newcomer })
}

/// What a fleet's own rules say of the chain, if that is the same device.
fn check(
    authority: &Authority,
    chain: &[Vec<u8>],
    found: &Identified,
    policy: &Policy,
    own: &Roots,
) -> Result<Identified, Refusal> {
    if policy.bans(&found.id) {
        return Err(Refusal::Attestation(AttestationError::Chain(ChainError::Banned)));
    }
    let banned: BTreeSet<KeyFingerprint> = policy.banned_keys.iter().copied().collect();
    let expected = Expected { roots: own, validity: policy.factory_validity.rule(), banned: &banned };
    let identified = identify(chain, expected, authority.now()).map_err(Refusal::Attestation)?;
    // Another path may have been found, with another issuer: then it is another device.
    if identified.id == found.id { Ok(identified) } else { Err(Refusal::Attestation(AttestationError::Unregistered)) }
}
