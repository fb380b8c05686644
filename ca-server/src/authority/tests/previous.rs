//! Devices that slept past the end of their certificates.

use super::*;

/// A device with the key of its certificate in its hands.
pub(super) struct Sleeper {
    pub(super) key: rcgen::KeyPair,
    pub(super) device: Device,
}

impl Sleeper {
    pub(super) async fn enroll(world: &World, id: &str) -> Sleeper {
        let target = TokenFor::Device { fleet: "pumps".parse().unwrap(), id: id.parse().unwrap(), reenroll: true };
        let token = world.token(target, Duration::ZERO).await.unwrap();
        let (key, csr) = request();
        let request = (key, csr);
        let device = world.enroll_with(&token, id, &request).await.unwrap();
        Sleeper { key: request.0, device }
    }

    /// Renews for a key of its own, and does not confirm.
    async fn renewed(&self, world: &World) -> Sleeper {
        let (key, csr) = request();
        let grant = world.authority.renew(&self.device.0, &csr).await.unwrap();
        Sleeper { key, device: world.device(&grant) }
    }

    fn start(&self, csr: &[u8]) -> v1::Start {
        let certificate = self.device.0.der.clone();
        v1::Start {
            trust_domain: "fleet.example".into(),
            kind: v1::Kind::Device.into(),
            id: String::new(),
            csr: csr.to_vec(),
            evidence: Some(v1::start::Evidence::Previous(v1::PreviousEvidence { certificate })),
        }
    }

    /// Comes back for a key; the answer, with that key.
    pub(super) async fn come_back(&self, world: &World, key: rcgen::KeyPair) -> Result<(Sleeper, bool), Refusal> {
        let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
        let grant = attempt(world, &self.start(&csr), &self.key, &key).await?;
        let confirm_required = grant.confirm_required;
        Ok((Sleeper { key, device: world.device(&grant) }, confirm_required))
    }

    pub(super) async fn refused(&self, world: &World) -> Refusal {
        match self.come_back(world, request().0).await {
            Ok(_) => panic!("it came back"),
            Err(refusal) => refusal,
        }
    }
}

/// Enrolls with proofs by these two keys.
async fn attempt(
    world: &World,
    start: &v1::Start,
    evidence: &rcgen::KeyPair,
    subject: &rcgen::KeyPair,
) -> Result<Grant, Refusal> {
    let start = start.encode_to_vec();
    let sign = |key, role| rcgen::SigningKey::sign(key, &enrollment("previous", role, &start, b"challenge")).unwrap();
    let proof = v1::Proof {
        evidence_signature: sign(evidence, Signs::Evidence),
        subject_signature: sign(subject, Signs::Subject),
        ..Default::default()
    };
    let request = EnrollmentRequest::read(start, &world.authority.domain().trust_domain)?;
    let challenge = Challenge::plain(b"challenge");
    world.authority.enroll(&request, &challenge, &proof).await.map(issued).map_err(|refused| refused.why)
}

/// What `fleet explain` says of a return.
async fn explained(world: &World, id: &str) -> String {
    let explained = world.authority.explain(&"pumps".parse().unwrap(), &subject(id), None).await.unwrap();
    let way = explained.ways.into_iter().find(|way| way.way == "previous").unwrap();
    assert!(matches!(way.outcome, Err(Refusal::CertificateExpired)), "{way:?}");
    way.note.unwrap_or_default()
}

async fn holder(world: &World, id: &str) -> Holder {
    world.authority.store.holder(&subject(id)).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_device_that_slept_comes_back_within_the_grace_and_confirms() {
    let world = World::new().await;
    let sleeper = Sleeper::enroll(&world, "pump-1").await;
    let before = holder(&world, "pump-1").await;
    world.at(DAY * 31);
    let (back, confirm_required) = sleeper.come_back(&world, request().0).await.unwrap();
    assert!(confirm_required);
    world.authority.confirm(&back.device.0).await.unwrap();
    let after = holder(&world, "pump-1").await;
    assert_eq!((after.attested, after.status), (before.attested, Status::Active), "how it attested stays");
    assert_eq!((after.lineage.head, after.lineage.generation), (Some(back.device.0.serial), 2));
    assert!(matches!(sleeper.refused(&world).await, Refusal::CertificateSuperseded));
}

#[tokio::test]
async fn after_the_grace_a_device_attests_anew() {
    let world = World::new().await;
    let sleeper = Sleeper::enroll(&world, "pump-1").await;
    world.at(DAY * 31 + Duration::from_secs(1));
    assert!(matches!(sleeper.refused(&world).await, Refusal::CertificateExpired));
    let told = explained(&world, "pump-1").await;
    assert!(told.contains("grace was over at"), "{told}");
    assert_eq!(holder(&world, "pump-1").await.status, Status::Active);
}

#[tokio::test]
async fn a_fleet_without_grace_lets_nobody_back() {
    let world = World::new().await;
    let sleeper = Sleeper::enroll(&world, "pump-1").await;
    let pumps = "pumps".parse().unwrap();
    world.authority.change_policy(&pumps, |policy| policy.grace_secs = 0, "operator/ana").await.unwrap();
    world.at(DAY + Duration::from_secs(1));
    assert!(matches!(sleeper.refused(&world).await, Refusal::CertificateExpired));
    let told = explained(&world, "pump-1").await;
    assert!(told.contains("has no grace"), "{told}");
}

#[tokio::test]
async fn a_certificate_that_has_not_expired_renews_and_does_not_recover() {
    let world = World::new().await;
    let sleeper = Sleeper::enroll(&world, "pump-1").await;
    assert!(matches!(sleeper.refused(&world).await, Refusal::State(_)));
}

#[tokio::test]
async fn a_pending_certificate_that_expired_comes_back_and_was_the_head() {
    let world = World::new().await;
    let sleeper = Sleeper::enroll(&world, "pump-1").await;
    let pending = sleeper.renewed(&world).await;
    world.at(DAY * 3);
    let (back, _) = pending.come_back(&world, request().0).await.unwrap();
    world.authority.confirm(&back.device.0).await.unwrap();
    assert_eq!(holder(&world, "pump-1").await.lineage.generation, 3);
    assert!(matches!(sleeper.refused(&world).await, Refusal::CertificateSuperseded), "the head before is stale");
}

#[tokio::test]
async fn a_stale_certificate_is_told_to_attest_anew_and_never_holds_its_device() {
    let world = World::new().await;
    let first = Sleeper::enroll(&world, "pump-1").await;
    let second = first.renewed(&world).await;
    world.authority.confirm(&second.device.0).await.unwrap();
    let third = second.renewed(&world).await;
    let fourth = second.renewed(&world).await;
    world.at(DAY * 3);
    for stale in [&first, &third] {
        assert!(matches!(stale.refused(&world).await, Refusal::CertificateSuperseded));
    }
    assert_eq!(holder(&world, "pump-1").await.status, Status::Active);
    fourth.come_back(&world, request().0).await.unwrap();
}

#[tokio::test]
async fn a_lost_answer_is_given_again_and_another_key_takes_its_place_twice() {
    let world = World::new().await;
    let sleeper = Sleeper::enroll(&world, "pump-1").await;
    world.at(DAY * 3);
    let key = request().0;
    let same = rcgen::KeyPair::from_pem(&key.serialize_pem()).unwrap();
    let (first, _) = sleeper.come_back(&world, key).await.unwrap();
    let (again, _) = sleeper.come_back(&world, same).await.unwrap();
    assert_eq!(first.device.0.serial, again.device.0.serial);
    for _ in 0..2 {
        sleeper.come_back(&world, request().0).await.unwrap();
    }
    let metrics = world.authority.telemetry.metrics_text();
    assert!(metrics.contains("fleetca_security_events_total{kind=\"lineage.second_key\"} 2"), "{metrics}");
    assert!(matches!(sleeper.refused(&world).await, Refusal::CertificateSuperseded), "not for ever");
    assert_eq!(holder(&world, "pump-1").await.status, Status::Active);
}

#[tokio::test]
async fn an_answer_that_expired_unused_is_asked_for_with_a_new_key() {
    let world = World::new().await;
    let sleeper = Sleeper::enroll(&world, "pump-1").await;
    world.at(DAY * 3);
    let key = request().0;
    let same = rcgen::KeyPair::from_pem(&key.serialize_pem()).unwrap();
    sleeper.come_back(&world, key).await.unwrap();
    world.at(DAY * 6);
    assert!(matches!(sleeper.come_back(&world, same).await.err(), Some(Refusal::KeyReused)));
    sleeper.come_back(&world, request().0).await.unwrap();
}

/// Refuse 8, 16, 32: made for another challenge, another request, another method; and by another key.
#[tokio::test]
async fn an_expired_certificate_is_worth_nothing_without_a_fresh_proof_by_its_key() {
    let world = World::new().await;
    let sleeper = Sleeper::enroll(&world, "pump-1").await;
    world.at(DAY * 3);
    let (key, csr) = request();
    let start = sleeper.start(&csr);
    let octets = start.encode_to_vec();
    let request = || EnrollmentRequest::read(octets.clone(), &world.authority.domain().trust_domain).unwrap();
    let own = rcgen::SigningKey::sign(&key, &enrollment("previous", Signs::Subject, &octets, b"challenge")).unwrap();
    for (method, role, begun, challenge) in [
        ("previous", Signs::Evidence, &octets[..], &b"stale"[..]),
        ("previous", Signs::Subject, &octets, b"challenge"),
        ("previous", Signs::Evidence, b"other", b"challenge"),
        ("token", Signs::Evidence, &octets, b"challenge"),
    ] {
        let evidence_signature =
            rcgen::SigningKey::sign(&sleeper.key, &enrollment(method, role, begun, challenge)).unwrap();
        let proof = v1::Proof { evidence_signature, subject_signature: own.clone(), ..Default::default() };
        let refused = world.authority.enroll(&request(), &Challenge::plain(b"challenge"), &proof).await.unwrap_err();
        assert!(matches!(refused.why, Refusal::Attestation(_)), "{refused:?}");
    }
    assert!(matches!(attempt(&world, &start, &key, &key).await, Err(Refusal::Attestation(_))));
    assert!(matches!(attempt(&world, &start, &sleeper.key, &sleeper.key).await, Err(Refusal::PossessionFailed)));
}

/// Refuse 30, 31, 32: the old key again, another device's key, another ID.
#[tokio::test]
async fn who_comes_back_needs_a_new_key_and_keeps_its_id() {
    let world = World::new().await;
    let sleeper = Sleeper::enroll(&world, "pump-1").await;
    let other = Sleeper::enroll(&world, "pump-2").await;
    world.at(DAY * 3);
    let own = rcgen::KeyPair::from_pem(&sleeper.key.serialize_pem()).unwrap();
    let refused = sleeper.come_back(&world, own).await.err();
    assert!(matches!(refused, Some(Refusal::Attestation(crate::attestation::AttestationError::SameKey))));
    let theirs = rcgen::KeyPair::from_pem(&other.key.serialize_pem()).unwrap();
    assert!(matches!(sleeper.come_back(&world, theirs).await.err(), Some(Refusal::KeyReused)));
    let (key, csr) = request();
    let renamed = v1::Start { id: "pump-2".into(), ..sleeper.start(&csr) };
    assert!(matches!(attempt(&world, &renamed, &sleeper.key, &key).await, Err(Refusal::IdRefused)));
    let gateway = v1::Start { kind: v1::Kind::Gateway.into(), ..sleeper.start(&csr) };
    assert!(matches!(attempt(&world, &gateway, &sleeper.key, &key).await, Err(Refusal::MethodRefused)));
}

#[tokio::test]
async fn who_is_cut_off_stays_so_however_long_he_slept() {
    let world = World::new().await;
    for (id, reason) in [("pump-1", None), ("pump-2", Some(RevocationReason::KeyCompromise))] {
        let sleeper = Sleeper::enroll(&world, id).await;
        match reason {
            None => world.authority.hold(&subject(id), "operator/ana").await.unwrap(),
            Some(reason) => world.authority.revoke(&subject(id), reason, "operator/ana").await.unwrap(),
        };
        world.at(DAY * 3);
        let refused = sleeper.refused(&world).await;
        assert!(matches!(refused, Refusal::Held | Refusal::Revoked), "{refused:?}");
        world.at(Duration::ZERO);
    }
}

#[tokio::test]
async fn a_certificate_that_this_ca_never_made_is_unknown() {
    let world = World::new().await;
    let elsewhere = World::new().await;
    let sleeper = Sleeper::enroll(&elsewhere, "pump-1").await;
    Sleeper::enroll(&world, "pump-1").await;
    world.at(DAY * 3);
    assert!(matches!(sleeper.refused(&world).await, Refusal::CertificateUnknown));
    let start = v1::Start {
        evidence: Some(v1::start::Evidence::Previous(v1::PreviousEvidence { certificate: vec![0x30; 300] })),
        ..sleeper.start(&request().1)
    };
    assert!(matches!(attempt(&world, &start, &sleeper.key, &sleeper.key).await, Err(Refusal::Attestation(_))));
}

#[tokio::test]
async fn fifty_racing_returns_leave_one_certificate_that_counts() {
    let world = World::new().await;
    let sleeper = Sleeper::enroll(&world, "pump-1").await;
    world.at(DAY * 3);
    let outcomes = futures::future::join_all((0..50).map(|_| sleeper.come_back(&world, request().0))).await;
    let issued = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(issued, 3, "the first and two in its place");
    let live = world.authority.store.live_certificates(&subject("pump-1"), world.authority.now()).await.unwrap();
    assert_eq!(live.iter().filter(|row| row.revoked.is_none()).count(), 1);
}

/// Writes into the store that what one row keeps of an attestation was hardware.
fn with_hardware(world: &World, change: &str) {
    let database = rusqlite::Connection::open(world.dir.path().join("ca.db")).unwrap();
    assert_eq!(database.execute(change, []).unwrap(), 1);
}

/// Refuse 34.
#[tokio::test]
async fn a_device_whose_key_lives_in_hardware_comes_back_with_that_key_only() {
    let world = World::new().await;
    let sleeper = Sleeper::enroll(&world, "pump-1").await;
    let descends =
        "SELECT attestation FROM certificates JOIN holders ON holders.key = holder WHERE holders.id = 'pump-1'";
    with_hardware(&world, &format!("UPDATE attestations SET tier = 'hardware' WHERE key = ({descends})"));
    world.at(DAY * 3);
    let refused = sleeper.refused(&world).await;
    assert!(matches!(refused, Refusal::Attestation(crate::attestation::AttestationError::OtherKey)), "{refused:?}");
    let own = rcgen::KeyPair::from_pem(&sleeper.key.serialize_pem()).unwrap();
    let (back, _) = sleeper.come_back(&world, own).await.unwrap();
    world.authority.confirm(&back.device.0).await.unwrap();
    let row = world.authority.store.certificate(back.device.0.serial).await.unwrap().unwrap().0;
    assert_eq!(row.attested.unwrap().tier, "hardware");
}

/// A device on a token's certificate that proves a TPM, and does not confirm: the key of the certificate is on its disk
/// all the same, so that it is followed by a new one.
#[tokio::test]
async fn a_key_on_disk_is_followed_by_a_new_one_whatever_its_device_has_proven_since() {
    let world = World::new().await;
    let sleeper = Sleeper::enroll(&world, "pump-1").await;
    with_hardware(&world, "UPDATE holders SET attested_tier = 'hardware' WHERE id = 'pump-1'");
    let ways =
        || async { world.authority.explain(&"pumps".parse().unwrap(), &subject("pump-1"), None).await.unwrap().ways };
    let gives = |ways: Vec<super::super::enroll::Way>, name: &str| {
        let way = ways.into_iter().find(|way| way.way == name).unwrap();
        assert!(way.outcome.is_ok(), "{way:?}");
    };
    gives(ways().await, "renew");
    world.at(DAY * 3);
    gives(ways().await, "previous");
    let own = rcgen::KeyPair::from_pem(&sleeper.key.serialize_pem()).unwrap();
    let refused = sleeper.come_back(&world, own).await.err();
    assert!(
        matches!(refused, Some(Refusal::Attestation(crate::attestation::AttestationError::SameKey))),
        "{refused:?}"
    );
    let (back, _) = sleeper.come_back(&world, request().0).await.unwrap();
    world.authority.confirm(&back.device.0).await.unwrap();
    let row = world.authority.store.certificate(back.device.0.serial).await.unwrap().unwrap().0;
    assert_eq!(row.attested.unwrap().tier, "token");
}

#[tokio::test]
async fn out_of_a_lost_time_nobody_comes_back_by_a_certificate_that_others_may_have_followed() {
    let world = World::new().await;
    let sleeper = Sleeper::enroll(&world, "pump-1").await;
    let world = world.loses(DAY * 2, DAY * 3).await.resumes(false).await;
    assert!(matches!(sleeper.refused(&world).await, Refusal::CertificateExpired));
    assert_eq!(holder(&world, "pump-1").await.lineage.pending, None);
}
