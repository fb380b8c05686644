//! Verifying signatures by keys of P-384: with aws-lc-rs, since one takes ring three to four times as long (ADR 32).

use aws_lc_rs::signature::{
    ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_FIXED, EcdsaVerificationAlgorithm,
    UnparsedPublicKey,
};
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};

/// An uncompressed point, in octets: 4, then both coordinates.
const POINT: usize = 1 + 2 * 48;

/// A form of ECDSA by a key of P-384. In the two that are ASN.1 it is one of certificates as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum P384Signature {
    /// SHA-256, in ASN.1.
    Sha256,
    /// SHA-384, in ASN.1.
    Sha384,
    /// SHA-384, as two numbers of 48 octets each: ES384 of RFC 7518, section 3.4.
    Es384,
}

impl P384Signature {
    fn algorithm(self) -> &'static EcdsaVerificationAlgorithm {
        match self {
            P384Signature::Sha256 => &ECDSA_P384_SHA256_ASN1,
            P384Signature::Sha384 => &ECDSA_P384_SHA384_ASN1,
            P384Signature::Es384 => &ECDSA_P384_SHA384_FIXED,
        }
    }
}

impl SignatureVerificationAlgorithm for P384Signature {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        // The library takes compressed points and whole SubjectPublicKeyInfos as well: a key has one encoding here.
        if key.len() != POINT || key[0] != 4 {
            return Err(InvalidSignature);
        }
        UnparsedPublicKey::new(self.algorithm(), key).verify(message, signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P384
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        match self {
            P384Signature::Sha256 => alg_id::ECDSA_SHA256,
            P384Signature::Sha384 | P384Signature::Es384 => alg_id::ECDSA_SHA384,
        }
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{
        ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
    };

    use super::*;

    /// A key's point, and what it has signed.
    fn signed(algorithm: &'static EcdsaSigningAlgorithm) -> (Vec<u8>, Vec<u8>) {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        (key.public_key().as_ref().to_vec(), key.sign(&random, b"text").unwrap().as_ref().to_vec())
    }

    #[test]
    fn what_another_library_has_signed_verifies_in_its_own_form_and_in_no_other() {
        let forms = [P384Signature::Sha256, P384Signature::Sha384, P384Signature::Es384];
        for (algorithm, own) in [
            (&ECDSA_P384_SHA384_ASN1_SIGNING, P384Signature::Sha384),
            (&ECDSA_P384_SHA384_FIXED_SIGNING, P384Signature::Es384),
        ] {
            let (key, signature) = signed(algorithm);
            for form in forms {
                assert_eq!(
                    form.verify_signature(&key, b"text", &signature).is_ok(),
                    form == own,
                    "{own:?} as {form:?}"
                );
            }
            assert!(own.verify_signature(&key, b"other", &signature).is_err());
            assert!(own.verify_signature(&key, b"text", &[&signature[..], &[0]].concat()).is_err());
            assert!(own.verify_signature(&key, b"text", &signature[..signature.len() - 1]).is_err());
            assert!(own.verify_signature(&key, b"text", &[]).is_err());
        }
    }

    #[test]
    fn a_point_has_one_encoding_and_lies_on_the_curve() {
        let (key, signature) = signed(&ECDSA_P384_SHA384_ASN1_SIGNING);
        let refuses = |key: &[u8]| P384Signature::Sha384.verify_signature(key, b"text", &signature).is_err();
        assert!(!refuses(&key));
        let compressed = [&[2 + (key[96] & 1)], &key[1..49]].concat();
        let head = [0x30, 0x76, 0x30, 0x10, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 0x22, 3];
        let info = [&head[..], &[0x62, 0], &key].concat();
        let mut off = key.clone();
        off[96] ^= 1;
        let mut hybrid = key.clone();
        hybrid[0] = 6 + (key[96] & 1);
        for other in [&compressed[..], &info, &off, &hybrid, &key[..96], &[4; 97], &[0], &[]] {
            assert!(refuses(other), "{other:?}");
        }
    }
}
