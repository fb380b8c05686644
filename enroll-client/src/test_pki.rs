//! Two small hierarchies for tests, made by rcgen afresh each time.

use fleetca_proto::{
    transcript,
    v1::{self, BundleSignature, SignedTrustBundle, TrustBundle},
};
use prost::Message;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyUsagePurpose, RevocationReason, RevokedCertParams,
    SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use crate::{
    certificate::{Certificate, sha256},
    keys::FileKey,
    trust::Roots,
    wall_time::WallTime,
};

/// The instant at which all tests happen.
pub(crate) fn now() -> WallTime {
    WallTime::from_unix(date().unix_timestamp())
}

pub(crate) fn date() -> OffsetDateTime {
    // The certificates are made when the test runs, so that those who look at the real clock are content too.
    OffsetDateTime::now_utc().replace_nanosecond(0).unwrap()
}

pub(crate) struct Ca {
    pub(crate) certificate: Certificate,
    issuer: Issuer<'static, FileKey>,
}

impl Ca {
    pub(crate) fn root(name: &str) -> Self {
        let params = ca_params(name);
        let key = FileKey::generate().unwrap();
        let certificate = Certificate::parse(params.self_signed(&key).unwrap().der()).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn issuing(&self, name: &str) -> Self {
        let params = ca_params(name);
        let key = FileKey::generate().unwrap();
        let certificate = Certificate::parse(params.signed_by(&key, &self.issuer).unwrap().der()).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::from_ders(&[self.certificate.der()]).unwrap()
    }

    /// A leaf for `key` with these URI and DNS names.
    pub(crate) fn leaf(&self, key: &impl rcgen::PublicKeyData, uris: &[&str], dns: &[&str]) -> Certificate {
        let mut params = params("leaf");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let uris = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
        let dns = dns.iter().map(|name| SanType::DnsName((*name).try_into().unwrap()));
        params.subject_alt_names = uris.chain(dns).collect();
        Certificate::parse(params.signed_by(key, &self.issuer).unwrap().der()).unwrap()
    }

    pub(crate) fn crl(&self, number: u64, serials: &[u64]) -> Vec<u8> {
        self.crl_with(number, serials, |_| {})
    }

    pub(crate) fn crl_with(
        &self,
        number: u64,
        serials: &[u64],
        change: impl FnOnce(&mut CertificateRevocationListParams),
    ) -> Vec<u8> {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date() - Duration::hours(1),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let mut params = CertificateRevocationListParams {
            this_update: date() - Duration::minutes(1),
            next_update: date() + Duration::days(7),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        change(&mut params);
        params.signed_by(&self.issuer).unwrap().der().to_vec()
    }

    pub(crate) fn key(&self) -> &FileKey {
        self.issuer.key()
    }
}

pub(crate) fn scoped() -> rcgen::CrlIssuingDistributionPoint {
    let distribution_point = CrlDistributionPoint { uris: vec!["http://crl.example/x".into()] };
    rcgen::CrlIssuingDistributionPoint { distribution_point, scope: None }
}

/// A control and a device hierarchy in trust domain `fleet.example`.
pub(crate) struct House {
    pub(crate) control_root: Ca,
    pub(crate) control_ca: Ca,
    pub(crate) device_root: Ca,
    pub(crate) device_ca: Ca,
}

impl House {
    pub(crate) fn new() -> Self {
        let (control_root, device_root) = (Ca::root("control root"), Ca::root("device root"));
        let (control_ca, device_ca) = (control_root.issuing("control CA"), device_root.issuing("issuing CA"));
        Self { control_root, control_ca, device_root, device_ca }
    }

    /// The trust bundle, signed by `by`.
    pub(crate) fn bundle(&self, sequence: u64, by: &Ca) -> SignedTrustBundle {
        let bundle = TrustBundle {
            trust_domain: "fleet.example".into(),
            sequence,
            control_roots: vec![self.control_root.certificate.der().to_vec()],
            device_roots: vec![self.device_root.certificate.der().to_vec()],
            device_issuers: vec![self.device_ca.certificate.der().to_vec()],
        }
        .encode_to_vec();
        let signature = BundleSignature {
            root_spki_sha256: sha256(&by.certificate.spki()).to_vec(),
            signature: by.key().sign(&transcript::trust_bundle(&bundle)).unwrap(),
        };
        SignedTrustBundle { bundle, signatures: vec![signature] }
    }

    /// An answer that issues `uri` for `key`, from the device hierarchy.
    pub(crate) fn issued(&self, key: &FileKey, uri: &str) -> v1::Issued {
        let leaf = self.device_ca.leaf(key, &[uri], &[]);
        v1::Issued {
            chain: vec![leaf.der().to_vec(), self.device_ca.certificate.der().to_vec()],
            trust_bundle: Some(self.bundle(3, &self.control_root)),
            renewal_window: None,
            server_time: None,
            confirm_required: false,
        }
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date() - Duration::hours(8);
    params.not_after = date() + Duration::hours(16);
    params
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}
