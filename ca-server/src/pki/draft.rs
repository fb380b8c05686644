//! A certificate between decision and signature: decided, encoded, linted, and then put together with its signature.

use std::fmt;

use const_oid::ObjectIdentifier;

use super::encode::{Der, SEQUENCE, context_constructed};
use super::extensions as write;
use super::key::PublicKey;
use super::lint::{self, LintError};
use super::profile::Profile;
use super::signature::SignatureAlgorithm;
use super::signed;
use crate::identity::{CertificateHash, HostName, KeyFingerprint, SerialNumber, Timestamp, TrustDomain};

/// Everything that will be in a certificate, decided.
#[derive(Clone, Copy)]
pub(super) struct Draft<'a> {
    pub(super) profile: Profile,
    /// The issuer's Name (DER).
    pub(super) issuer: &'a [u8],
    pub(super) issuer_key: [u8; 20],
    pub(super) algorithm: SignatureAlgorithm,
    /// Where the issuer's certificate is.
    pub(super) issuer_url: Option<&'a str>,
    /// The subject's Name (DER).
    pub(super) subject: &'a [u8],
    pub(super) key: &'a PublicKey,
    pub(super) serial: SerialNumber,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    pub(super) trust_domain: &'a TrustDomain,
    /// A leaf's SPIFFE URI, and a server's hosts.
    pub(super) names: Option<(&'a str, &'a [HostName])>,
    pub(super) crl_url: Option<&'a str>,
    /// Who answers OCSP requests, where the certificate is to say so.
    pub(super) ocsp_url: Option<&'a str>,
    /// A CA's: any. A device's: that of what it has proven.
    pub(super) policy: Option<ObjectIdentifier>,
}

impl Draft<'_> {
    /// Encodes it and lints the octets: the only way to a [`Prepared`].
    pub(super) fn prepare(self) -> Result<Prepared, LintError> {
        let tbs = self.encode();
        lint::check(&tbs, &self)?;
        Ok(Prepared {
            tbs,
            algorithm: self.algorithm,
            serial: self.serial,
            not_before: self.not_before,
            not_after: self.not_after,
            key: self.key.fingerprint(),
        })
    }

    /// Writes the TBSCertificate.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut der = Der::with_capacity(1024);
        der.nest(SEQUENCE, |tbs| {
            tbs.nest(context_constructed(0), |version| version.unsigned(&[2]));
            tbs.unsigned(self.serial.as_bytes());
            tbs.raw(self.algorithm.identifier());
            tbs.raw(self.issuer);
            tbs.nest(SEQUENCE, |validity| {
                validity.time(self.not_before);
                validity.time(self.not_after);
            });
            tbs.raw(self.subject);
            tbs.raw(self.key.spki_der());
            tbs.nest(context_constructed(3), |tagged| tagged.nest(SEQUENCE, |list| self.encode_extensions(list)));
        });
        der.into_bytes()
    }

    fn encode_extensions(&self, list: &mut Der) {
        if self.profile.is_authority() {
            write::basic_constraints(list, self.profile.path_length());
        }
        write::key_usage(list, self.profile.key_usage());
        if let Some(purpose) = self.profile.extended_key_usage() {
            write::extended_key_usage(list, &purpose);
        }
        if let Some((uri, hosts)) = self.names {
            write::subject_alternative_names(list, uri, hosts);
        }
        if let Some(policy) = self.policy {
            write::certificate_policy(list, &policy);
        }
        write::subject_key_identifier(list, &self.key.key_identifier());
        // Only a root has no issuer but itself.
        if let Some(issuer_url) = self.issuer_url {
            write::authority_key_identifier(list, &self.issuer_key);
            if let Some(crl_url) = self.crl_url {
                write::crl_distribution_point(list, crl_url);
                write::issuer_access(list, issuer_url, self.ocsp_url);
            }
        }
        if matches!(self.profile, Profile::Responder(_)) {
            write::ocsp_no_check(list);
        }
    }
}

/// A certificate built and linted, not signed yet. It can be used once.
pub struct Prepared {
    tbs: Vec<u8>,
    algorithm: SignatureAlgorithm,
    serial: SerialNumber,
    not_before: Timestamp,
    not_after: Timestamp,
    key: KeyFingerprint,
}

impl Prepared {
    /// What is to be signed.
    pub fn tbs(&self) -> &[u8] {
        &self.tbs
    }

    /// With which algorithm.
    pub fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    /// Puts the signature in. That it verifies is not checked here.
    pub fn assemble(self, signature: &[u8]) -> Certificate {
        let der = signed::assemble(&self.tbs, self.algorithm, signature);
        Certificate {
            hash: CertificateHash::of(&der),
            der,
            serial: self.serial,
            not_before: self.not_before,
            not_after: self.not_after,
            key: self.key,
        }
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prepared({})", self.serial)
    }
}

/// A certificate that was made here.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The whole (DER).
    pub der: Vec<u8>,
    /// Its serial number.
    pub serial: SerialNumber,
    /// Its first valid second.
    pub not_before: Timestamp,
    /// Its last valid second.
    pub not_after: Timestamp,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub key: KeyFingerprint,
    /// SHA-256 of the whole.
    pub hash: CertificateHash,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.serial)
    }
}
