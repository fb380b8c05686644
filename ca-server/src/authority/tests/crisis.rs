//! An issuing CA whose key was stolen, and that its root has revoked: how its devices come back, and who does not.

use super::{partitions::set, previous::Sleeper, *};
use crate::{
    audit::Draft,
    authority::{Takes, root_crl, struck},
    identity::{DeviceId, RevocationReason},
    inventory::partition::Standing,
    pki::{CrlEntry, CrlScope, Csr, Holder as LeafHolder, LeafRequest},
    store::{CrlHead, IssuerChange},
};

/// Where a fleet's grace ends for a certificate that was made at the start: it has a day, and the fleet thirty.
const GRACE_ENDS: Duration = Duration::from_secs(31 * 24 * 3600);

impl World {
    /// The root has revoked this issuing CA; the server was stopped for it.
    async fn without_issuer(self, id: IssuerId) -> Self {
        let at = self.authority.now();
        let change = IssuerChange {
            new: None,
            standing: Some((id, Standing::Revoked)),
            root_crl: None,
            trust_bundle: None,
            at,
            audit: Draft::done(at, "local", "issuer.revoked", format!("issuer/{id}")),
        };
        self.authority.store.record_issuer_change(change).await.unwrap();
        self.restarted().await
    }

    /// Their root signs a CRL anew, and it is taken in; gives its number.
    pub(super) async fn renew_root_crl(&self) -> (IssuerId, u64) {
        let (root, now) = (self.roots().device.unwrap(), self.authority.now());
        let (der, head) = root_crl(&root.certificate, root.signer.as_ref(), None, None, now).unwrap();
        let audit = Draft::done(now, "operator/ana", "crl.root_taken_in", "crl".into());
        self.authority.publisher.take_root_crl(der, audit).await.unwrap();
        (head.issuer, head.number)
    }

    /// The store has a CRL of their root that lists this issuing CA, as after a restoration.
    async fn root_lists(&self, id: IssuerId) {
        let (root, now) = (self.roots().device.unwrap(), self.authority.now());
        let serial = self.authority.issuers().certificate(&id).unwrap().serial().as_ours().unwrap();
        let entry = CrlEntry { serial, revoked_at: now, reason: RevocationReason::CaCompromise };
        let (_, head) = root_crl(&root.certificate, root.signer.as_ref(), None, Some(entry), now).unwrap();
        let before = self.authority.store.crl_head(head.issuer).await.unwrap().map(|head| head.number);
        self.authority.store.put_crl(CrlHead { number: head.number + 1, ..head }, before, None).await.unwrap();
    }

    /// What the thief makes with the key of the first issuing CA: a certificate of a device, for a key of his own, and with
    /// this serial number.
    fn forge(&self, id: &str, serial: SerialNumber) -> Sleeper {
        let (key, csr) = request();
        let (id, fleet): (DeviceId, FleetName) = (id.parse().unwrap(), "pumps".parse().unwrap());
        let first = self.issuer();
        let stolen = self.authority.issuers().online().find(|online| online.issuer.id() == first).unwrap();
        let leaf = stolen.sign_leaf(&LeafRequest {
            holder: LeafHolder::Device { id: &id, fleet: &fleet },
            key: Csr::parse(&csr).unwrap().public_key(),
            serial,
            not_before: START,
            not_after: START + DAY,
            crl: CrlScope::Full,
            policy: None,
            ocsp: false,
        });
        let parsed = PeerCertificate::parse(&leaf.unwrap().der, &self.authority.domain().trust_domain).unwrap();
        Sleeper { key, device: Device(parsed) }
    }

    async fn holder_of(&self, id: &str) -> Holder {
        self.authority.store.holder(&subject(id)).await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn a_device_whose_issuing_ca_was_revoked_comes_back_by_its_certificate_until_the_grace_ends() {
    let world = World::new().await;
    let first = world.issuer();
    let sleepers = [
        ("pump-1", HOUR, true),
        ("pump-2", DAY + HOUR, true),
        ("pump-3", GRACE_ENDS, true),
        ("pump-4", GRACE_ENDS + Duration::from_secs(1), false),
    ];
    let mut enrolled = Vec::new();
    for (id, after, comes_back) in sleepers {
        enrolled.push((id, Sleeper::enroll(&world, id).await, after, comes_back));
    }
    let (world, second) = world.with_issuer(Some(first)).await;
    world.at(HOUR);
    assert!(matches!(enrolled[0].1.refused(&world).await, Refusal::State(_)), "not before it was revoked");
    let world = world.without_issuer(first).await;
    for (id, sleeper, after, comes_back) in enrolled {
        world.at(after);
        let before = world.holder_of(id).await;
        if !comes_back {
            assert!(matches!(sleeper.refused(&world).await, Refusal::CertificateExpired), "{id}");
            assert_eq!(world.holder_of(id).await, before, "{id}: nothing has become of it");
            continue;
        }
        let (back, confirm_required) = sleeper.come_back(&world, request().0).await.unwrap();
        assert!(confirm_required && back.device.0.issuer == second, "{id}");
        world.authority.confirm(&back.device.0).await.unwrap();
        let holder = world.holder_of(id).await;
        assert_eq!((holder.attested.clone(), holder.status), (before.attested, Status::Active), "{id}");
        assert!(!world.authority.is_stranded(&holder).await.unwrap(), "{id}");
        world.renew(&back.device).await.unwrap();
        assert!(matches!(sleeper.refused(&world).await, Refusal::CertificateSuperseded), "{id}: once");
    }
}

#[tokio::test]
async fn where_a_fleet_has_no_grace_nobody_comes_back_by_a_certificate_of_a_revoked_issuing_ca() {
    let world = World::new().await;
    let first = world.issuer();
    let sleeper = Sleeper::enroll(&world, "pump-1").await;
    let pumps = "pumps".parse().unwrap();
    world.authority.change_policy(&pumps, |policy| policy.grace_secs = 0, "operator/ana").await.unwrap();
    let (world, _) = world.with_issuer(Some(first)).await;
    let world = world.without_issuer(first).await;
    world.at(HOUR);
    assert!(matches!(sleeper.refused(&world).await, Refusal::CertificateExpired));
    assert_eq!(world.holder_of("pump-1").await.lineage.pending, None);
}

#[tokio::test]
async fn what_was_forged_with_a_stolen_issuing_key_neither_renews_nor_comes_back_and_harms_nobody() {
    let world = World::new().await;
    let first = world.issuer();
    let honest = Sleeper::enroll(&world, "pump-1").await;
    // As its own, and in the place of the device's.
    let forged = [
        world.forge("pump-1", SerialNumber::new(START, [7; 10])),
        world.forge("pump-1", honest.device.0.serial),
        world.forge("pump-2", SerialNumber::new(START, [8; 10])),
    ];
    let before = world.holder_of("pump-1").await;
    let (world, _) = world.with_issuer(Some(first)).await;
    world.at(HOUR);
    let refuses = async |world: &World, when: &str| {
        for thief in &forged {
            let refused = thief.refused(world).await;
            let is_strange = matches!(refused, Refusal::CertificateForgotten | Refusal::CertificateUnknown);
            assert!(is_strange, "{when}: {refused:?}");
            let refused = world.renew(&thief.device).await.err();
            assert!(refused.is_some(), "{when}");
        }
    };
    refuses(&world, "before anybody knows").await;
    let world = world.without_issuer(first).await;
    for (after, when) in [(HOUR, "at once"), (DAY * 2, "within the grace"), (GRACE_ENDS + HOUR, "after it")] {
        world.at(after);
        refuses(&world, when).await;
    }
    let unknown = world.authority.store.holder(&subject("pump-2")).await.unwrap();
    assert_eq!((world.holder_of("pump-1").await, unknown), (before, None), "neither held nor anything else");
    world.at(GRACE_ENDS);
    honest.come_back(&world, request().0).await.unwrap();
}

#[tokio::test]
async fn devices_of_a_revoked_issuing_ca_attest_anew_and_by_their_own_keys_at_once() {
    let world = World::new().await;
    let first = world.issuer();
    let device = world.enroll("pump-1").await;
    let (world, second) = world.with_issuer(Some(first)).await;
    let world = world.without_issuer(first).await;
    world.at(HOUR);
    assert!(matches!(world.renew(&device).await, Err(Refusal::IssuerRevoked)));
    let why = |refused: Refused| refused.why;
    assert!(matches!(world.authority.confirm(&device.0).await.map_err(why), Err(Refusal::IssuerRevoked)));
    assert!(matches!(world.authority.authenticate(&device.0).await.map_err(why), Err(Refusal::IssuerRevoked)));
    // Who is cut off is told that.
    world.authority.hold(&device.0.subject, "operator/ana").await.unwrap();
    assert!(matches!(world.renew(&device).await, Err(Refusal::Held)));
    world.authority.release(&device.0.subject, None, "operator/ana").await.unwrap();
    let holder = world.authority.store.holder(&device.0.subject).await.unwrap().unwrap();
    assert!(world.authority.is_stranded(&holder).await.unwrap());
    assert!(!world.authority.publisher.bundle().unwrap().iter().any(|crl| crl.issuer == first));
    let target = TokenFor::Device { fleet: "pumps".parse().unwrap(), id: "pump-1".parse().unwrap(), reenroll: true };
    let token = world.token(target, Duration::ZERO).await.unwrap();
    let anew = world.enroll_with(&token, "pump-1", &request()).await.unwrap();
    assert_eq!(anew.0.issuer, second);
    world.authority.confirm(&anew.0).await.unwrap();
    let holder = world.authority.store.holder(&device.0.subject).await.unwrap().unwrap();
    assert!(!world.authority.is_stranded(&holder).await.unwrap());
    world.renew(&anew).await.unwrap();
}

#[tokio::test]
async fn an_issuing_ca_that_has_signed_does_not_wait_again_whatever_gateways_say_and_when_the_server_restarts() {
    let world = World::new().await;
    let first = world.issuer();
    let (world, second) = world.with_issuer(None).await;
    let (eu_7, eu_8) = (world.gateway_named("eu-7").await, world.gateway_named("eu-8").await);
    for gateway in [&eu_7, &eu_8] {
        world.loads(gateway, &[first, second]).await;
    }
    let mut signed = 0;
    for n in 0..16 {
        signed += usize::from(world.enroll(&format!("pump-{n}")).await.0.issuer == second);
    }
    assert!(signed > 0);
    // One whose disk was restored, and one that the server does not know to have loaded anything.
    world.loads(&eu_8, &[first]).await;
    assert_eq!(world.signers("pumps").await, set(&[first, second]));
    let world = world.restarted().await;
    assert_eq!(world.signers("pumps").await, set(&[first, second]));
}

#[tokio::test]
async fn a_gateway_that_enrolls_when_a_new_issuing_cas_crl_is_out_keeps_nobody_waiting() {
    let world = World::new().await;
    let first = world.issuer();
    let (world, second) = world.with_issuer(None).await;
    let early = world.gateway_named("eu-7").await;
    world.at(Duration::from_secs(60));
    let late = world.gateway_named("eu-8").await;
    world.authority.look_at_issuers().await.unwrap();
    assert_eq!(world.signers("pumps").await, set(&[first]), "nobody has said anything");
    world.loads(&early, &[first, second]).await;
    assert_eq!(world.signers("pumps").await, set(&[first, second]));
    // Once it says what it has, that counts.
    world.loads(&late, &[first]).await;
    assert_eq!(world.signers("pumps").await, set(&[first]));
}

#[tokio::test]
async fn what_a_fleet_names_waits_for_its_gateways_from_that_moment_on() {
    let world = World::new().await;
    let first = world.issuer();
    let (world, second) = world.with_issuer(None).await;
    world.authority.create_fleet(&"doors".parse().unwrap(), Policy::default(), "operator/ana").await.unwrap();
    world.name("doors", &[first]).await;
    let eu_7 = world.gateway_named("eu-7").await;
    world.at(HOUR * 2);
    let doors = world.gateway_named("doors").await;
    world.authority.takes(&doors, Takes::Fleet("doors".parse().unwrap()));
    world.loads(&eu_7, &[first, second]).await;
    world.loads(&doors, &[first]).await;
    world.name("doors", &[second]).await;
    assert_eq!(world.signers("doors").await, set(&[first]), "at once, and not at the next look");
    world.loads(&doors, &[first, second]).await;
    assert_eq!(world.signers("doors").await, set(&[second]));
}

#[tokio::test]
async fn what_a_revoked_issuing_ca_signed_is_refused_where_its_roots_crl_is_loaded() {
    let world = World::new().await;
    let first = world.issuer();
    let device = world.enroll("pump-1").await;
    let (world, second) = world.with_issuer(Some(first)).await;
    let [eu_7, _eu_8, eu_9] = {
        let gateways = ["eu-7", "eu-8", "eu-9"].map(|id| world.gateway_named(id));
        let mut named = Vec::new();
        for gateway in gateways {
            named.push(gateway.await);
            world.loads(named.last().unwrap(), &[first, second]).await;
        }
        <[Subject; 3]>::try_from(named).unwrap()
    };
    world.authority.keep_words().await;
    world.at(Duration::from_secs(600));
    let world = world.without_issuer(first).await;
    let root = world.renew_root_crl().await;
    world.at(Duration::from_secs(660));
    world.authority.takes(&eu_9, Takes::One(first));
    let behind = async || {
        let all = world.authority.loaded().await.unwrap();
        let behind =
            all.iter().flat_map(|one| one.crls.iter().filter(|crl| crl.behind.is_some()).map(|crl| crl.issuer));
        behind.collect::<Vec<_>>()
    };
    // The last one takes nothing but the CRL of an issuer that has none any more.
    assert_eq!(behind().await, [root.0, root.0, first]);
    assert!(world.authority.loaded().await.unwrap().iter().all(|one| one.lag() >= Duration::from_secs(60)));
    world.loads(&eu_7, &[second]).await;
    assert_eq!(behind().await, [root.0, first]);
    let receipt =
        world.authority.revoke(&device.0.subject, RevocationReason::Unspecified, "operator/ana").await.unwrap();
    assert_eq!(receipt.crls, [root]);
    let all = world.authority.loaded().await.unwrap();
    let at = world.authority.loaded_at(&all, &receipt.crls).unwrap();
    assert_eq!((at.gateways, at.behind.len()), (2, 1), "eu-9 takes no bundle");
    let waited = world.authority.wait_for_gateways(&receipt.crls, Duration::ZERO).await.unwrap();
    assert_eq!((waited.gateways, waited.behind.len(), waited.not_heard), (1, 0, Some(1)));
}

#[tokio::test]
async fn an_issuing_ca_on_its_roots_crl_must_not_sign_and_is_known_to_be_on_it_when_it_has_expired() {
    let world = World::new().await;
    let first = world.issuer();
    let struck = async || struck(world.authority.store.as_ref()).await.unwrap();
    assert_eq!(struck().await, []);
    world.root_lists(first).await;
    let found = struck().await;
    assert_eq!(found.iter().map(|one| one.issuer).collect::<Vec<_>>(), [first]);
    let until = world.authority.issuers().certificate(&first).unwrap().not_after();
    let counts = [START, until, until + Duration::from_secs(1)].map(|at| found[0].counts(at));
    assert_eq!(counts, [true, true, false]);
}
