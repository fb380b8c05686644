//! Enrollment by an assertion of a registered key.

use fleetca_proto::v1;

use super::{
    EnrollmentRequest, Trail,
    verify::{CsrKey, Verified},
};
use crate::{
    attestation::{
        AttestationError,
        registered_key::{Expected, verify as verify_assertion},
    },
    authority::{Authority, Refusal},
    identity::Thumbprint,
    pki::PublicKey,
};

/// Step 3: the key is registered, and has signed an assertion for this enrollment. A key that is not registered fails
/// like one whose signature does not hold.
pub(super) async fn verify(
    authority: &Authority,
    request: &EnrollmentRequest,
    id: &Thumbprint,
    challenge: &[u8],
    proof: &v1::Proof,
    trail: &mut Trail,
) -> Result<Verified, Refusal> {
    let refused = Refusal::Attestation;
    let found = authority.store.registered_key(id).await?;
    let (registered, holder) = found.ok_or(refused(AttestationError::Signature))?;
    trail.fleet(holder.fleet.as_ref());
    let key = PublicKey::from_spki_der(&registered.spki).map_err(|_| Refusal::Internal("registered key unreadable"))?;
    let trust_domain = &authority.domain().trust_domain;
    let expected = Expected { key: &key, device: &holder.subject.id, trust_domain };
    let now = authority.now();
    let verified = verify_assertion(request.start(), challenge, &proof.assertion, expected, now);
    let (claims, used) = verified.map_err(refused)?;
    trail.proven(format_args!("key/{id}"));
    trail.device(&holder);
    if !registered.is_in_force(now) {
        return Err(Refusal::KeyNotInForce(holder.subject));
    }
    Ok(Verified {
        claims,
        csr_key: CsrKey::OtherThan(key.spki_der().to_vec()),
        assertion: Some(used),
        judged: None,
        newcomer: None,
    })
}
