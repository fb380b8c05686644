//! TPMT_SIGNATURE, and whether it holds under an attestation key.

use der::asn1::UintRef;
use der::{Encode, Sequence};

use super::TpmError;
use super::hash::Hash;
use super::reader::Reader;
use crate::pki::{KeyKind, PublicKey};

const ALG_RSASSA: u16 = 0x0014;
const ALG_ECDSA: u16 = 0x0018;
/// The longest that is looked at, in octets: one of an RSA key of 4096 bits has 518.
const LONGEST: usize = 600;

/// ECDSA-Sig-Value of RFC 3279, section 2.2.3.
#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// Verifies `signature`, a TPMT_SIGNATURE, over `message` under `key`: ECDSA with SHA-256 on P-256 and SHA-384 on
/// P-384, RSASSA (PKCS#1 v1.5) with SHA-256.
pub(super) fn verify(key: &PublicKey, message: &[u8], signature: &[u8]) -> Result<(), TpmError> {
    let mut reader = Reader::new(signature, "TPMT_SIGNATURE");
    if signature.len() > LONGEST {
        return Err(reader.malformed());
    }
    let (algorithm, hash) = (reader.u16()?, Hash::from_id(reader.u16()?));
    let encoded = match (key.kind(), algorithm, hash) {
        (KeyKind::P256, ALG_ECDSA, Some(Hash::Sha256)) | (KeyKind::P384, ALG_ECDSA, Some(Hash::Sha384)) => {
            let (r, s) = (reader.sized()?, reader.sized()?);
            // No longer than the curve's: with any number of zeros in front, one signature would be many.
            if r.len().max(s.len()) > numbers(key.kind()) {
                return Err(reader.malformed());
            }
            let malformed = |_| TpmError::Malformed { structure: "TPMT_SIGNATURE" };
            let pair =
                EcdsaSignature { r: UintRef::new(r).map_err(malformed)?, s: UintRef::new(s).map_err(malformed)? };
            pair.to_der().map_err(malformed)?
        }
        (KeyKind::Rsa, ALG_RSASSA, Some(Hash::Sha256)) => reader.sized()?.to_vec(),
        _ => return Err(TpmError::Algorithm),
    };
    reader.finish()?;
    key.verify(message, &encoded).map_err(|_| TpmError::Signature)
}

/// How long each number of a signature on this curve may be, in octets.
const fn numbers(kind: KeyKind) -> usize {
    if matches!(kind, KeyKind::P384) { 48 } else { 32 }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
        RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RsaEncoding,
    };

    use super::*;

    const SHA_1: u16 = 0x0004;
    const SHA_256: u16 = 0x000b;
    const SHA_384: u16 = 0x000c;
    const ALG_RSAPSS: u16 = 0x0016;

    fn spki(key: &impl AsDer<PublicKeyX509Der<'static>>) -> PublicKey {
        PublicKey::from_spki_der(key.as_der().unwrap().as_ref()).unwrap()
    }

    /// A TPMT_SIGNATURE: which algorithm, which hash, then the numbers.
    fn signature(algorithm: u16, hash: u16, numbers: &[&[u8]]) -> Vec<u8> {
        let sized = |number: &&[u8]| [&u16::try_from(number.len()).unwrap().to_be_bytes(), *number].concat();
        let head = [algorithm.to_be_bytes(), hash.to_be_bytes()].concat();
        [head, numbers.iter().flat_map(sized).collect()].concat()
    }

    /// What an attestation key on a curve signs, by a library that knows nothing of TPMs.
    struct Curve(EcdsaKeyPair);

    impl Curve {
        fn new(algorithm: &'static EcdsaSigningAlgorithm) -> Self {
            Self(EcdsaKeyPair::generate(algorithm).unwrap())
        }

        fn public(&self) -> PublicKey {
            spki(self.0.public_key())
        }

        fn sign(&self, hash: u16, message: &[u8]) -> Vec<u8> {
            let numbers = self.0.sign(&SystemRandom::new(), message).unwrap();
            let (r, s) = numbers.as_ref().split_at(numbers.as_ref().len() / 2);
            signature(ALG_ECDSA, hash, &[r, s])
        }
    }

    /// The same of RSA.
    struct Rsa(RsaKeyPair);

    impl Rsa {
        fn new() -> Self {
            Self(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
        }

        fn public(&self) -> PublicKey {
            spki(self.0.public_key())
        }

        fn sign(&self, padding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
            let mut number = vec![0; self.0.public_modulus_len()];
            self.0.sign(padding, &SystemRandom::new(), message, &mut number).unwrap();
            number
        }

        fn signed(&self, message: &[u8]) -> Vec<u8> {
            signature(ALG_RSASSA, SHA_256, &[&self.sign(&RSA_PKCS1_SHA256, message)])
        }
    }

    /// Of each kind of attestation key one, and what it has signed.
    fn signed(message: &[u8]) -> [(PublicKey, Vec<u8>); 3] {
        let (p256, p384) = (Curve::new(&ECDSA_P256_SHA256_FIXED_SIGNING), Curve::new(&ECDSA_P384_SHA384_FIXED_SIGNING));
        let rsa = Rsa::new();
        [
            (p256.public(), p256.sign(SHA_256, message)),
            (p384.public(), p384.sign(SHA_384, message)),
            (rsa.public(), rsa.signed(message)),
        ]
    }

    #[test]
    fn what_an_attestation_key_of_each_kind_has_signed_is_taken_and_nothing_else() {
        for ((key, signed), (other, _)) in signed(b"message").into_iter().zip(signed(b"message")) {
            let kind = key.kind();
            assert_eq!(verify(&key, b"message", &signed), Ok(()), "{kind}");
            assert_eq!(verify(&key, b"messagf", &signed), Err(TpmError::Signature), "{kind}");
            assert_eq!(verify(&other, b"message", &signed), Err(TpmError::Signature), "{kind}");
        }
    }

    #[test]
    fn a_signature_by_another_algorithm_or_hash_than_its_keys_is_refused() {
        for (key, signed) in signed(b"message") {
            let (algorithm, hash) = (&signed[..2], &signed[2..4]);
            for relabelled in [ALG_RSASSA, ALG_RSAPSS, ALG_ECDSA, 0].map(u16::to_be_bytes) {
                let relabelled = [&relabelled[..], &signed[2..]].concat();
                let refused = relabelled[..2] != *algorithm;
                assert_eq!(verify(&key, b"message", &relabelled).err(), refused.then_some(TpmError::Algorithm));
            }
            // P-384 with SHA-256, RSA with SHA-384: the numbers would hold.
            for relabelled in [SHA_1, SHA_256, SHA_384, 0].map(u16::to_be_bytes) {
                let relabelled = [algorithm, &relabelled, &signed[4..]].concat();
                let refused = relabelled[2..4] != *hash;
                assert_eq!(verify(&key, b"message", &relabelled).err(), refused.then_some(TpmError::Algorithm));
            }
        }
        // One that was made so, and says so; and one that says something else.
        let rsa = Rsa::new();
        let number = rsa.sign(&RSA_PKCS1_SHA384, b"message");
        for (hash, error) in [(SHA_384, TpmError::Algorithm), (SHA_256, TpmError::Signature)] {
            let refused = verify(&rsa.public(), b"message", &signature(ALG_RSASSA, hash, &[&number]));
            assert_eq!(refused, Err(error));
        }
    }

    #[test]
    fn a_signature_is_read_to_its_last_octet_and_no_further() {
        let malformed = Err(TpmError::Malformed { structure: "TPMT_SIGNATURE" });
        for (key, signed) in signed(b"message") {
            for length in 0..signed.len() {
                assert_eq!(verify(&key, b"message", &signed[..length]), malformed, "{length}");
            }
            for more in [1, 2, 48, 600] {
                assert_eq!(verify(&key, b"message", &[&signed[..], &vec![0; more]].concat()), malformed, "{more}");
            }
        }
    }

    #[test]
    fn a_number_is_no_longer_than_its_curves() {
        for (algorithm, hash, octets) in
            [(&ECDSA_P256_SHA256_FIXED_SIGNING, SHA_256, 32), (&ECDSA_P384_SHA384_FIXED_SIGNING, SHA_384, 48)]
        {
            let key = Curve::new(algorithm);
            let signed = key.sign(hash, b"message");
            let (r, s) = (&signed[6..6 + octets], &signed[8 + octets..]);
            let with_zeros = |number: &[u8]| [&[0; 2], number].concat();
            for numbers in [[&with_zeros(r)[..], s], [r, &with_zeros(s)[1..]]] {
                let refused = verify(&key.public(), b"message", &signature(ALG_ECDSA, hash, &numbers));
                assert_eq!(refused, Err(TpmError::Malformed { structure: "TPMT_SIGNATURE" }));
            }
        }
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        let p384 = Curve::new(&ECDSA_P384_SHA384_FIXED_SIGNING);
        for numbers in [[&[][..], &[]], [&[0; 48], &[0; 48]], [&[0xff; 48], &[1]], [&[1], &[0xff; 200]]] {
            assert!(verify(&p384.public(), b"message", &signature(ALG_ECDSA, SHA_384, &numbers)).is_err());
        }
        let rsa = Rsa::new();
        for number in [&[][..], &[0; 256], &[0xff; 256], &rsa.sign(&RSA_PKCS1_SHA256, b"message")[1..]] {
            assert!(verify(&rsa.public(), b"message", &signature(ALG_RSASSA, SHA_256, &[number])).is_err());
        }
    }
}
