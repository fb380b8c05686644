//! A private key that proves who a device is, from a PEM file: of any kind that the CA takes.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
        ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
        RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};

/// Why a file holds no such key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceKeyError {
    /// No key in PKCS#8, or of a kind that is not taken.
    #[error(
        "not a private key in PKCS#8 PEM of a kind that is taken (P-256, P-384, Ed25519, RSA of 2048 to 4096 bits); \
         openssl pkcs8 -topk8 -nocrypt makes PKCS#8 of other forms"
    )]
    Unreadable,
    /// It could not sign.
    #[error("the evidence key cannot be used")]
    Unusable,
}

/// The key.
pub struct EvidenceKey(Kind);

enum Kind {
    /// The same key twice: for signatures in ASN.1 and of fixed length.
    Ecdsa {
        curve: Curve,
        asn1: Box<EcdsaKeyPair>,
        fixed: Box<EcdsaKeyPair>,
    },
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

#[derive(Clone, Copy)]
enum Curve {
    P256,
    P384,
}

impl Curve {
    fn algorithms(self) -> [&'static EcdsaSigningAlgorithm; 2] {
        match self {
            Curve::P256 => [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P256_SHA256_FIXED_SIGNING],
            Curve::P384 => [&ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P384_SHA384_FIXED_SIGNING],
        }
    }
}

impl EvidenceKey {
    /// Reads `-----BEGIN PRIVATE KEY-----`.
    pub fn from_pem(pem: &[u8]) -> Result<Self, EvidenceKeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| EvidenceKeyError::Unreadable)?;
        let pkcs8 = der.secret_pkcs8_der();
        for curve in [Curve::P256, Curve::P384] {
            let [asn1, fixed] = curve.algorithms();
            let read = |algorithm| EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &SystemRandom::new());
            if let (Ok(asn1), Ok(fixed)) = (read(asn1), read(fixed)) {
                return Ok(Self(Kind::Ecdsa { curve, asn1: Box::new(asn1), fixed: Box::new(fixed) }));
            }
        }
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8) {
            return Ok(Self(Kind::Ed25519(pair)));
        }
        RsaKeyPair::from_pkcs8(pkcs8).map(|pair| Self(Kind::Rsa(pair))).map_err(|_| EvidenceKeyError::Unreadable)
    }

    /// A signature in the form of `subject_signature`: ECDSA in ASN.1 DER, Ed25519, RSA PKCS#1 v1.5 with SHA-256.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, EvidenceKeyError> {
        self.signature(message, false)
    }

    /// A signature as in a JWS (RFC 7518): ECDSA as two numbers of fixed length.
    pub fn sign_jws(&self, message: &[u8]) -> Result<Vec<u8>, EvidenceKeyError> {
        self.signature(message, true)
    }

    fn signature(&self, message: &[u8], fixed_length: bool) -> Result<Vec<u8>, EvidenceKeyError> {
        let random = SystemRandom::new();
        let unusable = |_| EvidenceKeyError::Unusable;
        Ok(match &self.0 {
            Kind::Ecdsa { asn1, fixed, .. } => {
                let pair = if fixed_length { fixed } else { asn1 };
                pair.sign(&random, message).map_err(unusable)?.as_ref().to_vec()
            }
            Kind::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Kind::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(unusable)?;
                signature
            }
        })
    }

    /// The name of its algorithm in a JWS.
    pub fn algorithm(&self) -> &'static str {
        match &self.0 {
            Kind::Ecdsa { curve: Curve::P256, .. } => "ES256",
            Kind::Ecdsa { curve: Curve::P384, .. } => "ES384",
            Kind::Ed25519(_) => "EdDSA",
            Kind::Rsa(_) => "RS256",
        }
    }

    /// The public key as it stands in a SubjectPublicKeyInfo.
    pub fn public_key(&self) -> &[u8] {
        match &self.0 {
            Kind::Ecdsa { asn1, .. } => asn1.public_key().as_ref(),
            Kind::Ed25519(pair) => pair.public_key().as_ref(),
            Kind::Rsa(pair) => pair.public().as_ref(),
        }
    }

    /// Its JWK thumbprint with SHA-256 (RFC 7638), in base64url.
    pub fn thumbprint(&self) -> String {
        let text = |octets: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(octets);
        let json = match &self.0 {
            Kind::Ecdsa { curve, asn1, .. } => {
                let curve = if matches!(curve, Curve::P256) { "P-256" } else { "P-384" };
                let point = &asn1.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                format!(r#"{{"crv":"{curve}","kty":"EC","x":"{}","y":"{}"}}"#, text(x), text(y))
            }
            Kind::Ed25519(pair) => {
                format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, text(pair.public_key().as_ref()))
            }
            Kind::Rsa(pair) => {
                let PublicKeyComponents::<Vec<u8>> { n, e } = pair.public().into();
                format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, text(&e), text(&n))
            }
        };
        text(digest(&SHA256, json.as_bytes()).as_ref())
    }
}

impl fmt::Debug for EvidenceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EvidenceKey").field(&self.algorithm()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_private_key_is_refused_and_debug_tells_no_secret() {
        for text in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            assert_eq!(EvidenceKey::from_pem(text.as_bytes()).unwrap_err(), EvidenceKeyError::Unreadable);
        }
        let key = rcgen::KeyPair::generate().unwrap();
        let key = EvidenceKey::from_pem(key.serialize_pem().as_bytes()).unwrap();
        assert_eq!(format!("{key:?}"), "EvidenceKey(\"ES256\")");
        assert_eq!((key.sign_jws(b"text").unwrap().len(), key.thumbprint().len()), (64, 43));
    }
}
