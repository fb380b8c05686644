//! IDevIDs that a maker's key has signed, by serial number or by hardware module: who is identified is a device of this
//! maker, and its name in the inventory reads back.

#![no_main]

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

use ca_server::{
    attestation::{
        chain::{Roots, Validity},
        factory::{Expected, identify, verify},
    },
    clock::{Clock, SystemClock},
    identity::{HardwareId, KeyFingerprint},
    signer::{Signer, SoftwareSigner},
};
use fleetca_fuzz::signed_variant;
use libfuzzer_sys::fuzz_target;
use rcgen::{
    CertificateParams, CustomExtension, DnType, DnValue, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    date_time_ymd,
};

/// GeneralNames with one hardwareModuleName: type 1.2.3.4, serial 0a0b.
const MODULE: [u8; 27] =
    *b"\x30\x19\xa0\x17\x06\x08\x2b\x06\x01\x05\x05\x07\x08\x04\xa0\x0b\x30\x09\x06\x03\x2a\x03\x04\x04\x02\x0a\x0b";

/// A maker's key, for certificates that are made here and for those that are signed anew.
struct MakersKey(Arc<SoftwareSigner>);

impl PublicKeyData for MakersKey {
    fn der_bytes(&self) -> &[u8] {
        let spki = self.0.public_key().spki_der();
        &spki[spki.len() - 65..]
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for MakersKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

struct Maker {
    key: Arc<SoftwareSigner>,
    roots: Roots,
    /// One with a serial number, one with a hardware module's name (DER).
    idevids: [Vec<u8>; 2],
}

static MAKER: LazyLock<Maker> = LazyLock::new(|| {
    let signer = Arc::new(SoftwareSigner::generate().expect("a key"));
    let key = MakersKey(signer.clone());
    let params = |usage| {
        let mut params = CertificateParams::default();
        params.key_usages = vec![usage];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(9999, 12, 31);
        params
    };
    let mut root = params(KeyUsagePurpose::KeyCertSign);
    root.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = root.self_signed(&key).expect("a root");
    let roots = Roots::read([certificate.der().as_ref()]).expect("a root");
    let issuer = Issuer::new(root, key);
    let idevid = |name: &dyn Fn(&mut CertificateParams)| {
        let mut params = params(KeyUsagePurpose::DigitalSignature);
        name(&mut params);
        let key = KeyPair::generate().expect("a key");
        params.signed_by(&key, &issuer).expect("an IDevID").der().to_vec()
    };
    let serial = DnValue::PrintableString("SN-1".try_into().expect("printable"));
    let idevids = [
        idevid(&|params| params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), serial.clone())),
        idevid(&|params| {
            let module = CustomExtension::from_oid_content(&[2, 5, 29, 17], MODULE.to_vec());
            params.custom_extensions.push(module);
        }),
    ];
    Maker { key: signer, roots, idevids }
});

fuzz_target!(|input: &[u8]| {
    let Maker { key, roots, idevids } = &*MAKER;
    let (kind, input) = input.split_first().unwrap_or((&0, input));
    let real = &idevids[usize::from(kind % 2)];
    let leaf = signed_variant(real, input, key.as_ref());
    let signed_anew = input.first().is_some_and(|kind| kind & 2 != 0);
    let banned = BTreeSet::new();
    let expected = Expected { roots, validity: Validity::AtBirth, banned: &banned };
    let Ok(identified) = identify(std::slice::from_ref(&leaf), expected, SystemClock.now()) else {
        assert!(leaf != *real, "the real one was refused");
        return;
    };
    assert!(signed_anew || leaf == *real, "a leaf that nobody signed");
    let HardwareId::IdevId { issuer, serial } = &identified.id else { panic!("no IDevID") };
    assert_eq!(issuer, KeyFingerprint::of(key.public_key().spki_der()).as_bytes());
    assert!(leaf != *real || *serial == ["SN-1", "hw:1.2.3.4:0a0b"][usize::from(kind % 2)]);
    assert_eq!(HardwareId::idevid(&identified.id.to_string()).expect("what the inventory has"), identified.id);
    assert!(verify(b"start", b"challenge", &[7; 64], &identified).is_err());
});
