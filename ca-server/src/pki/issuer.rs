//! A CA's certificate, read: its name and key as its children's certificates and its CRLs need them.

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5280::{ID_CE_AUTHORITY_KEY_IDENTIFIER, ID_CE_SUBJECT_KEY_IDENTIFIER};
use const_oid::db::rfc5280::{ID_CE_BASIC_CONSTRAINTS, ID_CE_KEY_USAGE};
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, BasicConstraints, KeyUsage, SubjectKeyIdentifier};
use x509_cert::name::Name;

use super::key::{KeyError, PublicKey};
use super::signature::SignatureAlgorithm;
use super::signed::{Signed, TbsCertificate};
use crate::identity::{AuthoritySerial, CertificateHash, IssuerId, Timestamp};

/// Why a certificate cannot serve as a CA's, or does not belong to its issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssuerError {
    /// Not the DER of an X.509 v3 certificate.
    #[error("not the DER of an X.509 certificate")]
    Malformed,
    /// Its key is of no kind that is taken.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// basicConstraints or keyUsage do not let it sign certificates and CRLs.
    #[error("the certificate is not a CA's: it may not sign certificates and CRLs")]
    NotAuthority,
    /// Its serial number is negative, or has more than 20 octets.
    #[error("the serial number is negative, or has more than 20 octets")]
    Serial,
    /// Its subjectKeyIdentifier is missing, or it or the authorityKeyIdentifier does not have 20 octets.
    #[error(
        "the certificate has no subject key identifier of 20 octets, or an authority key identifier of another length"
    )]
    KeyIdentifier,
    /// Issuer name and subject name of the two certificates differ.
    #[error("the certificate names another issuer")]
    OtherIssuer,
    /// authorityKeyIdentifier names another key.
    #[error("the certificate names another issuer's key")]
    OtherIssuerKey,
    /// Its issuer lets no CA stand below it.
    #[error("the root lets no CA stand below it (its pathLenConstraint is 0)")]
    PathLength,
    /// Signed with an algorithm that is not taken.
    #[error(
        "the certificate is signed with {oid}, which is not supported; RSA (PKCS#1 v1.5) with SHA-256, -384 or -512, ECDSA \
         with SHA-256 or -384 and Ed25519 are"
    )]
    Algorithm {
        /// The algorithm.
        oid: ObjectIdentifier,
    },
    /// The signature does not verify under the issuer's key.
    #[error("the certificate is not signed by its issuer")]
    Signature,
    /// It lives longer than its issuer.
    #[error("the certificate outlives its issuer")]
    Outlives,
}

/// A CA's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerCertificate {
    der: Vec<u8>,
    serial: AuthoritySerial,
    subject: Vec<u8>,
    subject_text: String,
    issuer: Vec<u8>,
    key_identifier: [u8; 20],
    authority_key: Option<[u8; 20]>,
    /// Which extensions it has, and which of them are critical.
    extensions: Vec<(ObjectIdentifier, bool)>,
    key: PublicKey,
    path_length: Option<u8>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl IssuerCertificate {
    /// Reads a CA's certificate: one that this software made, or one of somebody else's that was [judged](super::judge_root)
    /// before.
    ///
    /// Not checked: its signature (see [`verify`](Self::verify)) and its dates.
    pub fn parse(der: &[u8]) -> Result<Self, IssuerError> {
        let malformed = |_| IssuerError::Malformed;
        let signed = Signed::read(der).map_err(malformed)?;
        let tbs = TbsCertificate::read(signed.content).map_err(malformed)?;
        if tbs.algorithm != signed.algorithm {
            return Err(IssuerError::Malformed);
        }
        let key = PublicKey::from_spki_der(tbs.spki)?;

        let constraints = tbs.extension::<BasicConstraints>(ID_CE_BASIC_CONSTRAINTS).map_err(malformed)?;
        let usage = tbs.extension::<KeyUsage>(ID_CE_KEY_USAGE).map_err(malformed)?;
        let constraints = constraints.filter(|constraints| constraints.ca).ok_or(IssuerError::NotAuthority)?;
        usage.filter(|usage| usage.key_cert_sign() && usage.crl_sign()).ok_or(IssuerError::NotAuthority)?;

        let ski = tbs.extension::<SubjectKeyIdentifier>(ID_CE_SUBJECT_KEY_IDENTIFIER).map_err(malformed)?;
        let key_identifier = ski.and_then(|ski| ski.0.as_bytes().try_into().ok()).ok_or(IssuerError::KeyIdentifier)?;
        let aki = tbs.extension::<AuthorityKeyIdentifier>(ID_CE_AUTHORITY_KEY_IDENTIFIER).map_err(malformed)?;
        let aki = aki.and_then(|aki| aki.key_identifier);
        let authority_key =
            aki.map(|id| id.as_bytes().try_into().map_err(|_| IssuerError::KeyIdentifier)).transpose()?;
        let subject_text = <Name as der::Decode>::from_der(tbs.subject).map_err(malformed)?.to_string();
        Ok(Self {
            der: der.to_vec(),
            serial: AuthoritySerial::from_integer(tbs.serial).ok_or(IssuerError::Serial)?,
            subject: tbs.subject.to_vec(),
            subject_text,
            issuer: tbs.issuer.to_vec(),
            key_identifier,
            authority_key,
            extensions: tbs.extensions().iter().map(|extension| (extension.oid, extension.critical)).collect(),
            path_length: constraints.path_len_constraint,
            not_before: tbs.not_before,
            not_after: tbs.not_after,
            key,
        })
    }

    /// Checks that `issuer` signed this certificate: names, key identifiers, lifetime, path length, signature. For a
    /// root, `issuer` is itself. Not checked: dates against a clock, and revocation.
    pub fn verify(&self, issuer: &IssuerCertificate) -> Result<(), IssuerError> {
        if self.issuer != issuer.subject {
            return Err(IssuerError::OtherIssuer);
        }
        if self.authority_key.is_some_and(|key| key != issuer.key_identifier) {
            return Err(IssuerError::OtherIssuerKey);
        }
        if self.der != issuer.der && issuer.path_length == Some(0) {
            return Err(IssuerError::PathLength);
        }
        if self.not_after > issuer.not_after {
            return Err(IssuerError::Outlives);
        }
        let signed = Signed::read(&self.der).map_err(|_| IssuerError::Malformed)?;
        SignatureAlgorithm::read(&signed.algorithm).map_err(|oid| IssuerError::Algorithm { oid })?;
        signed.verify(&issuer.key).map_err(|_| IssuerError::Signature)
    }

    /// Whether its subject signed it itself, going by its names.
    pub fn is_root(&self) -> bool {
        self.subject == self.issuer
    }

    /// The certificate (DER).
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of the certificate (DER): what `--root-fingerprint` takes of a root.
    pub fn hash(&self) -> CertificateHash {
        CertificateHash::of(&self.der)
    }

    /// The issuer's ID, which stands in URLs: its key identifier begins with it.
    pub fn id(&self) -> IssuerId {
        IssuerId::of_key_identifier(&self.key_identifier)
    }

    /// Its serial number.
    pub fn serial(&self) -> AuthoritySerial {
        self.serial
    }

    /// Its subject's Name (DER), byte for byte.
    pub fn subject_der(&self) -> &[u8] {
        &self.subject
    }

    /// Its subject's Name as text (RFC 4514), for people.
    pub fn subject_text(&self) -> &str {
        &self.subject_text
    }

    /// Its issuer's Name (DER), byte for byte.
    pub fn issuer_der(&self) -> &[u8] {
        &self.issuer
    }

    /// Its extensions, and which of them are critical.
    pub(super) fn extensions(&self) -> &[(ObjectIdentifier, bool)] {
        &self.extensions
    }

    /// Its key.
    pub fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// Its subjectKeyIdentifier, which its children's certificates and its CRLs carry as authorityKeyIdentifier. Whoever
    /// signed it has chosen it.
    pub fn key_identifier(&self) -> [u8; 20] {
        self.key_identifier
    }

    /// Since when it is valid.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Its last valid second.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::fixture::{NOW, TestCa, TestKey, device_id, fleet, serial};
    use super::super::{CaRole, CrlScope, Holder, LeafRequest};
    use super::*;

    #[test]
    fn a_leaf_cannot_serve_as_an_issuer() {
        let (_, ca) = TestCa::hierarchy(CaRole::DeviceIssuing);
        let leaf = ca.issue(&LeafRequest {
            holder: Holder::Device { id: &device_id(), fleet: &fleet() },
            key: &TestKey::generate().public,
            serial: serial(1),
            not_before: NOW,
            not_after: NOW + Duration::from_secs(10),
            crl: CrlScope::Full,
            policy: None,
            ocsp: false,
        });
        assert_eq!(IssuerCertificate::parse(&leaf.der), Err(IssuerError::NotAuthority));
    }

    #[test]
    fn a_ca_that_others_made_keeps_the_key_identifier_that_they_gave_it() {
        let mut parameters = rcgen::CertificateParams::new(vec![]).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        parameters.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(vec![1; 20]);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let read = IssuerCertificate::parse(certificate.der()).unwrap();
        assert_eq!((read.key_identifier(), read.id().to_string()), ([1; 20], "01".repeat(8)));
        assert_eq!(read.verify(&read), Ok(()));
        for octets in [0, 8, 32] {
            parameters.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(vec![1; octets]);
            let certificate = parameters.self_signed(&key).unwrap();
            assert_eq!(IssuerCertificate::parse(certificate.der()), Err(IssuerError::KeyIdentifier));
        }
        parameters.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        let certificate = parameters.self_signed(&key).unwrap();
        assert_eq!(IssuerCertificate::parse(certificate.der()), Err(IssuerError::NotAuthority));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            changes in proptest::collection::vec((0usize..1000, any::<u8>()), 1..4),
        ) {
            let _ = IssuerCertificate::parse(&bytes);
            let root = TestCa::root(CaRole::ControlRoot);
            let mut changed = root.issuer.certificate().der().to_vec();
            for (at, octet) in changes {
                let at = at % changed.len();
                changed[at] = octet;
            }
            let _ = IssuerCertificate::parse(&changed).map(|changed| changed.verify(root.issuer.certificate()));
        }
    }
}
