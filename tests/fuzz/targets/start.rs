//! `Start` and the evidence of each method: no octets prove a token, sign an assertion or answer a TPM's challenge, and what
//! is read decodes.

#![no_main]

use ca_server::{
    attestation::{registered_key, token, tpm},
    authority::EnrollmentRequest,
    identity::Timestamp,
    pki::PublicKey,
};
use fleetca_fuzz::split;
use fleetca_proto::v1::{Challenge, EnrollRequest, Proof, Start, start::Evidence};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use ring::rand::SystemRandom;

fuzz_target!(|input: &[u8]| {
    let (start, rest) = split(input);
    let _ = (EnrollRequest::decode(rest), Challenge::decode(rest));
    if EnrollmentRequest::read(start.to_vec(), &"fleet.example".parse().expect("a trust domain")).is_ok() {
        let read = Start::decode(start).expect("what is read decodes");
        assert_eq!(read.trust_domain, "fleet.example");
        assert!(read.id.len() <= 64 && read.id.bytes().all(|octet| octet.is_ascii_graphic()));
    }
    let Ok(proof) = Proof::decode(rest) else { return };
    let id = "0123456789abcdef".parse().expect("an ID");
    let expected = token::Expected { id: &id, public_key: &[7; 32] };
    assert!(token::verify(start, rest, &proof.evidence_signature, expected).is_err());

    let key = PublicKey::from_ed25519(&[7; 32]).expect("a key that nobody has");
    let (device, trust_domain) = ("pump-7".parse().expect("an ID"), "fleet.example".parse().expect("a domain"));
    let expected = registered_key::Expected { key: &key, device: &device, trust_domain: &trust_domain };
    let now = Timestamp::from_secs(1_790_000_000);
    assert!(registered_key::verify(start, rest, &proof.assertion, expected, now).is_err());

    let evidence = Start::decode(start).ok().and_then(|start| start.evidence);
    let (Some(Evidence::Tpm(keys)), Some(answer)) = (evidence, proof.tpm) else { return };
    let Ok(read) = tpm::Evidence::read(&keys.ek_public, &keys.ak_public, &keys.key_public) else { return };
    let _ = read.check_certified(&keys.ek_chain);
    let Ok((_, secret)) = read.challenge(&SystemRandom::new()) else { return };
    let answer = tpm::Proof { mac: &answer.mac, attest: &answer.attest, signature: &answer.signature };
    assert!(read.verify(start, rest, &secret, answer).is_err());
});
