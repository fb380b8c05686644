//! Certification requests: what is taken holds the key of the real request, and of the input where that is DER that
//! another parser reads.

#![no_main]

use std::sync::LazyLock;

use ca_server::pki::{Csr, PublicKey};
use der::{Decode, Encode};
use enroll_client::keys::FileKey;
use fleetca_fuzz::variant;
use libfuzzer_sys::fuzz_target;
use x509_cert::request::CertReq;

static REAL: LazyLock<Vec<u8>> = LazyLock::new(|| FileKey::generate().and_then(|key| key.csr()).expect("a request"));

fuzz_target!(|input: &[u8]| {
    let der = variant(&REAL, input);
    let Ok(csr) = Csr::parse(&der) else { return };
    let key = csr.public_key();
    assert_eq!(PublicKey::from_spki_der(key.spki_der()).as_ref(), Ok(key));
    if let Ok(other) = CertReq::from_der(&der) {
        assert_eq!(other.info.public_key.to_der().expect("it encodes"), key.spki_der());
    }
});
