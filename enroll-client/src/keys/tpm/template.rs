//! Public areas that keys are made by, as the TCG's EK Credential Profile and provisioning guidance have them, and what
//! is read of those that come back.

use std::str::FromStr;

use der::{
    Encode, Sequence,
    asn1::{AnyRef, BitStringRef, ObjectIdentifier, UintRef},
};
use x509_cert::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use super::{
    POINT, TpmError,
    codec::{Answer, sized},
};

const ID_EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP_256_R_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SECP_384_R_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

const RSA: u16 = 0x0001;
const SHA256: u16 = 0x000b;
const SHA384: u16 = 0x000c;
const NULL: u16 = 0x0010;
const ECDSA: u16 = 0x0018;
const ECC: u16 = 0x0023;
const P256: u16 = 0x0003;
const P384: u16 = 0x0004;
/// AES in CFB mode.
const AES_128: [u8; 6] = [0, 6, 0, 128, 0, 0x43];
const AES_256: [u8; 6] = [0, 6, 1, 0, 0, 0x43];

/// fixedTPM, fixedParent, sensitiveDataOrigin.
const BORN_HERE: u32 = 0x0000_0032;
const USER_WITH_AUTH: u32 = 0x0000_0040;
const ADMIN_WITH_POLICY: u32 = 0x0000_0080;
const NO_DA: u32 = 0x0000_0400;
const RESTRICTED: u32 = 0x0001_0000;
const DECRYPT: u32 = 0x0002_0000;
const SIGN: u32 = 0x0004_0000;

/// PolicySecret of the endorsement hierarchy (profile, B.3.1).
const POLICY_A: &str = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";
/// Policy B with SHA-256 and SHA-384 (profile, B.3.4 on): those keys take the empty password as well.
const POLICY_B_SHA256: &str = "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0";
const POLICY_B_SHA384: &str =
    "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12";

/// The kinds of endorsement keys that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndorsementKind {
    /// RSA of 2048 bits (templates L-1 and H-1).
    Rsa2048,
    /// ECC on P-256 (templates L-2 and H-2).
    P256,
    /// ECC on P-384 (template H-3).
    P384,
}

impl EndorsementKind {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            EndorsementKind::Rsa2048 => "rsa-2048",
            EndorsementKind::P256 => "p-256",
            EndorsementKind::P384 => "p-384",
        }
    }
}

impl FromStr for EndorsementKind {
    type Err = TpmError;

    fn from_str(text: &str) -> Result<Self, TpmError> {
        match text {
            "rsa-2048" => Ok(EndorsementKind::Rsa2048),
            "p-256" => Ok(EndorsementKind::P256),
            "p-384" => Ok(EndorsementKind::P384),
            _ => Err(TpmError::Location),
        }
    }
}

/// One way to make an endorsement key, and where the TPM keeps what its maker says of it.
pub(super) struct Profile {
    pub(super) kind: EndorsementKind,
    /// NV index of the certificate.
    pub(super) certificate: u32,
    /// NV index of a template, if the maker had one of his own.
    pub(super) template: u32,
    /// NV index of a number that tells this TPM's key from others of the same seed, if the maker has put one there.
    pub(super) nonce: Option<u32>,
    /// The template where there is none.
    pub(super) default: fn() -> Vec<u8>,
}

/// In the order in which a certificate is looked for: the quicker keys first.
pub(super) const PROFILES: [Profile; 5] = [
    low(EndorsementKind::P256, 0x01c0_000a, l2),
    high(EndorsementKind::P256, 0x01c0_0014, h2),
    high(EndorsementKind::P384, 0x01c0_0016, h3),
    low(EndorsementKind::Rsa2048, 0x01c0_0002, l1),
    high(EndorsementKind::Rsa2048, 0x01c0_0012, h1),
];

/// In the low range the nonce follows the certificate, and the template follows the nonce.
const fn low(kind: EndorsementKind, certificate: u32, default: fn() -> Vec<u8>) -> Profile {
    Profile { kind, certificate, template: certificate + 2, nonce: Some(certificate + 1), default }
}

/// In the high range the template follows the certificate, and there are no nonces.
const fn high(kind: EndorsementKind, certificate: u32, default: fn() -> Vec<u8>) -> Profile {
    Profile { kind, certificate, template: certificate + 1, nonce: None, default }
}

/// NV indices at which a maker may keep the certificates between the endorsement key's and his root.
pub(super) const CHAIN: std::ops::RangeInclusive<u32> = 0x01c0_0100..=0x01c0_01ff;

/// TPMT_PUBLIC up to its parameters.
fn head(kind: u16, hash: u16, attributes: u32, policy: &str) -> Vec<u8> {
    let policy: Vec<u8> =
        (0..policy.len() / 2).filter_map(|at| u8::from_str_radix(&policy[2 * at..2 * at + 2], 16).ok()).collect();
    let mut area = [kind.to_be_bytes(), hash.to_be_bytes()].concat();
    area.extend(attributes.to_be_bytes());
    area.extend((policy.len() as u16).to_be_bytes());
    area.extend(policy);
    area
}

/// RSA of 2048 bits that decrypts, with the default exponent.
fn rsa(attributes: u32, policy: &str, unique: usize) -> Vec<u8> {
    let mut area = head(RSA, SHA256, attributes, policy);
    area.extend(AES_128);
    area.extend(NULL.to_be_bytes());
    area.extend(2048_u16.to_be_bytes());
    area.extend(0_u32.to_be_bytes());
    area.extend((unique as u16).to_be_bytes());
    area.resize(area.len() + unique, 0);
    area
}

/// The parameters of an ECC key, and its unused coordinates.
fn ecc(mut area: Vec<u8>, symmetric: &[u8], scheme: &[u16], curve: u16, unique: usize) -> Vec<u8> {
    area.extend(symmetric);
    scheme.iter().chain(&[curve, NULL]).for_each(|value| area.extend(value.to_be_bytes()));
    for _ in 0..2 {
        area.extend((unique as u16).to_be_bytes());
        area.resize(area.len() + unique, 0);
    }
    area
}

const L_RANGE: u32 = BORN_HERE | ADMIN_WITH_POLICY | RESTRICTED | DECRYPT;
const H_RANGE: u32 = L_RANGE | USER_WITH_AUTH;

fn l1() -> Vec<u8> {
    rsa(L_RANGE, POLICY_A, 256)
}

fn l2() -> Vec<u8> {
    ecc(head(ECC, SHA256, L_RANGE, POLICY_A), &AES_128, &[NULL], P256, 32)
}

fn h1() -> Vec<u8> {
    rsa(H_RANGE, POLICY_B_SHA256, 0)
}

fn h2() -> Vec<u8> {
    ecc(head(ECC, SHA256, H_RANGE, POLICY_B_SHA256), &AES_128, &[NULL], P256, 0)
}

fn h3() -> Vec<u8> {
    ecc(head(ECC, SHA384, H_RANGE, POLICY_B_SHA384), &AES_256, &[NULL], P384, 0)
}

/// The storage root key that other software expects below the owner hierarchy as well.
pub(super) fn storage_root() -> Vec<u8> {
    let attributes = BORN_HERE | USER_WITH_AUTH | NO_DA | RESTRICTED | DECRYPT;
    ecc(head(ECC, SHA256, attributes, ""), &AES_128, &[NULL], P256, 0)
}

/// A key that signs what the TPM itself has written, and nothing else.
pub(super) fn attestation_key() -> Vec<u8> {
    let attributes = BORN_HERE | USER_WITH_AUTH | NO_DA | RESTRICTED | SIGN;
    ecc(head(ECC, SHA256, attributes, ""), &NULL.to_be_bytes(), &[ECDSA, SHA256], P256, 0)
}

/// A key that signs. A failed use does not lock the TPM.
pub(super) fn device_key() -> Vec<u8> {
    let attributes = BORN_HERE | USER_WITH_AUTH | NO_DA | SIGN;
    ecc(head(ECC, SHA256, attributes, ""), &NULL.to_be_bytes(), &[NULL], P256, 0)
}

/// A template of the low range with a nonce in it: what there is of the key's number, or of its first coordinate.
pub(super) fn with_nonce(template: &[u8], nonce: &[u8]) -> Result<Vec<u8>, TpmError> {
    const WHAT: &str = "the reading of the maker's template and nonce";
    let mut area = Answer::new(WHAT, template);
    let kind = area.u16()?;
    area.take(2 + 4)?;
    area.sized()?;
    if area.u16()? != NULL {
        area.take(2 + 2)?;
    }
    area.u16()?;
    let (length, coordinates) = match kind {
        RSA => {
            area.take(2 + 4)?;
            (256, 1)
        }
        _ => {
            area.take(2 + 2)?;
            (32, 2)
        }
    };
    let unique = area.rest().len();
    let mut nonce = nonce.to_vec();
    if nonce.len() > length {
        return Err(TpmError::Answer(WHAT));
    }
    nonce.resize(length, 0);
    let mut area = [&template[..template.len() - unique], &sized(&nonce)].concat();
    if coordinates == 2 {
        area.extend(sized(&[0; 32]));
    }
    Ok(area)
}

/// Whether a key may be used with the empty password, whatever its policy is.
pub(super) fn takes_password(public: &[u8]) -> bool {
    public
        .get(4..8)
        .is_some_and(|octets| u32::from_be_bytes([octets[0], octets[1], octets[2], octets[3]]) & USER_WITH_AUTH != 0)
}

/// The point (SEC 1, uncompressed) of a P-256 key that signs and has no scheme.
pub(super) fn point_of(public: &[u8]) -> Option<[u8; POINT]> {
    match read(public).ok()? {
        (false, Unique::Point { curve: P256, point }) => point.try_into().ok(),
        _ => None,
    }
}

/// The SubjectPublicKeyInfo (DER) of a key.
pub(super) fn spki_of(public: &[u8]) -> Option<Vec<u8>> {
    let encode = |oid, parameters, key: &[u8]| {
        let algorithm = AlgorithmIdentifierRef { oid, parameters: Some(parameters) };
        SubjectPublicKeyInfoRef { algorithm, subject_public_key: BitStringRef::from_bytes(key)? }.to_der()
    };
    let encoded = || -> der::Result<Vec<u8>> {
        match read(public).map_err(|_| der::ErrorKind::Failed)?.1 {
            Unique::Point { curve: P256, point } => encode(ID_EC_PUBLIC_KEY, (&SECP_256_R_1).into(), &point),
            Unique::Point { point, .. } => encode(ID_EC_PUBLIC_KEY, (&SECP_384_R_1).into(), &point),
            Unique::Rsa { modulus, exponent } => {
                let exponent = exponent.to_be_bytes();
                let key = RsaPublicKey { modulus: UintRef::new(&modulus)?, exponent: UintRef::new(&exponent)? };
                encode(RSA_ENCRYPTION, AnyRef::NULL, &key.to_der()?)
            }
        }
    };
    encoded().ok()
}

/// RSAPublicKey of RFC 3279, section 2.3.1.
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

enum Unique {
    Rsa { modulus: Vec<u8>, exponent: u32 },
    Point { curve: u16, point: Vec<u8> },
}

/// Whether a key wraps others, and what is its own.
fn read(public: &[u8]) -> Result<(bool, Unique), TpmError> {
    let refused = || TpmError::Answer("the making of a key");
    let mut area = Answer::new("the making of a key", public);
    let kind = area.u16()?;
    area.take(2 + 4)?;
    area.sized()?;
    let wraps = area.u16()? != NULL;
    if wraps {
        area.take(2 + 2)?;
    }
    if area.u16()? != NULL {
        return Err(refused());
    }
    let unique = match kind {
        RSA => {
            area.u16()?;
            let exponent = match area.u32()? {
                0 => 65537,
                exponent => exponent,
            };
            Unique::Rsa { modulus: area.sized()?.to_vec(), exponent }
        }
        ECC => {
            let curve = area.u16()?;
            area.u16()?;
            let octets: usize = match curve {
                P256 => 32,
                P384 => 48,
                _ => return Err(refused()),
            };
            let mut point = vec![4];
            for _ in 0..2 {
                let coordinate = area.sized()?;
                let padding = octets.checked_sub(coordinate.len()).ok_or_else(refused)?;
                point.resize(point.len() + padding, 0);
                point.extend_from_slice(coordinate);
            }
            Unique::Point { curve, point }
        }
        _ => return Err(refused()),
    };
    Ok((wraps, unique))
}
