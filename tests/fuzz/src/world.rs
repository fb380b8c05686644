//! A CA in a temporary folder, with an operator, an enrolled device and a gateway: nothing of it is mocked but the
//! network.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use axum::Router;
use ca_server::{
    authority::{
        Authority, Challenge, EnrollmentRequest, Initialized, IssuerKeys, Issuers, NewToken, OcspResponder, Outcome, Plan, Publisher,
        TokenFor, initialize,
    },
    clock::{Clock, SystemClock},
    http,
    inventory::fleet::Policy,
    pki::{CaRole, Locations, PeerCertificate, PublicKey},
    rpc::{Caller, Port, routes},
    signer::{Signer, SoftwareSigner},
    store::{Domain, Store, sqlite::SqliteStore},
    telemetry::Telemetry,
};
use enroll_client::{attester::token::JoinToken, keys::FileKey};
use fleetca_proto::{
    transcript::{Role, enrollment},
    v1,
};
use prost::Message;
use tokio::task::JoinHandle;

/// Its environment.
pub const DOMAIN: &str = "fleet.example";

/// The CA, and who knows it.
pub struct World {
    /// Where everything of it runs.
    pub runtime: tokio::runtime::Runtime,
    /// The use cases.
    pub authority: Arc<Authority>,
    /// The devices' port.
    pub devices: Router,
    /// The operators' port.
    pub operators: Router,
    /// The plain HTTP port.
    pub http: Router,
    /// The first operator, an admin.
    pub admin: Caller,
    /// The device `pump-7`.
    pub device: Caller,
    /// The gateway `eu-7`.
    pub gateway: Caller,
    /// The device's key.
    pub key: FileKey,
    /// What the device got.
    pub issued: v1::Issued,
    /// Certificates by place (DER).
    pub certificates: HashMap<CaRole, Vec<u8>>,
    /// Keys by place.
    pub signers: HashMap<CaRole, Arc<dyn Signer>>,
    /// The server's TLS key.
    pub server_key: SoftwareSigner,
    /// The server's certificate (DER).
    pub server: Vec<u8>,
    /// What it remembers.
    pub store: Arc<dyn Store>,
    publishing: JoinHandle<()>,
    dir: tempfile::TempDir,
}

impl World {
    /// Makes it.
    pub fn new() -> World {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime starts");
        let dir = crate::folder();
        let signers: HashMap<_, _> = CaRole::ALL.into_iter().map(|place| (place, signer())).collect();
        let server_key = SoftwareSigner::generate().expect("a key");
        let made = initialize(plan(&signers, server_key.public_key().clone())).expect("a CA is made");
        let Initialized { record, certificates, server, operator } = made;
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&dir.path().join("ca.db")).expect("a store"));
        runtime.block_on(store.record_initialization(record)).expect("it is recorded");
        let (authority, http) = runtime.block_on(open(store.clone(), &signers));
        let (devices, operators) = runtime.block_on(ports(&authority));
        let publishing = runtime.spawn(authority.publisher.clone().run());
        let ((key, issued), (_, gateway)) = runtime.block_on(async {
            let fleet = "pumps".parse().expect("a name");
            authority.create_fleet(&fleet, Policy::default(), "operator/ana").await.expect("a fleet");
            let device = TokenFor::Device { fleet, id: "pump-7".parse().expect("an ID"), reenroll: false };
            let device = enroll(&authority, device, v1::Kind::Device, "pump-7").await;
            let gateway = TokenFor::Gateway("eu-7".parse().expect("an ID"));
            (device, enroll(&authority, gateway, v1::Kind::Gateway, "eu-7").await)
        });
        World {
            runtime,
            authority,
            devices,
            operators,
            http,
            admin: caller(&operator),
            device: caller(&issued.chain[0]),
            gateway: caller(&gateway.chain[0]),
            key,
            issued,
            certificates,
            signers,
            server_key,
            server,
            store,
            publishing,
            dir,
        }
    }

    /// The same CA after a restart.
    pub fn restarted(mut self) -> World {
        self.publishing.abort();
        (self.authority, self.http) = self.runtime.block_on(open(self.store.clone(), &self.signers));
        self.publishing = self.runtime.spawn(self.authority.publisher.clone().run());
        (self.devices, self.operators) = self.runtime.block_on(ports(&self.authority));
        self
    }

    /// The use cases of this CA over another store, such as a copy of its own. Its CRLs are published once.
    pub fn over(&self, store: Arc<dyn Store>) -> Arc<Authority> {
        self.runtime.block_on(open(store, &self.signers)).0
    }

    /// Its database.
    pub fn database(&self) -> PathBuf {
        self.dir.path().join("ca.db")
    }

    /// A certificate by its place (DER).
    pub fn certificate(&self, role: CaRole) -> &[u8] {
        &self.certificates[&role]
    }

    /// The CRL in force of the issuer with this place (DER).
    pub fn crl(&self, role: CaRole) -> Vec<u8> {
        let certificate = ca_server::pki::IssuerCertificate::parse(self.certificate(role)).expect("a CA certificate");
        self.authority.publisher.current(&certificate.id()).expect("it is published").der.to_vec()
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

fn signer() -> Arc<dyn Signer> {
    Arc::new(SoftwareSigner::generate().expect("a key"))
}

fn caller(leaf: &[u8]) -> Caller {
    let domain = DOMAIN.parse().expect("a trust domain");
    Caller::new(Some(PeerCertificate::parse(leaf, &domain).expect("a leaf of ours")))
}

fn plan(signers: &HashMap<CaRole, Arc<dyn Signer>>, server: PublicKey) -> Plan {
    Plan {
        domain: Domain {
            trust_domain: DOMAIN.parse().expect("a trust domain"),
            public_url: "http://pki.fleet.example".into(),
        },
        signers: signers.clone(),
        foreign: None,
        server: ("ca".parse().expect("an ID"), vec!["localhost".parse().expect("a host")], server),
        operator: ("first-of-all-operators".parse().expect("an ID"), signer().public_key().clone()),
        backdate: Duration::from_secs(300),
        now: SystemClock.now(),
    }
}

async fn open(store: Arc<dyn Store>, signers: &HashMap<CaRole, Arc<dyn Signer>>) -> (Arc<Authority>, Router) {
    let domain = store.domain().await.expect("it is there");
    let rows = store.issuers().await.expect("they are there");
    let online = rows.iter().filter(|row| !row.role.is_root());
    let keys: IssuerKeys = online.map(|row| (row.id, signers[&row.role].clone())).collect();
    let issuers = Arc::new(Issuers::new(&domain, &rows, keys).expect("issuers"));
    let locations = Locations::new(&domain.public_url).expect("a URL");
    let (telemetry, clock) = (Arc::new(Telemetry::default()), Arc::new(SystemClock));
    let publisher = Publisher::start(store.clone(), clock.clone(), issuers.clone(), locations, telemetry.clone()).await;
    let publisher = publisher.expect("the first CRLs");
    let backdate = Duration::from_secs(300);
    let responder = OcspResponder::new(
        store.clone(),
        publisher.clone(),
        issuers.clone(),
        telemetry.clone(),
        clock.clone(),
        backdate,
    );
    let http = http::public_app(store.clone(), publisher.clone(), issuers.clone(), responder);
    (Arc::new(Authority::new(store, clock, domain, issuers, publisher, telemetry, backdate)), http)
}

/// The devices' port and the operators'.
async fn ports(authority: &Arc<Authority>) -> (Router, Router) {
    let port = async |port| routes(port, authority.clone()).await.expect("services").into_axum_router();
    (port(Port::Devices).await, port(Port::Operators).await)
}

/// Enrolls a device or gateway.
async fn enroll(authority: &Authority, target: TokenFor, kind: v1::Kind, id: &str) -> (FileKey, v1::Issued) {
    let (token, key) = (JoinToken::generate().expect("a token"), FileKey::generate().expect("a key"));
    let new = NewToken { public_key: token.public_key(), target, lifetime: Duration::ZERO };
    authority.create_token(new, "operator/ana").await.expect("a token");
    let start = v1::Start {
        trust_domain: DOMAIN.into(),
        kind: kind.into(),
        id: id.into(),
        csr: key.csr().expect("a request"),
        evidence: Some(v1::start::Evidence::Token(v1::TokenEvidence { token_id: token.id().to_owned() })),
    }
    .encode_to_vec();
    let evidence = token.sign(&enrollment("token", Role::Evidence, &start, b"challenge"));
    let subject = key.sign(&enrollment("token", Role::Subject, &start, b"challenge")).expect("a signature");
    let request = EnrollmentRequest::read(start, &authority.domain().trust_domain).expect("it reads");
    let proof = v1::Proof { evidence_signature: evidence, subject_signature: subject, ..Default::default() };
    let outcome = authority.enroll(&request, &Challenge::plain(b"challenge"), &proof).await.expect("a certificate");
    let Outcome::Issued(grant) = outcome else { panic!("a token needs no approval") };
    let bundle = grant.trust_bundle.signed.clone();
    let issued = v1::Issued { chain: grant.chain, trust_bundle: Some(bundle), ..Default::default() };
    (key, issued)
}
