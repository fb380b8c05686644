//! Public keys: which are taken, and what their signatures prove.

use std::fmt;

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5912::{RSA_ENCRYPTION, SECP_256_R_1, SECP_384_R_1};
use const_oid::db::rfc8410::ID_ED_25519;
use der::asn1::{AnyRef, UintRef};
use der::{Decode, Reader, SliceReader};
use spki::SubjectPublicKeyInfoRef;

use super::signature::SignatureAlgorithm;
use crate::identity::KeyFingerprint;

/// The longest SubjectPublicKeyInfo that a key of ours can have (RSA 4096 takes 550 octets).
const LONGEST_SPKI: usize = 1024;
/// The largest RSA exponent that the verifier takes.
const LARGEST_EXPONENT: u64 = (1 << 33) - 1;

/// What an SPKI of an uncompressed P-256 point begins with.
const P256_PREFIX: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7, 3,
    0x42, 0, 4,
];
/// What an SPKI of an uncompressed P-384 point begins with.
const P384_PREFIX: &[u8] =
    &[0x30, 0x76, 0x30, 0x10, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 0x22, 3, 0x62, 0, 4];
/// What an SPKI of an Ed25519 key begins with (RFC 8410).
const ED25519_PREFIX: &[u8] = &[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// The kinds of keys that a certificate can be for. Which of them a fleet allows is its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyKind {
    /// ECDSA on NIST P-256.
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// Ed25519 (RFC 8410).
    Ed25519,
    /// RSA of 2048 to 4096 bits.
    Rsa,
}

impl KeyKind {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            KeyKind::P256 => "P-256",
            KeyKind::P384 => "P-384",
            KeyKind::Ed25519 => "Ed25519",
            KeyKind::Rsa => "RSA",
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a public key is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not the DER of a SubjectPublicKeyInfo, or not the one encoding of it that is taken.
    #[error("the public key is malformed")]
    Malformed,
    /// An algorithm or a curve that is not supported.
    #[error("keys of algorithm {oid} are not supported; use P-256, P-384, Ed25519 or RSA of 2048 to 4096 bits")]
    Unsupported {
        /// The curve's OID where the key is on a named curve, else the algorithm's.
        oid: ObjectIdentifier,
    },
    /// An RSA modulus too short, too long, or of a length that is no multiple of 8 bits.
    #[error("an RSA key has {bits} bits; 2048 to 4096 are taken, in steps of 8")]
    RsaSize {
        /// Length of the modulus.
        bits: usize,
    },
    /// An RSA exponent that is even, below 65537 or above 2^33.
    #[error("an RSA key's public exponent must be odd and at least 65537")]
    RsaExponent,
    /// A key under which anybody can sign.
    #[error("the public key is weak: anybody could sign for it")]
    Weak,
}

/// A signature that does not verify. Why is not told, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct BadSignature;

/// A public key of a kind that certificates can be for, as its SubjectPublicKeyInfo.
///
/// Not checked here: that a point lies on its curve. Every verification checks it, so a key off the curve verifies
/// nothing, and no certificate is ever made for a key that has not verified something.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: KeyKind,
    spki: Box<[u8]>,
    /// Where the content of the BIT STRING begins.
    raw_at: usize,
    fingerprint: KeyFingerprint,
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo. Exactly one encoding of each key is taken: DER, uncompressed points, named curves.
    pub fn from_spki_der(spki: &[u8]) -> Result<Self, KeyError> {
        let (kind, raw_at) = classify(spki)?;
        Ok(Self { kind, spki: spki.into(), raw_at, fingerprint: KeyFingerprint::of(spki) })
    }

    /// Makes the key of an uncompressed point on P-256 (65 octets).
    pub fn from_p256_point(point: &[u8]) -> Result<Self, KeyError> {
        let prefix = &P256_PREFIX[..P256_PREFIX.len() - 1];
        Self::from_spki_der(&[prefix, point].concat())
    }

    /// Takes an Ed25519 key (RFC 8032, 32 octets); refuses points of small order, for which anybody can sign.
    pub fn from_ed25519(raw: &[u8; 32]) -> Result<Self, KeyError> {
        Self::from_spki_der(&[ED25519_PREFIX, raw].concat())
    }

    /// Its kind.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// SHA-256 of its SubjectPublicKeyInfo.
    pub fn fingerprint(&self) -> KeyFingerprint {
        self.fingerprint
    }

    /// Its SubjectPublicKeyInfo (DER), byte for byte as it came.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// The key identifier that certificates and CRLs carry for it: the first 20 octets of the SHA-256 of its
    /// SubjectPublicKeyInfo (RFC 7093, section 2, method 4, shortened).
    pub fn key_identifier(&self) -> [u8; 20] {
        let mut identifier = [0; 20];
        identifier.copy_from_slice(&self.fingerprint.as_bytes()[..20]);
        identifier
    }

    /// Verifies a signature over `message`: ECDSA with SHA-256 on P-256 and SHA-384 on P-384 (ASN.1 form), Ed25519,
    /// RSA PKCS#1 v1.5 with SHA-256.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        self.verify_as(SignatureAlgorithm::usual(self.kind), message, signature)
    }

    /// Verifies a JSON Web Signature (RFC 7518, RFC 8037) by the one algorithm of this key: ES256, ES384 (both as two
    /// numbers of fixed length), EdDSA, RS256.
    pub fn verify_jws(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        SignatureAlgorithm::verify_jws(self.kind, self.raw(), message, signature)
    }

    /// The content of the BIT STRING: a point, an Ed25519 key, an RSAPublicKey.
    pub(super) fn raw(&self) -> &[u8] {
        &self.spki[self.raw_at..]
    }

    /// Modulus and exponent of an RSA key.
    pub(super) fn rsa(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        if self.kind != KeyKind::Rsa {
            return None;
        }
        let mut reader = SliceReader::new(self.raw()).ok()?;
        let pair = reader
            .sequence(|fields| Ok::<(UintRef<'_>, UintRef<'_>), der::Error>((fields.decode()?, fields.decode()?)));
        pair.ok().map(|(modulus, exponent)| (modulus.as_bytes().to_vec(), exponent.as_bytes().to_vec()))
    }

    /// Verifies a signature made with a named algorithm.
    pub(super) fn verify_as(
        &self,
        algorithm: SignatureAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        algorithm.verify(self.kind, self.raw(), message, signature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({}, {})", self.kind, self.fingerprint)
    }
}

fn classify(spki: &[u8]) -> Result<(KeyKind, usize), KeyError> {
    // The uncompressed form's 04 belongs to what the verifier takes.
    let fixed = |prefix: &[u8], length| spki.starts_with(prefix) && spki.len() == length;
    if fixed(P256_PREFIX, 91) {
        return Ok((KeyKind::P256, P256_PREFIX.len() - 1));
    }
    if fixed(P384_PREFIX, 120) {
        return Ok((KeyKind::P384, P384_PREFIX.len() - 1));
    }
    if fixed(ED25519_PREFIX, 44) {
        let raw_at = ED25519_PREFIX.len();
        return if has_small_order(&spki[raw_at..]) { Err(KeyError::Weak) } else { Ok((KeyKind::Ed25519, raw_at)) };
    }
    if spki.len() > LONGEST_SPKI {
        // An RSA key too long for us deserves to hear its size; anything else of this length is no key.
        return Err(rsa_of(spki).and_then(check_rsa).err().unwrap_or(KeyError::Malformed));
    }
    let rsa = rsa_of(spki)?;
    check_rsa(rsa)?;
    Ok((KeyKind::Rsa, spki.len() - rsa.len()))
}

/// The RSAPublicKey inside; what is no RSA key is refused with its reason.
fn rsa_of(spki: &[u8]) -> Result<&[u8], KeyError> {
    let info = SubjectPublicKeyInfoRef::from_der(spki).map_err(|_| KeyError::Malformed)?;
    let oid = info.algorithm.oid;
    if oid != RSA_ENCRYPTION {
        let curve = info.algorithm.parameters.and_then(|curve| curve.decode_as::<ObjectIdentifier>().ok());
        return Err(match curve.unwrap_or(oid) {
            // Ours, but in another form: a compressed point, parameters that must not be there.
            SECP_256_R_1 | SECP_384_R_1 | ID_ED_25519 => KeyError::Malformed,
            oid => KeyError::Unsupported { oid },
        });
    }
    // RFC 3279, section 2.3.1: the parameters are NULL.
    if !info.algorithm.parameters.is_some_and(AnyRef::is_null) {
        return Err(KeyError::Malformed);
    }
    info.subject_public_key.as_bytes().ok_or(KeyError::Malformed)
}

fn check_rsa(rsa: &[u8]) -> Result<(), KeyError> {
    let read = || -> der::Result<(UintRef<'_>, UintRef<'_>)> {
        let mut reader = SliceReader::new(rsa)?;
        let pair = reader.sequence(|fields| Ok::<_, der::Error>((fields.decode()?, fields.decode()?)))?;
        reader.finish()?;
        Ok(pair)
    };
    let (modulus, exponent) = read().map_err(|_| KeyError::Malformed)?;
    let (modulus, exponent) = (modulus.as_bytes(), exponent.as_bytes());
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    if !(2048..=4096).contains(&bits) || bits % 8 != 0 {
        return Err(KeyError::RsaSize { bits });
    }
    if modulus.last().is_none_or(|last| last % 2 == 0) {
        return Err(KeyError::Weak);
    }
    let exponent = exponent.iter().try_fold(0u64, |sum, octet| sum.checked_mul(256)?.checked_add(u64::from(*octet)));
    match exponent {
        Some(exponent) if exponent % 2 == 1 && (65537..=LARGEST_EXPONENT).contains(&exponent) => Ok(()),
        _ => Err(KeyError::RsaExponent),
    }
}

/// Whether an Ed25519 key is a point of small order, which makes signatures that many messages share. All such points,
/// the unreduced forms included; the sign bit does not matter.
fn has_small_order(key: &[u8]) -> bool {
    const ORDER_EIGHT: [[u8; 32]; 2] = [
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
            0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
            0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ],
    ];
    let mut y = [0; 32];
    y.copy_from_slice(key);
    y[31] &= 0x7f;
    // y = 0 and 1, then y = p - 1, p and p + 1.
    let middle_is = |octet| y[1..31].iter().all(|other| *other == octet);
    let low = y[0] <= 1 && middle_is(0) && y[31] == 0;
    let high = (0xec..=0xee).contains(&y[0]) && middle_is(0xff) && y[31] == 0x7f;
    low || high || ORDER_EIGHT.contains(&y)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};

    use super::super::encode::{BIT_STRING, Der, SEQUENCE};
    use super::super::fixture::TestKey;
    use super::*;

    fn ed25519(raw: &[u8; 32]) -> Vec<u8> {
        [ED25519_PREFIX, raw].concat()
    }

    fn rsa(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
        let key = Der::build(SEQUENCE, |key| {
            key.unsigned(modulus);
            key.unsigned(exponent);
        });
        Der::build(SEQUENCE, |spki| {
            spki.nest(SEQUENCE, |algorithm| {
                algorithm.oid(&RSA_ENCRYPTION);
                algorithm.raw(&[5, 0]);
            });
            spki.primitive(BIT_STRING, &[&[0][..], &key].concat());
        })
    }

    fn modulus(octets: usize) -> Vec<u8> {
        vec![0xff; octets]
    }

    #[test]
    fn keys_of_every_kind_are_taken_and_their_signatures_verify() {
        let p256 = TestKey::generate();
        assert_eq!(p256.public.kind(), KeyKind::P256);
        assert_eq!(p256.public.verify(b"text", &p256.sign(b"text")), Ok(()));
        assert_eq!(p256.public.verify(b"other", &p256.sign(b"text")), Err(BadSignature));

        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let spki = [&P384_PREFIX[..P384_PREFIX.len() - 1], pair.public_key().as_ref()].concat();
        let p384 = PublicKey::from_spki_der(&spki).unwrap();
        assert_eq!(p384.kind(), KeyKind::P384);
        assert_eq!(p384.verify(b"text", pair.sign(&random, b"text").unwrap().as_ref()), Ok(()));

        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let key = PublicKey::from_spki_der(&ed25519(pair.public_key().as_ref().try_into().unwrap())).unwrap();
        assert_eq!(key.kind(), KeyKind::Ed25519);
        assert_eq!(key.verify(b"text", pair.sign(b"text").as_ref()), Ok(()));

        for octets in [256, 384, 512] {
            let key = PublicKey::from_spki_der(&rsa(&modulus(octets), &[1, 0, 1])).unwrap();
            assert_eq!((key.kind(), key.verify(b"text", b"none")), (KeyKind::Rsa, Err(BadSignature)));
        }
    }

    #[test]
    fn the_key_identifier_is_the_head_of_the_fingerprint() {
        let key = TestKey::generate().public;
        assert_eq!(key.fingerprint(), KeyFingerprint::of(key.spki_der()));
        assert_eq!(key.key_identifier(), key.fingerprint().as_bytes()[..20]);
    }

    #[test]
    fn rsa_keys_of_other_sizes_are_refused() {
        for (octets, bits) in [(128, 1024), (255, 2040), (513, 4104), (2048, 16384)] {
            let refused = PublicKey::from_spki_der(&rsa(&modulus(octets), &[1, 0, 1]));
            assert_eq!(refused, Err(KeyError::RsaSize { bits }));
        }
        let mut odd_length = modulus(257);
        odd_length[0] = 0x01;
        let refused = PublicKey::from_spki_der(&rsa(&odd_length, &[1, 0, 1]));
        assert_eq!(refused, Err(KeyError::RsaSize { bits: 2049 }));
    }

    #[test]
    fn rsa_exponents_that_weaken_the_key_are_refused() {
        for exponent in [&[1][..], &[3], &[17], &[0], &[1, 0, 0], &[2, 0, 0, 0, 1], &[1; 20]] {
            let refused = PublicKey::from_spki_der(&rsa(&modulus(256), exponent));
            assert_eq!(refused, Err(KeyError::RsaExponent), "{exponent:?}");
        }
        let mut even = modulus(256);
        even[255] = 0xfe;
        assert_eq!(PublicKey::from_spki_der(&rsa(&even, &[1, 0, 1])), Err(KeyError::Weak));
    }

    #[test]
    fn ed25519_points_of_small_order_are_refused() {
        let mut points = vec![[0; 32], [0; 32]];
        points[1][0] = 1;
        for low in [0xec, 0xed, 0xee] {
            let mut point = [0xff; 32];
            (point[0], point[31]) = (low, 0x7f);
            points.push(point);
        }
        for mut point in points {
            assert_eq!(PublicKey::from_spki_der(&ed25519(&point)), Err(KeyError::Weak));
            point[31] |= 0x80;
            assert_eq!(PublicKey::from_spki_der(&ed25519(&point)), Err(KeyError::Weak));
        }
    }

    #[test]
    fn other_curves_are_refused_by_name_and_other_forms_as_malformed() {
        let mut p521ish = TestKey::generate().public.spki_der().to_vec();
        p521ish[22] = 0x01; // prime192v1
        let oid = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.1");
        assert_eq!(PublicKey::from_spki_der(&p521ish), Err(KeyError::Unsupported { oid }));

        let p256 = TestKey::generate().public.spki_der().to_vec();
        let mut compressed = p256[..59].to_vec();
        (compressed[1], compressed[24], compressed[26]) = (57, 34, 2);
        assert_eq!(PublicKey::from_spki_der(&compressed), Err(KeyError::Malformed));
        let mut hybrid = p256.clone();
        hybrid[26] = 6;
        assert_eq!(PublicKey::from_spki_der(&hybrid), Err(KeyError::Malformed));
        assert_eq!(PublicKey::from_spki_der(&[p256.as_slice(), &[0]].concat()), Err(KeyError::Malformed));
        assert_eq!(PublicKey::from_spki_der(&p256[..90]), Err(KeyError::Malformed));
    }

    #[test]
    fn a_point_off_the_curve_verifies_nothing() {
        let key = TestKey::generate();
        let mut spki = key.public.spki_der().to_vec();
        *spki.last_mut().unwrap() ^= 1;
        let off = PublicKey::from_spki_der(&spki).unwrap();
        assert_eq!(off.verify(b"text", &key.sign(b"text")), Err(BadSignature));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..91, octet: u8) {
            let _ = PublicKey::from_spki_der(&bytes);
            let mut changed = TestKey::generate().public.spki_der().to_vec();
            changed[at] = octet;
            let _ = PublicKey::from_spki_der(&changed).map(|key| key.verify(b"", &bytes));
        }
    }
}
