//! What changes while an enrollment that has been decided is on its way to the store: it is decided anew, or not at all.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use fleetca_proto::transcript::binding;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose,
};

use super::{idevid::Idevid, *};
use crate::{
    attestation::AttestationError,
    audit::Draft,
    identity::{KeyFingerprint, Thumbprint},
    inventory::{
        fleet::{Certificates, Method},
        unknown::{Unknown, UnknownDevices},
    },
    store::{AuditQuery, NewRegisteredKey, NewcomerState, Notice},
};

/// One enrollment, proven.
struct Attempt {
    request: EnrollmentRequest,
    proof: v1::Proof,
}

impl Attempt {
    /// Of a device that comes by this method, for a new key; `evidence` signs `Start`.
    fn new(id: &str, method: &str, by: v1::start::Evidence, evidence: impl FnOnce(&[u8]) -> v1::Proof) -> Self {
        let (key, csr) = request();
        let (trust_domain, id) = ("fleet.example".into(), id.into());
        let start = v1::Start { trust_domain, kind: v1::Kind::Device.into(), id, csr, evidence: Some(by) };
        let start = start.encode_to_vec();
        let own = rcgen::SigningKey::sign(&key, &enrollment(method, Signs::Subject, &start, b"challenge")).unwrap();
        let proof = v1::Proof { subject_signature: own, ..evidence(&start) };
        Self { request: EnrollmentRequest::read(start, &"fleet.example".parse().unwrap()).unwrap(), proof }
    }

    async fn made(&self, world: &World) -> Result<Outcome, Refusal> {
        let challenge = Challenge::plain(b"challenge");
        let made = world.authority.enroll(&self.request, &challenge, &self.proof).await;
        made.map_err(|refused| refused.why)
    }

    /// The same, where this happens when it has been decided and is on its way to the store.
    async fn made_while<T>(&self, world: &World, happens: impl Future<Output = T>) -> (T, Result<Outcome, Refusal>) {
        let made = self.made(world);
        tokio::pin!(made);
        // What comes by itself asks the store for nothing that has to be waited for, until it is recorded by another task.
        assert!(futures::poll!(made.as_mut()).is_pending());
        let happened = happens.await;
        (happened, made.await)
    }
}

/// A maker's board that nobody has registered.
struct Board {
    root: Vec<u8>,
    leaf: Vec<u8>,
    key: rcgen::KeyPair,
}

impl Board {
    fn new() -> Self {
        let Idevid { root, leaf, key, .. } = Idevid::new("b-1");
        Self { root, leaf, key }
    }

    fn comes(&self) -> Attempt {
        self.comes_with(vec![self.leaf.clone()])
    }

    fn comes_with(&self, chain: Vec<Vec<u8>>) -> Attempt {
        let by = v1::start::Evidence::Factory(v1::FactoryEvidence { chain });
        Attempt::new("", "factory", by, |start| {
            let signed = enrollment("factory", Signs::Evidence, start, b"challenge");
            let evidence_signature = rcgen::SigningKey::sign(&self.key, &signed).unwrap();
            v1::Proof { evidence_signature, ..Default::default() }
        })
    }

    /// A CA with the fleet `boards`, which does this with boards of this maker.
    async fn world(&self, devices: UnknownDevices) -> World {
        let world = World::new().await;
        let unknown = Unknown {
            devices,
            accept_any_holder: devices == UnknownDevices::Register,
            id_template: Some("board-{issuer}-{serial}".parse().unwrap()),
            ..Unknown::default()
        };
        let policy = Policy {
            attest: vec![Method::Factory],
            factory_roots: Certificates(vec![self.root.clone()]),
            unknown,
            ..Policy::default()
        };
        world.authority.create_fleet(&"boards".parse().unwrap(), policy, "operator/ana").await.unwrap();
        world
    }
}

async fn set(world: &World, fleet: &str, change: impl Fn(&mut Policy)) {
    world.authority.change_policy(&fleet.parse().unwrap(), change, "operator/ana").await.unwrap();
}

async fn boards(world: &World) -> u64 {
    world.authority.fleet(&"boards".parse().unwrap()).await.unwrap().device_count
}

fn is_unregistered(outcome: &Result<Outcome, Refusal>) -> bool {
    matches!(outcome, Err(Refusal::Attestation(AttestationError::Unregistered)))
}

/// As the CA does it when a gateway shows what it holds.
async fn notices(world: &World) {
    let (at, evidence) = (world.authority.now(), "a test".into());
    let audit = Draft::done(at, "system", "ca.restored", "ca".into());
    let notice = Notice { at, lost_from: at, lost_until: at, evidence, audit };
    world.authority.store.record_notice(notice).await.unwrap();
    world.authority.publisher.halt().await;
}

#[tokio::test]
async fn a_fleet_that_is_closed_or_changed_meanwhile_lets_no_unknown_device_in_by_what_it_was_before() {
    let board = Board::new();
    let world = board.world(UnknownDevices::Register).await;
    let close = set(&world, "boards", |policy| policy.unknown.close());
    let ((), outcome) = board.comes().made_while(&world, close).await;
    assert!(is_unregistered(&outcome), "{outcome:?}");
    assert_eq!(boards(&world).await, 0);

    let key = KeyFingerprint::of(&board.key.subject_public_key_info());
    let (ban, other) = (vec![key], Board::new().root);
    let changes: [&dyn Fn(&mut Policy); 2] = [&|policy| policy.banned_keys = ban.clone(), &|policy| {
        policy.factory_roots = Certificates(vec![other.clone()]);
    }];
    for change in changes {
        let world = board.world(UnknownDevices::Register).await;
        let ((), outcome) = board.comes().made_while(&world, set(&world, "boards", change)).await;
        assert!(matches!(outcome, Err(Refusal::Contended)), "{outcome:?}");
        let again = board.comes().made(&world).await;
        assert!(matches!(again, Err(Refusal::Attestation(_))), "{again:?}");
        assert_eq!(boards(&world).await, 0);
    }
    // What changes nothing about it stops it no longer than until it comes again.
    let world = board.world(UnknownDevices::Register).await;
    let change = set(&world, "boards", |policy| policy.validity_secs += 60);
    let ((), outcome) = board.comes().made_while(&world, change).await;
    assert!(matches!(outcome, Err(Refusal::Contended)), "{outcome:?}");
    issued(board.comes().made(&world).await.unwrap());
    assert_eq!(boards(&world).await, 1);
}

/// Chains are no secret.
#[tokio::test]
async fn a_chain_that_somebody_else_shows_is_no_proof() {
    let (board, thief) = (Board::new(), Board::new());
    let world = board.world(UnknownDevices::Register).await;
    let copied = Board { root: board.root.clone(), leaf: board.leaf.clone(), key: thief.key };
    let outcome = copied.comes().made(&world).await;
    assert!(matches!(outcome, Err(Refusal::Attestation(_))), "{outcome:?}");
    assert_eq!(boards(&world).await, 0);
    issued(board.comes().made(&world).await.unwrap());
}

/// A CA of web servers has two certificates: one under a root that another fleet pins, which says nothing of that.
#[tokio::test]
async fn what_a_board_is_for_is_read_on_the_path_that_lets_it_in() {
    let ca = |name: &str, usages: Vec<ExtendedKeyUsagePurpose>| {
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, name);
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (ca.key_usages, ca.extended_key_usages) = (vec![KeyUsagePurpose::KeyCertSign], usages);
        ca
    };
    let [one, two, middle, key] = [(); 4].map(|()| rcgen::KeyPair::generate().unwrap());
    let (first, second) = (ca("One", vec![]), ca("Two", vec![]));
    let under = |usages, root: &CertificateParams, key: &rcgen::KeyPair| {
        ca("Middle", usages).signed_by(&middle, &Issuer::from_params(root, key)).unwrap().der().to_vec()
    };
    let silent = under(vec![], &first, &one);
    let web = under(vec![ExtendedKeyUsagePurpose::ServerAuth], &second, &two);
    let mut leaf = CertificateParams::default();
    let serial = DnValue::PrintableString("b-1".try_into().unwrap());
    leaf.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), serial);
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let leaf = leaf.signed_by(&key, &Issuer::from_params(&ca("Middle", vec![]), &middle)).unwrap().der().to_vec();
    let board = Board { root: second.self_signed(&two).unwrap().der().to_vec(), leaf, key };
    let world = board.world(UnknownDevices::Register).await;
    let policy = Policy {
        attest: vec![Method::Factory],
        factory_roots: Certificates(vec![first.self_signed(&one).unwrap().der().to_vec()]),
        ..Policy::default()
    };
    world.authority.create_fleet(&"servers".parse().unwrap(), policy, "operator/ana").await.unwrap();
    for chain in [[&silent, &web], [&web, &silent]] {
        let chain = [&board.leaf, chain[0], chain[1]].map(Vec::clone).to_vec();
        let outcome = board.comes_with(chain).made(&world).await;
        assert!(matches!(outcome, Err(Refusal::Attestation(_))), "{outcome:?}");
    }
    assert_eq!(boards(&world).await, 0);
}

#[tokio::test]
async fn an_unknown_device_that_is_rejected_meanwhile_stays_rejected() {
    let board = Board::new();
    let world = board.world(UnknownDevices::Pending).await;
    let Ok(Outcome::Waits(asking)) = board.comes().made(&world).await else { panic!("does not wait") };
    set(&world, "boards", |policy| {
        (policy.unknown.devices, policy.unknown.accept_any_holder) = (UnknownDevices::Register, true);
    })
    .await;
    let hardware = asking.hardware.clone();
    let seen = Seen { id: asking.id, fleet: asking.fleet, hardware: asking.hardware, key: asking.key };
    let reject = world.authority.decide_newcomer(seen, false, "operator/ana");
    let (rejected, outcome) = board.comes().made_while(&world, reject).await;
    assert_eq!(rejected.unwrap().state, NewcomerState::Rejected);
    assert!(is_unregistered(&outcome), "{outcome:?}");
    let row = world.authority.store.newcomer(&hardware).await.unwrap();
    assert_eq!(row.map(|row| row.state), Some(NewcomerState::Rejected));
    assert_eq!(boards(&world).await, 0);
}

#[tokio::test]
async fn a_known_device_does_not_come_in_by_a_root_or_a_key_that_its_fleet_takes_no_longer() {
    let board = Board::new();
    let key = KeyFingerprint::of(&board.key.subject_public_key_info());
    let (ban, other) = (vec![key], Board::new().root);
    let changes: [&dyn Fn(&mut Policy); 2] = [&|policy| policy.banned_keys = ban.clone(), &|policy| {
        policy.factory_roots = Certificates(vec![other.clone()]);
    }];
    for change in changes {
        let world = board.world(UnknownDevices::Register).await;
        issued(board.comes().made(&world).await.unwrap());
        set(&world, "boards", |policy| policy.reenroll = Some(Tier::Factory)).await;
        let before = certificates(&world).await;
        let ((), outcome) = board.comes().made_while(&world, set(&world, "boards", change)).await;
        assert!(matches!(outcome, Err(Refusal::Contended)), "{outcome:?}");
        let again = board.comes().made(&world).await;
        assert!(matches!(again, Err(Refusal::Attestation(_))), "{again:?}");
        assert_eq!(certificates(&world).await, before);
    }
}

#[tokio::test]
async fn a_method_that_a_fleet_takes_no_longer_lets_nobody_in() {
    let world = World::new().await;
    let key = Registered::new(&world).await;
    let before = certificates(&world).await;
    let change = set(&world, "pumps", |policy| policy.attest = vec![Method::Token]);
    let ((), outcome) = key.comes().made_while(&world, change).await;
    assert!(matches!(outcome, Err(Refusal::MethodRefused)), "{outcome:?}");
    assert_eq!(certificates(&world).await, before);
}

/// The key of `pump-1`, which has enrolled by a token before, and may again by this.
struct Registered {
    pair: Ed25519KeyPair,
    thumbprint: Thumbprint,
}

impl Registered {
    async fn new(world: &World) -> Self {
        world.enroll("pump-1").await;
        set(world, "pumps", |policy| {
            (policy.attest, policy.reenroll) = (vec![Method::Token, Method::RegisteredKey], Some(Tier::Registered));
        })
        .await;
        let pair = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
        let key = PublicKey::from_ed25519(pair.public_key().as_ref().try_into().unwrap()).unwrap();
        let thumbprint = key.thumbprint();
        let key = NewRegisteredKey { key, active_from: START, retires_at: None };
        world.authority.register_key(&subject("pump-1"), key, "operator/ana").await.unwrap();
        Self { pair, thumbprint }
    }

    fn comes(&self) -> Attempt {
        let key_id = self.thumbprint.to_string();
        let by = v1::start::Evidence::RegisteredKey(v1::RegisteredKeyEvidence { key_id });
        Attempt::new("pump-1", "registered-key", by, |start| {
            let text = |json: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
            let header = serde_json::json!({"alg": "EdDSA", "typ": "fleetca-enroll+jwt"});
            let body = serde_json::json!({
                "iss": "pump-1", "sub": "pump-1", "aud": "spiffe://fleet.example", "jti": "1",
                "iat": START.secs(), "exp": START.secs() + 60,
                "binding": BASE64_URL_SAFE_NO_PAD.encode(binding("registered-key", start, b"challenge")),
            });
            let signed = format!("{}.{}", text(header), text(body));
            let signature = BASE64_URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
            v1::Proof { assertion: format!("{signed}.{signature}"), ..Default::default() }
        })
    }
}

async fn certificates(world: &World) -> usize {
    let query = AuditQuery { action: Some("certificate.issued".into()), limit: 100, ..AuditQuery::default() };
    world.authority.store.audit_records(&query).await.unwrap().len()
}

#[tokio::test]
async fn a_restored_past_that_is_noticed_meanwhile_lets_nobody_in() {
    let board = Board::new();
    let world = board.world(UnknownDevices::Register).await;
    let key = Registered::new(&world).await;
    let before = certificates(&world).await;
    let known = key.comes();
    let known = known.made(&world);
    tokio::pin!(known);
    assert!(futures::poll!(known.as_mut()).is_pending());
    let ((), unknown) = board.comes().made_while(&world, notices(&world)).await;
    for outcome in [unknown, known.await] {
        assert!(matches!(outcome, Err(Refusal::Restored)), "{outcome:?}");
    }
    assert_eq!((boards(&world).await, certificates(&world).await), (0, before));
}

#[tokio::test]
async fn a_registered_key_that_is_retired_meanwhile_enrolls_nobody() {
    let world = World::new().await;
    let key = Registered::new(&world).await;
    let before = certificates(&world).await;
    let pump = subject("pump-1");
    let retire = world.authority.retire_key(&pump, &key.thumbprint, None, "operator/ana");
    let (retired, outcome) = key.comes().made_while(&world, retire).await;
    retired.unwrap();
    assert!(matches!(&outcome, Err(Refusal::KeyNotInForce(who)) if *who == pump), "{outcome:?}");
    assert_eq!(certificates(&world).await, before);
}

#[tokio::test]
async fn the_end_of_a_key_that_has_come_is_not_moved() {
    let world = World::new().await;
    let key = Registered::new(&world).await;
    let pump = subject("pump-1");
    let retire = async |at| world.authority.retire_key(&pump, &key.thumbprint, Some(at), "operator/ana").await;
    let now = world.authority.now();
    retire(now + HOUR).await.unwrap();
    retire(now + DAY).await.unwrap();
    retire(now).await.unwrap();
    let later = retire(now + DAY).await;
    assert!(matches!(later, Err(Refusal::State(_))), "{later:?}");
    retire(now).await.unwrap();
}
