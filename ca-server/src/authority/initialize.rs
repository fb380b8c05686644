//! Initialize: two hierarchies from nothing. Makes everything in memory; the caller puts it on disk.

use std::{collections::HashMap, sync::Arc, time::Duration};

use fleetca_proto::v1;
use ring::rand::SystemRandom;

use super::{
    CeremonyError, IssuerKeys, Issuers, IssuersError, Refusal, RootKey, local::local_enrollment, random, root_crl,
};
use crate::{
    audit::Draft,
    identity::{DeviceId, HostName, SerialNumber, Timestamp},
    pki::{CaRequest, CaRole, Holder, IssuerCertificate, PublicKey, ROOT_VALIDITY, prepare_root},
    signer::Signer,
    store::{CrlHead, Domain, Initialization, IssuerRow},
};

/// Why there is no new CA.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitializeError {
    /// A certificate was not made, or not recorded.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A root did not sign.
    #[error(transparent)]
    Ceremony(#[from] CeremonyError),
    /// What was made does not fit together.
    #[error(transparent)]
    Issuers(#[from] IssuersError),
    /// A certificate that was made can't be read back.
    #[error("{0}")]
    Unreadable(String),
}

/// What a new CA is to be.
pub struct Plan {
    /// Environment and public URL.
    pub domain: Domain,
    /// Keys: a fresh one for each place; none for a root of somebody else's.
    pub signers: HashMap<CaRole, Arc<dyn Signer>>,
    /// The root of devices, where somebody else has it, and what it has signed.
    pub foreign: Option<ForeignRoot>,
    /// The server's ID, names and key.
    pub server: (DeviceId, Vec<HostName>, PublicKey),
    /// The first operator's name and key.
    pub operator: (DeviceId, PublicKey),
    /// How far notBefore lies back.
    pub backdate: Duration,
    /// Now.
    pub now: Timestamp,
}

/// A root of devices that somebody else has: all of it [judged](crate::pki::judge_root).
#[derive(Clone, Debug)]
pub struct ForeignRoot {
    /// The root.
    pub root: IssuerCertificate,
    /// The issuing CA's certificate that it has signed.
    pub issuing: IssuerCertificate,
    /// Its CRL.
    pub crl: CrlHead,
}

/// A new CA, for its store and its folders.
pub struct Initialized {
    /// For the store.
    pub record: Initialization,
    /// Certificates by place (DER).
    pub certificates: HashMap<CaRole, Vec<u8>>,
    /// The server's leaf (DER).
    pub server: Vec<u8>,
    /// The first operator's leaf (DER).
    pub operator: Vec<u8>,
}

/// Makes a new CA.
pub fn initialize(plan: Plan) -> Result<Initialized, InitializeError> {
    let (control, control_ca) = make_pair(&plan, CaRole::ControlRoot, CaRole::ControlCa)?;
    let (device_root, device_ca) = match &plan.foreign {
        Some(foreign) => (foreign.root.der().to_vec(), foreign.issuing.der().to_vec()),
        None => {
            let (root, issuing) = make_pair(&plan, CaRole::DeviceRoot, CaRole::DeviceIssuing)?;
            (root.certificate.der().to_vec(), issuing)
        }
    };
    let certificates = HashMap::from([
        (CaRole::ControlRoot, control.certificate.der().to_vec()),
        (CaRole::ControlCa, control_ca),
        (CaRole::DeviceRoot, device_root.clone()),
        (CaRole::DeviceIssuing, device_ca.clone()),
    ]);
    let mut rows = Vec::new();
    let mut crls = Vec::new();
    let mut keys = IssuerKeys::new();
    for role in CaRole::ALL {
        let certificate = parse(&certificates[&role])?;
        match (&plan.foreign, plan.signers.get(&role)) {
            (Some(foreign), _) if role == CaRole::DeviceRoot => crls.push(foreign.crl.clone()),
            (_, Some(signer)) if role.is_root() => {
                crls.push(root_crl(&certificate, signer.as_ref(), None, None, plan.now)?.1);
            }
            (_, Some(signer)) => drop(keys.insert(certificate.id(), signer.clone())),
            // Told by whoever looks for the key.
            (_, None) => {}
        }
        rows.push(IssuerRow::new(certificate.id(), role, certificate.der().to_vec(), plan.now));
    }
    let trust_bundle = control.sign_bundle(v1::TrustBundle {
        trust_domain: plan.domain.trust_domain.to_string(),
        sequence: 1,
        control_roots: vec![control.certificate.der().to_vec()],
        device_roots: vec![device_root],
        device_issuers: vec![device_ca],
    })?;
    let issuers = Issuers::new(&plan.domain, &rows, keys)?;
    let (id, hosts, key) = &plan.server;
    let made = |holder, key| local_enrollment(&issuers, holder, key, None, plan.backdate, plan.now);
    let server = made(Holder::Server { id, hosts }, key)?;
    let (name, key) = &plan.operator;
    let operator = made(Holder::Operator(name), key)?;
    let audit = Draft::done(plan.now, "local", "ca.initialized", format!("domain/{}", plan.domain.trust_domain))
        .fact("public_url", plan.domain.public_url.as_str())
        .fact("device_root", parse(&certificates[&CaRole::DeviceRoot])?.subject_text())
        .fact("issuers", rows.iter().map(|row| row.id.to_string()).collect::<Vec<_>>());
    let leaves = (server.certificate.der.clone(), operator.certificate.der.clone());
    let enrollments = vec![server, operator];
    let record = Initialization { domain: plan.domain, issuers: rows, trust_bundle, crls, enrollments, audit };
    Ok(Initialized { record, certificates, server: leaves.0, operator: leaves.1 })
}

/// A root and the CA below it.
fn make_pair(plan: &Plan, role: CaRole, child: CaRole) -> Result<(RootKey, Vec<u8>), InitializeError> {
    let (signer, not_before) = (plan.signers[&role].clone(), plan.now - plan.backdate);
    let serial = SerialNumber::new(plan.now, random(&SystemRandom::new())?);
    let request = CaRequest { role, key: signer.public_key(), serial, not_before, not_after: plan.now + ROOT_VALIDITY };
    let prepared = prepare_root(&plan.domain.trust_domain, &request).map_err(Refusal::from)?;
    let signature = signer.sign(prepared.tbs()).map_err(Refusal::from)?;
    let certificate = parse(&prepared.assemble(&signature).der)?;
    let root = RootKey { certificate, signer };
    let key = plan.signers[&child].public_key();
    let child = root.sign_authority(&plan.domain, child, key, (not_before, plan.now))?;
    Ok((root, child))
}

fn parse(der: &[u8]) -> Result<IssuerCertificate, InitializeError> {
    IssuerCertificate::parse(der).map_err(|error| InitializeError::Unreadable(error.to_string()))
}
