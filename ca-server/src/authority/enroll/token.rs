//! Enrollment by a join token: what the token's row allows.

use fleetca_proto::v1;

use super::{
    EnrollmentRequest, Trail,
    verify::{CsrKey, Verified},
};
use crate::{
    attestation::{self, AttestationError},
    authority::{Authority, Refusal},
    identity::{Subject, Timestamp, TokenId},
    store::{TokenRow, TokenState},
};

/// A key that no token has (RFC 8032, section 7.1, test 1): nothing that it signs counts.
const NOBODYS: [u8; 32] = [
    0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e, 0xe1, 0x72,
    0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
];

/// Step 3: the token's key has signed the transcript. A token that does not exist fails like one whose signature does
/// not hold: nobody learns which ones exist.
pub(super) async fn verify(
    authority: &Authority,
    request: &EnrollmentRequest,
    id: &TokenId,
    challenge: &[u8],
    proof: &v1::Proof,
    trail: &mut Trail,
) -> Result<Verified, Refusal> {
    let token = authority.store.token(id).await?;
    trail.fleet(token.as_ref().and_then(|token| token.fleet.as_ref()));
    // One that does not exist takes as long.
    let public_key = token.as_ref().map_or(&NOBODYS, |token| &token.public_key);
    let expected = attestation::token::Expected { id, public_key };
    let claims = attestation::token::verify(request.start(), challenge, &proof.evidence_signature, expected);
    let claims = claims.map_err(Refusal::Attestation)?;
    let token = token.ok_or(Refusal::Attestation(AttestationError::Signature))?;
    trail.proven(format_args!("token/{id}"));
    let csr_key = CsrKey::OtherThan(token.public_key.to_vec());
    Ok(Verified { claims, csr_key, assertion: None, judged: None, newcomer: None })
}

/// Whom the certificate would be for: the token's word, or the caller's within the token's pattern.
pub(super) fn subject(request: &EnrollmentRequest, token: &TokenRow) -> Result<Subject, Refusal> {
    if request.kind() != token.kind {
        return Err(Refusal::IdRefused);
    }
    let id = match (&token.subject_id, request.id()) {
        (Some(bound), None) => bound.clone(),
        (Some(bound), Some(asked)) if bound == asked => bound.clone(),
        (Some(_), Some(_)) => return Err(Refusal::IdRefused),
        (None, None) => return Err(Refusal::invalid("id", "a fleet token needs the device's ID")),
        (None, Some(asked)) => {
            let pattern = token.id_pattern.as_deref().unwrap_or("*");
            if !matches(pattern, asked.as_str()) {
                return Err(Refusal::IdRefused);
            }
            asked.clone()
        }
    };
    Ok(Subject::new(token.kind, id))
}

/// Whether the token is worth something now.
pub(super) fn check(token: &TokenRow, now: Timestamp) -> Result<(), Refusal> {
    match token.state {
        TokenState::Revoked | TokenState::Suspended => Err(Refusal::TokenRevoked),
        TokenState::Live if token.uses_left == 0 => Err(Refusal::TokenSpent),
        TokenState::Live if token.expires_at < now => Err(Refusal::TokenExpired),
        TokenState::Live => Ok(()),
    }
}

/// Whether an ID fits a pattern in which `*` stands for any run of characters.
fn matches(pattern: &str, id: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = id.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    let mut rest = rest;
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_whole_ids() {
        for (pattern, id) in
            [("*", "a"), ("pump-*", "pump-7"), ("*-7", "pump-7"), ("p*-*7", "pump-17"), ("a", "a"), ("a*", "a")]
        {
            assert!(matches(pattern, id), "{pattern} {id}");
        }
        for (pattern, id) in [("pump-*", "pum"), ("pump-*", "xpump-7"), ("a", "ab"), ("*-7", "pump-8"), ("ab*b", "ab")]
        {
            assert!(!matches(pattern, id), "{pattern} {id}");
        }
    }
}
