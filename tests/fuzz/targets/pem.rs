//! PEM: what is taken reads the same once it is written again; certificates and keys of files.

#![no_main]

use ca_server::pki::{PemLabel, from_pem, to_pem};
use enroll_client::{certificate::Certificate, keys::FileKey, trust::Roots};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = (Roots::from_pem(input), FileKey::from_pem(input));
    if let Ok(certificates) = Certificate::parse_pem(input) {
        let text: String = certificates.iter().map(Certificate::to_pem).collect();
        let again = Certificate::parse_pem(text.as_bytes()).expect("what was written reads");
        assert!(certificates.iter().map(Certificate::der).eq(again.iter().map(Certificate::der)));
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    for label in [PemLabel::Certificate, PemLabel::Crl] {
        if let Ok(blocks) = from_pem(label, text) {
            let text: String = blocks.iter().map(|block| to_pem(label, block)).collect();
            assert_eq!(from_pem(label, &text), Ok(blocks));
        }
    }
});
