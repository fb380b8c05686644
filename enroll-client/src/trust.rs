//! What this client trusts: control roots given by hand or kept in a credential folder, and the signed trust bundle
//! by which they, and the device roots, change.

use fleetca_proto::{
    transcript,
    v1::{self, SignedTrustBundle},
};
use prost::Message;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

use crate::{
    certificate::{Certificate, CertificateError, sha256},
    identity::{NameError, TrustDomain},
};

/// Why roots or a trust bundle are not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// Not 64 hexadecimal digits, colons aside.
    #[error("a root's fingerprint is the SHA-256 of its DER: 64 hexadecimal digits")]
    Fingerprint,
    /// A root that cannot be read, or is no CA.
    #[error("root: {0}")]
    Root(#[from] CertificateError),
    /// A root that is not self-issued or may not sign certificates.
    #[error("{0} is not a root certificate")]
    NotARoot(String),
    /// The bundle is missing or malformed, or has no roots.
    #[error("the server sent no usable trust bundle")]
    Malformed,
    /// No control root that is trusted here has signed it.
    #[error("the trust bundle is not signed by a control root that is trusted here")]
    NotSigned,
    /// The bundle is of another environment.
    #[error("the trust bundle is for trust domain {found}, not {expected}")]
    TrustDomain {
        /// What the bundle says.
        found: String,
        /// Where this client belongs.
        expected: TrustDomain,
    },
    /// An older bundle than the one kept.
    #[error("the trust bundle has sequence {found}, older than {kept}, which is kept here")]
    Older {
        /// Its sequence number.
        found: u64,
        /// The one kept.
        kept: u64,
    },
    /// A name in it is none.
    #[error("the trust bundle's trust domain: {0}")]
    Name(#[from] NameError),
}

/// One or more root certificates.
#[derive(Clone, Debug)]
pub struct Roots(Vec<Certificate>);

impl Roots {
    /// From a PEM file.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TrustError> {
        Self::from_certificates(Certificate::parse_pem(pem)?)
    }

    /// From DER certificates.
    pub fn from_ders<T: AsRef<[u8]>>(ders: &[T]) -> Result<Self, TrustError> {
        let roots = ders.iter().map(|der| Certificate::parse(der.as_ref())).collect::<Result<_, _>>()?;
        Self::from_certificates(roots)
    }

    fn from_certificates(roots: Vec<Certificate>) -> Result<Self, TrustError> {
        if roots.is_empty() {
            return Err(TrustError::Malformed);
        }
        match roots.iter().find(|root| !root.is_ca() || root.subject() != root.issuer()) {
            Some(other) => Err(TrustError::NotARoot(other.subject_text())),
            None => Ok(Self(roots)),
        }
    }

    /// The certificates, at least one.
    pub fn certificates(&self) -> &[Certificate] {
        &self.0
    }

    /// All of them in one PEM file.
    pub fn to_pem(&self) -> String {
        self.0.iter().map(Certificate::to_pem).collect()
    }
}

/// How the server is recognised. There is no third way, and no way without.
#[derive(Clone, Debug)]
pub enum Trust {
    /// By these control roots.
    Roots(Roots),
    /// By the control root with this SHA-256 of its DER, which the server sends in its chain.
    Fingerprint([u8; 32]),
}

impl Trust {
    /// Reads a fingerprint: 64 hexadecimal digits, with or without colons.
    ///
    /// ```
    /// use enroll_client::trust::Trust;
    /// assert!(Trust::from_fingerprint(&"ab".repeat(32)).is_ok());
    /// assert!(Trust::from_fingerprint("ab").is_err());
    /// ```
    pub fn from_fingerprint(text: &str) -> Result<Self, TrustError> {
        let digits: Vec<u8> = text.trim().bytes().filter(|byte| *byte != b':').collect();
        let mut fingerprint = [0; 32];
        if digits.len() != 64 {
            return Err(TrustError::Fingerprint);
        }
        for (byte, pair) in fingerprint.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |d: u8| char::from(d).to_digit(16).ok_or(TrustError::Fingerprint);
            *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).map_err(|_| TrustError::Fingerprint)?;
        }
        Ok(Trust::Fingerprint(fingerprint))
    }
}

/// A verified trust bundle.
#[derive(Clone, Debug)]
pub struct TrustBundle {
    /// The environment it is for.
    pub trust_domain: TrustDomain,
    /// Only grows.
    pub sequence: u64,
    /// Roots of server, operators and gateways.
    pub control_roots: Roots,
    /// Roots of devices.
    pub device_roots: Roots,
    /// The issuing CAs whose CRLs a gateway needs.
    pub device_issuers: Vec<Certificate>,
}

impl TrustBundle {
    /// Takes a bundle that one of `trusted` has signed, for `trust_domain`, with a sequence of at least `kept`.
    pub fn verify(
        signed: &SignedTrustBundle,
        trusted: &Roots,
        trust_domain: &TrustDomain,
        kept: u64,
    ) -> Result<Self, TrustError> {
        let message = transcript::trust_bundle(&signed.bundle);
        let is_signed = trusted.0.iter().any(|root| signed_by(root, &message, signed));
        if !is_signed {
            return Err(TrustError::NotSigned);
        }
        let bundle = v1::TrustBundle::decode(signed.bundle.as_slice()).map_err(|_| TrustError::Malformed)?;
        if bundle.trust_domain != trust_domain.as_str() {
            return Err(TrustError::TrustDomain { found: bundle.trust_domain, expected: trust_domain.clone() });
        }
        if bundle.sequence < kept {
            return Err(TrustError::Older { found: bundle.sequence, kept });
        }
        let issuers = bundle.device_issuers.iter().map(|der| Certificate::parse(der)).collect::<Result<_, _>>()?;
        Ok(Self {
            trust_domain: trust_domain.clone(),
            sequence: bundle.sequence,
            control_roots: Roots::from_ders(&bundle.control_roots)?,
            device_roots: Roots::from_ders(&bundle.device_roots)?,
            device_issuers: issuers,
        })
    }
}

fn signed_by(root: &Certificate, message: &[u8], signed: &SignedTrustBundle) -> bool {
    let spki_hash = sha256(&root.spki());
    let point = root.parsed().tbs_certificate().subject_public_key_info().subject_public_key.raw_bytes();
    signed.signatures.iter().filter(|signature| signature.root_spki_sha256 == spki_hash).any(|signature| {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(message, &signature.signature).is_ok()
    })
}
