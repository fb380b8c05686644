//! Several issuing CAs of devices, as time goes by: who signs when, and whose lists are needed until when.

use std::collections::BTreeSet;

use super::*;
use crate::{
    audit::Draft,
    authority::proof::{SaidCrl, Shown},
    inventory::partition::{Spread, Standing},
    pki::IssuerCertificate,
    store::{Acknowledged, IssuerChange, IssuerRow, StoreError},
};

impl World {
    pub(super) fn roots(&self) -> Roots {
        let root = |role| {
            let found = self.authority.issuers().certificates().find(|(_, one, _)| *one == role);
            let certificate: IssuerCertificate = found.unwrap().2.clone();
            RootKey { certificate, signer: self.signers[&role].clone() }
        };
        Roots { control: root(CaRole::ControlRoot), device: Some(root(CaRole::DeviceRoot)) }
    }

    /// One more issuing CA, which may take over from another; the server was stopped for it.
    pub(super) async fn with_issuer(mut self, replaces: Option<IssuerId>) -> (Self, IssuerId) {
        let (key, now, store) = (signer(), self.authority.now(), self.authority.store.clone());
        let bundle = store.trust_bundle().await.unwrap();
        let made = self.roots().create_issuer(self.authority.domain(), &bundle, key.public_key(), (now, now));
        let (row, bundle) = made.unwrap();
        let id = row.id;
        let change = IssuerChange {
            new: Some(IssuerRow { replaces, ..row }),
            standing: replaces.map(|id| (id, Standing::Retired)),
            root_crl: None,
            trust_bundle: Some(bundle),
            at: now,
            audit: Draft::done(now, "local", "issuer.created", format!("issuer/{id}")),
        };
        store.record_issuer_change(change).await.unwrap();
        drop(store);
        self.more.push(key);
        (self.restarted().await, id)
    }

    pub(super) async fn gateway_named(&self, id: &str) -> Subject {
        let token = self.token(TokenFor::Gateway(id.parse().unwrap()), Duration::ZERO).await.unwrap();
        self.enroll_as(v1::Kind::Gateway, &token, id, &request()).await.unwrap();
        Subject::new(Kind::Gateway, id.parse().unwrap())
    }

    /// A gateway says that it has loaded what is served of these issuers, and of their root.
    pub(super) async fn loads(&self, gateway: &Subject, issuers: &[IssuerId]) {
        let at = self.authority.now();
        let roots: Vec<_> = self.authority.publisher.device_roots().iter().map(|crl| crl.issuer).collect();
        let said = issuers.iter().chain(&roots).map(|issuer| {
            let number = self.authority.publisher.current(issuer).unwrap().number;
            SaidCrl { crl: Acknowledged { issuer: *issuer, number, at }, watermark: None }
        });
        self.authority.word.heard(gateway, at, Shown::Loaded, said.collect());
        self.authority.look_at_issuers().await.unwrap();
    }

    /// Who signs for the devices of a fleet now.
    pub(super) async fn signers(&self, fleet: &str) -> BTreeSet<IssuerId> {
        let policy = self.authority.policy(&fleet.parse().unwrap()).await.unwrap();
        let now = self.authority.now();
        let signer = |n: usize| {
            let device = subject(&format!("pump-{n}"));
            self.authority.issuers().for_subject(&device, &policy.spread, now, now).map(|online| online.issuer.id())
        };
        (0..64).filter_map(|n| signer(n).ok()).collect()
    }

    pub(super) async fn bundle(&self, fleet: &str) -> BTreeSet<IssuerId> {
        let name = fleet.parse().unwrap();
        let policy = self.authority.policy(&name).await.unwrap();
        self.authority.publisher.issuers_for(&name, &policy).await.unwrap().into_iter().collect()
    }

    pub(super) async fn name(&self, fleet: &str, issuers: &[IssuerId]) {
        let change = |policy: &mut Policy| policy.spread.named = issuers.to_vec();
        self.authority.change_policy(&fleet.parse().unwrap(), change, "operator/ana").await.unwrap();
    }
}

pub(super) fn set(ids: &[IssuerId]) -> BTreeSet<IssuerId> {
    ids.iter().copied().collect()
}

#[tokio::test]
async fn a_new_issuing_ca_signs_when_its_crl_has_been_out_for_its_time() {
    let world = World::new().await;
    let first = world.issuer();
    let (world, second) = world.with_issuer(None).await;
    assert_eq!(world.authority.publisher.bundle().unwrap().len(), 3, "its CRL is out at once");
    assert_eq!(world.signers("pumps").await, set(&[first]));
    world.at(HOUR - Duration::from_secs(2));
    assert_eq!(world.signers("pumps").await, set(&[first]));
    world.at(HOUR);
    assert_eq!(world.signers("pumps").await, set(&[first, second]));
}

#[tokio::test]
async fn a_clock_that_leaps_ends_no_waiting() {
    let world = World::new().await;
    let (world, second) = world.with_issuer(None).await;
    world.clock.leap(START + DAY);
    let policy = Policy::default();
    let signing = world.authority.issuers().signing(&policy.spread, world.authority.publisher.now());
    assert!(!signing.contains(&second));
}

#[tokio::test]
async fn a_new_issuing_ca_signs_as_soon_as_every_gateway_has_loaded_its_crl() {
    let world = World::new().await;
    let first = world.issuer();
    let (world, second) = world.with_issuer(None).await;
    let (eu_7, eu_8) = (world.gateway_named("eu-7").await, world.gateway_named("eu-8").await);
    world.loads(&eu_7, &[first, second]).await;
    world.loads(&eu_8, &[first]).await;
    assert_eq!(world.signers("pumps").await, set(&[first]));
    world.loads(&eu_8, &[first, second]).await;
    assert_eq!(world.signers("pumps").await, set(&[first, second]));
    // Its disk was restored: devices of the new one would be refused there.
    world.loads(&eu_8, &[first]).await;
    assert_eq!(world.signers("pumps").await, set(&[first]));
}

#[tokio::test]
async fn a_new_issuing_ca_waits_for_gateways_that_sync_by_a_timer_whatever_the_others_say() {
    let world = World::new().await;
    let first = world.issuer();
    let (_expired, cut_off) = (world.gateway_named("eu-5").await, world.gateway_named("eu-6").await);
    world.authority.revoke(&cut_off, RevocationReason::Unspecified, "operator/ana").await.unwrap();
    world.at(DAY * 8);
    let (eu_7, eu_8) = (world.gateway_named("eu-7").await, world.gateway_named("eu-8").await);
    world.loads(&eu_8, &[first]).await;
    world.authority.keep_words().await;
    let (world, second) = world.with_issuer(None).await;
    world.at(DAY * 8 + Duration::from_secs(600));
    let _watches = world.authority.watching(&eu_7);
    world.loads(&eu_7, &[first, second]).await;
    assert_eq!(world.signers("pumps").await, set(&[first]), "the other comes once in a while");
    world.loads(&eu_8, &[first, second]).await;
    assert_eq!(
        world.signers("pumps").await,
        set(&[first, second]),
        "who has expired or was cut off keeps nobody waiting"
    );
}

#[tokio::test]
async fn a_gateway_of_another_fleet_keeps_nobody_waiting() {
    let world = World::new().await;
    let first = world.issuer();
    let (world, second) = world.with_issuer(None).await;
    world.authority.create_fleet(&"doors".parse().unwrap(), Policy::default(), "operator/ana").await.unwrap();
    world.name("doors", &[first]).await;
    world.at(HOUR);
    let (all, doors) = (world.gateway_named("all").await, world.gateway_named("doors").await);
    world.authority.takes(&doors, Takes::Fleet("doors".parse().unwrap()));
    world.loads(&doors, &[first]).await;
    world.loads(&all, &[first, second]).await;
    let number = |id| (id, world.authority.publisher.current(&id).unwrap().number);
    let waited = world.authority.wait_for_gateways(&[number(second)], Duration::ZERO).await.unwrap();
    assert_eq!((waited.gateways, waited.behind), (1, vec![]));
    let loaded = world.authority.loaded().await.unwrap();
    assert_eq!(loaded.iter().map(|one| one.crls.len()).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(world.authority.loaded_everywhere().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_gateway_lacks_each_issuers_crl_for_itself_and_a_new_one_since_it_is_out() {
    let world = World::new().await;
    let first = world.issuer();
    let (eu_7, _eu_8) = (world.gateway_named("eu-7").await, world.gateway_named("eu-8").await);
    world.loads(&eu_7, &[first]).await;
    world.authority.keep_words().await;
    world.at(DAY);
    let (world, second) = world.with_issuer(None).await;
    world.authority.look_at_issuers().await.unwrap();
    world.at(DAY + HOUR);
    let (all, served) = (world.authority.loaded().await.unwrap(), |id| world.authority.publisher.current(&id).unwrap());
    let lags: Vec<_> = all.iter().map(|one| one.lag()).collect();
    assert!(lags[0] <= HOUR, "{lags:?}: the new issuer's first CRL has been out for an hour");
    assert!(lags[1] >= DAY, "{lags:?}: it has never loaded anything");
    // What one issuer's CRL lacks says nothing of another's.
    let of = |id, number| world.authority.loaded_at(&all, &[(id, number)]).unwrap().behind;
    let lacks = of(second, served(second).number);
    assert_eq!(lacks.iter().map(|one| one.crls.len()).collect::<Vec<_>>(), [1, 1]);
    assert!(lacks.iter().all(|one| one.crls[0].issuer == second && one.lag() <= HOUR), "{lacks:?}");
    let lacks = of(first, u64::MAX);
    let eu_7 = lacks.iter().find(|one| one.gateway == eu_7).unwrap();
    assert_eq!(eu_7.crls.iter().map(|crl| (crl.issuer, crl.said.is_some())).collect::<Vec<_>>(), [(first, true)]);
    // Nobody was heard from lately.
    let waited = world.authority.wait_for_gateways(&[(first, 1)], Duration::ZERO).await.unwrap();
    assert_eq!((waited.gateways, waited.not_heard), (0, Some(2)));
}

#[tokio::test]
async fn a_fleet_whose_only_issuing_ca_waits_is_told_when_to_come_again() {
    let world = World::new().await;
    let (world, second) = world.with_issuer(None).await;
    let policy = Policy {
        spread: crate::inventory::partition::Spread { named: vec![second], ..Default::default() },
        ..Policy::default()
    };
    world.authority.create_fleet(&"doors".parse().unwrap(), policy, "operator/ana").await.unwrap();
    let target = TokenFor::Device { fleet: "doors".parse().unwrap(), id: "door-1".parse().unwrap(), reenroll: false };
    let token = world.token(target, Duration::ZERO).await.unwrap();
    let refused = world.enroll_with(&token, "door-1", &request()).await.err();
    assert!(matches!(refused, Some(Refusal::NoIssuer { again_at: Some(at) }) if at == START + HOUR), "{refused:?}");
    world.at(HOUR);
    assert_eq!(world.enroll_with(&token, "door-1", &request()).await.unwrap().0.issuer, second);
}

#[tokio::test]
async fn what_a_fleet_names_waits_until_its_gateways_have_had_time_and_who_signed_before_goes_on() {
    let world = World::new().await;
    let first = world.issuer();
    let (world, second) = world.with_issuer(None).await;
    world.at(HOUR);
    world.name("pumps", &[first]).await;
    world.at(HOUR * 3);
    world.name("pumps", &[second]).await;
    assert_eq!((world.signers("pumps").await, world.bundle("pumps").await), (set(&[first]), set(&[first, second])));
    world.at(HOUR * 4);
    assert_eq!((world.signers("pumps").await, world.bundle("pumps").await), (set(&[second]), set(&[second])));
    world.name("pumps", &[]).await;
    assert_eq!((world.signers("pumps").await, world.bundle("pumps").await), (set(&[second]), set(&[first, second])));
    world.at(HOUR * 5);
    assert_eq!(world.signers("pumps").await, set(&[first, second]));
}

#[tokio::test]
async fn an_issuers_crl_leaves_a_fleets_bundle_a_day_after_the_fleets_last_certificate_of_it() {
    let world = World::new().await;
    let first = world.issuer();
    let device = world.enroll("pump-1").await;
    let (world, second) = world.with_issuer(None).await;
    world.at(HOUR);
    world.name("pumps", &[second]).await;
    world.at(HOUR * 12);
    let next = world.renew(&device).await.unwrap();
    assert_eq!((device.0.issuer, next.0.issuer), (first, second));
    for (after, needed) in
        [(HOUR * 24, set(&[first, second])), (HOUR * 48, set(&[first, second])), (HOUR * 49, set(&[second]))]
    {
        world.at(after);
        assert_eq!(world.bundle("pumps").await, needed, "{after:?}");
    }
}

#[tokio::test]
async fn the_crl_of_each_issuer_has_the_revoked_certificates_of_that_issuer_and_no_other() {
    let world = World::new().await;
    let (world, _) = world.with_issuer(None).await;
    world.at(HOUR);
    let mut of: HashMap<IssuerId, BTreeSet<SerialNumber>> = HashMap::new();
    for n in 0..12 {
        let mut device = world.enroll(&format!("pump-{n}")).await;
        let mut had = vec![device.0.clone()];
        // Those of the second half have moved before they are cut off.
        if n >= 6 {
            let issuer = device.0.issuer;
            let others: Vec<_> = world.authority.issuers().places().iter().map(|place| place.id).collect();
            let other: Vec<_> = others.into_iter().filter(|id| *id != issuer).collect();
            world.name("pumps", &other).await;
            world.clock.set(world.authority.now() + HOUR);
            device = world.renew(&device).await.unwrap();
            assert_ne!(device.0.issuer, issuer);
            had.push(device.0.clone());
            world.name("pumps", &[]).await;
            world.clock.set(world.authority.now() + HOUR);
        }
        if n % 2 == 0 {
            for one in &had {
                of.entry(one.issuer).or_default().insert(one.serial);
            }
            let reason = RevocationReason::CessationOfOperation;
            let receipt = world.authority.revoke(&device.0.subject, reason, "operator/ana").await.unwrap();
            let issuers: BTreeSet<_> = receipt.crls.iter().map(|(issuer, _)| *issuer).collect();
            assert_eq!(issuers, had.iter().map(|one| one.issuer).collect());
        }
    }
    assert_eq!(of.len(), 2);
    for (issuer, serials) in of {
        let crl = ParsedCrl::parse(world.authority.publisher.current(&issuer).unwrap().der.clone()).unwrap();
        assert_eq!(crl.entries().iter().map(|entry| entry.serial).collect::<BTreeSet<_>>(), serials);
    }
}

#[tokio::test]
async fn a_successor_takes_over_when_it_is_ready_and_the_one_before_it_stands_in_until_then() {
    let world = World::new().await;
    let first = world.issuer();
    let (world, second) = world.with_issuer(Some(first)).await;
    assert_eq!((world.signers("pumps").await, world.bundle("pumps").await), (set(&[first]), set(&[first, second])));
    let device = world.enroll("pump-1").await;
    assert_eq!(device.0.issuer, first);
    world.at(HOUR);
    assert_eq!((world.signers("pumps").await, world.renew(&device).await.unwrap().0.issuer), (set(&[second]), second));
}

#[tokio::test]
async fn an_issuer_ends_a_day_after_the_last_of_its_certificates_and_signs_nothing_after() {
    let world = World::new().await;
    let (first, store) = (world.issuer(), world.authority.store.clone());
    let (world, _) = world.with_issuer(None).await;
    world.authority.create_fleet(&"doors".parse().unwrap(), Policy::default(), "operator/ana").await.unwrap();
    world.name("doors", &[first]).await;
    world.at(HOUR);
    let device = world.enroll_in("doors", "door-1").await;
    let change = |at| IssuerChange {
        new: None,
        standing: Some((first, Standing::Ended)),
        root_crl: None,
        trust_bundle: None,
        at,
        audit: Draft::done(at, "local", "issuer.ended", format!("issuer/{first}")),
    };
    for needed_at in [device.0.not_after, device.0.not_after + DAY] {
        let needed = store.record_issuer_change(change(needed_at)).await;
        assert!(matches!(needed, Err(StoreError::Conflict)), "{needed:?}");
    }
    store.record_issuer_change(change(device.0.not_after + DAY + Duration::from_secs(1))).await.unwrap();
    let again = store.record_issuer_change(change(START + DAY * 9)).await;
    assert!(matches!(again, Err(StoreError::Conflict)), "{again:?}");
    // By a process that has not heard of it yet.
    assert!(matches!(world.renew(&device).await, Err(Refusal::Contended)));
}

#[tokio::test]
async fn an_issuing_ca_that_a_fleet_has_nobody_else_for_is_not_retired() {
    let world = World::new().await;
    let first = world.issuer();
    let retire = async |world: &World, id| world.authority.retire_issuer(id, "operator/ana").await;
    let refused = retire(&world, first).await;
    assert!(matches!(&refused, Err(Refusal::State(why)) if why.contains("pumps")), "{refused:?}");
    let (world, second) = world.with_issuer(None).await;
    let refused = retire(&world, first).await;
    assert!(matches!(&refused, Err(Refusal::State(_))), "the other one waits: {refused:?}");
    world.at(HOUR);
    world.name("pumps", &[first]).await;
    assert!(matches!(retire(&world, first).await, Err(Refusal::State(_))));
    world.name("pumps", &[second]).await;
    world.at(HOUR * 2);
    let device = world.enroll("pump-1").await;
    retire(&world, first).await.unwrap();
    retire(&world, first).await.unwrap();
    assert_eq!((world.signers("pumps").await, device.0.issuer), (set(&[second]), second));
    let records = crate::store::AuditQuery { action: Some("issuer.retired".into()), limit: 9, ..Default::default() };
    assert_eq!(world.authority.store.audit_records(&records).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_issuing_ca_is_not_retired_for_one_that_ends_before_what_it_would_sign() {
    let world = World::new().await;
    let first = world.issuer();
    world.at(DAY * 100);
    let (world, second) = world.with_issuer(None).await;
    let issuers = world.authority.issuers();
    let ends = issuers.certificate(&first).unwrap().not_after();
    let can = |at| issuers.can_do_without(&Spread::default(), second, at);
    assert!(can(START + DAY * 101));
    assert!(can(ends - DAY * 8));
    assert!(!can(ends - DAY * 7), "what it signs lasts as long as it, and was backdated");
    assert!(!can(ends + DAY));
}
