//! Initialize: two hierarchies from nothing. Makes everything in memory; the caller puts it on disk.

use std::{collections::HashMap, sync::Arc, time::Duration};

use fleetca_proto::{transcript, v1};
use prost::Message;
use ring::rand::SystemRandom;

use super::{IssuerKeys, Issuers, IssuersError, Refusal, local::local_enrollment, publish::sha256, random};
use crate::{
    audit::Draft,
    identity::{DeviceId, HostName, SerialNumber, Timestamp},
    pki::{
        CA_VALIDITY, CaRequest, CaRole, CrlTemplate, Holder, Issuer, IssuerCertificate, Locations, ParsedCrl,
        PublicKey, ROOT_VALIDITY, prepare_root,
    },
    signer::Signer,
    store::{CrlHead, Domain, Initialization, IssuerRow, TrustBundleRow},
};

/// How long a root's CRL is good: 13 months, renewed once a year.
pub const ROOT_CRL_LIFETIME: Duration = Duration::from_secs(396 * 24 * 3600);

/// Why there is no new CA.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitializeError {
    /// A certificate was not made, or not recorded.
    #[error(transparent)]
    Refused(#[from] Refusal),
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
    /// Keys: a fresh one for each place.
    pub signers: HashMap<CaRole, Arc<dyn Signer>>,
    /// The server's ID, names and key.
    pub server: (DeviceId, Vec<HostName>, PublicKey),
    /// The first operator's name and key.
    pub operator: (DeviceId, PublicKey),
    /// How far notBefore lies back.
    pub backdate: Duration,
    /// Now.
    pub now: Timestamp,
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
    let mut certificates = HashMap::new();
    for (root, child) in [(CaRole::ControlRoot, CaRole::ControlCa), (CaRole::DeviceRoot, CaRole::DeviceIssuing)] {
        let (root_der, child_der) = make_pair(&plan, root, child)?;
        certificates.insert(root, root_der);
        certificates.insert(child, child_der);
    }
    let mut rows = Vec::new();
    let mut crls = Vec::new();
    let mut keys = IssuerKeys::new();
    for role in CaRole::ALL {
        let certificate = parse(&certificates[&role])?;
        let signer = &plan.signers[&role];
        if role.is_root() {
            crls.push(root_crl(&certificate, signer.as_ref(), None, plan.now)?.1);
        } else {
            keys.insert(certificate.id(), signer.clone());
        }
        rows.push(IssuerRow {
            id: certificate.id(),
            role,
            certificate: certificate.der().to_vec(),
            created_at: plan.now,
        });
    }
    let trust_bundle = sign_trust_bundle(&plan, &certificates, 1)?;
    let issuers = Issuers::new(&plan.domain, &rows, keys)?;
    let (id, hosts, key) = &plan.server;
    let made = |holder, key| local_enrollment(&issuers, holder, key, None, plan.backdate, plan.now);
    let server = made(Holder::Server { id, hosts }, key)?;
    let (name, key) = &plan.operator;
    let operator = made(Holder::Operator(name), key)?;
    let audit = Draft::done(plan.now, "local", "ca.initialized", format!("domain/{}", plan.domain.trust_domain))
        .fact("public_url", plan.domain.public_url.as_str())
        .fact("issuers", rows.iter().map(|row| row.id.to_string()).collect::<Vec<_>>());
    let leaves = (server.certificate.der.clone(), operator.certificate.der.clone());
    let enrollments = vec![server, operator];
    let record = Initialization { domain: plan.domain, issuers: rows, trust_bundle, crls, enrollments, audit };
    Ok(Initialized { record, certificates, server: leaves.0, operator: leaves.1 })
}

/// A root and the CA below it.
fn make_pair(plan: &Plan, root: CaRole, child: CaRole) -> Result<(Vec<u8>, Vec<u8>), InitializeError> {
    let domain = &plan.domain;
    let locations =
        Locations::new(&domain.public_url).map_err(|error| InitializeError::Unreadable(error.to_string()))?;
    let request = |role: CaRole, key, validity: Duration| -> Result<CaRequest<'_>, Refusal> {
        Ok(CaRequest {
            role,
            key,
            serial: SerialNumber::new(plan.now, random(&SystemRandom::new())?),
            not_before: plan.now - plan.backdate,
            not_after: plan.now + validity,
        })
    };
    let root_signer = &plan.signers[&root];
    let prepared = prepare_root(&domain.trust_domain, &request(root, root_signer.public_key(), ROOT_VALIDITY)?)
        .map_err(Refusal::from)?;
    let signature = root_signer.sign(prepared.tbs()).map_err(Refusal::from)?;
    let root_der = prepared.assemble(&signature).der;
    let issuer = Issuer::new(root, parse(&root_der)?, domain.trust_domain.clone(), locations).map_err(Refusal::from)?;
    let prepared = issuer
        .prepare_authority(&request(child, plan.signers[&child].public_key(), CA_VALIDITY)?)
        .map_err(Refusal::from)?;
    let signature = root_signer.sign(prepared.tbs()).map_err(Refusal::from)?;
    Ok((root_der, prepared.assemble(&signature).der))
}

/// A root's CRL (DER) and its head: the entries of the one before it stay.
pub fn root_crl(
    root: &IssuerCertificate,
    signer: &dyn Signer,
    before: Option<&ParsedCrl>,
    now: Timestamp,
) -> Result<(Vec<u8>, CrlHead), Refusal> {
    let this_update = before.map_or(now, |crl| now.max(crl.this_update())).floor_secs();
    let number = before.map_or(0, |crl| crl.number() + 1).max(u64::try_from(now.millis()).unwrap_or(0));
    let template = CrlTemplate {
        issuer: root,
        number,
        this_update,
        next_update: this_update + ROOT_CRL_LIFETIME,
        distribution_point: None,
    };
    let prepared = template.prepare(before, []);
    let signature = signer.sign(prepared.tbs())?;
    let der = prepared.assemble(&signature).to_vec();
    let head = CrlHead {
        issuer: root.id(),
        number,
        this_update,
        next_update: template.next_update,
        watermark: 0,
        horizon: Timestamp::default(),
        sha256: sha256(&der),
        signature,
        der: Some(der.clone()),
    };
    Ok((der, head))
}

fn sign_trust_bundle(
    plan: &Plan,
    certificates: &HashMap<CaRole, Vec<u8>>,
    sequence: u64,
) -> Result<TrustBundleRow, InitializeError> {
    let bundle = v1::TrustBundle {
        trust_domain: plan.domain.trust_domain.to_string(),
        sequence,
        control_roots: vec![certificates[&CaRole::ControlRoot].clone()],
        device_roots: vec![certificates[&CaRole::DeviceRoot].clone()],
        device_issuers: vec![certificates[&CaRole::DeviceIssuing].clone()],
    }
    .encode_to_vec();
    let root = &plan.signers[&CaRole::ControlRoot];
    let signature = root.sign(&transcript::trust_bundle(&bundle)).map_err(Refusal::from)?;
    let signer = root.public_key().fingerprint().as_bytes().to_vec();
    let signed =
        v1::SignedTrustBundle { bundle, signatures: vec![v1::BundleSignature { root_spki_sha256: signer, signature }] };
    Ok(TrustBundleRow { sequence, signed: signed.encode_to_vec() })
}

fn parse(der: &[u8]) -> Result<IssuerCertificate, InitializeError> {
    IssuerCertificate::parse(der).map_err(|error| InitializeError::Unreadable(error.to_string()))
}
