//! Certificates and CRLs that somebody else's root has signed, judged before anything of this CA stands on them: what every
//! gateway, client and verifier can follow, and nothing that takes away from what an issuing CA of devices has to do.

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5280::{
    ID_CE_BASIC_CONSTRAINTS, ID_CE_EXT_KEY_USAGE, ID_CE_INHIBIT_ANY_POLICY, ID_CE_KEY_USAGE, ID_CE_NAME_CONSTRAINTS,
    ID_CE_POLICY_CONSTRAINTS, ID_CE_POLICY_MAPPINGS,
};
use der::Decode;
use x509_cert::name::Name;

use super::issuer::{IssuerCertificate, IssuerError};
use super::key::PublicKey;
use crate::identity::Timestamp;

/// Extensions that take away from what a CA may sign, or from who follows it.
const RESTRICTING: [(ObjectIdentifier, &str); 5] = [
    (ID_CE_NAME_CONSTRAINTS, "nameConstraints"),
    (ID_CE_EXT_KEY_USAGE, "extendedKeyUsage"),
    (ID_CE_POLICY_CONSTRAINTS, "policyConstraints"),
    (ID_CE_POLICY_MAPPINGS, "policyMappings"),
    (ID_CE_INHIBIT_ANY_POLICY, "inhibitAnyPolicy"),
];

/// Why a certificate of somebody else's can't be stood upon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForeignError {
    /// It is none of a CA, or not signed by the root.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// A root that another CA has signed.
    #[error(
        "this is no root: {issuer} has signed it. Issuing CAs of devices have to be signed by a root itself, and not by a CA \
         below one"
    )]
    NotARoot {
        /// Who has.
        issuer: String,
    },
    /// Signed by another than the root.
    #[error(
        "it is signed by {issuer}, and not by the root {root}: issuing CAs of devices have to be signed by the root itself, and \
         not by a CA below it"
    )]
    OtherIssuer {
        /// Who has signed.
        issuer: String,
        /// Who was to.
        root: String,
    },
    /// Self-signed where a root was to sign.
    #[error("it is signed by its own key, and not by the root")]
    SelfSigned,
    /// Made for another key.
    #[error("it is for another key than the request's")]
    OtherKey,
    /// An extension that restricts it.
    #[error("it has the extension {name}, which restricts it: have it signed without")]
    Restricted {
        /// Which.
        name: &'static str,
    },
    /// A critical extension that others would refuse.
    #[error("its extension {oid} is critical, and not known to all who verify: have it signed without")]
    Critical {
        /// Which.
        oid: ObjectIdentifier,
    },
    /// Not valid yet.
    #[error("it is not valid before {0}")]
    NotYet(Timestamp),
    /// Expired.
    #[error("it has expired, at {0}")]
    Expired(Timestamp),
}

/// Whether a certificate can be the root of devices: self-signed, a CA's whose key and signature are of a kind that is taken,
/// now valid, and without restrictions.
pub fn judge_root(root: &IssuerCertificate, now: Timestamp) -> Result<(), ForeignError> {
    if !root.is_root() {
        return Err(ForeignError::NotARoot { issuer: name_text(root.issuer_der()) });
    }
    root.verify(root)?;
    judge(root, now)
}

/// Whether a certificate makes an issuing CA of devices: for this key, signed by this root, within its life, and without
/// restrictions. Not checked: whether the root has revoked it.
pub fn judge_issuing(
    certificate: &IssuerCertificate,
    root: &IssuerCertificate,
    key: &PublicKey,
    now: Timestamp,
) -> Result<(), ForeignError> {
    if certificate.public_key() != key {
        return Err(ForeignError::OtherKey);
    }
    if certificate.is_root() {
        return Err(ForeignError::SelfSigned);
    }
    if certificate.issuer_der() != root.subject_der() {
        let issuer = name_text(certificate.issuer_der());
        return Err(ForeignError::OtherIssuer { issuer, root: root.subject_text().to_owned() });
    }
    certificate.verify(root)?;
    judge(certificate, now)
}

fn judge(certificate: &IssuerCertificate, now: Timestamp) -> Result<(), ForeignError> {
    for (oid, critical) in certificate.extensions() {
        if let Some((_, name)) = RESTRICTING.iter().find(|(restricting, _)| restricting == oid) {
            return Err(ForeignError::Restricted { name });
        }
        if *critical && ![ID_CE_BASIC_CONSTRAINTS, ID_CE_KEY_USAGE].contains(oid) {
            return Err(ForeignError::Critical { oid: *oid });
        }
    }
    if now < certificate.not_before() {
        return Err(ForeignError::NotYet(certificate.not_before()));
    }
    if certificate.not_after() < now {
        return Err(ForeignError::Expired(certificate.not_after()));
    }
    Ok(())
}

fn name_text(der: &[u8]) -> String {
    Name::from_der(der).map_or_else(|_| "another".into(), |name| name.to_string())
}
