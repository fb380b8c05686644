//! JSON Web Keys and sets of them, as makers of devices deliver them: what is taken are public keys, each with one encoding,
//! and as many as there are.

#![no_main]

use ca_server::pki::{PublicKey, from_jwk};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fn is_public(key: &Value) -> bool {
    ["d", "k", "p", "q", "dp", "dq", "qi", "oth"].iter().all(|member| key[member].is_null())
}

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(taken) = from_jwk(text) else { return };
    for key in &taken {
        assert_eq!(PublicKey::from_spki_der(key.spki_der()).as_ref(), Ok(key));
    }
    let value: Value = serde_json::from_str(text).expect("what is taken is JSON");
    let of_set = |keys: &Vec<Value>| keys.len() == taken.len() && keys.iter().all(is_public);
    let is_set = value["keys"].as_array().is_some_and(of_set);
    assert!(is_set || taken.len() == 1 && is_public(&value), "a private key, or another number of them");
});
