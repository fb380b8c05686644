//! Method `previous`: the key of a certificate of this CA that has expired.
//!
//! It proves nothing new: whoever comes by it is who the certificate says, with the tier that was recorded. Freshness:
//! the challenge's nonce, in the transcript. Key binding: the transcript covers `Start`, and so the CSR. Whether the
//! certificate is one of ours, is still its holder's newest, and expired not too long ago are facts of the store:
//! whoever calls this decides from them afterwards (`inventory::lineage::recover`).

use fleetca_proto::transcript::{Role, enrollment};

use super::{AttestationError, Claims};
use crate::{
    inventory::fleet::{Method, Tier},
    pki::PeerCertificate,
};

/// Verifies the evidence signature: by the certificate's key over the enrollment transcript with role `evidence`.
/// `start` and `challenge` are the serialized messages as they travelled; `recorded` is the tier that is kept.
pub fn verify(
    start: &[u8],
    challenge: &[u8],
    signature: &[u8],
    certificate: &PeerCertificate,
    recorded: Tier,
) -> Result<Claims, AttestationError> {
    let signed = enrollment(Method::Previous.as_str(), Role::Evidence, start, challenge);
    certificate.key.verify(&signed, signature).map_err(|_| AttestationError::Signature)?;
    Ok(Claims { method: Method::Previous, tier: recorded, identity: certificate.serial.to_string() })
}
