//! One CRL: read from DER without keeping its entries, and verified under its issuer. Pure.
//!
//! The bytes that are verified are the bytes that are written: nothing is encoded again.

use std::{cmp::Ordering, fmt};

use der::{
    Decode, Reader, SliceReader, Tag, TagNumber,
    asn1::{AnyRef, BitStringRef, ContextSpecific, ObjectIdentifier, OctetStringRef, UintRef},
};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey,
    VerificationAlgorithm,
};
use x509_cert::{
    ext::pkix::{AuthorityKeyIdentifier, BasicConstraints, KeyUsage},
    spki::AlgorithmIdentifierRef,
    time::Time,
};

use crate::{
    certificate::{Certificate, hex},
    trust::Roots,
    wall_time::WallTime,
};

const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
const ED_25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const RSA_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
const DELTA_INDICATOR: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.27");
const DISTRIBUTION_POINT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.28");
const AUTHORITY_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");
const MOST_NUMBER_OCTETS: usize = 20;
/// Extensions of a CA certificate that may be critical and are understood here, or say nothing about CRLs:
/// keyUsage, basicConstraints, nameConstraints, certificatePolicies.
const CA_CRITICAL: [&str; 4] = ["2.5.29.15", "2.5.29.19", "2.5.29.30", "2.5.29.32"];

/// Why a CRL, or its issuer's certificate, is not taken.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CrlError {
    /// Not DER of a version 2 CRL with number, key identifier and nextUpdate.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// Its issuer's name is another.
    #[error("issued under another name than its issuer's")]
    Name,
    /// Its authority key identifier is another.
    #[error("made for another key than its issuer's")]
    KeyIdentifier,
    /// Not by its issuer's key.
    #[error("the signature is not its issuer's")]
    Signature,
    /// An algorithm other than RSA (PKCS#1 v1.5), ECDSA on P-256 or P-384, or Ed25519.
    #[error("signed with an algorithm that is not known here")]
    Algorithm,
    /// A delta: programs would take it for the whole, and let everybody else in.
    #[error("a delta CRL, which must not reach a gateway")]
    Delta,
    /// Limited in scope: not the complete list of its issuer.
    #[error("limited in scope (it has an issuing distribution point)")]
    Scope,
    /// A critical extension that is not known here.
    #[error("a critical extension that is not known here")]
    Critical,
    /// thisUpdate lies ahead of this machine's clock.
    #[error("not valid before {0}, by the clock of this machine")]
    NotYet(WallTime),
    /// nextUpdate has passed.
    #[error("stale since {0}, by the clock of this machine")]
    Stale(WallTime),
    /// An older CRL than the one kept.
    #[error("number {found} is lower than {kept}, which is kept here")]
    Lower {
        /// Its number.
        found: String,
        /// The number kept.
        kept: String,
    },
    /// The same number as the one kept, with other bytes.
    #[error("number {0} came with other bytes than before")]
    Forked(String),
    /// The issuer's certificate may not sign CRLs, or is past its dates.
    #[error("the issuer may not sign CRLs")]
    NotAnIssuer,
    /// The issuer's certificate does not come from a trusted device root.
    #[error("the issuer does not come from a device root that is trusted here")]
    Untrusted,
}

impl CrlError {
    /// Whether another try may help.
    pub fn is_temporary(&self) -> bool {
        matches!(self, CrlError::NotYet(_) | CrlError::Stale(_))
    }
}

impl From<der::Error> for CrlError {
    fn from(_: der::Error) -> Self {
        CrlError::Malformed("not DER of a CRL")
    }
}

/// A CRL number: a big-endian integer of up to 20 octets, in hexadecimal without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlNumber(String);

impl CrlNumber {
    /// From hexadecimal, with or without leading zeros. That it is hexadecimal is not checked.
    pub(super) fn from_hex(text: &str) -> Self {
        Self(text.trim_start_matches('0').to_owned())
    }

    /// Hexadecimal, without leading zeros.
    pub fn as_hex(&self) -> &str {
        if self.0.is_empty() { "0" } else { &self.0 }
    }
}

/// Decimal, as operators' tools print it; hexadecimal where it is longer than any number of this CA.
impl fmt::Display for CrlNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u128::from_str_radix(self.as_hex(), 16) {
            Ok(number) => write!(f, "{number}"),
            Err(_) => write!(f, "0x{}", self.0),
        }
    }
}

impl PartialOrd for CrlNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for CrlNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(&other.0))
    }
}

/// A CRL that has been read, and by reading alone is nothing yet: see [`Crl::verify`].
pub struct Crl<'a> {
    der: &'a [u8],
    signed: Signed<'a>,
    issuer: &'a [u8],
    entries: Option<&'a [u8]>,
    /// The key identifier of its issuer.
    pub authority_key: &'a [u8],
    /// Its number.
    pub number: CrlNumber,
    /// When it was made.
    pub this_update: WallTime,
    /// When the next one is due at the latest.
    pub next_update: WallTime,
}

impl<'a> Crl<'a> {
    /// Reads a complete CRL of version 2 with number, key identifier and nextUpdate (RFC 5280, section 5). Its entries are
    /// not looked at yet: see [`Crl::serials`].
    pub fn parse(der: &'a [u8]) -> Result<Self, CrlError> {
        let signed = Signed::parse(der)?;
        let mut reader = SliceReader::new(signed.tbs)?;
        let fields = reader.sequence(|r| -> Result<_, CrlError> {
            if u8::decode(r)? != 1 {
                return Err(CrlError::Malformed("not version 2"));
            }
            if r.tlv_bytes()? != signed.algorithm {
                return Err(CrlError::Malformed("two different signature algorithms"));
            }
            let issuer = r.tlv_bytes()?;
            let this_update = instant(Time::decode(r)?);
            let next_update = match Tag::peek(r)? {
                Tag::UtcTime | Tag::GeneralizedTime => instant(Time::decode(r)?),
                _ => return Err(CrlError::Malformed("no nextUpdate")),
            };
            let entries = match Tag::peek(r)? {
                Tag::Sequence => Some(r.tlv_bytes()?),
                _ => None,
            };
            let extensions = ContextSpecific::<AnyRef<'a>>::decode_explicit(r, TagNumber(0))?;
            Ok((
                issuer,
                this_update,
                next_update,
                entries,
                extensions.ok_or(CrlError::Malformed("no extensions"))?.value,
            ))
        })?;
        let (issuer, this_update, next_update, entries, extensions) = fields;
        let (number, authority_key) = read_extensions(extensions.value())?;
        Ok(Self { der, signed, issuer, entries, authority_key, number, this_update, next_update })
    }

    /// Verifies it as the complete and current CRL of `issuer`, whose certificate has been verified.
    pub fn verify(&self, issuer: &Certificate, now: WallTime) -> Result<(), CrlError> {
        if self.issuer != issuer.subject() {
            return Err(CrlError::Name);
        }
        if issuer.key_identifier().as_deref() != Some(self.authority_key) {
            return Err(CrlError::KeyIdentifier);
        }
        self.signed.verify(issuer)?;
        if now < self.this_update {
            return Err(CrlError::NotYet(self.this_update));
        }
        if self.next_update < now {
            return Err(CrlError::Stale(self.next_update));
        }
        Ok(())
    }

    /// The DER, as it was read.
    pub fn der(&self) -> &'a [u8] {
        self.der
    }

    /// Serial numbers of its entries, lower-case hexadecimal.
    pub fn serials(&self) -> Result<Vec<String>, CrlError> {
        self.walk(|entry| {
            let mut reader = SliceReader::new(entry)?;
            let serial = reader.sequence(|r| -> der::Result<_> {
                let serial = UintRef::decode(r)?;
                r.drain(r.remaining_len())?;
                Ok(serial)
            });
            Ok(hex(serial?.as_bytes()))
        })
    }

    /// How many certificates it revokes.
    pub fn count(&self) -> Result<usize, CrlError> {
        Ok(self.walk(|_| Ok(()))?.len())
    }

    fn walk<T>(&self, mut each: impl FnMut(&'a [u8]) -> Result<T, CrlError>) -> Result<Vec<T>, CrlError> {
        let Some(entries) = self.entries else { return Ok(Vec::new()) };
        let mut reader = SliceReader::new(entries)?;
        reader.sequence(|r| {
            let mut found = Vec::new();
            while !r.is_finished() {
                found.push(each(r.tlv_bytes()?)?);
            }
            Ok(found)
        })
    }
}

/// Verifies that `certificate` may sign CRLs and is one of `roots` or comes from one of them, at `now`. The device
/// hierarchy has one level of issuing CAs.
pub(super) fn verify_issuer(certificate: &Certificate, roots: &Roots, now: WallTime) -> Result<(), CrlError> {
    if !may_sign_crls(certificate) || now < certificate.not_before() || certificate.not_after() < now {
        return Err(CrlError::NotAnIssuer);
    }
    if roots.certificates().iter().any(|root| root.der() == certificate.der()) {
        return Ok(());
    }
    let signed = Signed::parse(certificate.der())?;
    let is_from_root = roots
        .certificates()
        .iter()
        .any(|root| root.subject() == certificate.issuer() && root.is_ca() && signed.verify(root).is_ok());
    if is_from_root { Ok(()) } else { Err(CrlError::Untrusted) }
}

fn may_sign_crls(certificate: &Certificate) -> bool {
    let tbs = certificate.parsed().tbs_certificate();
    let is_ca = matches!(tbs.get_extension::<BasicConstraints>(), Ok(Some((_, constraints))) if constraints.ca);
    let has_usage = matches!(tbs.get_extension::<KeyUsage>(), Ok(Some((_, usage))) if usage.crl_sign());
    let is_understood = tbs
        .extensions()
        .into_iter()
        .flatten()
        .all(|extension| !extension.critical || CA_CRITICAL.contains(&extension.extn_id.to_string().as_str()));
    is_ca && has_usage && is_understood
}

/// The three parts of a signed structure (RFC 5280, sections 4.1 and 5.1): what is signed, how, and the signature.
struct Signed<'a> {
    tbs: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    fn parse(der: &'a [u8]) -> Result<Self, CrlError> {
        let mut reader = SliceReader::new(der)?;
        let parts = reader.sequence(|r| -> der::Result<_> {
            let (tbs, algorithm) = (r.tlv_bytes()?, r.tlv_bytes()?);
            Ok((tbs, algorithm, BitStringRef::decode(r)?))
        });
        let (tbs, algorithm, signature) = parts?;
        reader.finish()?;
        let signature = signature.as_bytes().ok_or(CrlError::Malformed("a signature that is no octets"))?;
        Ok(Self { tbs, algorithm, signature })
    }

    fn verify(&self, issuer: &Certificate) -> Result<(), CrlError> {
        let spki = issuer.parsed().tbs_certificate().subject_public_key_info();
        let curve = spki.algorithm.parameters.as_ref().and_then(|curve| curve.decode_as::<ObjectIdentifier>().ok());
        // A key on a named curve is of the kind that the curve says.
        let kind = if spki.algorithm.oid == EC_PUBLIC_KEY { curve } else { Some(spki.algorithm.oid) };
        let algorithm = verification(self.algorithm, kind).ok_or(CrlError::Algorithm)?;
        UnparsedPublicKey::new(algorithm, spki.subject_public_key.raw_bytes())
            .verify(self.tbs, self.signature)
            .map_err(|_| CrlError::Signature)
    }
}

fn verification(algorithm: &[u8], kind: Option<ObjectIdentifier>) -> Option<&'static dyn VerificationAlgorithm> {
    let oid = AlgorithmIdentifierRef::from_der(algorithm).ok()?.oid;
    match (oid, kind?) {
        (RSA_SHA256, RSA_KEY) => Some(&RSA_PKCS1_2048_8192_SHA256),
        (RSA_SHA384, RSA_KEY) => Some(&RSA_PKCS1_2048_8192_SHA384),
        (RSA_SHA512, RSA_KEY) => Some(&RSA_PKCS1_2048_8192_SHA512),
        (ED_25519, ED_25519) => Some(&ED25519),
        (ECDSA_SHA256, P256) => Some(&ECDSA_P256_SHA256_ASN1),
        (ECDSA_SHA384, P256) => Some(&ECDSA_P256_SHA384_ASN1),
        (ECDSA_SHA256, P384) => Some(&ECDSA_P384_SHA256_ASN1),
        (ECDSA_SHA384, P384) => Some(&ECDSA_P384_SHA384_ASN1),
        _ => None,
    }
}

/// CRL number and authority key identifier, of the content of `Extensions`. Refuses what makes a CRL incomplete.
fn read_extensions(content: &[u8]) -> Result<(CrlNumber, &[u8]), CrlError> {
    let mut reader = SliceReader::new(content)?;
    let (mut number, mut authority_key) = (None, None);
    while !reader.is_finished() {
        let (oid, critical, value) = reader.sequence(|r| -> der::Result<_> {
            let oid = ObjectIdentifier::decode(r)?;
            let critical = Option::<bool>::decode(r)?.unwrap_or(false);
            Ok((oid, critical, <&OctetStringRef>::decode(r)?.as_bytes()))
        })?;
        match oid {
            DELTA_INDICATOR => return Err(CrlError::Delta),
            DISTRIBUTION_POINT => return Err(CrlError::Scope),
            CRL_NUMBER if number.is_none() => {
                let octets = UintRef::from_der(value)?;
                // RFC 5280, section 5.2.3. A number for ever out of reach would lock out all CRLs to come.
                if octets.as_bytes().len() > MOST_NUMBER_OCTETS {
                    return Err(CrlError::Malformed("a number of more than 20 octets"));
                }
                number = Some(CrlNumber::from_hex(&hex(octets.as_bytes())));
            }
            AUTHORITY_KEY if authority_key.is_none() => authority_key = Some(key_identifier(value)?),
            CRL_NUMBER | AUTHORITY_KEY => return Err(CrlError::Malformed("an extension twice")),
            _ if critical => return Err(CrlError::Critical),
            _ => {}
        }
    }
    Ok((
        number.ok_or(CrlError::Malformed("no CRL number"))?,
        authority_key.ok_or(CrlError::Malformed("no authority key identifier"))?,
    ))
}

fn key_identifier(value: &[u8]) -> Result<&[u8], CrlError> {
    AuthorityKeyIdentifier::from_der(value)?;
    let mut reader = SliceReader::new(value)?;
    let identifier = reader.sequence(|r| -> der::Result<_> {
        let identifier = ContextSpecific::<&OctetStringRef>::decode_implicit(r, TagNumber(0))?;
        r.drain(r.remaining_len())?;
        Ok(identifier)
    });
    Ok(identifier?.ok_or(CrlError::Malformed("no key identifier"))?.value.as_bytes())
}

fn instant(time: Time) -> WallTime {
    WallTime::from_unix(i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX))
}
