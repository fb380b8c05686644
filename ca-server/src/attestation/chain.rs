//! From a certificate that a maker gave to a device, at its birth, to a root that an operator pinned: IDevIDs (IEEE
//! 802.1AR) and the certificates of TPMs' endorsement keys.
//!
//! What a stranger sends is bounded before any signature is looked at: number, octets, sizes of keys. The path itself
//! is rustls-webpki's: signatures, names, constraints, and no unknown critical extensions. What webpki does not look at
//! in a leaf is checked here.

mod reach;

use std::collections::BTreeSet;

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5912::RSA_ENCRYPTION;
use der::asn1::UintRef;
use der::{Decode, Encode, Reader, SliceReader};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::ring as algorithms;
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};
use x509_cert::Certificate;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage};

pub use reach::{Anchor, Pinned, Reached};

use crate::identity::{KeyFingerprint, Timestamp};
use crate::pki::P384Signature;

/// Certificates that a device may send, its own included and the root not.
pub const MOST_CERTIFICATES: usize = 4;
/// Octets that each may have.
pub const LONGEST_CERTIFICATE: usize = 8 * 1024;
/// The largest RSA modulus in a chain, in octets.
const LARGEST_MODULUS: usize = 512;
/// The purpose of an endorsement key's certificate: tcg-kp-EKCertificate.
const EK_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.8.1");

/// Signatures that are taken: nothing with SHA-1.
static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    &P384Signature::Sha256,
    &P384Signature::Sha384,
    algorithms::ED25519,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// Why a chain is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// None, or more than [`MOST_CERTIFICATES`], or one of more than [`LONGEST_CERTIFICATE`] octets.
    #[error("a chain has 1 to 4 certificates of at most 8 KiB each")]
    Size,
    /// Not the DER of a certificate of version 3.
    #[error("a certificate is malformed")]
    Malformed,
    /// A key that would take long to verify with, or that is no RSA key where it says so.
    #[error("a certificate has an RSA key of more than 4096 bits")]
    KeySize,
    /// A key that was banned.
    #[error("a key of the chain is banned")]
    Banned,
    /// Its leaf is a CA.
    #[error("the certificate is a CA's")]
    Authority,
    /// A root that is no CA.
    #[error("the certificate is no CA's: pin the one that issues")]
    NoAuthority,
    /// Its leaf was not made for this.
    #[error("the certificate was not made for this purpose")]
    Purpose,
    /// Not valid at the time at which it is judged.
    #[error("the chain is not valid, or never was as a whole")]
    Validity,
    /// No way to any of the roots.
    #[error("the chain does not lead to a root of this fleet")]
    Untrusted,
}

/// What a leaf has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    /// A TPM's endorsement key: extended key usage 2.23.133.8.1, and a key usage that lets it decrypt or agree.
    EndorsementKey,
    /// An IDevID: key usage digitalSignature.
    FactoryIdentity,
}

/// At which time a chain is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Now: every certificate is valid.
    Now,
    /// At birth: there was a time when every certificate was. What has expired since does not strand a device that is
    /// sold already.
    AtBirth,
}

/// Roots that an operator pinned for one purpose.
#[derive(Clone, Debug, Default)]
pub struct Roots(Vec<TrustAnchor<'static>>);

impl Roots {
    /// Takes root certificates (DER). Not checked: their validity, which nothing depends on.
    pub fn read<'a>(certificates: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, ChainError> {
        let anchor = |der: &'a [u8]| {
            if der.len() > LONGEST_CERTIFICATE {
                return Err(ChainError::Size);
            }
            let certificate = Certificate::from_der(der).map_err(|_| ChainError::Malformed)?;
            check_key(&certificate)?;
            if !is_authority(&certificate)? {
                return Err(ChainError::NoAuthority);
            }
            let der = CertificateDer::from(der);
            Ok(webpki::anchor_from_trusted_cert(&der).map_err(|_| ChainError::Malformed)?.to_owned())
        };
        certificates.into_iter().map(anchor).collect::<Result<_, _>>().map(Self)
    }
}

impl Roots {
    /// SHA-256 of each root's SubjectPublicKeyInfo.
    pub fn keys(&self) -> Result<Vec<KeyFingerprint>, ChainError> {
        self.0.iter().map(key_of).collect()
    }
}

/// What a chain is held against.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Where it may lead to.
    pub roots: &'a Roots,
    /// What its leaf has to be.
    pub leaf: Leaf,
    /// At which time.
    pub validity: Validity,
    /// Keys that are refused wherever they are in it.
    pub banned: &'a BTreeSet<KeyFingerprint>,
}

/// A chain that leads to a root.
#[derive(Debug)]
pub struct Verified {
    leaf: Certificate,
    issuers: Vec<Certificate>,
    leaf_key: KeyFingerprint,
    issuer_key: KeyFingerprint,
}

impl Verified {
    /// The leaf.
    pub fn leaf(&self) -> &Certificate {
        &self.leaf
    }

    /// The CAs between leaf and root, by the path that was verified.
    pub fn issuers(&self) -> &[Certificate] {
        &self.issuers
    }

    /// SHA-256 of the leaf's SubjectPublicKeyInfo.
    pub fn leaf_key(&self) -> KeyFingerprint {
        self.leaf_key
    }

    /// SHA-256 of the SubjectPublicKeyInfo of whoever signed the leaf, by the path that was verified.
    pub fn issuer_key(&self) -> KeyFingerprint {
        self.issuer_key
    }
}

/// Verifies a chain: the leaf first, then what leads to a root, in any order, the root left out.
pub fn verify(chain: &[Vec<u8>], rules: &Rules<'_>, now: Timestamp) -> Result<Verified, ChainError> {
    let mut read = bounded(chain)?;
    let time = time_of(&read, rules.validity, now)?;
    check_leaf(&read[0], rules.leaf)?;

    // The path, over those that may sign certificates: the library does not look at it (RFC 5280, section 6.1.4 (n)).
    let mut ders = vec![CertificateDer::from(chain[0].as_slice())];
    for (der, certificate) in chain.iter().zip(&read).skip(1) {
        if may_sign(certificate)? {
            ders.push(CertificateDer::from(der.as_slice()));
        }
    }
    let leaf = EndEntityCert::try_from(&ders[0]).map_err(refusal)?;
    let path =
        leaf.verify_for_usage(ALGORITHMS, &rules.roots.0, &ders[1..], time, AnyPurpose, None, None).map_err(refusal)?;

    // Its keys.
    let leaf_key = KeyFingerprint::of(&leaf.subject_public_key_info());
    let mut keys: Vec<_> =
        path.intermediate_certificates().map(|issuer| KeyFingerprint::of(&issuer.subject_public_key_info())).collect();
    keys.push(key_of(path.anchor())?);
    if rules.banned.contains(&leaf_key) || keys.iter().any(|key| rules.banned.contains(key)) {
        return Err(ChainError::Banned);
    }
    let on_path: BTreeSet<Vec<u8>> = path.intermediate_certificates().map(|issuer| issuer.der().to_vec()).collect();
    let leaf = read.remove(0);
    let issuers = chain[1..].iter().zip(read).filter(|(der, _)| on_path.contains(*der));
    Ok(Verified { leaf, issuers: issuers.map(|(_, issuer)| issuer).collect(), leaf_key, issuer_key: keys[0] })
}

/// SHA-256 of the SubjectPublicKeyInfo of a chain's leaf, whoever signed it.
pub fn leaf_key(chain: &[Vec<u8>]) -> Result<KeyFingerprint, ChainError> {
    let key = bounded(chain)?.swap_remove(0).tbs_certificate().subject_public_key_info().to_der();
    Ok(KeyFingerprint::of(&key.map_err(|_| ChainError::Malformed)?))
}

/// Reads a chain, of which nothing has been computed yet: so many certificates, of such a size, with such keys.
fn bounded(chain: &[Vec<u8>]) -> Result<Vec<Certificate>, ChainError> {
    if !(1..=MOST_CERTIFICATES).contains(&chain.len()) || chain.iter().any(|der| der.len() > LONGEST_CERTIFICATE) {
        return Err(ChainError::Size);
    }
    let read = |der: &Vec<u8>| {
        let certificate = Certificate::from_der(der).map_err(|_| ChainError::Malformed)?;
        check_key(&certificate)?;
        Ok(certificate)
    };
    chain.iter().map(read).collect()
}

/// Bounds what verifying with a key costs. Curves are bounded by what is taken at all.
fn check_key(certificate: &Certificate) -> Result<(), ChainError> {
    let key = certificate.tbs_certificate().subject_public_key_info();
    if key.algorithm.oid != RSA_ENCRYPTION {
        return Ok(());
    }
    let octets = key.subject_public_key.as_bytes().ok_or(ChainError::KeySize)?;
    let modulus = || -> der::Result<usize> {
        let mut reader = SliceReader::new(octets)?;
        reader.sequence(|fields| {
            let modulus: UintRef<'_> = fields.decode()?;
            let _exponent: UintRef<'_> = fields.decode()?;
            Ok(modulus.as_bytes().len())
        })
    };
    match modulus() {
        Ok(octets) if octets <= LARGEST_MODULUS => Ok(()),
        _ => Err(ChainError::KeySize),
    }
}

/// When the chain is judged: now, or in the first second in which all of its certificates were valid.
fn time_of(chain: &[Certificate], validity: Validity, now: Timestamp) -> Result<UnixTime, ChainError> {
    let now = std::time::Duration::from_secs(now.secs().max(0).unsigned_abs());
    let births = chain.iter().map(|certificate| certificate.tbs_certificate().validity().not_before.to_unix_duration());
    let birth = births.max().unwrap_or_default();
    match validity {
        Validity::Now => Ok(UnixTime::since_unix_epoch(now)),
        Validity::AtBirth if birth <= now => Ok(UnixTime::since_unix_epoch(birth)),
        Validity::AtBirth => Err(ChainError::Validity),
    }
}

/// What webpki does not look at: that the leaf is none that signs certificates, and what its key is for.
fn check_leaf(leaf: &Certificate, kind: Leaf) -> Result<(), ChainError> {
    let malformed = |_| ChainError::Malformed;
    let tbs = leaf.tbs_certificate();
    let constraints = tbs.get_extension::<BasicConstraints>().map_err(malformed)?;
    let usage = tbs.get_extension::<KeyUsage>().map_err(malformed)?.map(|(_, usage)| usage);
    let purposes = tbs.get_extension::<ExtendedKeyUsage>().map_err(malformed)?.map(|(_, purposes)| purposes.0);
    let is_authority = constraints.is_some_and(|(_, constraints)| constraints.ca);
    if is_authority || usage.is_some_and(|usage| usage.key_cert_sign()) {
        return Err(ChainError::Authority);
    }
    let fits = match kind {
        Leaf::EndorsementKey => {
            purposes.is_some_and(|purposes| purposes.contains(&EK_CERTIFICATE))
                && usage.is_none_or(|usage| usage.key_encipherment() || usage.key_agreement())
        }
        Leaf::FactoryIdentity => usage.is_some_and(|usage| usage.digital_signature()),
    };
    if fits { Ok(()) } else { Err(ChainError::Purpose) }
}

/// webpki asks of every certificate of a path what is asked of the leaf, and makers' CAs do not carry the purposes of
/// their leaves: the leaf's are checked here instead.
struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, mut purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        purposes.try_for_each(|purpose| purpose.map(|_| ()))
    }
}

/// Whether a certificate's key usage, where it has one, lets it sign others.
fn may_sign(certificate: &Certificate) -> Result<bool, ChainError> {
    let usage = certificate.tbs_certificate().get_extension::<KeyUsage>().map_err(|_| ChainError::Malformed)?;
    Ok(usage.is_none_or(|(_, usage)| usage.key_cert_sign()))
}

/// Whether a certificate is a CA's: by what it says, or, in one without any extensions, because nothing says otherwise.
fn is_authority(certificate: &Certificate) -> Result<bool, ChainError> {
    let tbs = certificate.tbs_certificate();
    let constraints = tbs.get_extension::<BasicConstraints>().map_err(|_| ChainError::Malformed)?;
    let says = constraints.map_or_else(|| tbs.extensions().is_none(), |(_, constraints)| constraints.ca);
    Ok(says && may_sign(certificate)?)
}

/// SHA-256 of a root's SubjectPublicKeyInfo, of which an anchor keeps the content only.
fn key_of(anchor: &TrustAnchor<'_>) -> Result<KeyFingerprint, ChainError> {
    let content = der::asn1::AnyRef::new(der::Tag::Sequence, anchor.subject_public_key_info.as_ref());
    let spki = content.and_then(|content| content.to_der()).map_err(|_| ChainError::Malformed)?;
    Ok(KeyFingerprint::of(&spki))
}

fn refusal(error: webpki::Error) -> ChainError {
    match error {
        webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => ChainError::Validity,
        webpki::Error::CaUsedAsEndEntity => ChainError::Authority,
        webpki::Error::BadDer | webpki::Error::BadDerTime | webpki::Error::ExtensionValueInvalid => {
            ChainError::Malformed
        }
        _ => ChainError::Untrusted,
    }
}

#[cfg(test)]
mod tests;
