//! The use cases over a real store, a software signer and a clock in the test's hand: everything that has to do with
//! time, which the flows in `tests/` cannot wait for.

mod crisis;
mod damaged;
mod factory;
mod idevid;
mod notice;
mod partitions;
mod past;
mod policies;
mod previous;
mod publication;
mod quotas;
mod races;
mod reenrollments;
mod registered_keys;
mod resume;
mod second_holders;
mod takers;
mod tokens;

use std::{collections::HashMap, time::Duration};

use fleetca_proto::{
    transcript::{Role as Signs, enrollment},
    v1,
};
use prost::Message;
use rcgen::PublicKeyData;
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::*;
use crate::{
    clock::ManualClock,
    identity::{IssuerId, RevocationReason},
    inventory::device::Status,
    pki::{CaRole, Locations, ParsedCrl, PeerCertificate},
    signer::{Signer, SoftwareSigner},
    store::sqlite::SqliteStore,
};

const START: Timestamp = Timestamp::from_secs(1_790_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

struct World {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    signers: HashMap<CaRole, Arc<dyn Signer>>,
    /// Keys of further issuing CAs.
    more: Vec<Arc<dyn Signer>>,
    authority: Authority,
}

/// A device as its own side sees it: its certificate, as the handshake would prove it.
struct Device(PeerCertificate);

/// A join token as its holder has it.
struct Token {
    key: Ed25519KeyPair,
    id: String,
    expires_at: Timestamp,
}

fn signer() -> Arc<dyn Signer> {
    Arc::new(SoftwareSigner::generate().unwrap())
}

fn subject(id: &str) -> Subject {
    Subject::new(Kind::Device, id.parse().unwrap())
}

async fn open(
    dir: &tempfile::TempDir,
    clock: &Arc<ManualClock>,
    signers: &HashMap<CaRole, Arc<dyn Signer>>,
    more: &[Arc<dyn Signer>],
) -> Authority {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&dir.path().join("ca.db")).unwrap());
    let domain = store.domain().await.unwrap();
    let rows = store.issuers().await.unwrap();
    let all = signers.values().chain(more);
    let keys: IssuerKeys = all.map(|key| (IssuerId::of(&key.public_key().fingerprint()), key.clone())).collect();
    let issuers = Arc::new(Issuers::new(&domain, &rows, keys).unwrap().with_wait(HOUR));
    let locations = Locations::new(&domain.public_url).unwrap();
    let telemetry = Arc::new(Telemetry::default());
    let publisher =
        Publisher::start(store.clone(), clock.clone(), issuers.clone(), locations, telemetry.clone()).await.unwrap();
    tokio::spawn(publisher.clone().run());
    Authority::new(store, clock.clone(), domain, issuers, publisher, telemetry, Duration::from_secs(300))
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(START));
        let signers: HashMap<_, _> = CaRole::ALL.into_iter().map(|place| (place, signer())).collect();
        let domain =
            Domain { trust_domain: "fleet.example".parse().unwrap(), public_url: "http://ca.fleet.example".into() };
        let plan = Plan {
            domain,
            signers: signers.clone(),
            foreign: None,
            server: ("ca".parse().unwrap(), vec!["localhost".parse().unwrap()], signer().public_key().clone()),
            operator: ("ana".parse().unwrap(), signer().public_key().clone()),
            backdate: Duration::from_secs(300),
            now: START,
        };
        let store = SqliteStore::open(&dir.path().join("ca.db")).unwrap();
        store.record_initialization(initialize(plan).unwrap().record).await.unwrap();
        drop(store);
        let authority = open(&dir, &clock, &signers, &[]).await;
        authority.create_fleet(&"pumps".parse().unwrap(), Policy::default(), "operator/ana").await.unwrap();
        Self { dir, clock, signers, more: Vec::new(), authority }
    }

    /// The same CA after a restart.
    async fn restarted(self) -> Self {
        let Self { dir, clock, signers, more, authority } = self;
        drop(authority);
        let authority = open(&dir, &clock, &signers, &more).await;
        authority.look_at_issuers().await.unwrap();
        Self { dir, clock, signers, more, authority }
    }

    /// From now on it is so long after the start.
    fn at(&self, after: Duration) {
        self.clock.set(START + after);
    }

    async fn enroll(&self, id: &str) -> Device {
        self.enroll_in("pumps", id).await
    }

    async fn enroll_in(&self, fleet: &str, id: &str) -> Device {
        let target = TokenFor::Device { fleet: fleet.parse().unwrap(), id: id.parse().unwrap(), reenroll: false };
        let token = self.token(target, Duration::ZERO).await.unwrap();
        self.enroll_with(&token, id, &request()).await.unwrap()
    }

    async fn token(&self, target: TokenFor, lifetime: Duration) -> Result<Token, Refusal> {
        let key = Ed25519KeyPair::from_seed_unchecked(&random::<32>(&SystemRandom::new()).unwrap()).unwrap();
        let public_key: [u8; 32] = key.public_key().as_ref().try_into().unwrap();
        let row = self.authority.create_token(NewToken { public_key, target, lifetime }, "operator/ana").await?;
        Ok(Token { key, id: row.id.to_string(), expires_at: row.expires_at })
    }

    async fn enroll_with(
        &self,
        token: &Token,
        id: &str,
        request: &(rcgen::KeyPair, Vec<u8>),
    ) -> Result<Device, Refusal> {
        self.enroll_as(v1::Kind::Device, token, id, request).await
    }

    async fn enroll_as(
        &self,
        kind: v1::Kind,
        token: &Token,
        id: &str,
        (key, csr): &(rcgen::KeyPair, Vec<u8>),
    ) -> Result<Device, Refusal> {
        let start = v1::Start {
            trust_domain: "fleet.example".into(),
            kind: kind.into(),
            id: id.into(),
            csr: csr.clone(),
            evidence: Some(v1::start::Evidence::Token(v1::TokenEvidence { token_id: token.id.clone() })),
        }
        .encode_to_vec();
        let evidence = token.key.sign(&enrollment("token", Signs::Evidence, &start, b"challenge"));
        let own = rcgen::SigningKey::sign(key, &enrollment("token", Signs::Subject, &start, b"challenge")).unwrap();
        let request = EnrollmentRequest::read(start, &"fleet.example".parse().unwrap()).unwrap();
        let proof =
            v1::Proof { evidence_signature: evidence.as_ref().to_vec(), subject_signature: own, ..Default::default() };
        let challenge = Challenge::plain(b"challenge");
        let outcome = self.authority.enroll(&request, &challenge, &proof).await.map_err(|refused| refused.why)?;
        Ok(self.device(&issued(outcome)))
    }

    fn device(&self, grant: &Grant) -> Device {
        Device(PeerCertificate::parse(&grant.chain[0], &self.authority.domain().trust_domain).unwrap())
    }

    async fn renew(&self, device: &Device) -> Result<Device, Refusal> {
        let grant = self.authority.renew(&device.0, &request().1).await.map_err(|refused| refused.why)?;
        Ok(self.device(&grant))
    }

    fn issuer(&self) -> IssuerId {
        self.authority.issuers().places()[0].id
    }

    /// The CRL that is served: its number, thisUpdate, and the serials on it.
    fn crl(&self) -> ParsedCrl {
        ParsedCrl::parse(self.authority.publisher.current(&self.issuer()).unwrap().der.clone()).unwrap()
    }

    async fn publish(&self, accept_clock: bool) -> usize {
        self.authority.publisher.publish_now(accept_clock).await.unwrap();
        self.crl().entries().len()
    }
}

fn request() -> (rcgen::KeyPair, Vec<u8>) {
    let key = rcgen::KeyPair::generate().unwrap();
    assert!(!key.der_bytes().is_empty());
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
    (key, csr)
}

/// The certificate of an enrollment that needs nobody's approval.
fn issued(outcome: Outcome) -> Grant {
    match outcome {
        Outcome::Issued(grant) => grant,
        Outcome::Waits(asking) => panic!("{asking:?}"),
    }
}

#[tokio::test]
async fn an_expired_certificate_is_told_to_attest_again_and_never_holds_its_device() {
    let world = World::new().await;
    let first = world.enroll("pump-1").await;
    let second = world.renew(&first).await.unwrap();
    world.authority.confirm(&second.0).await.unwrap();
    world.at(DAY * 3);
    for device in [&first, &second] {
        assert!(matches!(world.renew(device).await, Err(Refusal::CertificateExpired)));
    }
    let holder = world.authority.store.holder(&subject("pump-1")).await.unwrap().unwrap();
    assert_eq!(holder.status, Status::Active);
}

#[tokio::test]
async fn every_renewal_gets_the_middle_third_of_its_validity_as_window() {
    let world = World::new().await;
    let device = world.enroll("pump-1").await;
    world.at(HOUR * 9);
    let grant = world.authority.renew(&device.0, &request().1).await.unwrap();
    assert_eq!(grant.window, (START + HOUR * 17, START + HOUR * 25));
}

#[tokio::test]
async fn a_key_that_was_certified_before_is_not_certified_again() {
    let world = World::new().await;
    let device = world.enroll("pump-1").await;
    let (_, csr) = request();
    let grant = world.authority.renew(&device.0, &csr).await.unwrap();
    let pending = world.device(&grant);
    let refused = world.authority.renew(&pending.0, &csr).await.unwrap_err();
    assert!(matches!(refused.why, Refusal::KeyReused));
    let other = world.enroll("pump-2").await;
    let refused = world.authority.renew(&other.0, &csr).await.unwrap_err();
    assert!(matches!(refused.why, Refusal::KeyReused));
}

#[tokio::test]
async fn a_device_that_renews_in_a_loop_is_stopped() {
    let world = World::new().await;
    let mut device = world.enroll("pump-1").await;
    let mut refused = None;
    for _ in 0..100 {
        match world.renew(&device).await {
            Ok(next) => {
                world.authority.confirm(&next.0).await.unwrap();
                device = next;
            }
            Err(why) => {
                refused = Some(why);
                break;
            }
        }
    }
    assert!(matches!(refused, Some(Refusal::Overloaded)));
}
