//! Registered keys: when each of them counts, and which key a certificate is never for.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use fleetca_proto::transcript::binding;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, SigningKey};
use serde_json::{Value, json};

use super::*;
use crate::{
    attestation::{AttestationError, registered_key::TYPE},
    inventory::fleet::{Method, Tier},
    pki::PublicKey,
    store::NewRegisteredKey,
};

/// A device with registered keys, in a fleet where it may enroll again by them.
async fn registered(world: &World, keys: Vec<NewRegisteredKey>) {
    let policy = Policy { attest: vec![Method::RegisteredKey], reenroll: Some(Tier::Registered), ..Policy::default() };
    let fleet: crate::identity::FleetName = "keys".parse().unwrap();
    world.authority.create_fleet(&fleet, policy, "operator/ana").await.unwrap();
    let new = NewDevice { id: "pump-1".parse().unwrap(), fleet, hardware: Vec::new(), keys, line: 0 };
    world.authority.register_device(new, "operator/ana").await.unwrap();
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ED25519).unwrap()
}

fn public(key: &KeyPair) -> PublicKey {
    PublicKey::from_spki_der(&key.subject_public_key_info()).unwrap()
}

/// That it counts from so long after the start on, and until then.
fn scheduled(key: &KeyPair, from: Duration, until: Duration) -> NewRegisteredKey {
    NewRegisteredKey { key: public(key), active_from: START + from, retires_at: Some(START + until) }
}

/// An honest assertion of this key, for a certificate of that one.
async fn enroll(world: &World, key: &KeyPair, subject: &KeyPair) -> Result<Grant, Refusal> {
    let csr = CertificateParams::default().serialize_request(subject).unwrap().der().to_vec();
    let evidence = v1::RegisteredKeyEvidence { key_id: public(key).thumbprint().to_string() };
    let start = v1::Start {
        trust_domain: "fleet.example".into(),
        kind: v1::Kind::Device.into(),
        id: "pump-1".into(),
        csr,
        evidence: Some(v1::start::Evidence::RegisteredKey(evidence)),
    }
    .encode_to_vec();
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let bound = BASE64_URL_SAFE_NO_PAD.encode(binding("registered-key", &start, b"challenge"));
    let now = world.authority.now().secs();
    let body = json!({
        "iss": "pump-1", "sub": "pump-1", "aud": "spiffe://fleet.example", "iat": now, "exp": now + 60,
        "jti": bound, "binding": bound,
    });
    let signed = format!("{}.{}", part(json!({"alg": "EdDSA", "typ": TYPE})), part(body));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()).unwrap());
    let own = subject.sign(&enrollment("registered-key", Signs::Subject, &start, b"challenge")).unwrap();
    let proof = v1::Proof { subject_signature: own, assertion: format!("{signed}.{signature}"), ..Default::default() };
    let request = EnrollmentRequest::read(start, &world.authority.domain().trust_domain)?;
    let outcome = world.authority.enroll(&request, &Challenge::plain(b"challenge"), &proof).await;
    outcome.map(issued).map_err(|refused| refused.why)
}

/// Refuse 28: before its time and from its end on, to the second; in between both count.
#[tokio::test]
async fn of_two_keys_that_overlap_each_counts_in_its_own_time_and_no_longer() {
    let world = World::new().await;
    let (old, new) = (key(), key());
    registered(&world, vec![scheduled(&old, DAY, DAY * 10), scheduled(&new, DAY * 5, DAY * 20)]).await;
    let second = Duration::from_secs(1);
    for (at, counts) in [
        (DAY - second, [false, false]),
        (DAY, [true, false]),
        (DAY * 5 - second, [true, false]),
        (DAY * 5, [true, true]),
        (DAY * 10 - second, [true, true]),
        (DAY * 10, [false, true]),
        (DAY * 20 - second, [false, true]),
        (DAY * 20, [false, false]),
    ] {
        world.at(at);
        for (key, counts) in [&old, &new].into_iter().zip(counts) {
            match enroll(&world, key, &request().0).await {
                Ok(_) => assert!(counts, "{at:?}"),
                // What this is an event for, and of whom.
                Err(Refusal::KeyNotInForce(whose)) => assert!(!counts && whose == subject("pump-1"), "{at:?}"),
                Err(other) => panic!("{at:?}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_registered_key_gets_no_certificate_of_this_ca() {
    let world = World::new().await;
    let own = key();
    registered(&world, vec![scheduled(&own, Duration::ZERO, DAY)]).await;
    let refused = enroll(&world, &own, &own).await.unwrap_err();
    assert!(matches!(refused, Refusal::Attestation(AttestationError::SameKey)), "{refused:?}");
    enroll(&world, &own, &request().0).await.unwrap();
}
