//! Method `registered-key`: an assertion (RFC 7523) by a key that an operator has registered for this device.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use fleetca_proto::{transcript::binding, v1};
use prost::Message;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};

use super::evidence_key::{EvidenceKey, EvidenceKeyError};
use crate::wall_time::WallTime;

/// How long an assertion lives, in seconds: as long as the CA takes it.
const LIFE: u64 = 60;

/// An assertion for this `Start` and `Challenge`, as they travelled; `now` is the server's clock.
pub(super) fn assertion(
    key: &EvidenceKey,
    start: &[u8],
    challenge: &[u8],
    now: WallTime,
) -> Result<String, EvidenceKeyError> {
    let asked = v1::Start::decode(start).map_err(|_| EvidenceKeyError::Unusable)?;
    let mut jti = [0; 16];
    SystemRandom::new().fill(&mut jti).map_err(|_| EvidenceKeyError::Unusable)?;
    let header = json!({"alg": key.algorithm(), "typ": "fleetca-enroll+jwt", "kid": key.thumbprint()});
    let body = json!({
        "iss": asked.id,
        "sub": asked.id,
        "aud": format!("spiffe://{}", asked.trust_domain),
        "iat": now.unix(),
        "exp": now.unix() + LIFE,
        "jti": BASE64_URL_SAFE_NO_PAD.encode(jti),
        "binding": BASE64_URL_SAFE_NO_PAD.encode(binding("registered-key", start, challenge)),
    });
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&body));
    let signature = key.sign_jws(signed.as_bytes())?;
    Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
}
