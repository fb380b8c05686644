//! Distinguished names: two attributes, both UTF8String, in one fixed order.

use const_oid::ObjectIdentifier;
use const_oid::db::rfc4519::{COMMON_NAME, ORGANIZATION_NAME};

use super::encode::{Der, SEQUENCE, SET, UTF8_STRING};
use super::issuer::IssuerCertificate;
use super::key::PublicKey;
use super::profile::CaRole;
use crate::identity::{IssuerId, TrustDomain};

/// The longest organization or common name (RFC 5280, appendix A.1).
const LONGEST: usize = 64;

/// The Name (DER) `O=<organization>, CN=<common name>`. An organization too long for X.509 (a trust domain may have 253
/// characters) is left out: it is for people to read, and nothing depends on it.
pub(super) fn name(organization: &str, common_name: &str) -> Vec<u8> {
    Der::build(SEQUENCE, |name| {
        if organization.len() <= LONGEST {
            attribute(name, &ORGANIZATION_NAME, organization);
        }
        attribute(name, &COMMON_NAME, common_name);
    })
}

/// A CA's name. It holds the ID that follows from its key, so that no two CAs ever have the same.
pub(super) fn authority_name(role: CaRole, trust_domain: &TrustDomain, key: &PublicKey) -> Vec<u8> {
    let id = IssuerId::of(&key.fingerprint());
    name(trust_domain.as_str(), &format!("{} {id}", role.label()))
}

/// Whether a certificate has the name that this CA gives to one in this role.
pub fn is_named(certificate: &IssuerCertificate, role: CaRole, trust_domain: &TrustDomain) -> bool {
    certificate.subject_der() == authority_name(role, trust_domain, certificate.public_key())
}

fn attribute(name: &mut Der, oid: &ObjectIdentifier, value: &str) {
    name.nest(SET, |set| {
        set.nest(SEQUENCE, |pair| {
            pair.oid(oid);
            pair.primitive(UTF8_STRING, value.as_bytes());
        });
    });
}
