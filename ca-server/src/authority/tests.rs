//! The use cases over a real store, a software signer and a clock in the test's hand: everything that has to do with
//! time, which the flows in `tests/` cannot wait for.

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
    authority: Authority,
}

/// A device as its own side sees it: its certificate, as the handshake would prove it.
struct Device(PeerCertificate);

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
) -> Authority {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&dir.path().join("ca.db")).unwrap());
    let domain = store.domain().await.unwrap();
    let rows = store.issuers().await.unwrap();
    let online = rows.iter().filter(|row| !row.role.is_root());
    let keys: IssuerKeys = online.map(|row| (row.id, signers[&row.role].clone())).collect();
    let issuers = Arc::new(Issuers::new(&domain, &rows, keys).unwrap());
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
            server: ("ca".parse().unwrap(), vec!["localhost".parse().unwrap()], signer().public_key().clone()),
            operator: ("ana".parse().unwrap(), signer().public_key().clone()),
            backdate: Duration::from_secs(300),
            now: START,
        };
        let store = SqliteStore::open(&dir.path().join("ca.db")).unwrap();
        store.record_initialization(initialize(plan).unwrap().record).await.unwrap();
        drop(store);
        let authority = open(&dir, &clock, &signers).await;
        authority.create_fleet(&"pumps".parse().unwrap(), Policy::default(), "operator/ana").await.unwrap();
        Self { dir, clock, signers, authority }
    }

    /// The same CA after a restart.
    async fn restarted(self) -> Self {
        let Self { dir, clock, signers, authority } = self;
        drop(authority);
        let authority = open(&dir, &clock, &signers).await;
        Self { dir, clock, signers, authority }
    }

    /// From now on it is so long after the start.
    fn at(&self, after: Duration) {
        self.clock.set(START + after);
    }

    async fn enroll(&self, id: &str) -> Device {
        let token = Ed25519KeyPair::from_seed_unchecked(&random::<32>(&SystemRandom::new()).unwrap()).unwrap();
        let public_key: [u8; 32] = token.public_key().as_ref().try_into().unwrap();
        let target = TokenFor::Device { fleet: "pumps".parse().unwrap(), id: id.parse().unwrap(), reenroll: false };
        let new = NewToken { public_key, target, lifetime: Duration::ZERO };
        let token_id = self.authority.create_token(new, "operator/ana").await.unwrap().id.to_string();
        let (key, csr) = request();
        let start = v1::Start {
            trust_domain: "fleet.example".into(),
            kind: v1::Kind::Device.into(),
            id: id.into(),
            csr,
            evidence: Some(v1::start::Evidence::Token(v1::TokenEvidence { token_id })),
        }
        .encode_to_vec();
        let evidence = token.sign(&enrollment("token", Signs::Evidence, &start, b"challenge"));
        let own = rcgen::SigningKey::sign(&key, &enrollment("token", Signs::Subject, &start, b"challenge")).unwrap();
        let request = EnrollmentRequest::read(start, "fleet.example").unwrap();
        let proofs = Proofs { evidence: evidence.as_ref(), subject: &own };
        let grant = self.authority.enroll(&request, b"challenge", proofs).await.unwrap();
        self.device(&grant)
    }

    fn device(&self, grant: &Grant) -> Device {
        Device(PeerCertificate::parse(&grant.chain[0], &self.authority.domain().trust_domain).unwrap())
    }

    async fn renew(&self, device: &Device) -> Result<Device, Refusal> {
        let grant = self.authority.renew(&device.0, &request().1).await.map_err(|refused| refused.why)?;
        Ok(self.device(&grant))
    }

    fn issuer(&self) -> IssuerId {
        self.authority.issuers().for_subject(&subject("any")).issuer.id()
    }

    /// The CRL that is served: its number, thisUpdate, and the serials on it.
    fn crl(&self) -> ParsedCrl {
        ParsedCrl::parse(&self.authority.publisher.current(&self.issuer()).unwrap().der).unwrap()
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

#[tokio::test]
async fn an_entry_leaves_a_day_after_its_certificate_expired() {
    let world = World::new().await;
    world.enroll("pump-1").await;
    world.authority.revoke(&subject("pump-1"), RevocationReason::KeyCompromise, "operator/ana").await.unwrap();
    // Valid for a day, then a day of grace; the CRL comes out twice a day meanwhile.
    for hours in [12, 24, 36, 47] {
        world.at(HOUR * hours);
        assert_eq!(world.publish(false).await, 1, "after {hours} h");
    }
    world.at(HOUR * 49);
    assert_eq!(world.publish(false).await, 0);
}

#[tokio::test]
async fn a_clock_that_leaps_stops_removals_and_no_additions() {
    let world = World::new().await;
    world.enroll("pump-1").await;
    world.enroll("pump-2").await;
    world.authority.revoke(&subject("pump-1"), RevocationReason::KeyCompromise, "operator/ana").await.unwrap();
    world.at(DAY * 365);
    assert_eq!(world.publish(false).await, 1, "nothing leaves");
    world.at(HOUR);
    world.authority.revoke(&subject("pump-2"), RevocationReason::KeyCompromise, "operator/ana").await.unwrap();
    assert_eq!(world.crl().entries().len(), 2, "additions go on");
    world.at(DAY * 365);
    assert_eq!(world.publish(false).await, 2, "it stays so until somebody says that the clock is right");
    assert_eq!(world.publish(true).await, 0);
}

#[tokio::test]
async fn numbers_and_dates_never_go_back_whatever_the_clock_does() {
    let mut world = World::new().await;
    let (mut number, mut date) = (world.crl().number(), world.crl().this_update());
    for (hours, restart) in [(10, false), (2, false), (2, true), (0, true), (11, false)] {
        world.at(HOUR * hours);
        if restart {
            world = world.restarted().await;
        }
        world.publish(false).await;
        let crl = world.crl();
        assert!(crl.number() > number && crl.this_update() >= date, "at {hours} h");
        (number, date) = (crl.number(), crl.this_update());
    }
}

#[tokio::test]
async fn a_restart_serves_the_same_bytes_where_nothing_changed() {
    let world = World::new().await;
    world.enroll("pump-1").await;
    world.authority.revoke(&subject("pump-1"), RevocationReason::Superseded, "operator/ana").await.unwrap();
    let before = world.crl();
    let world = world.restarted().await;
    assert_eq!(world.crl().der(), before.der());
}

#[tokio::test]
async fn a_crl_is_renewed_within_the_hour_where_nothing_changes() {
    let world = World::new().await;
    let first = world.crl().number();
    world.at(HOUR);
    let mut publications = world.authority.publisher.watch();
    while world.crl().number() == first {
        world.authority.publisher.wake_if(true);
        publications.changed().await.unwrap();
    }
    assert_eq!(world.crl().this_update(), START + HOUR);
    assert_eq!(world.crl().next_update(), START + HOUR + DAY * 7);
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
async fn the_second_holder_of_an_identity_puts_it_on_hold_until_an_operator_decides() {
    let world = World::new().await;
    let honest = world.enroll("pump-1").await;
    let thief = world.renew(&honest).await.unwrap();
    world.authority.confirm(&thief.0).await.unwrap();
    assert!(matches!(world.renew(&honest).await, Err(Refusal::Fork { .. })));
    assert!(matches!(world.renew(&thief).await, Err(Refusal::Held)));
    let pump = subject("pump-1");
    let release = |keep| world.authority.release(&pump, keep, "operator/ana");
    assert!(matches!(release(None).await, Err(Refusal::State(_))));
    release(Some(honest.0.serial)).await.unwrap();
    assert!(world.renew(&honest).await.is_ok());
    assert!(matches!(world.renew(&thief).await, Err(Refusal::CertificateRevoked | Refusal::Fork { .. })));
    let revoked: Vec<_> = world.crl().entries().iter().map(|entry| entry.serial).collect();
    assert_eq!(revoked, [thief.0.serial]);
}

#[tokio::test]
async fn a_revocation_reaches_the_crl_even_while_the_clock_has_leapt() {
    let world = World::new().await;
    world.enroll("pump-1").await;
    world.at(DAY * 2);
    let receipt =
        world.authority.revoke(&subject("pump-1"), RevocationReason::KeyCompromise, "operator/ana").await.unwrap();
    assert_eq!((receipt.certificates, receipt.crls.len()), (1, 1));
    world.at(HOUR);
    assert_eq!(world.publish(false).await, 1);
}

#[tokio::test]
async fn a_fork_whose_certificates_have_all_expired_is_released_without_a_choice() {
    let world = World::new().await;
    let honest = world.enroll("pump-1").await;
    let thief = world.renew(&honest).await.unwrap();
    world.authority.confirm(&thief.0).await.unwrap();
    assert!(matches!(world.renew(&honest).await, Err(Refusal::Fork { .. })));
    world.at(DAY * 3);
    let receipt = world.authority.release(&subject("pump-1"), None, "operator/ana").await.unwrap();
    assert_eq!(receipt.status, Status::Active);
}

#[tokio::test]
async fn a_certificate_that_a_release_took_away_never_holds_the_device_again() {
    let world = World::new().await;
    let honest = world.enroll("pump-1").await;
    let (_, stale) = request();
    let lost = world.device(&world.authority.renew(&honest.0, &stale).await.unwrap());
    let thief = world.renew(&honest).await.unwrap();
    world.authority.confirm(&thief.0).await.unwrap();
    assert!(matches!(world.renew(&honest).await, Err(Refusal::Fork { .. })));
    world.authority.release(&subject("pump-1"), Some(honest.0.serial), "operator/ana").await.unwrap();
    for taken in [&lost, &thief] {
        assert!(matches!(world.renew(taken).await, Err(Refusal::CertificateRevoked)));
        let confirmed = world.authority.confirm(&taken.0).await.map_err(|refused| refused.why);
        assert!(matches!(confirmed, Err(Refusal::CertificateRevoked)));
    }
    let again = world.authority.renew(&honest.0, &stale).await.map_err(|refused| refused.why);
    assert!(matches!(again, Err(Refusal::KeyReused)), "what was taken away is not given again");
    assert!(world.renew(&honest).await.is_ok());
}

#[tokio::test]
async fn a_root_crl_that_no_gateway_would_take_today_is_not_taken_in() {
    let world = World::new().await;
    let issuers = world.authority.issuers();
    let (id, _, root) = issuers.certificates().find(|(_, role, _)| *role == CaRole::DeviceRoot).unwrap();
    let signer = &world.signers[&CaRole::DeviceRoot];
    let before = ParsedCrl::parse(&world.authority.publisher.current(id).unwrap().der).unwrap();
    let take = async |at| {
        let (der, _) = root_crl(root, signer.as_ref(), Some(&before), at).unwrap();
        let audit = crate::audit::Draft::done(START, "operator/ana", "crl.root_taken_in", "crl".into());
        world.authority.publisher.take_root_crl(der, audit).await
    };
    assert!(matches!(take(START + DAY * 700).await, Err(PublishError::NotNow { .. })));
    take(START + HOUR / 60).await.unwrap();
    world.at(DAY * 500);
    assert!(matches!(take(START + DAY * 2).await, Err(PublishError::NotNow { .. })));
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

#[tokio::test]
async fn a_token_key_for_which_anybody_can_sign_is_refused() {
    let world = World::new().await;
    let mut weak = [0; 32];
    for first in [0, 1] {
        weak[0] = first;
        let new = NewToken { public_key: weak, target: TokenFor::Gateway("gw".parse().unwrap()), lifetime: HOUR };
        let refused = world.authority.create_token(new, "operator/ana").await.unwrap_err();
        assert!(matches!(refused, Refusal::Invalid { field: "public_key", .. }));
    }
}
