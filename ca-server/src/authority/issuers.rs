//! The issuers: whose certificates the CA knows, and whose keys it has at hand.

use std::{collections::HashMap, sync::Arc};

use super::Refusal;
use crate::{
    identity::{IssuerId, KeyFingerprint, Kind, Subject},
    pki::{CaRole, Issuer, IssuerCertificate, LeafRequest, Locations},
    signer::Signer,
    store::{Domain, IssuerRow, NewCertificate},
};

/// An issuer that signs now: not a root.
pub struct OnlineIssuer {
    /// Its certificate, and what all that it signs share.
    pub issuer: Issuer,
    /// Its key.
    pub signer: Arc<dyn Signer>,
}

impl OnlineIssuer {
    /// Builds, lints and signs a leaf.
    pub fn sign_leaf(&self, request: &LeafRequest<'_>) -> Result<NewCertificate, Refusal> {
        let prepared = self.issuer.prepare_leaf(request)?;
        let signature = self.signer.sign(prepared.tbs())?;
        let certificate = prepared.assemble(&signature);
        Ok(NewCertificate {
            serial: certificate.serial,
            issuer: self.issuer.id(),
            key: certificate.key,
            hash: certificate.hash,
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            presented: None,
            token: None,
            der: certificate.der,
        })
    }
}

/// Where signers come from, by issuer: `None` where the key is not at hand.
pub type IssuerKeys = HashMap<IssuerId, Arc<dyn Signer>>;

/// All issuers.
pub struct Issuers {
    control: OnlineIssuer,
    /// In the order of the store, oldest first.
    device: Vec<OnlineIssuer>,
    certificates: HashMap<IssuerId, (CaRole, IssuerCertificate)>,
}

/// Why the issuers can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssuersError {
    /// A certificate in the store that can't be read, or can't be what the store says.
    #[error("issuer {id}: {why}")]
    Certificate {
        /// Which.
        id: IssuerId,
        /// What is wrong.
        why: String,
    },
    /// No key for an issuer that has to sign.
    #[error("the key of issuer {0} is missing: put keys/{0}.pem back from a backup")]
    Key(IssuerId),
    /// A hierarchy without an issuer.
    #[error("there is no {0} CA in the store: run `ca-server init`")]
    Missing(&'static str),
}

impl Issuers {
    /// Takes the issuers of the store and the keys that are at hand.
    pub fn new(domain: &Domain, rows: &[IssuerRow], mut keys: IssuerKeys) -> Result<Self, IssuersError> {
        let mut certificates = HashMap::new();
        let (mut control, mut device) = (None, Vec::new());
        for row in rows {
            let broken = |why: String| IssuersError::Certificate { id: row.id, why };
            let certificate = IssuerCertificate::parse(&row.certificate).map_err(|error| broken(error.to_string()))?;
            let role = row.role;
            certificates.insert(row.id, (role, certificate.clone()));
            if role.is_root() {
                continue;
            }
            let locations = Locations::new(&domain.public_url).map_err(|error| broken(error.to_string()))?;
            let issuer = Issuer::new(role, certificate, domain.trust_domain.clone(), locations)
                .map_err(|error| broken(error.to_string()))?;
            let signer = keys.remove(&row.id).ok_or(IssuersError::Key(row.id))?;
            if signer.public_key().fingerprint() != issuer.certificate().public_key().fingerprint() {
                return Err(broken("its key file holds another key".into()));
            }
            let online = OnlineIssuer { issuer, signer };
            match role {
                CaRole::ControlCa => control = Some(online),
                _ => device.push(online),
            }
        }
        if device.is_empty() {
            return Err(IssuersError::Missing("device issuing"));
        }
        Ok(Self { control: control.ok_or(IssuersError::Missing("control"))?, device, certificates })
    }

    /// The CA of the server, the operators and the gateways.
    pub fn control(&self) -> &OnlineIssuer {
        &self.control
    }

    /// Those that sign now: each of them has a CRL of its own.
    pub fn online(&self) -> impl Iterator<Item = &OnlineIssuer> {
        std::iter::once(&self.control).chain(&self.device)
    }

    /// Every issuer's place and certificate.
    pub fn certificates(&self) -> impl Iterator<Item = (&IssuerId, CaRole, &IssuerCertificate)> {
        self.certificates.iter().map(|(id, (role, certificate))| (id, *role, certificate))
    }

    /// One issuer's certificate.
    pub fn certificate(&self, id: &IssuerId) -> Option<&IssuerCertificate> {
        self.certificates.get(id).map(|(_, certificate)| certificate)
    }

    /// Who signs for this subject: devices are spread over the issuing CAs by hash.
    pub fn for_subject(&self, subject: &Subject) -> &OnlineIssuer {
        match subject.kind {
            Kind::Device => {
                let hash = KeyFingerprint::of(subject.id.as_str().as_bytes());
                let spread = usize::from(u16::from_be_bytes([hash.as_bytes()[0], hash.as_bytes()[1]]));
                &self.device[spread % self.device.len()]
            }
            Kind::Gateway | Kind::Operator | Kind::Server => &self.control,
        }
    }
}
