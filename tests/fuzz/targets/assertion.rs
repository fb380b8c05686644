//! Assertions of method `registered-key`, signed by the registered key, whatever is in them: what is taken says what it has
//! to. Input is the header and the body, in which `BINDING` stands for the right one; or the whole, which nobody signed.

#![no_main]

use std::sync::LazyLock;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ca_server::{
    attestation::registered_key::{Expected, verify},
    identity::Timestamp,
    pki::PublicKey,
};
use enroll_client::{attester::evidence_key::EvidenceKey, keys::FileKey};
use fleetca_fuzz::split;
use fleetca_proto::transcript::binding;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const NOW: i64 = 1_790_000_000;

static KEY: LazyLock<(EvidenceKey, PublicKey)> = LazyLock::new(|| {
    let key = FileKey::generate().expect("a key");
    let public = PublicKey::from_spki_der(&key.spki()).expect("its public half");
    (EvidenceKey::from_pem(key.to_pem().as_bytes()).expect("the same key"), public)
});

fuzz_target!(|input: &[u8]| {
    let (signer, key) = &*KEY;
    let (device, trust_domain) = ("pump-7".parse().expect("an ID"), "fleet.example".parse().expect("a domain"));
    let expected = Expected { key, device: &device, trust_domain: &trust_domain };
    let take = |assertion: &str| verify(b"start", b"challenge", assertion, expected, Timestamp::from_secs(NOW));
    if let Ok(text) = std::str::from_utf8(input) {
        assert!(take(text).is_err(), "nobody signed it");
    }

    let (header, body) = split(input);
    let bound = BASE64_URL_SAFE_NO_PAD.encode(binding("registered-key", b"start", b"challenge"));
    let body = String::from_utf8_lossy(body).replace("BINDING", &bound);
    let signed = [header, body.as_bytes()].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature = BASE64_URL_SAFE_NO_PAD.encode(signer.sign_jws(signed.as_bytes()).expect("it signs"));
    let Ok((claims, used)) = take(&format!("{signed}.{signature}")) else { return };
    assert_eq!(claims.identity, signer.thumbprint());
    let read = |part: &[u8]| serde_json::from_slice::<Value>(part).expect("what is taken is JSON");
    let (header, body) = (read(header), read(body.as_bytes()));
    assert_eq!((&header["alg"], &header["typ"]), (&"ES256".into(), &"fleetca-enroll+jwt".into()));
    assert_eq!((&body["iss"], &body["sub"]), (&"pump-7".into(), &"pump-7".into()));
    assert_eq!((&body["aud"], &body["binding"]), (&"spiffe://fleet.example".into(), &bound.into()));
    let [from, until] = ["iat", "exp"].map(|claim| body[claim].as_i64().expect("a number"));
    assert!(until > NOW && until - from <= 60 && from <= NOW + 30);
    assert_eq!(used.expires_at, Timestamp::from_secs(until));
});
