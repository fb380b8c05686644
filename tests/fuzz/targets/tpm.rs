//! The three keys that a device with a TPM sends, and the answer to a challenge: what is read has three different keys,
//! and no octets are the answer.

#![no_main]

use ca_server::attestation::tpm::{Evidence, Proof};
use fleetca_fuzz::split;
use libfuzzer_sys::fuzz_target;
use ring::rand::SystemRandom;

fuzz_target!(|input: &[u8]| {
    let (ek, rest) = split(input);
    let (ak, rest) = split(rest);
    let (key, rest) = split(rest);
    let Ok(evidence) = Evidence::read(ek, ak, key) else { return };
    assert_eq!(evidence.endorsement_key(), Evidence::read(ek, ak, key).expect("again").endorsement_key());
    assert!(Evidence::read(ek, ek, key).is_err() && Evidence::read(ek, key, key).is_err());
    let Ok((_, secret)) = evidence.challenge(&SystemRandom::new()) else { return };
    let (mac, rest) = split(rest);
    let (attest, signature) = split(rest);
    assert!(evidence.verify(b"start", b"challenge", &secret, Proof { mac, attest, signature }).is_err());
});
