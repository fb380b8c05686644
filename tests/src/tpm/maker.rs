//! A maker of TPMs, who certifies endorsement keys.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PublicKeyData, SignatureAlgorithm, date_time_ymd,
};

/// tcg-kp-EKCertificate.
const EK_CERTIFICATE: [u64; 5] = [2, 23, 133, 8, 1];

/// A root, and an intermediate that certifies; all keys are of one curve.
pub struct Maker {
    root: Vec<u8>,
    intermediate: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl Maker {
    /// One with keys of its own, of P-256.
    #[expect(clippy::new_without_default, reason = "no two are equal")]
    pub fn new() -> Maker {
        Self::by(&PKCS_ECDSA_P256_SHA256)
    }

    /// One with keys of P-384.
    pub fn p384() -> Maker {
        Self::by(&PKCS_ECDSA_P384_SHA384)
    }

    fn by(algorithm: &'static SignatureAlgorithm) -> Maker {
        let authority = |name: &str| {
            let mut params = valid();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            (params, KeyPair::generate_for(algorithm).expect("a key"))
        };
        let (params, key) = authority("Chips Root");
        let root = params.self_signed(&key).expect("a root").der().to_vec();
        let above = Issuer::new(params, key);
        let (params, key) = authority("Chips Line 1");
        let intermediate = params.signed_by(&key, &above).expect("an intermediate").der().to_vec();
        Maker { root, intermediate, issuer: Issuer::new(params, key) }
    }

    /// The root (DER), which a fleet pins.
    pub fn root(&self) -> &[u8] {
        &self.root
    }

    /// The chain (DER) of the endorsement key of P-256 or P-384 with this TPMT_PUBLIC: its certificate, and the one above.
    pub fn chain(&self, public: &[u8]) -> Vec<Vec<u8>> {
        let mut params = valid();
        params.key_usages = vec![KeyUsagePurpose::KeyAgreement];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(EK_CERTIFICATE.to_vec())];
        let leaf = params.signed_by(&Point::of(public), &self.issuer).expect("a certificate");
        vec![leaf.der().to_vec(), self.intermediate.clone()]
    }
}

fn valid() -> CertificateParams {
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2045, 1, 1));
    params
}

/// An uncompressed public key.
struct Point(Vec<u8>);

impl Point {
    /// A TPMT_PUBLIC ends with both coordinates, each after its length, which one of P-384 has as well.
    fn of(public: &[u8]) -> Point {
        let is_length = |end: usize| public[..public.len() - end].ends_with(&[0, 48]);
        let octets = if is_length(48) && is_length(48 + 2 + 48) { 48 } else { 32 };
        let (rest, y) = public.split_at(public.len() - octets);
        let x = &rest[rest.len() - octets - 2..rest.len() - 2];
        Point([&[4], x, y].concat())
    }
}

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        if self.0.len() == 97 { &PKCS_ECDSA_P384_SHA384 } else { &PKCS_ECDSA_P256_SHA256 }
    }
}
