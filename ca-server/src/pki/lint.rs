//! The last look before a signature: the very bytes that are to be signed, read back by another implementation (the
//! crates `der` and `x509-cert`, strict DER) and held to their profile and to what was decided.
//!
//! RFC 5280 and the SPIFFE X.509-SVID standard, as far as our profiles go; pkilint and OpenSSL look at samples of
//! everything in the tests.

use core::net::IpAddr;

use const_oid::AssociatedOid;
use const_oid::db::rfc4519::COMMON_NAME;
use const_oid::db::rfc5280::{ANY_POLICY, ID_AD_CA_ISSUERS, ID_AD_OCSP};
use const_oid::db::rfc6960::ID_PKIX_OCSP_NOCHECK;
use der::Decode;
use der::asn1::Null;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints, CertificatePolicies, CrlDistributionPoints,
    ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::name::Name;

use super::draft::Draft;
use super::profile::{Profile, key_usage};
use super::signature::SignatureAlgorithm;
use super::signed::TbsCertificate;
use crate::identity::{HostName, Subject};

/// What a lint found: a fault of this software, never of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LintError {
    /// Not of version 3, not readable, or not the one DER encoding of what it says.
    #[error("the certificate is not canonical DER")]
    Encoding,
    /// Not positive, or not the 16 octets decided.
    #[error("the serial number is not positive, of 16 octets")]
    Serial,
    /// The signature algorithm is not the issuer's.
    #[error("the signature algorithm is not the issuer's")]
    SignatureAlgorithm,
    /// The issuer's name is not the issuer's.
    #[error("the issuer's name differs")]
    Issuer,
    /// The subject's name differs, is empty, or has an attribute too long for X.509.
    #[error("the subject's name differs, or is too long")]
    Subject,
    /// Dates that differ from those decided, run backwards, or span more than the profile allows.
    #[error("the validity differs, is empty, or is longer than the profile allows")]
    Validity,
    /// The public key differs.
    #[error("the public key differs")]
    Key,
    /// Other extensions, another order or other criticalities than the profile's.
    #[error("the extensions are not exactly those of the profile")]
    Extensions,
    /// basicConstraints.
    #[error("the basic constraints are not those of the profile")]
    BasicConstraints,
    /// keyUsage.
    #[error("the key usage is not that of the profile")]
    KeyUsage,
    /// extendedKeyUsage.
    #[error("the extended key usage is not that of the profile")]
    ExtendedKeyUsage,
    /// Not exactly one SPIFFE URI of this trust domain, kind and subject, or other names than decided.
    #[error("the alternative names are not those of the profile")]
    AlternativeNames,
    /// subjectKeyIdentifier.
    #[error("the subject key identifier is not that of the key")]
    SubjectKeyIdentifier,
    /// authorityKeyIdentifier.
    #[error("the authority key identifier is not that of the issuer's key")]
    AuthorityKeyIdentifier,
    /// cRLDistributionPoints.
    #[error("the CRL distribution point is not the one decided")]
    DistributionPoint,
    /// authorityInfoAccess.
    #[error("the issuer's location is not the one decided")]
    IssuerLocation,
    /// certificatePolicies.
    #[error("the policies are not those of the profile")]
    Policies,
    /// id-pkix-ocsp-nocheck.
    #[error("the note that nobody need ask for the revocation of an OCSP responder is malformed")]
    NoCheck,
}

/// Whether `ok`, or else `error`.
fn require(ok: bool, error: LintError) -> Result<(), LintError> {
    if ok { Ok(()) } else { Err(error) }
}

/// Reads `tbs` back and holds it to `draft`.
pub(super) fn check(tbs: &[u8], draft: &Draft<'_>) -> Result<(), LintError> {
    let read = TbsCertificate::read(tbs).map_err(|_| LintError::Encoding)?;
    check_fields(&read, draft)?;
    let subject = Name::from_der(read.subject).map_err(|_| LintError::Encoding)?;
    check_names(&subject)?;
    check_extension_list(&read, draft)?;
    check_usage(&read, draft.profile)?;
    check_policy(&read, draft)?;
    check_alternative_names(&read, &subject, draft)?;
    check_key_identifiers(&read, draft)?;
    check_locations(&read, draft)
}

fn check_fields(read: &TbsCertificate<'_>, draft: &Draft<'_>) -> Result<(), LintError> {
    let serial = read.serial;
    require(serial.len() == 16 && serial[0] < 0x80 && serial == draft.serial.as_bytes(), LintError::Serial)?;
    let algorithm = SignatureAlgorithm::read(&read.algorithm);
    require(algorithm == Ok(draft.algorithm), LintError::SignatureAlgorithm)?;
    require(read.issuer == draft.issuer, LintError::Issuer)?;
    require(read.subject == draft.subject, LintError::Subject)?;
    require(read.spki == draft.key.spki_der(), LintError::Key)?;

    let decided = read.not_before == draft.not_before && read.not_after == draft.not_after;
    let span = read.not_after.since(read.not_before);
    require(decided && !span.is_zero() && span <= draft.profile.longest_validity(), LintError::Validity)
}

/// Every attribute of the subject has 1 to 64 characters.
fn check_names(subject: &Name) -> Result<(), LintError> {
    require(!subject.is_empty(), LintError::Subject)?;
    let fits = |value: &x509_cert::attr::AttributeTypeAndValue| (1..=64).contains(&value.value.value().len());
    require(subject.iter().all(fits), LintError::Subject)
}

fn check_extension_list(read: &TbsCertificate<'_>, draft: &Draft<'_>) -> Result<(), LintError> {
    let found = read.extensions().iter().map(|found| (found.oid, found.critical));
    require(found.eq(draft.profile.extensions(draft.policy.is_some()).iter().copied()), LintError::Extensions)
}

/// An extension's value; `error` where it does not decode, `None` where the profile has none.
fn value<'a, T: Decode<'a, Error = der::Error> + AssociatedOid>(
    read: &TbsCertificate<'a>,
    error: LintError,
) -> Result<Option<T>, LintError> {
    read.extension(T::OID).map_err(|_| error)
}

fn check_usage(read: &TbsCertificate<'_>, profile: Profile) -> Result<(), LintError> {
    let constraints = value::<BasicConstraints>(read, LintError::BasicConstraints)?;
    let constraints = constraints.map(|found| (found.ca, found.path_len_constraint));
    let expected = profile.is_authority().then_some((true, profile.path_length()));
    require(constraints == expected, LintError::BasicConstraints)?;

    let usage = value::<KeyUsage>(read, LintError::KeyUsage)?.ok_or(LintError::KeyUsage)?;
    let wanted = [
        (KeyUsages::DigitalSignature, key_usage::DIGITAL_SIGNATURE),
        (KeyUsages::KeyCertSign, key_usage::KEY_CERT_SIGN),
        (KeyUsages::CRLSign, key_usage::CRL_SIGN),
    ];
    let wanted = wanted.into_iter().filter(|(_, bit)| profile.key_usage() & bit != 0);
    let wanted = wanted.fold(KeyUsage(Default::default()), |all, (usage, _)| KeyUsage(all.0 | usage));
    require(usage == wanted, LintError::KeyUsage)?;

    read.extension::<Null>(ID_PKIX_OCSP_NOCHECK).map_err(|_| LintError::NoCheck)?;
    let purposes = value::<ExtendedKeyUsage>(read, LintError::ExtendedKeyUsage)?.map(|purposes| purposes.0);
    require(purposes == profile.extended_key_usage().map(|purpose| vec![purpose]), LintError::ExtendedKeyUsage)
}

/// Any policy for a CA below a root; what was decided for a device, and that is never any.
fn check_policy(read: &TbsCertificate<'_>, draft: &Draft<'_>) -> Result<(), LintError> {
    let found = match value::<CertificatePolicies>(read, LintError::Policies)?.map(|policies| policies.0).as_deref() {
        None => None,
        Some([policy]) if policy.policy_qualifiers.is_none() => Some(policy.policy_identifier),
        Some(_) => return Err(LintError::Policies),
    };
    let any = found == Some(ANY_POLICY);
    require(found == draft.policy && (!any || draft.profile.is_authority()), LintError::Policies)
}

fn check_alternative_names(read: &TbsCertificate<'_>, subject_name: &Name, draft: &Draft<'_>) -> Result<(), LintError> {
    let names = value::<SubjectAltName>(read, LintError::AlternativeNames)?;
    let Profile::Leaf(kind) = draft.profile else {
        return require(names.is_none() && draft.names.is_none(), LintError::AlternativeNames);
    };
    let names = names.ok_or(LintError::AlternativeNames)?.0;
    let (_, hosts) = draft.names.ok_or(LintError::AlternativeNames)?;

    let Some((GeneralName::UniformResourceIdentifier(uri), rest)) = names.split_last() else {
        return Err(LintError::AlternativeNames);
    };
    let subject =
        Subject::from_spiffe_uri(uri.as_str(), draft.trust_domain).map_err(|_| LintError::AlternativeNames)?;
    let common_name = subject_name.iter().find(|attribute| attribute.oid == COMMON_NAME);
    let named_alike = common_name.is_some_and(|name| name.value.value() == subject.id.as_str().as_bytes());
    require(subject.kind == kind && named_alike, LintError::AlternativeNames)?;

    // A server has hosts, and nobody else has.
    let is_server = kind == crate::identity::Kind::Server;
    let hosts_match = rest.len() == hosts.len() && rest.iter().zip(hosts).all(|(name, host)| is_host(name, host));
    require(hosts_match && is_server != hosts.is_empty(), LintError::AlternativeNames)
}

fn is_host(name: &GeneralName, host: &HostName) -> bool {
    match (name, host) {
        (GeneralName::DnsName(name), HostName::Dns(host)) => name.as_str() == host,
        (GeneralName::IpAddress(octets), HostName::Ip(IpAddr::V4(address))) => octets.as_bytes() == address.octets(),
        (GeneralName::IpAddress(octets), HostName::Ip(IpAddr::V6(address))) => octets.as_bytes() == address.octets(),
        _ => false,
    }
}

fn check_key_identifiers(read: &TbsCertificate<'_>, draft: &Draft<'_>) -> Result<(), LintError> {
    let ski = value::<SubjectKeyIdentifier>(read, LintError::SubjectKeyIdentifier)?;
    require(ski.is_some_and(|ski| ski.0.as_bytes() == draft.key.key_identifier()), LintError::SubjectKeyIdentifier)?;
    // Only a root goes without; the list of extensions has been checked.
    let aki = value::<AuthorityKeyIdentifier>(read, LintError::AuthorityKeyIdentifier)?;
    require(
        aki.is_none_or(|aki| {
            let key_only = aki.authority_cert_issuer.is_none() && aki.authority_cert_serial_number.is_none();
            key_only && aki.key_identifier.is_some_and(|id| id.as_bytes() == draft.issuer_key)
        }),
        LintError::AuthorityKeyIdentifier,
    )
}

fn check_locations(read: &TbsCertificate<'_>, draft: &Draft<'_>) -> Result<(), LintError> {
    let is_url = |name: &GeneralName, url: Option<&str>| matches!(name, GeneralName::UniformResourceIdentifier(uri) if Some(uri.as_str()) == url);
    let points = value::<CrlDistributionPoints>(read, LintError::DistributionPoint)?;
    require(
        points.is_none_or(|points| match &points.0[..] {
            [point] if point.reasons.is_none() && point.crl_issuer.is_none() => match &point.distribution_point {
                Some(DistributionPointName::FullName(names)) => {
                    matches!(&names[..], [name] if is_url(name, draft.crl_url))
                }
                _ => false,
            },
            _ => false,
        }),
        LintError::DistributionPoint,
    )?;
    let access = value::<AuthorityInfoAccessSyntax>(read, LintError::IssuerLocation)?;
    require(
        access.is_none_or(|access| match &access.0[..] {
            [ocsp @ .., issuer] => {
                let issuer =
                    issuer.access_method == ID_AD_CA_ISSUERS && is_url(&issuer.access_location, draft.issuer_url);
                let ocsp = match (ocsp, draft.ocsp_url) {
                    ([], None) => true,
                    ([ocsp], Some(_)) => {
                        ocsp.access_method == ID_AD_OCSP && is_url(&ocsp.access_location, draft.ocsp_url)
                    }
                    _ => false,
                };
                issuer && ocsp
            }
            [] => false,
        }),
        LintError::IssuerLocation,
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::fixture::{NOW, TestKey, serial, trust_domain};
    use super::super::names::name;
    use super::super::profile::CaRole;
    use super::*;
    use crate::identity::{Kind, SerialNumber};

    const URI: &str = "spiffe://fleet.example/device/pump-7";

    /// Calls `test` with the draft of a device's certificate.
    fn with_draft(test: impl FnOnce(Draft<'_>)) {
        let (key, issuer) = (TestKey::generate().public, TestKey::generate().public);
        test(Draft {
            profile: Profile::Leaf(Kind::Device),
            issuer: &name("fleet.example", "some issuer"),
            issuer_key: issuer.key_identifier(),
            algorithm: SignatureAlgorithm::EcdsaSha256,
            issuer_url: Some("http://ca.example/issuer.cer"),
            subject: &name("pumps", "pump-7"),
            key: &key,
            serial: serial(1),
            not_before: NOW,
            not_after: NOW + Duration::from_secs(86_400),
            trust_domain: &trust_domain(),
            names: Some((URI, &[])),
            crl_url: Some("http://ca.example/full.crl"),
            ocsp_url: None,
            policy: None,
        });
    }

    /// The draft's encoding, with octets replaced that occur in it once, is refused for `error`.
    fn patched(draft: &Draft<'_>, from: &[u8], to: &[u8], error: LintError) {
        let mut tbs = draft.encode();
        let places: Vec<usize> =
            tbs.windows(from.len()).enumerate().filter(|(_, window)| *window == from).map(|(at, _)| at).collect();
        assert_eq!(places.len(), 1, "{error:?}");
        tbs[places[0]..][..to.len()].copy_from_slice(to);
        assert_eq!(check(&tbs, draft), Err(error));
    }

    #[test]
    fn a_certificate_as_drafted_passes() {
        with_draft(|draft| assert_eq!(check(&draft.encode(), &draft), Ok(())));
    }

    #[test]
    fn what_is_not_canonical_der_is_refused() {
        with_draft(|draft| {
            let mut tbs = draft.encode();
            tbs.push(0);
            assert_eq!(check(&tbs, &draft), Err(LintError::Encoding));
            // keyUsage's critical TRUE as FALSE, which is a default and must not be encoded.
            patched(&draft, &[0x55, 0x1d, 0x0f, 1, 1, 0xff], &[0x55, 0x1d, 0x0f, 1, 1, 0], LintError::Encoding);
        });
    }

    #[test]
    fn every_field_that_differs_from_what_was_decided_is_found() {
        with_draft(|draft| {
            let other = TestKey::generate().public;
            let tbs = draft.encode();
            let refused = |changed: Draft<'_>| check(&tbs, &changed).unwrap_err();
            assert_eq!(refused(Draft { serial: serial(2), ..draft }), LintError::Serial);
            let algorithm = SignatureAlgorithm::EcdsaSha384;
            assert_eq!(refused(Draft { algorithm, ..draft }), LintError::SignatureAlgorithm);
            assert_eq!(refused(Draft { issuer: &name("fleet.example", "other"), ..draft }), LintError::Issuer);
            assert_eq!(refused(Draft { subject: &name("pumps", "pump-8"), ..draft }), LintError::Subject);
            assert_eq!(refused(Draft { not_before: NOW + Duration::from_secs(1), ..draft }), LintError::Validity);
            assert_eq!(refused(Draft { key: &other, ..draft }), LintError::Key);
            let issuer_key = other.key_identifier();
            assert_eq!(refused(Draft { issuer_key, ..draft }), LintError::AuthorityKeyIdentifier);
            assert_eq!(refused(Draft { crl_url: Some("http://x"), ..draft }), LintError::DistributionPoint);
            assert_eq!(refused(Draft { issuer_url: Some("http://x"), ..draft }), LintError::IssuerLocation);
            let profile = Profile::Authority(CaRole::DeviceIssuing);
            assert_eq!(refused(Draft { profile, ..draft }), LintError::Extensions);
            for kind in [Kind::Gateway, Kind::Operator] {
                let profile = Profile::Leaf(kind);
                assert_eq!(refused(Draft { profile, ..draft }), LintError::AlternativeNames);
            }
            let profile = Profile::Leaf(Kind::Server);
            assert_eq!(refused(Draft { profile, ..draft }), LintError::ExtendedKeyUsage);
            let trust_domain = &"other.example".parse().unwrap();
            assert_eq!(refused(Draft { trust_domain, ..draft }), LintError::AlternativeNames);
        });
    }

    #[test]
    fn octets_changed_after_the_draft_are_found() {
        with_draft(|draft| {
            patched(&draft, &[0xa0, 3, 2, 1, 2], &[0xa0, 3, 2, 1, 1], LintError::Encoding);
            // nonRepudiation instead of digitalSignature; then keyCertSign.
            patched(&draft, &[3, 2, 7, 0x80], &[3, 2, 6, 0x40], LintError::KeyUsage);
            patched(&draft, &[3, 2, 7, 0x80], &[3, 2, 2, 0x04], LintError::KeyUsage);
            // id-kp-serverAuth, then anyExtendedKeyUsage's neighbour, instead of id-kp-clientAuth.
            patched(&draft, &[5, 5, 7, 3, 2], &[5, 5, 7, 3, 1], LintError::ExtendedKeyUsage);
            patched(&draft, b"spiffe:", b"https:/", LintError::AlternativeNames);
            patched(&draft, b"device/pump-7", b"device/pump-8", LintError::AlternativeNames);
            patched(&draft, b"full.crl", b"null.crl", LintError::DistributionPoint);
            patched(&draft, b"issuer.cer", b"issues.cer", LintError::IssuerLocation);
            // id-ad-ocsp instead of id-ad-caIssuers.
            patched(&draft, &[5, 5, 7, 0x30, 2], &[5, 5, 7, 0x30, 1], LintError::IssuerLocation);
            let ski = draft.key.key_identifier();
            patched(&draft, &ski, &[0; 20], LintError::SubjectKeyIdentifier);
            // subjectKeyIdentifier's OID becomes another extension's.
            patched(&draft, &[0x55, 0x1d, 0x0e, 4], &[0x55, 0x1d, 0x12, 4], LintError::Extensions);
        });
    }

    #[test]
    fn bounds_hold_whatever_was_decided() {
        with_draft(|draft| {
            let refused = |draft: Draft<'_>| check(&draft.encode(), &draft).unwrap_err();
            let week = Duration::from_secs(7 * 86_400 + 3_600);
            assert_eq!(
                check(&Draft { not_after: NOW + week, ..draft }.encode(), &Draft { not_after: NOW + week, ..draft }),
                Ok(())
            );
            assert_eq!(refused(Draft { not_after: NOW + week + Duration::from_secs(1), ..draft }), LintError::Validity);
            assert_eq!(refused(Draft { not_after: NOW, ..draft }), LintError::Validity);
            assert_eq!(refused(Draft { not_after: NOW - week, ..draft }), LintError::Validity);

            let first = |octet| {
                let mut octets = *serial(1).as_bytes();
                octets[..2].fill(octet);
                SerialNumber::from_bytes(octets)
            };
            for octet in [0x80, 0xff, 0x00] {
                assert_eq!(refused(Draft { serial: first(octet), ..draft }), LintError::Serial);
            }
            let long = name("pumps", &"x".repeat(65));
            assert_eq!(refused(Draft { subject: &long, ..draft }), LintError::Subject);
            let host = [HostName::Dns("evil.example".to_owned())];
            assert_eq!(refused(Draft { names: Some((URI, &host)), ..draft }), LintError::AlternativeNames);
            let uri = "spiffe://fleet.example/device/pump-8";
            assert_eq!(refused(Draft { names: Some((uri, &[])), ..draft }), LintError::AlternativeNames);
            assert_eq!(refused(Draft { names: None, ..draft }), LintError::Extensions);
        });
    }

    #[test]
    fn a_policy_is_a_devices_and_the_one_that_was_decided() {
        let policy = |text: &str| Some(const_oid::ObjectIdentifier::new_unwrap(text));
        with_draft(|draft| {
            let device = Draft { policy: policy("1.3.6.1.4.1.99999.1.3"), ..draft };
            let tbs = device.encode();
            assert_eq!(check(&tbs, &device), Ok(()));
            assert_eq!(check(&tbs, &draft), Err(LintError::Extensions));
            assert_eq!(check(&draft.encode(), &device), Err(LintError::Extensions));
            let higher = Draft { policy: policy("1.3.6.1.4.1.99999.1.4"), ..draft };
            assert_eq!(check(&tbs, &higher), Err(LintError::Policies));
            let any = Draft { policy: Some(ANY_POLICY), ..draft };
            assert_eq!(check(&any.encode(), &any), Err(LintError::Policies));
            let uri = "spiffe://fleet.example/gateway/pump-7";
            let gateway = Draft { profile: Profile::Leaf(Kind::Gateway), names: Some((uri, &[])), ..device };
            assert_eq!(check(&gateway.encode(), &gateway), Err(LintError::Extensions));
        });
    }

    #[test]
    fn who_answers_ocsp_requests_is_said_where_that_was_decided_and_as_it_was() {
        with_draft(|draft| {
            let told = Draft { ocsp_url: Some("http://ca.example/ocsp"), ..draft };
            let tbs = told.encode();
            assert_eq!(check(&tbs, &told), Ok(()));
            assert_eq!(check(&tbs, &draft), Err(LintError::IssuerLocation));
            assert_eq!(check(&draft.encode(), &told), Err(LintError::IssuerLocation));
            patched(&told, b"example/ocsp", b"example/0csp", LintError::IssuerLocation);
            // id-ad-caIssuers instead of id-ad-ocsp.
            patched(&told, &[5, 5, 7, 0x30, 1], &[5, 5, 7, 0x30, 2], LintError::IssuerLocation);
        });
    }

    #[test]
    fn a_responders_certificate_has_no_name_of_a_device_and_no_other_use() {
        with_draft(|draft| {
            let profile = Profile::Responder(CaRole::DeviceIssuing);
            let responder = Draft { profile, names: None, crl_url: None, ..draft };
            let responder = Draft { not_after: NOW + Duration::from_secs(3600), ..responder };
            assert_eq!(check(&responder.encode(), &responder), Ok(()));
            let refused = |draft: Draft<'_>| check(&draft.encode(), &draft).unwrap_err();
            assert_eq!(refused(Draft { names: draft.names, ..responder }), LintError::Extensions);
            assert_eq!(refused(Draft { crl_url: draft.crl_url, ..responder }), LintError::Extensions);
            let long = Draft { not_after: NOW + Duration::from_secs(26 * 3600), ..responder };
            assert_eq!(refused(long), LintError::Validity);
            // id-kp-clientAuth instead of id-kp-OCSPSigning; TRUE instead of NULL.
            patched(&responder, &[5, 5, 7, 3, 9], &[5, 5, 7, 3, 2], LintError::ExtendedKeyUsage);
            patched(&responder, &[0x30, 1, 5, 4, 2, 5, 0], &[0x30, 1, 5, 4, 2, 1, 0], LintError::NoCheck);
        });
    }

    #[test]
    fn a_server_without_hosts_is_refused() {
        with_draft(|draft| {
            let uri = "spiffe://fleet.example/server/pump-7";
            let profile = Profile::Leaf(Kind::Server);
            let server = Draft { profile, names: Some((uri, &[])), ..draft };
            assert_eq!(check(&server.encode(), &server), Err(LintError::AlternativeNames));
        });
    }
}
