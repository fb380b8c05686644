//! Signature algorithms that are read and verified here.

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5912::{
    ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, SHA_256_WITH_RSA_ENCRYPTION, SHA_384_WITH_RSA_ENCRYPTION,
    SHA_512_WITH_RSA_ENCRYPTION,
};
use const_oid::db::rfc8410::ID_ED_25519;
use der::asn1::AnyRef;
use ring::signature as ring_algorithms;
use rustls_pki_types::SignatureVerificationAlgorithm;
use spki::AlgorithmIdentifierRef;

use super::key::{BadSignature, KeyKind};
use super::p384::P384Signature;

/// A signature algorithm that this CA knows. SHA-1 is not among them, nor is anything that ring cannot verify
/// (ECDSA with SHA-512, RSA-PSS in certificates).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureAlgorithm {
    /// ECDSA with SHA-256, ASN.1 form.
    EcdsaSha256,
    /// ECDSA with SHA-384, ASN.1 form.
    EcdsaSha384,
    /// Ed25519.
    Ed25519,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RsaSha256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RsaSha384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RsaSha512,
}

use SignatureAlgorithm as Algorithm;

impl SignatureAlgorithm {
    /// Reads an AlgorithmIdentifier; gives back its OID where it is none of ours, or has parameters that it must not
    /// have.
    pub(super) fn read(identifier: &AlgorithmIdentifierRef<'_>) -> Result<Self, ObjectIdentifier> {
        let algorithm = match identifier.oid {
            ECDSA_WITH_SHA_256 => Algorithm::EcdsaSha256,
            ECDSA_WITH_SHA_384 => Algorithm::EcdsaSha384,
            ID_ED_25519 => Algorithm::Ed25519,
            SHA_256_WITH_RSA_ENCRYPTION => Algorithm::RsaSha256,
            SHA_384_WITH_RSA_ENCRYPTION => Algorithm::RsaSha384,
            SHA_512_WITH_RSA_ENCRYPTION => Algorithm::RsaSha512,
            other => return Err(other),
        };
        let parameters_fit = match algorithm {
            Algorithm::EcdsaSha256 | Algorithm::EcdsaSha384 | Algorithm::Ed25519 => identifier.parameters.is_none(),
            // RFC 4055, section 5: NULL; verifiers must also take it absent.
            _ => identifier.parameters.is_none_or(AnyRef::is_null),
        };
        if parameters_fit { Ok(algorithm) } else { Err(identifier.oid) }
    }

    /// The algorithm with which keys of this kind sign where nothing else is said.
    pub(super) fn usual(kind: KeyKind) -> Self {
        match kind {
            KeyKind::P256 => Algorithm::EcdsaSha256,
            KeyKind::P384 => Algorithm::EcdsaSha384,
            KeyKind::Ed25519 => Algorithm::Ed25519,
            KeyKind::Rsa => Algorithm::RsaSha256,
        }
    }

    /// The AlgorithmIdentifier (DER).
    pub(super) fn identifier(self) -> &'static [u8] {
        match self {
            Algorithm::EcdsaSha256 => &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2],
            Algorithm::EcdsaSha384 => &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3],
            Algorithm::Ed25519 => &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70],
            Algorithm::RsaSha256 => &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0],
            Algorithm::RsaSha384 => &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12, 5, 0],
            Algorithm::RsaSha512 => &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13, 5, 0],
        }
    }

    /// Verifies a signature of this algorithm by a key of this kind, if the two go together. The key is the content of its
    /// BIT STRING.
    pub(super) fn verify(
        self,
        kind: KeyKind,
        key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        let verifier: &'static dyn ring_algorithms::VerificationAlgorithm = match (kind, self) {
            (KeyKind::P256, Algorithm::EcdsaSha256) => &ring_algorithms::ECDSA_P256_SHA256_ASN1,
            (KeyKind::P256, Algorithm::EcdsaSha384) => &ring_algorithms::ECDSA_P256_SHA384_ASN1,
            (KeyKind::P384, Algorithm::EcdsaSha256) => return by_p384(P384Signature::Sha256, key, message, signature),
            (KeyKind::P384, Algorithm::EcdsaSha384) => return by_p384(P384Signature::Sha384, key, message, signature),
            (KeyKind::Ed25519, Algorithm::Ed25519) => &ring_algorithms::ED25519,
            (KeyKind::Rsa, Algorithm::RsaSha256) => &ring_algorithms::RSA_PKCS1_2048_8192_SHA256,
            (KeyKind::Rsa, Algorithm::RsaSha384) => &ring_algorithms::RSA_PKCS1_2048_8192_SHA384,
            (KeyKind::Rsa, Algorithm::RsaSha512) => &ring_algorithms::RSA_PKCS1_2048_8192_SHA512,
            _ => return Err(BadSignature),
        };
        by_ring(verifier, key, message, signature)
    }

    /// Verifies a JSON Web Signature (RFC 7518, RFC 8037) by the one algorithm of keys of this kind.
    pub(super) fn verify_jws(kind: KeyKind, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let verifier: &'static dyn ring_algorithms::VerificationAlgorithm = match kind {
            KeyKind::P256 => &ring_algorithms::ECDSA_P256_SHA256_FIXED,
            KeyKind::P384 => return by_p384(P384Signature::Es384, key, message, signature),
            KeyKind::Ed25519 => &ring_algorithms::ED25519,
            KeyKind::Rsa => &ring_algorithms::RSA_PKCS1_2048_8192_SHA256,
        };
        by_ring(verifier, key, message, signature)
    }
}

fn by_ring(
    verifier: &'static dyn ring_algorithms::VerificationAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), BadSignature> {
    ring_algorithms::UnparsedPublicKey::new(verifier, key).verify(message, signature).map_err(|_| BadSignature)
}

fn by_p384(form: P384Signature, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
    form.verify_signature(key, message, signature).map_err(|_| BadSignature)
}

#[cfg(test)]
mod tests {
    use der::Decode;

    use super::*;

    #[test]
    fn every_algorithm_reads_back_from_its_identifier() {
        use Algorithm::*;
        for algorithm in [EcdsaSha256, EcdsaSha384, Ed25519, RsaSha256, RsaSha384, RsaSha512] {
            let identifier = AlgorithmIdentifierRef::from_der(algorithm.identifier()).unwrap();
            assert_eq!(SignatureAlgorithm::read(&identifier), Ok(algorithm));
        }
    }

    #[test]
    fn an_algorithm_with_parameters_that_it_must_not_have_is_refused() {
        let with_null = [0x30, 12, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2, 5, 0];
        let identifier = AlgorithmIdentifierRef::from_der(&with_null).unwrap();
        assert_eq!(SignatureAlgorithm::read(&identifier), Err(ECDSA_WITH_SHA_256));
    }
}
