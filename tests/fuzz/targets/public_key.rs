//! Public keys and signatures: each key has one encoding that is taken, and that is DER.

#![no_main]

use ca_server::pki::PublicKey;
use der::{Decode, Encode};
use fleetca_fuzz::split;
use libfuzzer_sys::fuzz_target;
use spki::SubjectPublicKeyInfoOwned;

fuzz_target!(|input: &[u8]| {
    let (spki, rest) = split(input);
    let (message, signature) = split(rest);
    let Ok(key) = PublicKey::from_spki_der(spki) else { return };
    assert_eq!(key.spki_der(), spki);
    let other = SubjectPublicKeyInfoOwned::from_der(spki).expect("what is taken is DER");
    assert_eq!(other.to_der().expect("it encodes"), spki);
    // Nobody has signed anything; a key for which this holds is one for which anybody signs.
    assert!(key.verify(message, signature).is_err() || signature.len() > 60, "a signature without a key");
});
