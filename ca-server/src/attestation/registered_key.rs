//! Method `registered-key`: a JWT by a key that an operator has registered for the device (RFC 7523 `private_key_jwt`,
//! with the advice of RFC 8725).
//!
//! Freshness and key binding: the claim `binding`, the SHA-256 of the transcript, which covers the challenge's nonce and
//! the CSR; and `jti`, which works once. Whose the key is, since when and until when it counts, and whether a `jti` was
//! used, are facts of the store: whoever calls this decides from them afterwards.
//!
//! Own code, and strict: exactly three parts, one type, the one algorithm of the key. Nothing in a JWT chooses how it is
//! verified. See `docs/adr/0019-assertions.md`.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use fleetca_proto::transcript::binding;
use ring::digest::{Context, SHA256};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::Value;

use super::{AttestationError, Claims};
use crate::{
    identity::{DeviceId, Thumbprint, Timestamp, TrustDomain},
    inventory::fleet::{Method, Tier},
    pki::{KeyKind, PublicKey},
};

/// The `typ` of an assertion.
pub const TYPE: &str = "fleetca-enroll+jwt";

/// The longest assertion that is looked at, in octets.
const LONGEST: usize = 4096;
/// How long an assertion may live, in seconds.
const LONGEST_LIFE: i64 = 60;
/// How far ahead of ours its maker's clock may be, in seconds.
const SKEW: i64 = 30;
/// The longest `jti`.
const LONGEST_JTI: usize = 128;

/// What the evidence is held against.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The registered key.
    pub key: &'a PublicKey,
    /// Whose it is.
    pub device: &'a DeviceId,
    /// Where it is to be used.
    pub trust_domain: &'a TrustDomain,
}

/// An assertion that holds: it must not be taken twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// SHA-256 of the key's thumbprint and the `jti`.
    pub hash: [u8; 32],
    /// From when on it would be refused anyway.
    pub expires_at: Timestamp,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: String,
    #[serde(default, deserialize_with = "is_there")]
    crit: bool,
    #[serde(default, deserialize_with = "is_there")]
    b64: bool,
}

#[derive(Deserialize)]
struct Body {
    iss: String,
    sub: String,
    aud: String,
    iat: i64,
    exp: i64,
    #[serde(default, deserialize_with = "number")]
    nbf: Option<i64>,
    jti: String,
    binding: String,
}

/// Verifies an assertion: a compact JWS over `Start` and `Challenge`, the serialized messages as they travelled.
pub fn verify(
    start: &[u8],
    challenge: &[u8],
    assertion: &str,
    expected: Expected<'_>,
    now: Timestamp,
) -> Result<(Claims, Used), AttestationError> {
    let malformed = AttestationError::Malformed;
    if assertion.len() > LONGEST {
        return Err(malformed);
    }
    let (signed, signature) = assertion.rsplit_once('.').ok_or(malformed)?;
    let (header, body) = signed.split_once('.').filter(|(_, body)| !body.contains('.')).ok_or(malformed)?;
    let header: Header = part(header)?;
    if header.typ != TYPE || header.alg != algorithm(expected.key.kind()) || header.crit || header.b64 {
        return Err(AttestationError::Assertion("type or algorithm"));
    }
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| malformed)?;
    expected.key.verify_jws(signed.as_bytes(), &signature).map_err(|_| AttestationError::Signature)?;

    // Read only now: these very octets were verified.
    let body: Body = part(body)?;
    let device = expected.device.as_str();
    if body.iss != device || body.sub != device {
        return Err(AttestationError::Assertion("iss or sub"));
    }
    if body.aud != format!("spiffe://{}", expected.trust_domain) {
        return Err(AttestationError::Assertion("aud"));
    }
    let (life, now) = (body.exp.saturating_sub(body.iat), now.secs());
    let begun = body.iat.max(body.nbf.unwrap_or(i64::MIN)) <= now + SKEW;
    if !(1..=LONGEST_LIFE).contains(&life) || !begun || body.exp <= now {
        return Err(AttestationError::Assertion("iat, nbf or exp"));
    }
    if body.jti.is_empty() || body.jti.len() > LONGEST_JTI {
        return Err(AttestationError::Assertion("jti"));
    }
    let bound = BASE64_URL_SAFE_NO_PAD.encode(binding(Method::RegisteredKey.as_str(), start, challenge));
    if body.binding != bound {
        return Err(AttestationError::Assertion("binding"));
    }
    let thumbprint = expected.key.thumbprint();
    let used = Used { hash: hash(&thumbprint, &body.jti), expires_at: Timestamp::from_secs(body.exp) };
    Ok((Claims { method: Method::RegisteredKey, tier: Tier::Registered, identity: thumbprint.to_string() }, used))
}

/// The one algorithm that a key of this kind signs with.
const fn algorithm(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::P256 => "ES256",
        KeyKind::P384 => "ES384",
        KeyKind::Ed25519 => "EdDSA",
        KeyKind::Rsa => "RS256",
    }
}

/// Whatever it says, `null` too.
fn is_there<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

/// A number, and not `null`.
fn number<'de, D: Deserializer<'de>>(value: D) -> Result<Option<i64>, D::Error> {
    i64::deserialize(value).map(Some)
}

/// A JSON object: an array of the fields' values in their order would be read as one, too. It is JSON all through, also in
/// the members that nobody reads, of which the second reading skips what is no UTF-8 or no number.
fn part<T: DeserializeOwned>(text: &str) -> Result<T, AttestationError> {
    let malformed = |_| AttestationError::Malformed;
    let json = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| AttestationError::Malformed)?;
    let whole: Value = serde_json::from_slice(&json).map_err(malformed)?;
    if !whole.is_object() {
        return Err(AttestationError::Malformed);
    }
    serde_json::from_slice(&json).map_err(malformed)
}

fn hash(thumbprint: &Thumbprint, jti: &str) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(thumbprint.as_bytes());
    context.update(jti.as_bytes());
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

#[cfg(test)]
mod tests;
