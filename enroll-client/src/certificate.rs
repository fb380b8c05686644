//! X.509 certificates as this client reads them: parsed once, asked for names, keys and dates. Chains are verified by
//! rustls-webpki; nothing is checked by parsing alone.

use std::{
    fmt::Write,
    net::{Ipv4Addr, Ipv6Addr},
};

use ring::digest::{SHA256, digest};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime, pem::PemObject};
use webpki::{EndEntityCert, KeyUsage};
use x509_cert::{
    der::{Decode, Encode, pem::LineEnding},
    ext::pkix::{BasicConstraints, SubjectAltName, SubjectKeyIdentifier, name::GeneralName},
    time::Time,
};

use crate::{
    identity::{NameError, SpiffeId},
    wall_time::WallTime,
};

/// What can be wrong with a certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Not DER of a certificate.
    #[error("not a certificate")]
    Malformed,
    /// A PEM file without a certificate, or a damaged one.
    #[error("no certificate in PEM form")]
    NoPem,
    /// Not exactly one URI name.
    #[error("the certificate names {0} URIs, where exactly one SPIFFE ID belongs")]
    NotOneUri(usize),
    /// A URI name that is no SPIFFE ID of this CA.
    #[error("the certificate's URI: {0}")]
    Name(#[from] NameError),
    /// No path to a trusted root.
    #[error("the chain does not verify: {0}")]
    Chain(webpki::Error),
}

/// A certificate and its DER.
#[derive(Clone, Debug)]
pub struct Certificate {
    der: CertificateDer<'static>,
    parsed: x509_cert::Certificate,
}

impl Certificate {
    /// Reads DER. Signature and dates are not checked.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let parsed = x509_cert::Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
        Ok(Self { der: CertificateDer::from(der.to_vec()), parsed })
    }

    /// Reads a PEM file of one or more certificates.
    pub fn parse_pem(pem: &[u8]) -> Result<Vec<Self>, CertificateError> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .map(|der| Self::parse(&der.map_err(|_| CertificateError::NoPem)?))
            .collect::<Result<_, _>>()?;
        if certificates.is_empty() { Err(CertificateError::NoPem) } else { Ok(certificates) }
    }

    /// The DER, as it was read.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The certificate in PEM.
    pub fn to_pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    /// SHA-256 of the DER.
    pub fn fingerprint(&self) -> [u8; 32] {
        sha256(&self.der)
    }

    /// The serial number in lower-case hexadecimal.
    pub fn serial(&self) -> String {
        let bytes = self.parsed.tbs_certificate().serial_number().as_bytes();
        hex(if bytes.len() > 1 { bytes.strip_prefix(&[0]).unwrap_or(bytes) } else { bytes })
    }

    /// The SubjectPublicKeyInfo in DER.
    pub fn spki(&self) -> Vec<u8> {
        encoded(self.parsed.tbs_certificate().subject_public_key_info())
    }

    /// The subject's name in DER.
    pub fn subject(&self) -> Vec<u8> {
        encoded(self.parsed.tbs_certificate().subject())
    }

    /// The issuer's name in DER.
    pub fn issuer(&self) -> Vec<u8> {
        encoded(self.parsed.tbs_certificate().issuer())
    }

    /// The subject's name for people.
    pub fn subject_text(&self) -> String {
        self.parsed.tbs_certificate().subject().to_string()
    }

    /// The subject key identifier, where there is one.
    pub fn key_identifier(&self) -> Option<Vec<u8>> {
        let (_, identifier) = self.parsed.tbs_certificate().get_extension::<SubjectKeyIdentifier>().ok()??;
        Some(identifier.0.as_bytes().to_vec())
    }

    /// The first instant of its validity.
    pub fn not_before(&self) -> WallTime {
        wall_time(self.parsed.tbs_certificate().validity().not_before)
    }

    /// The last instant of its validity.
    pub fn not_after(&self) -> WallTime {
        wall_time(self.parsed.tbs_certificate().validity().not_after)
    }

    /// Whether it may sign certificates or CRLs.
    pub fn is_ca(&self) -> bool {
        matches!(self.parsed.tbs_certificate().get_extension::<BasicConstraints>(), Ok(Some((_, constraints))) if constraints.ca)
    }

    /// The hosts that it is for: DNS names and IP addresses.
    pub fn hosts(&self) -> Vec<String> {
        let names = self.parsed.tbs_certificate().get_extension::<SubjectAltName>();
        let names = names.ok().flatten().map(|(_, names)| names.0).unwrap_or_default();
        let host = |name: &GeneralName| match name {
            GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
            GeneralName::IpAddress(octets) => match octets.as_bytes() {
                [a, b, c, d] => Some(Ipv4Addr::new(*a, *b, *c, *d).to_string()),
                octets => <[u8; 16]>::try_from(octets).ok().map(|octets| Ipv6Addr::from(octets).to_string()),
            },
            _ => None,
        };
        names.iter().filter_map(host).collect()
    }

    /// The one URI name, which is a SPIFFE ID.
    pub fn spiffe_id(&self) -> Result<SpiffeId, CertificateError> {
        let names = self.parsed.tbs_certificate().get_extension::<SubjectAltName>();
        let (_, names) = names.map_err(|_| CertificateError::Malformed)?.ok_or(CertificateError::NotOneUri(0))?;
        let uris: Vec<&str> = names
            .0
            .iter()
            .filter_map(|name| match name {
                GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str()),
                _ => None,
            })
            .collect();
        match uris[..] {
            [uri] => Ok(uri.parse()?),
            _ => Err(CertificateError::NotOneUri(uris.len())),
        }
    }

    pub(crate) fn parsed(&self) -> &x509_cert::Certificate {
        &self.parsed
    }
}

/// Verifies that `chain` (leaf first) is a client's chain under one of `roots`, at the instant `at`. Revocation is not
/// looked at.
pub fn verify_client_chain(chain: &[Certificate], roots: &[Certificate], at: WallTime) -> Result<(), CertificateError> {
    let (leaf, intermediates) = chain.split_first().ok_or(CertificateError::Malformed)?;
    let intermediates: Vec<_> = intermediates.iter().map(|certificate| certificate.der.clone()).collect();
    let anchors: Vec<TrustAnchor<'_>> = roots
        .iter()
        .map(|root| webpki::anchor_from_trusted_cert(&root.der))
        .collect::<Result<_, _>>()
        .map_err(CertificateError::Chain)?;
    let provider = rustls::crypto::ring::default_provider();
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at.unix()));
    EndEntityCert::try_from(&leaf.der)
        .and_then(|end_entity| {
            end_entity
                .verify_for_usage(
                    provider.signature_verification_algorithms.all,
                    &anchors,
                    &intermediates,
                    time,
                    KeyUsage::client_auth(),
                    None,
                    None,
                )
                .map(|_| ())
        })
        .map_err(CertificateError::Chain)
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// PEM of `der` under `label`, which is a constant of ours.
pub(crate) fn pem(label: &'static str, der: &[u8]) -> String {
    // Unwrap safety: only a label that is none, or a size that does not fit in memory, makes this fail.
    x509_cert::der::pem::encode_string(label, LineEnding::LF, der).unwrap()
}

fn encoded(value: &impl Encode) -> Vec<u8> {
    // Unwrap safety: the value was decoded from DER, so it can be encoded.
    value.to_der().unwrap()
}

fn wall_time(time: Time) -> WallTime {
    WallTime::from_unix(i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX))
}
