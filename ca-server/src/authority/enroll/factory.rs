//! Enrollment by an IDevID.

use std::collections::BTreeSet;

use fleetca_proto::v1;

use super::{
    EnrollmentRequest,
    verify::{CsrKey, Verified},
};
use crate::{
    attestation::{
        AttestationError,
        chain::{Roots, Validity},
        factory::{Expected, Identified, identify, verify as verify_signature},
    },
    authority::{Authority, Refusal},
    identity::KeyFingerprint,
};

/// Step 3: the chain leads to a root of the device's own fleet, and the IDevID's key has signed the transcript.
pub(super) async fn verify(
    authority: &Authority,
    request: &EnrollmentRequest,
    chain: &[Vec<u8>],
    challenge: &[u8],
    proof: &v1::Proof,
) -> Result<Verified, Refusal> {
    let identified = whose(authority, chain).await?;
    let claims = verify_signature(request.start(), challenge, &proof.evidence_signature, &identified);
    let csr_key = CsrKey::OtherThan(identified.key.spki_der().to_vec());
    Ok(Verified { claims: claims.map_err(Refusal::Attestation)?, csr_key, assertion: None })
}

/// Which device it is. Whose fleet's rules count is known once the device is: so the chain is held against all roots
/// first, in the most lenient way, and then against its own fleet's.
async fn whose(authority: &Authority, chain: &[Vec<u8>]) -> Result<Identified, Refusal> {
    let now = authority.now();
    let all = roots(&authority.store.factory_roots().await?)?;
    let lenient = Expected { roots: &all, validity: Validity::AtBirth, banned: &BTreeSet::new() };
    let id = identify(chain, lenient, now).map_err(Refusal::Attestation)?.id;
    let holder = authority.store.holder_of_hardware(&id).await?;
    let holder = holder.ok_or(Refusal::Attestation(AttestationError::Unregistered))?;
    let policy = authority.terms(holder.subject.kind, holder.fleet.as_ref()).await?.policy;
    let own = roots(&policy.factory_roots.0)?;
    let banned: BTreeSet<KeyFingerprint> = policy.banned_keys.iter().copied().collect();
    let expected = Expected { roots: &own, validity: policy.factory_validity.rule(), banned: &banned };
    let identified = identify(chain, expected, now).map_err(Refusal::Attestation)?;
    // Another path may have been found, with another issuer: then it is another device.
    if identified.id == id { Ok(identified) } else { Err(Refusal::Attestation(AttestationError::Unregistered)) }
}

fn roots(certificates: &[Vec<u8>]) -> Result<Roots, Refusal> {
    let read = Roots::read(certificates.iter().map(Vec::as_slice));
    read.map_err(|_| Refusal::Internal("a pinned root is unreadable"))
}
