//! What the server needs of a peer's certificate, read quickly.

use const_oid::db::rfc5280::{ID_CE_AUTHORITY_KEY_IDENTIFIER, ID_CE_CRL_DISTRIBUTION_POINTS, ID_CE_SUBJECT_ALT_NAME};
use der::Decode;
use x509_cert::{
    ext::pkix::{
        AuthorityKeyIdentifier, CrlDistributionPoints, SubjectAltName,
        name::{DistributionPointName, GeneralName},
    },
    name::Name,
};

use super::issuer::IssuerCertificate;
use super::key::{KeyError, PublicKey};
use super::signed::{Signed, TbsCertificate};
use crate::identity::{
    CertificateHash, FleetName, IssuerId, KeyFingerprint, SerialNumber, SpiffeError, Subject, Timestamp, TrustDomain,
};

/// Why a peer's certificate is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// Not the DER of an X.509 v3 certificate.
    #[error("not the DER of an X.509 certificate")]
    Malformed,
    /// Its serial number is not one of this CA's 16 octets.
    #[error("the serial number does not have 16 octets")]
    Serial,
    /// Its key is of no kind that is taken.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It has no URI among its alternative names, or several.
    #[error("the certificate does not carry exactly one URI")]
    Uri,
    /// Its URI is no identity of this trust domain.
    #[error("the certificate's URI is {0}")]
    Spiffe(#[from] SpiffeError),
    /// It has no authorityKeyIdentifier of 20 octets.
    #[error("the certificate does not name its issuer's key")]
    AuthorityKey,
}

/// A leaf certificate, as a peer presents it.
///
/// Not checked here: its signature and chain (the TLS handshake does that), its dates, and whether the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Its serial number.
    pub serial: SerialNumber,
    /// Who it is for, from its SPIFFE ID.
    pub subject: Subject,
    /// The issuer that its authorityKeyIdentifier names.
    pub issuer: IssuerId,
    /// Since when it is valid.
    pub not_before: Timestamp,
    /// Its last valid second.
    pub not_after: Timestamp,
    /// Its key.
    pub key: PublicKey,
    /// SHA-256 of the whole: what the store is asked for.
    pub hash: CertificateHash,
    /// The whole (DER).
    pub der: Vec<u8>,
}

impl PeerCertificate {
    /// Reads a leaf of this trust domain.
    pub fn parse(der: &[u8], trust_domain: &TrustDomain) -> Result<Self, PeerError> {
        let malformed = |_| PeerError::Malformed;
        let signed = Signed::read(der).map_err(malformed)?;
        let tbs = TbsCertificate::read(signed.content).map_err(malformed)?;
        let serial = tbs.serial.try_into().map_err(|_| PeerError::Serial)?;

        let names =
            tbs.extension::<SubjectAltName>(ID_CE_SUBJECT_ALT_NAME).map_err(malformed)?.ok_or(PeerError::Uri)?;
        let mut uris = names.0.iter().filter_map(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str()),
            _ => None,
        });
        let (Some(uri), None) = (uris.next(), uris.next()) else {
            return Err(PeerError::Uri);
        };
        Ok(Self {
            serial: SerialNumber::from_bytes(serial),
            subject: Subject::from_spiffe_uri(uri, trust_domain)?,
            issuer: issuer_of(&tbs)?,
            not_before: tbs.not_before,
            not_after: tbs.not_after,
            key: PublicKey::from_spki_der(tbs.spki)?,
            hash: CertificateHash::of(der),
            der: der.to_vec(),
        })
    }

    /// SHA-256 of its SubjectPublicKeyInfo.
    pub fn key_fingerprint(&self) -> KeyFingerprint {
        self.key.fingerprint()
    }

    /// Whether this issuer signed it. Not checked: whether the issuer may.
    pub fn is_signed_by(&self, issuer: &IssuerCertificate) -> bool {
        self.issuer == issuer.id()
            && Signed::read(&self.der).is_ok_and(|signed| signed.verify(issuer.public_key()).is_ok())
    }

    /// The fleet that it was made for: its subject's organization.
    pub fn fleet(&self) -> Option<FleetName> {
        let name = self.read(|tbs| Name::from_der(tbs.subject).ok())?;
        name.organization().ok()??.value().parse().ok()
    }

    /// Where it says that its CRL is, if it names one place.
    pub fn crl_url(&self) -> Option<String> {
        let points = self.read(|tbs| tbs.extension::<CrlDistributionPoints>(ID_CE_CRL_DISTRIBUTION_POINTS).ok()?)?;
        let [point] = points.0.as_slice() else { return None };
        match point.distribution_point.as_ref()? {
            DistributionPointName::FullName(names) => match names.as_slice() {
                [GeneralName::UniformResourceIdentifier(url)] => Some(url.as_str().to_owned()),
                _ => None,
            },
            DistributionPointName::NameRelativeToCRLIssuer(_) => None,
        }
    }

    fn read<T>(&self, part: impl FnOnce(&TbsCertificate<'_>) -> Option<T>) -> Option<T> {
        let signed = Signed::read(&self.der).ok()?;
        part(&TbsCertificate::read(signed.content).ok()?)
    }

    /// Whether `now` lies between its dates, both included.
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&now.floor_secs())
    }
}

/// An issuer's ID is the beginning of its key identifier.
fn issuer_of(tbs: &TbsCertificate<'_>) -> Result<IssuerId, PeerError> {
    let aki = tbs
        .extension::<AuthorityKeyIdentifier>(ID_CE_AUTHORITY_KEY_IDENTIFIER)
        .map_err(|_| PeerError::Malformed)?
        .and_then(|aki| aki.key_identifier)
        .ok_or(PeerError::AuthorityKey)?;
    let identifier: &[u8; 20] = aki.as_bytes().try_into().map_err(|_| PeerError::AuthorityKey)?;
    Ok(IssuerId::of_key_identifier(identifier))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::fixture::{NOW, TestCa, TestKey, device_id, fleet, serial, trust_domain};
    use super::super::{CaRole, Certificate, CrlScope, Holder, LeafRequest};
    use super::*;

    fn device() -> Certificate {
        let (_, ca) = TestCa::hierarchy(CaRole::DeviceIssuing);
        ca.issue(&LeafRequest {
            holder: Holder::Device { id: &device_id(), fleet: &fleet() },
            key: &TestKey::generate().public,
            serial: serial(1),
            not_before: NOW,
            not_after: NOW + Duration::from_secs(10),
            crl: CrlScope::Full,
            policy: None,
            ocsp: false,
        })
    }

    #[test]
    fn a_peer_is_valid_from_its_first_to_its_last_second() {
        let peer = PeerCertificate::parse(&device().der, &trust_domain()).unwrap();
        assert!(!peer.is_valid_at(NOW - Duration::from_millis(1)));
        assert!(peer.is_valid_at(NOW));
        assert!(peer.is_valid_at(NOW + Duration::from_millis(10_999)));
        assert!(!peer.is_valid_at(NOW + Duration::from_secs(11)));
    }

    #[test]
    fn a_peer_names_its_fleet_its_crl_and_who_signed_it() {
        let (root, ca) = TestCa::hierarchy(CaRole::DeviceIssuing);
        let leaf = ca.issue(&LeafRequest {
            holder: Holder::Device { id: &device_id(), fleet: &fleet() },
            key: &TestKey::generate().public,
            serial: serial(1),
            not_before: NOW,
            not_after: NOW + Duration::from_secs(10),
            crl: CrlScope::Device("0123456789abcdef"),
            policy: None,
            ocsp: false,
        });
        let peer = PeerCertificate::parse(&leaf.der, &trust_domain()).unwrap();
        assert_eq!(peer.fleet(), Some(fleet()));
        let url = ca.issuer.locations().crl(&ca.issuer.id(), CrlScope::Device("0123456789abcdef")).unwrap();
        assert_eq!(peer.crl_url(), Some(url));
        assert!(peer.is_signed_by(ca.issuer.certificate()) && !peer.is_signed_by(root.issuer.certificate()));
        let (_, other) = TestCa::hierarchy(CaRole::DeviceIssuing);
        assert!(!peer.is_signed_by(other.issuer.certificate()));
        let forged = PeerCertificate { issuer: other.issuer.id(), ..peer };
        assert!(!forged.is_signed_by(other.issuer.certificate()), "whatever it says of itself");
    }

    #[test]
    fn a_peer_of_another_trust_domain_is_refused() {
        let refused = PeerCertificate::parse(&device().der, &"other.example".parse().unwrap());
        assert_eq!(refused, Err(PeerError::Spiffe(SpiffeError::TrustDomain)));
    }

    #[test]
    fn a_certificate_that_others_made_is_refused() {
        let with = |names: &[&str]| {
            let mut parameters = rcgen::CertificateParams::new(vec![]).unwrap();
            parameters.serial_number = Some(rcgen::SerialNumber::from_slice(serial(1).as_bytes()));
            let uri = |name: &&str| rcgen::SanType::URI((*name).try_into().unwrap());
            parameters.subject_alt_names = names.iter().map(uri).collect();
            let certificate = parameters.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            PeerCertificate::parse(certificate.der(), &trust_domain()).unwrap_err()
        };
        let (one, two) = ("spiffe://fleet.example/device/a", "spiffe://fleet.example/device/b");
        assert!(matches!(with(&[]), PeerError::Malformed | PeerError::Uri));
        assert_eq!(with(&[one, two]), PeerError::Uri);
        assert_eq!(with(&[one]), PeerError::AuthorityKey);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            changes in proptest::collection::vec((0usize..1000, any::<u8>()), 1..4),
        ) {
            let _ = PeerCertificate::parse(&bytes, &trust_domain());
            let mut changed = device().der;
            for (at, octet) in changes {
                let at = at % changed.len();
                changed[at] = octet;
            }
            let _ = PeerCertificate::parse(&changed, &trust_domain());
        }
    }
}
