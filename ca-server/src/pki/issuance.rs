//! Makes certificates: everything in one comes from its profile and from what was proven.

use const_oid::{ObjectIdentifier, db::rfc5280::ANY_POLICY};

use super::draft::{Draft, Prepared};
use super::holder::Holder;
use super::issuer::{IssuerCertificate, IssuerError};
use super::key::PublicKey;
use super::lint::LintError;
use super::locations::{CrlScope, LocationError, Locations};
use super::names::{authority_name, is_named, name};
use super::profile::{CaRole, Profile};
use super::signature::SignatureAlgorithm;
use crate::identity::{IssuerId, SerialNumber, Timestamp, TrustDomain};

/// Why a certificate is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssuanceError {
    /// It would live longer than its issuer.
    #[error("the certificate would outlive its issuer, which ends at {issuer_not_after}; make a new issuing CA")]
    OutlivesIssuer {
        /// The issuer's last valid second.
        issuer_not_after: Timestamp,
    },
    /// This CA does not sign certificates of that kind.
    #[error("a CA of role {issuer:?} does not sign certificates of the kind {profile:?}")]
    WrongIssuer {
        /// What was asked for.
        profile: Profile,
        /// Who was asked.
        issuer: CaRole,
    },
    /// The CA's certificate does not fit its role.
    #[error("the certificate is not that of a CA in the role {role:?}")]
    WrongRole {
        /// The role.
        role: CaRole,
    },
    /// The CA's certificate cannot serve.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The distribution point cannot be named.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// What was built is not what its profile says: nothing is signed.
    #[error("refusing to sign: {0}")]
    Lint(#[from] LintError),
}

/// A leaf to be made.
#[derive(Clone, Copy, Debug)]
pub struct LeafRequest<'a> {
    /// Who it is for.
    pub holder: Holder<'a>,
    /// The key, possession of which was proven.
    pub key: &'a PublicKey,
    /// Its serial number.
    pub serial: SerialNumber,
    /// First valid moment, backdated by the caller; whole seconds count.
    pub not_before: Timestamp,
    /// Last valid moment; whole seconds count.
    pub not_after: Timestamp,
    /// Which CRL its distribution point names.
    pub crl: CrlScope<'a>,
    /// A device's: the policy of what it has proven.
    pub policy: Option<ObjectIdentifier>,
    /// Whether it says who answers OCSP requests.
    pub ocsp: bool,
}

/// A CA's certificate to be made.
#[derive(Clone, Copy, Debug)]
pub struct CaRequest<'a> {
    /// Which CA.
    pub role: CaRole,
    /// Its key.
    pub key: &'a PublicKey,
    /// Its serial number.
    pub serial: SerialNumber,
    /// First valid moment; whole seconds count.
    pub not_before: Timestamp,
    /// Last valid moment; whole seconds count.
    pub not_after: Timestamp,
}

/// The certificate of an OCSP responder to be made.
#[derive(Clone, Copy, Debug)]
pub struct ResponderRequest<'a> {
    /// Its key.
    pub key: &'a PublicKey,
    /// Its serial number.
    pub serial: SerialNumber,
    /// First valid moment; whole seconds count.
    pub not_before: Timestamp,
    /// Last valid moment; whole seconds count.
    pub not_after: Timestamp,
}

/// A CA that certificates can be made under: its certificate, and what all of its children share.
#[derive(Clone, Debug)]
pub struct Issuer {
    role: CaRole,
    certificate: IssuerCertificate,
    algorithm: SignatureAlgorithm,
    trust_domain: TrustDomain,
    locations: Locations,
    full_crl: String,
    certificate_url: String,
    ocsp_url: String,
}

impl Issuer {
    /// Takes a CA's certificate in its role.
    pub fn new(
        role: CaRole,
        certificate: IssuerCertificate,
        trust_domain: TrustDomain,
        locations: Locations,
    ) -> Result<Self, IssuanceError> {
        if certificate.is_root() != role.is_root() || !is_named(&certificate, role, &trust_domain) {
            return Err(IssuanceError::WrongRole { role });
        }
        Ok(Self::known(role, certificate, trust_domain, locations))
    }

    /// Takes the certificate of an issuing CA of devices. Below a root of somebody else's it has the name that it was given
    /// there, if that is not one of ours in another role.
    pub fn of_devices(
        root: &IssuerCertificate,
        certificate: IssuerCertificate,
        trust_domain: TrustDomain,
        locations: Locations,
    ) -> Result<Self, IssuanceError> {
        let role = CaRole::DeviceIssuing;
        if is_named(root, CaRole::DeviceRoot, &trust_domain) {
            return Self::new(role, certificate, trust_domain, locations);
        }
        let is_anothers = |other| other != role && is_named(&certificate, other, &trust_domain);
        if certificate.is_root() || CaRole::ALL.into_iter().any(is_anothers) {
            return Err(IssuanceError::WrongRole { role });
        }
        Ok(Self::known(role, certificate, trust_domain, locations))
    }

    fn known(role: CaRole, certificate: IssuerCertificate, trust_domain: TrustDomain, locations: Locations) -> Self {
        let id = certificate.id();
        Self {
            role,
            algorithm: SignatureAlgorithm::usual(certificate.public_key().kind()),
            full_crl: locations.full_crl(&id),
            certificate_url: locations.certificate(&id),
            ocsp_url: locations.ocsp(),
            certificate,
            trust_domain,
            locations,
        }
    }

    /// Its role.
    pub fn role(&self) -> CaRole {
        self.role
    }

    /// Its ID.
    pub fn id(&self) -> IssuerId {
        self.certificate.id()
    }

    /// Its certificate.
    pub fn certificate(&self) -> &IssuerCertificate {
        &self.certificate
    }

    /// Where its CRLs and its certificate are served.
    pub fn locations(&self) -> &Locations {
        &self.locations
    }

    /// Builds a leaf and lints it. The bytes of [`Prepared::tbs`] are to be signed with this issuer's key.
    pub fn prepare_leaf(&self, request: &LeafRequest<'_>) -> Result<Prepared, IssuanceError> {
        let subject = request.holder.subject();
        let organization = match request.holder {
            Holder::Device { fleet, .. } => fleet.as_str(),
            _ => self.trust_domain.as_str(),
        };
        let hosts = match request.holder {
            Holder::Server { hosts, .. } => hosts,
            _ => &[],
        };
        let uri = subject.spiffe_uri(&self.trust_domain);
        self.prepare(Draft {
            profile: Profile::Leaf(subject.kind),
            subject: &name(organization, subject.id.as_str()),
            key: request.key,
            serial: request.serial,
            not_before: request.not_before.floor_secs(),
            not_after: request.not_after.floor_secs(),
            names: Some((&uri, hosts)),
            crl_url: Some(&self.locations.crl(&self.id(), request.crl)?),
            ocsp_url: request.ocsp.then_some(&self.ocsp_url),
            policy: request.policy,
            ..self.draft()
        })
    }

    /// Builds the certificate of whoever answers OCSP requests for this CA, and lints it. It has no SPIFFE ID: it is
    /// nobody's to whom anything is let in.
    pub fn prepare_responder(&self, request: &ResponderRequest<'_>) -> Result<Prepared, IssuanceError> {
        if self.role.is_root() {
            return Err(IssuanceError::WrongRole { role: self.role });
        }
        self.prepare(Draft {
            profile: Profile::Responder(self.role),
            subject: &name(self.trust_domain.as_str(), &format!("Fleet CA OCSP {}", self.id())),
            key: request.key,
            serial: request.serial,
            not_before: request.not_before.floor_secs(),
            not_after: request.not_after.floor_secs(),
            ..self.draft()
        })
    }

    /// Builds the certificate of a CA below this root, and lints it.
    pub fn prepare_authority(&self, request: &CaRequest<'_>) -> Result<Prepared, IssuanceError> {
        self.prepare(Draft {
            profile: Profile::Authority(request.role),
            subject: &authority_name(request.role, &self.trust_domain, request.key),
            key: request.key,
            serial: request.serial,
            not_before: request.not_before.floor_secs(),
            not_after: request.not_after.floor_secs(),
            crl_url: Some(&self.full_crl),
            policy: Some(ANY_POLICY),
            ..self.draft()
        })
    }

    fn prepare(&self, draft: Draft<'_>) -> Result<Prepared, IssuanceError> {
        if draft.profile.issuer() != self.role || draft.profile == Profile::Authority(self.role) {
            return Err(IssuanceError::WrongIssuer { profile: draft.profile, issuer: self.role });
        }
        let issuer_not_after = self.certificate.not_after();
        if draft.not_after > issuer_not_after {
            return Err(IssuanceError::OutlivesIssuer { issuer_not_after });
        }
        Ok(draft.prepare()?)
    }

    /// What all children share; the rest is filled in.
    fn draft(&self) -> Draft<'_> {
        Draft {
            profile: Profile::Authority(self.role),
            issuer: self.certificate.subject_der(),
            issuer_key: self.certificate.key_identifier(),
            algorithm: self.algorithm,
            issuer_url: Some(&self.certificate_url),
            subject: &[],
            key: self.certificate.public_key(),
            serial: SerialNumber::from_bytes([0; 16]),
            not_before: Timestamp::default(),
            not_after: Timestamp::default(),
            trust_domain: &self.trust_domain,
            names: None,
            crl_url: None,
            ocsp_url: None,
            policy: None,
        }
    }
}

/// Builds a root's certificate, and lints it. It is to be signed with the key that it is for.
pub fn prepare_root(trust_domain: &TrustDomain, request: &CaRequest<'_>) -> Result<Prepared, IssuanceError> {
    if !request.role.is_root() {
        return Err(IssuanceError::WrongRole { role: request.role });
    }
    let name = authority_name(request.role, trust_domain, request.key);
    let draft = Draft {
        profile: Profile::Authority(request.role),
        issuer: &name,
        issuer_key: request.key.key_identifier(),
        algorithm: SignatureAlgorithm::usual(request.key.kind()),
        issuer_url: None,
        subject: &name,
        key: request.key,
        serial: request.serial,
        not_before: request.not_before.floor_secs(),
        not_after: request.not_after.floor_secs(),
        trust_domain,
        names: None,
        crl_url: None,
        ocsp_url: None,
        policy: None,
    };
    Ok(draft.prepare()?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use der::Decode;

    use super::super::fixture::{NOW, TestCa, TestKey, device_id, fleet, locations, serial, trust_domain};
    use super::super::{CA_VALIDITY, PeerCertificate, ROOT_VALIDITY};
    use super::*;
    use crate::identity::Kind;

    const HOUR: Duration = Duration::from_secs(3600);

    fn leaf<'a>(holder: Holder<'a>, key: &'a TestKey) -> LeafRequest<'a> {
        LeafRequest {
            holder,
            key: &key.public,
            serial: serial(3),
            not_before: NOW - Duration::from_secs(300),
            not_after: NOW + 24 * HOUR,
            crl: CrlScope::Full,
            policy: None,
            ocsp: false,
        }
    }

    #[test]
    fn every_leaf_profile_reads_back_as_what_was_asked_for() {
        let (_, devices) = TestCa::hierarchy(CaRole::DeviceIssuing);
        let (_, control) = TestCa::hierarchy(CaRole::ControlCa);
        let (id, fleet, key) = (device_id(), fleet(), TestKey::generate());
        let hosts = ["ca.fleet.example".parse().unwrap(), "::1".parse().unwrap(), "10.0.0.1".parse().unwrap()];
        let cases = [
            (&devices, Holder::Device { id: &id, fleet: &fleet }),
            (&control, Holder::Gateway(&id)),
            (&control, Holder::Operator(&id)),
            (&control, Holder::Server { id: &id, hosts: &hosts }),
        ];
        for (ca, holder) in cases {
            let certificate = ca.issue(&leaf(holder, &key));
            let peer = PeerCertificate::parse(&certificate.der, &trust_domain()).unwrap();
            assert_eq!(peer.subject, holder.subject());
            assert_eq!(peer.serial, serial(3));
            assert_eq!(peer.issuer, ca.issuer.id());
            assert_eq!((peer.key, peer.hash), (key.public.clone(), certificate.hash));
            assert_eq!(peer.not_before, NOW - Duration::from_secs(300));
            assert_eq!(peer.not_after, NOW + 24 * HOUR);
            let read = x509_cert::Certificate::from_der(&certificate.der).unwrap();
            assert_eq!(read.signature_algorithm(), read.tbs_certificate().signature());
            assert_eq!(
                ca.key.public.verify(&certificate.der[4..][..tbs_length(&certificate.der)], &signature(&read)),
                Ok(())
            );
        }
    }

    fn tbs_length(der: &[u8]) -> usize {
        4 + usize::from(u16::from_be_bytes([der[6], der[7]]))
    }

    fn signature(certificate: &x509_cert::Certificate) -> Vec<u8> {
        certificate.signature().as_bytes().unwrap().to_vec()
    }

    #[test]
    fn a_hierarchy_verifies_from_leaf_to_root_and_not_crosswise() {
        let (root, issuing) = TestCa::hierarchy(CaRole::DeviceIssuing);
        let (other_root, control) = TestCa::hierarchy(CaRole::ControlCa);
        let (root, issuing) = (root.issuer.certificate(), issuing.issuer.certificate());
        assert_eq!(root.verify(root), Ok(()));
        assert_eq!(issuing.verify(root), Ok(()));
        assert_eq!(issuing.verify(other_root.issuer.certificate()), Err(IssuerError::OtherIssuer));
        assert_eq!(control.issuer.certificate().verify(issuing), Err(IssuerError::OtherIssuer));
        assert_eq!((root.is_root(), issuing.is_root()), (true, false));
        assert!(issuing.subject_text().contains(&format!("Fleet CA device issuing {}", issuing.id())));

        let mut forged = issuing.der().to_vec();
        *forged.last_mut().unwrap() ^= 1;
        let forged = IssuerCertificate::parse(&forged).unwrap();
        assert_eq!(forged.verify(root), Err(IssuerError::Signature));
    }

    #[test]
    fn a_certificate_that_outlives_its_issuer_is_refused() {
        let (root, issuing) = TestCa::hierarchy(CaRole::DeviceIssuing);
        let (id, fleet, key) = (device_id(), fleet(), TestKey::generate());
        let end = NOW + CA_VALIDITY;
        let mut request = LeafRequest {
            not_before: end - HOUR,
            not_after: end,
            ..leaf(Holder::Device { id: &id, fleet: &fleet }, &key)
        };
        assert!(issuing.issuer.prepare_leaf(&request).is_ok());
        request.not_after = end + Duration::from_secs(1);
        let refused = IssuanceError::OutlivesIssuer { issuer_not_after: end };
        assert_eq!(issuing.issuer.prepare_leaf(&request).unwrap_err(), refused);

        let request = CaRequest {
            role: CaRole::DeviceIssuing,
            key: &key.public,
            serial: serial(4),
            not_before: NOW + ROOT_VALIDITY - HOUR,
            not_after: NOW + ROOT_VALIDITY + HOUR,
        };
        let refused = IssuanceError::OutlivesIssuer { issuer_not_after: NOW + ROOT_VALIDITY };
        assert_eq!(root.issuer.prepare_authority(&request).unwrap_err(), refused);
    }

    #[test]
    fn no_ca_signs_outside_its_hierarchy() {
        let (root, issuing) = TestCa::hierarchy(CaRole::DeviceIssuing);
        let (id, fleet, key) = (device_id(), fleet(), TestKey::generate());
        let wrong = |profile, issuer| Err(IssuanceError::WrongIssuer { profile, issuer });

        let operator = leaf(Holder::Operator(&id), &key);
        let profile = Profile::Leaf(Kind::Operator);
        assert_eq!(issuing.issuer.prepare_leaf(&operator).map(|_| ()), wrong(profile, CaRole::DeviceIssuing));
        let device = leaf(Holder::Device { id: &id, fleet: &fleet }, &key);
        let profile = Profile::Leaf(Kind::Device);
        assert_eq!(root.issuer.prepare_leaf(&device).map(|_| ()), wrong(profile, CaRole::DeviceRoot));
        for role in [CaRole::ControlCa, CaRole::DeviceRoot] {
            let request =
                CaRequest { role, key: &key.public, serial: serial(4), not_before: NOW, not_after: NOW + HOUR };
            let profile = Profile::Authority(role);
            assert_eq!(root.issuer.prepare_authority(&request).map(|_| ()), wrong(profile, CaRole::DeviceRoot));
        }
    }

    #[test]
    fn a_certificate_cannot_serve_in_another_role_or_trust_domain() {
        let (root, issuing) = TestCa::hierarchy(CaRole::DeviceIssuing);
        let new = |role, certificate: &IssuerCertificate, domain: &str| {
            Issuer::new(role, certificate.clone(), domain.parse().unwrap(), locations()).map(|_| ())
        };
        let (root, issuing) = (root.issuer.certificate(), issuing.issuer.certificate());
        let role = CaRole::ControlCa;
        assert_eq!(new(role, issuing, "fleet.example"), Err(IssuanceError::WrongRole { role }));
        let role = CaRole::DeviceIssuing;
        assert_eq!(new(role, root, "fleet.example"), Err(IssuanceError::WrongRole { role }));
        assert_eq!(new(role, issuing, "other.example"), Err(IssuanceError::WrongRole { role }));
        assert_eq!(new(role, issuing, "fleet.example"), Ok(()));
    }

    #[test]
    fn the_device_list_stands_in_the_certificate_byte_for_byte() {
        let (_, issuing) = TestCa::hierarchy(CaRole::DeviceIssuing);
        let (id, fleet, key) = (device_id(), fleet(), TestKey::generate());
        let scope = CrlScope::Device("aAbBcCdDeEfFgG0-");
        let request = LeafRequest { crl: scope, ..leaf(Holder::Device { id: &id, fleet: &fleet }, &key) };
        let certificate = issuing.issue(&request);
        let url = locations().crl(&issuing.issuer.id(), scope).unwrap();
        assert!(certificate.der.windows(url.len()).any(|window| window == url.as_bytes()));
    }

    #[test]
    fn a_long_trust_domain_and_roots_past_2050_are_encoded_well() {
        let domain: TrustDomain = format!("{}.example", "a".repeat(63)).parse().unwrap();
        let key = TestKey::generate();
        let request = CaRequest {
            role: CaRole::ControlRoot,
            key: &key.public,
            serial: serial(1),
            not_before: NOW + 10 * CA_VALIDITY,
            not_after: NOW + 10 * CA_VALIDITY + ROOT_VALIDITY,
        };
        let prepared = prepare_root(&domain, &request).unwrap();
        let signature = key.sign(prepared.tbs());
        let root = IssuerCertificate::parse(&prepared.assemble(&signature).der).unwrap();
        assert_eq!(root.not_after(), NOW + 10 * CA_VALIDITY + ROOT_VALIDITY);
        assert_eq!(root.verify(&root), Ok(()));
    }

    #[test]
    fn dates_lose_their_fractions_of_a_second() {
        let (_, issuing) = TestCa::hierarchy(CaRole::DeviceIssuing);
        let (id, fleet, key) = (device_id(), fleet(), TestKey::generate());
        let mut request = leaf(Holder::Device { id: &id, fleet: &fleet }, &key);
        (request.not_before, request.not_after) =
            (NOW + Duration::from_millis(1_999), NOW + Duration::from_millis(9_001));
        let certificate = issuing.issue(&request);
        assert_eq!(certificate.not_before, NOW + Duration::from_secs(1));
        assert_eq!(certificate.not_after, NOW + Duration::from_secs(9));
    }
}
