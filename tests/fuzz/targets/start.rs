//! `Start` and the evidence: no octets prove a token, and what is read decodes.

#![no_main]

use ca_server::{
    attestation::token::{Expected, verify},
    authority::EnrollmentRequest,
};
use fleetca_fuzz::split;
use fleetca_proto::v1::{Challenge, EnrollRequest, Proof, Start};
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|input: &[u8]| {
    let (start, rest) = split(input);
    let _ = (EnrollRequest::decode(rest), Challenge::decode(rest));
    if EnrollmentRequest::read(start.to_vec(), &"fleet.example".parse().expect("a trust domain")).is_ok() {
        let read = Start::decode(start).expect("what is read decodes");
        assert_eq!(read.trust_domain, "fleet.example");
        assert!(read.id.len() <= 64 && read.id.bytes().all(|octet| octet.is_ascii_graphic()));
    }
    if let Ok(proof) = Proof::decode(rest) {
        let id = "0123456789abcdef".parse().expect("an ID");
        let expected = Expected { id: &id, public_key: &[7; 32] };
        assert!(verify(start, rest, &proof.evidence_signature, expected).is_err());
    }
});
