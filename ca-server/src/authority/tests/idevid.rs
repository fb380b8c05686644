//! A board's IDevID, and the maker that it is of.

use rcgen::{BasicConstraints, CertificateParams, DnType, DnValue, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// A key that a maker has put into a board, and what the maker has signed (DER).
pub(super) struct Idevid {
    pub(super) maker: KeyPair,
    pub(super) root: Vec<u8>,
    pub(super) leaf: Vec<u8>,
    pub(super) key: KeyPair,
}

impl Idevid {
    /// Of a maker of its own.
    pub(super) fn new(serial: &str) -> Self {
        let maker = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, "Maker");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = ca.self_signed(&maker).unwrap().der().to_vec();
        let mut leaf = CertificateParams::default();
        let serial = DnValue::PrintableString(serial.try_into().unwrap());
        leaf.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), serial);
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let leaf = leaf.signed_by(&key, &Issuer::from_params(&ca, &maker)).unwrap().der().to_vec();
        Self { maker, root, leaf, key }
    }
}
