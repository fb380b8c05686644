//! Method `token`: a one-time Ed25519 key in the device's hands, of which the CA knows the public half.
//!
//! Freshness: the challenge's nonce, in the transcript. Key binding: the transcript covers `Start`, and so the CSR.
//! Whom the token is for, how often and until when it may be used are facts of the store, not of the evidence: whoever
//! calls this decides from them afterwards.

use fleetca_proto::transcript::{Role, enrollment};
use ring::signature::{ED25519, UnparsedPublicKey};

use super::{AttestationError, Claims};
use crate::{
    identity::TokenId,
    inventory::fleet::{Method, Tier},
};

/// What the evidence is held against.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The token's ID, as `Start` names it.
    pub id: &'a TokenId,
    /// The token's public key, from the store: Ed25519, 32 octets.
    pub public_key: &'a [u8; 32],
}

/// Verifies the evidence signature: Ed25519 (RFC 8032) over the enrollment transcript with role `evidence`. `start` and
/// `challenge` are the serialized messages as they travelled.
pub fn verify(
    start: &[u8],
    challenge: &[u8],
    signature: &[u8],
    expected: Expected<'_>,
) -> Result<Claims, AttestationError> {
    let signed = enrollment(Method::Token.as_str(), Role::Evidence, start, challenge);
    UnparsedPublicKey::new(&ED25519, expected.public_key)
        .verify(&signed, signature)
        .map_err(|_| AttestationError::Signature)?;
    Ok(Claims { method: Method::Token, tier: Tier::Token, identity: expected.id.to_string() })
}

#[cfg(test)]
mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    fn signed_by(seed: u8, transcript: &[u8]) -> ([u8; 32], Vec<u8>) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        (pair.public_key().as_ref().try_into().unwrap(), pair.sign(transcript).as_ref().to_vec())
    }

    fn check(label: Vec<u8>) -> Result<Claims, AttestationError> {
        let (public_key, signature) = signed_by(1, &label);
        let id = "0123456789abcdef".parse().unwrap();
        verify(b"start", b"challenge", &signature, Expected { id: &id, public_key: &public_key })
    }

    #[test]
    fn a_signature_over_the_transcript_proves_the_token() {
        let claims = check(enrollment("token", Role::Evidence, b"start", b"challenge")).unwrap();
        assert_eq!(claims.identity, "0123456789abcdef");
    }

    #[test]
    fn a_proof_made_for_another_method_role_start_or_challenge_is_refused() {
        for transcript in [
            enrollment("factory", Role::Evidence, b"start", b"challenge"),
            enrollment("token", Role::Subject, b"start", b"challenge"),
            enrollment("token", Role::Evidence, b"other", b"challenge"),
            enrollment("token", Role::Evidence, b"start", b"stale"),
        ] {
            assert_eq!(check(transcript), Err(AttestationError::Signature));
        }
    }

    #[test]
    fn malformed_signatures_are_refused() {
        let (public_key, _) = signed_by(1, b"");
        let id = "0123456789abcdef".parse().unwrap();
        for signature in [&[][..], &[0; 64], &[0xff; 63], &[1; 1000]] {
            let expected = Expected { id: &id, public_key: &public_key };
            assert_eq!(verify(b"s", b"c", signature, expected), Err(AttestationError::Signature));
        }
    }
}
