//! Key files of the server, plain or encrypted: what is opened is the key that was put in, and writes and reads again.

#![no_main]

use std::path::Path;

use ca_server::signer::{Passphrase, decode_key, is_encrypted};
use libfuzzer_sys::fuzz_target;
use pkcs8::PrivateKeyInfoRef;

/// Every encrypted seed has this one.
const PASSPHRASE: &[u8] = b"correct horse";

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (path, passphrase) = (Path::new("key.pem"), Passphrase::new(PASSPHRASE));
    let without = decode_key(text, None, path);
    let with = decode_key(text, Some(&passphrase), path);
    if let Ok(key) = &without {
        assert!(!is_encrypted(text), "an encrypted key opens without its passphrase");
        assert_eq!(with.as_ref().ok(), Some(key), "a passphrase that is not needed is not used");
    }
    if let (Err(_), Ok(key)) = (&without, &with) {
        assert!(is_encrypted(text));
        assert!(PrivateKeyInfoRef::try_from(key.as_slice()).is_ok(), "what was decrypted is a key");
    }
});
