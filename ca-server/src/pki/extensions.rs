//! Writes the values of the extensions that our certificates and CRLs carry (RFC 5280, section 4.2 and 5.2).

use core::net::IpAddr;

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5280::{
    ID_AD_CA_ISSUERS, ID_AD_OCSP, ID_CE_AUTHORITY_KEY_IDENTIFIER, ID_CE_BASIC_CONSTRAINTS, ID_CE_CERTIFICATE_POLICIES,
    ID_CE_CRL_DISTRIBUTION_POINTS, ID_CE_EXT_KEY_USAGE, ID_CE_KEY_USAGE, ID_CE_SUBJECT_ALT_NAME,
    ID_CE_SUBJECT_KEY_IDENTIFIER, ID_PE_AUTHORITY_INFO_ACCESS,
};
use const_oid::db::rfc6960::ID_PKIX_OCSP_NOCHECK;

use super::encode::{Der, NULL, OCTET_STRING, SEQUENCE, context, context_constructed};
use crate::identity::HostName;

/// GeneralName's choices.
const DNS_NAME: u8 = 2;
const URI: u8 = 6;
const IP_ADDRESS: u8 = 7;

/// Writes one Extension.
pub(super) fn extension(der: &mut Der, oid: &ObjectIdentifier, critical: bool, value: impl FnOnce(&mut Der)) {
    der.nest(SEQUENCE, |extension| {
        extension.oid(oid);
        if critical {
            extension.true_();
        }
        extension.nest(OCTET_STRING, value);
    });
}

pub(super) fn basic_constraints(der: &mut Der, path_length: Option<u8>) {
    extension(der, &ID_CE_BASIC_CONSTRAINTS, true, |value| {
        value.nest(SEQUENCE, |fields| {
            fields.true_();
            if let Some(length) = path_length {
                fields.unsigned(&[length]);
            }
        });
    });
}

pub(super) fn key_usage(der: &mut Der, bits: u16) {
    extension(der, &ID_CE_KEY_USAGE, true, |value| value.named_bits(bits));
}

pub(super) fn extended_key_usage(der: &mut Der, purpose: &ObjectIdentifier) {
    extension(der, &ID_CE_EXT_KEY_USAGE, false, |value| value.nest(SEQUENCE, |list| list.oid(purpose)));
}

/// One policy, no qualifiers.
pub(super) fn certificate_policy(der: &mut Der, oid: &ObjectIdentifier) {
    extension(der, &ID_CE_CERTIFICATE_POLICIES, false, |value| {
        value.nest(SEQUENCE, |list| list.nest(SEQUENCE, |policy| policy.oid(oid)));
    });
}

pub(super) fn subject_key_identifier(der: &mut Der, identifier: &[u8; 20]) {
    extension(der, &ID_CE_SUBJECT_KEY_IDENTIFIER, false, |value| value.primitive(OCTET_STRING, identifier));
}

pub(super) fn authority_key_identifier(der: &mut Der, identifier: &[u8; 20]) {
    extension(der, &ID_CE_AUTHORITY_KEY_IDENTIFIER, false, |value| {
        value.nest(SEQUENCE, |fields| fields.primitive(context(0), identifier));
    });
}

/// One SPIFFE URI, and the names under which a server is reached.
pub(super) fn subject_alternative_names(der: &mut Der, uri: &str, hosts: &[HostName]) {
    extension(der, &ID_CE_SUBJECT_ALT_NAME, false, |value| {
        value.nest(SEQUENCE, |names| {
            for host in hosts {
                match host {
                    HostName::Dns(name) => names.primitive(context(DNS_NAME), name.as_bytes()),
                    HostName::Ip(IpAddr::V4(address)) => names.primitive(context(IP_ADDRESS), &address.octets()),
                    HostName::Ip(IpAddr::V6(address)) => names.primitive(context(IP_ADDRESS), &address.octets()),
                }
            }
            names.primitive(context(URI), uri.as_bytes());
        });
    });
}

/// One distribution point with one URL, no reasons, no cRLIssuer.
pub(super) fn crl_distribution_point(der: &mut Der, url: &str) {
    extension(der, &ID_CE_CRL_DISTRIBUTION_POINTS, false, |value| {
        value.nest(SEQUENCE, |points| points.nest(SEQUENCE, |point| distribution_point_name(point, url)));
    });
}

/// `[0] { [0] fullName { URI } }`: the same octets in a leaf's distribution point and in its CRL's.
pub(super) fn distribution_point_name(der: &mut Der, url: &str) {
    der.nest(context_constructed(0), |name| {
        name.nest(context_constructed(0), |full_name| full_name.primitive(context(URI), url.as_bytes()));
    });
}

/// Where the issuing certificate is, and who answers OCSP requests, where that is said.
pub(super) fn issuer_access(der: &mut Der, issuer_url: &str, ocsp_url: Option<&str>) {
    extension(der, &ID_PE_AUTHORITY_INFO_ACCESS, false, |value| {
        value.nest(SEQUENCE, |list| {
            let ocsp = ocsp_url.map(|url| (ID_AD_OCSP, url));
            for (method, url) in ocsp.into_iter().chain([(ID_AD_CA_ISSUERS, issuer_url)]) {
                list.nest(SEQUENCE, |access| {
                    access.oid(&method);
                    access.primitive(context(URI), url.as_bytes());
                });
            }
        });
    });
}

/// Nobody needs to ask whether this certificate is revoked (RFC 6960, section 4.2.2.2.1).
pub(super) fn ocsp_no_check(der: &mut Der) {
    extension(der, &ID_PKIX_OCSP_NOCHECK, false, |value| value.primitive(NULL, &[]));
}
