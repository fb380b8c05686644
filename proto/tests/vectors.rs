//! The conformance vectors of the protocol, `tests/fixtures/transcript.json`, which `tests/python/vectors.py` made from
//! the specification alone: this crate's transcripts must be theirs, byte for byte.

use fleetca_proto::{
    transcript::{Role, audit_head, crl_head, enrollment, trust_bundle},
    v1,
};
use prost::Message;
use ring::signature::{ECDSA_P256_SHA256_ASN1, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde_json::Value;

/// What precedes the point in the SubjectPublicKeyInfo of every P-256 key.
const P256_SPKI_HEADER_LENGTH: usize = 26;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../tests/fixtures/transcript.json")).expect("the vectors are JSON")
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("a string of hexadecimal digits");
    let octet = |index| u8::from_str_radix(&text[index..index + 2], 16).expect("hexadecimal digits");
    (0..text.len()).step_by(2).map(octet).collect()
}

#[test]
fn enrollment_transcripts_are_those_of_the_vectors() {
    let vectors = vectors();
    let enrollments = vectors["enrollments"].as_array().expect("a list");
    assert_eq!(enrollments.len(), 3);
    for vector in enrollments {
        let method = vector["method"].as_str().expect("a method");
        let (start, challenge) = (bytes(&vector["start"]), bytes(&vector["challenge"]));
        let transcript = |role| enrollment(method, role, &start, &challenge);
        assert_eq!(transcript(Role::Evidence), bytes(&vector["evidence_transcript"]), "{}", vector["name"]);
        assert_eq!(transcript(Role::Subject), bytes(&vector["subject_transcript"]), "{}", vector["name"]);
    }
}

#[test]
fn the_messages_of_the_vectors_say_what_the_vectors_say() {
    let vectors = vectors();
    for vector in vectors["enrollments"].as_array().expect("a list") {
        let start = v1::Start::decode(&*bytes(&vector["start"])).expect("a Start");
        assert_eq!(start.trust_domain, vector["trust_domain"]);
        assert_eq!(start.kind().as_str_name(), vector["kind"]);
        assert_eq!(start.id, vector["id"]);
        let Some(v1::start::Evidence::Token(evidence)) = start.evidence else {
            panic!("{} has no token", vector["name"])
        };
        assert_eq!(evidence.token_id, vectors["join_token"]["id"]);
        let challenge = v1::Challenge::decode(&*bytes(&vector["challenge"])).expect("a Challenge");
        assert_eq!(challenge.nonce, bytes(&vector["nonce"]));
    }
}

#[test]
fn the_signatures_of_the_vectors_are_valid() {
    let vectors = vectors();
    let token = Ed25519KeyPair::from_seed_unchecked(&bytes(&vectors["join_token"]["seed"])).expect("a seed");
    assert_eq!(token.public_key().as_ref(), bytes(&vectors["join_token"]["public_key"]));
    let subject_point = &bytes(&vectors["subject_key"]["spki"])[P256_SPKI_HEADER_LENGTH..];
    let subject = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, subject_point);
    for vector in vectors["enrollments"].as_array().expect("a list") {
        // Ed25519 is deterministic: there is one signature, and it is this one.
        let evidence = token.sign(&bytes(&vector["evidence_transcript"]));
        assert_eq!(evidence.as_ref(), bytes(&vector["evidence_signature"]), "{}", vector["name"]);
        let signature = bytes(&vector["subject_signature"]);
        assert_eq!(subject.verify(&bytes(&vector["subject_transcript"]), &signature), Ok(()), "{}", vector["name"]);
    }
}

#[test]
fn what_roots_and_the_control_ca_sign_is_that_of_the_vectors() {
    let vectors = vectors();
    let bundle = &vectors["trust_bundle"];
    assert_eq!(trust_bundle(&bytes(&bundle["bundle"])), bytes(&bundle["transcript"]));
    let seal = &vectors["audit_head"];
    let sequence = seal["last_sequence"].as_u64().expect("a number");
    let at_millis = seal["at_millis"].as_i64().expect("a number");
    let head: [u8; 32] = bytes(&seal["head"]).try_into().expect("32 octets");
    assert_eq!(audit_head(sequence, at_millis, &head), bytes(&seal["transcript"]));
    let crl = &vectors["crl_head"];
    let number = crl["number"].as_u64().expect("a number");
    let this_update = crl["this_update_secs"].as_i64().expect("a number");
    let sha256: [u8; 32] = bytes(&crl["sha256"]).try_into().expect("32 octets");
    let issuer = crl["issuer"].as_str().expect("an ID");
    assert_eq!(crl_head(issuer, number, this_update, &sha256), bytes(&crl["transcript"]));
}
