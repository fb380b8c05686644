//! TPMT_PUBLIC: a key's public area, which its name is the hash of.

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5912::{ID_EC_PUBLIC_KEY, RSA_ENCRYPTION, SECP_256_R_1, SECP_384_R_1};
use der::asn1::{AnyRef, BitStringRef, UintRef};
use der::{Encode, Sequence};
use spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use super::TpmError;
use super::hash::Hash;
use super::reader::Reader;
use crate::pki::PublicKey;

/// The longest TPMT_PUBLIC that is looked at, in octets: one of an RSA key of 4096 bits has some 540.
const LONGEST: usize = 1024;

const ALG_RSA: u16 = 0x0001;
const ALG_AES: u16 = 0x0006;
const ALG_NULL: u16 = 0x0010;
const ALG_RSASSA: u16 = 0x0014;
const ALG_ECDSA: u16 = 0x0018;
const ALG_ECC: u16 = 0x0023;
const ALG_CFB: u16 = 0x0043;
const CURVE_P256: u16 = 0x0003;
const CURVE_P384: u16 = 0x0004;
const DEFAULT_EXPONENT: u32 = 65537;

const FIXED_TPM: u32 = 1 << 1;
const FIXED_PARENT: u32 = 1 << 4;
const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
const RESTRICTED: u32 = 1 << 16;
const DECRYPT: u32 = 1 << 17;
const SIGN: u32 = 1 << 18;
/// Made in a TPM, and never to leave it.
const BORN_HERE: u32 = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN;

/// A key's name: the algorithm of its hash, then the hash of its public area.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Name(Vec<u8>);

impl Name {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The key itself, in the TPM's terms.
pub(super) enum Point {
    /// Modulus, big-endian and without leading zeros, and exponent.
    Rsa { modulus: Vec<u8>, exponent: u32 },
    /// Uncompressed, as SEC 1 writes it.
    P256(Vec<u8>),
    /// Uncompressed, as SEC 1 writes it.
    P384(Vec<u8>),
}

/// How an EK encrypts what is wrapped under it: AES in CFB mode.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Symmetric {
    Aes128,
    Aes256,
}

/// A public area that was read whole: nothing behind it, no algorithm in it that is not taken.
pub(super) struct Public {
    name: Name,
    hash: Hash,
    attributes: u32,
    has_policy: bool,
    symmetric: Option<Symmetric>,
    has_scheme: bool,
    point: Point,
    key: PublicKey,
}

/// What a key is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRole {
    /// The endorsement key.
    Endorsement,
    /// The attestation key, which certifies.
    Attestation,
    /// The key of the CSR.
    Device,
}

impl Public {
    /// Reads a TPMT_PUBLIC.
    pub(super) fn read(octets: &[u8]) -> Result<Self, TpmError> {
        let mut reader = Reader::new(octets, "TPMT_PUBLIC");
        if octets.len() > LONGEST {
            return Err(reader.malformed());
        }
        let kind = reader.u16()?;
        let hash = Hash::from_id(reader.u16()?).ok_or(TpmError::Algorithm)?;
        let attributes = reader.u32()?;
        let has_policy = !reader.sized()?.is_empty();
        let symmetric = read_symmetric(&mut reader)?;
        let (has_scheme, point) = match kind {
            ALG_RSA => read_rsa(&mut reader)?,
            ALG_ECC => read_ecc(&mut reader)?,
            _ => return Err(TpmError::Algorithm),
        };
        reader.finish()?;
        let key = PublicKey::from_spki_der(&point.spki()?)?;
        let name = Name([&hash.id().to_be_bytes(), hash.digest(&[octets]).as_ref()].concat());
        Ok(Self { name, hash, attributes, has_policy, symmetric, has_scheme, point, key })
    }

    /// Whether it is what a key of this role has to be. What each attribute keeps out is in `docs/attestation.md`.
    pub(super) fn check(&self, role: KeyRole) -> Result<(), TpmError> {
        let set = |bits| self.attributes & bits == bits;
        let none = |bits| self.attributes & bits == 0;
        if !set(BORN_HERE) {
            return Err(TpmError::NotBornHere { role });
        }
        let fits = match role {
            KeyRole::Endorsement => set(RESTRICTED | DECRYPT) && none(SIGN) && self.symmetric.is_some(),
            // An attestation key that signs what anybody hands it would sign a forged attestation. One with a policy
            // of its own could be used without its authorization value.
            KeyRole::Attestation => set(RESTRICTED | SIGN) && none(DECRYPT) && self.has_scheme && !self.has_policy,
            KeyRole::Device => set(SIGN) && none(RESTRICTED | DECRYPT),
        };
        if fits && (role == KeyRole::Endorsement || self.symmetric.is_none()) {
            Ok(())
        } else {
            Err(TpmError::Attributes { role })
        }
    }

    /// Its name.
    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    /// The hash that its name and what is wrapped under it are made with.
    pub(super) fn hash(&self) -> Hash {
        self.hash
    }

    /// How what is wrapped under it is encrypted, for a key that wraps.
    pub(super) fn symmetric(&self) -> Option<Symmetric> {
        self.symmetric
    }

    /// The key, in the TPM's terms.
    pub(super) fn point(&self) -> &Point {
        &self.point
    }

    /// The key, in X.509's terms.
    pub(super) fn key(&self) -> &PublicKey {
        &self.key
    }
}

/// TPMT_SYM_DEF_OBJECT.
fn read_symmetric(reader: &mut Reader<'_>) -> Result<Option<Symmetric>, TpmError> {
    match reader.u16()? {
        ALG_NULL => Ok(None),
        ALG_AES => match (reader.u16()?, reader.u16()?) {
            (128, ALG_CFB) => Ok(Some(Symmetric::Aes128)),
            (256, ALG_CFB) => Ok(Some(Symmetric::Aes256)),
            _ => Err(TpmError::Algorithm),
        },
        _ => Err(TpmError::Algorithm),
    }
}

/// Whether there is a scheme; if so, it must be this one with a hash that is taken.
fn read_scheme(reader: &mut Reader<'_>, taken: u16) -> Result<bool, TpmError> {
    match reader.u16()? {
        ALG_NULL => Ok(false),
        scheme if scheme == taken => Hash::from_id(reader.u16()?).map(|_| true).ok_or(TpmError::Algorithm),
        _ => Err(TpmError::Algorithm),
    }
}

fn read_rsa(reader: &mut Reader<'_>) -> Result<(bool, Point), TpmError> {
    let has_scheme = read_scheme(reader, ALG_RSASSA)?;
    let bits = reader.u16()?;
    let exponent = match reader.u32()? {
        0 => DEFAULT_EXPONENT,
        exponent => exponent,
    };
    let modulus = reader.sized()?;
    if modulus.len() * 8 != usize::from(bits) || modulus.first().is_none_or(|first| *first < 0x80) {
        return Err(reader.malformed());
    }
    Ok((has_scheme, Point::Rsa { modulus: modulus.to_vec(), exponent }))
}

fn read_ecc(reader: &mut Reader<'_>) -> Result<(bool, Point), TpmError> {
    let has_scheme = read_scheme(reader, ALG_ECDSA)?;
    let curve = reader.u16()?;
    if reader.u16()? != ALG_NULL {
        // A key derivation scheme: none of our keys has one.
        return Err(TpmError::Algorithm);
    }
    let octets: usize = match curve {
        CURVE_P256 => 32,
        CURVE_P384 => 48,
        _ => return Err(TpmError::Algorithm),
    };
    let mut point = vec![4];
    for coordinate in [reader.sized()?, reader.sized()?] {
        let padding = octets.checked_sub(coordinate.len()).ok_or(reader.malformed())?;
        point.resize(point.len() + padding, 0);
        point.extend_from_slice(coordinate);
    }
    Ok((has_scheme, if curve == CURVE_P256 { Point::P256(point) } else { Point::P384(point) }))
}

/// RSAPublicKey of RFC 3279, section 2.3.1.
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

impl Point {
    /// The SubjectPublicKeyInfo (DER) that a certificate carries for it.
    fn spki(&self) -> Result<Vec<u8>, TpmError> {
        let encode = || match self {
            Point::P256(point) => spki(ID_EC_PUBLIC_KEY, (&SECP_256_R_1).into(), point),
            Point::P384(point) => spki(ID_EC_PUBLIC_KEY, (&SECP_384_R_1).into(), point),
            Point::Rsa { modulus, exponent } => {
                let exponent = exponent.to_be_bytes();
                let key = RsaPublicKey { modulus: UintRef::new(modulus)?, exponent: UintRef::new(&exponent)? };
                spki(RSA_ENCRYPTION, AnyRef::NULL, &key.to_der()?)
            }
        };
        encode().map_err(|_| TpmError::Malformed { structure: "TPMT_PUBLIC" })
    }
}

fn spki(oid: ObjectIdentifier, parameters: AnyRef<'_>, key: &[u8]) -> der::Result<Vec<u8>> {
    let algorithm = AlgorithmIdentifierRef { oid, parameters: Some(parameters) };
    SubjectPublicKeyInfoRef { algorithm, subject_public_key: BitStringRef::from_bytes(key)? }.to_der()
}
