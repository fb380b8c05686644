//! A new CA, its fleets and tokens, and the first certificate of a device.

use super::world::*;
use crate::{
    identity::{HardwareId, KeyFingerprint, Kind, RevocationReason, Subject},
    inventory::{device::Status, fleet::Policy, lineage::Position},
    store::*,
};

pub(crate) async fn a_new_ca_answers_with_what_it_was_given<P: Place>() {
    let world = World::<P>::new().await;
    let store = &world.store;
    let asked = world.initialization();
    assert_eq!(store.domain().await.unwrap(), asked.domain);
    assert_eq!(store.trust_bundle().await.unwrap(), asked.trust_bundle);
    let mut issuers = store.issuers().await.unwrap();
    issuers.iter_mut().for_each(|issuer| issuer.published_at = None);
    assert_eq!(issuers, asked.issuers);
    assert_eq!(store.crl_head(issuer("device-root")).await.unwrap(), Some(crl(issuer("device-root"), 1, 0)));
    assert_eq!(store.crl_head(devices_ca()).await.unwrap(), None);
    let server = Subject::new(Kind::Server, "ca".parse().unwrap());
    let server = store.holder(&server).await.unwrap().unwrap();
    assert_eq!((server.status, server.lineage.generation), (Status::Active, 1));
    let fleet = store.fleet(&fleet()).await.unwrap().unwrap();
    assert_eq!((fleet.policy, fleet.created_at, fleet.device_count), (Policy::default(), at(0), 0));
    let actions: Vec<_> = world.audit().await.into_iter().map(|kept| kept.record.action).collect();
    assert_eq!(actions, ["ca.initialized", "certificate.issued", "fleet.created"]);
}

pub(crate) async fn a_second_initialization_is_refused_and_changes_nothing<P: Place>() {
    let world = World::<P>::new().await;
    let before = world.audit().await;
    let refused = world.store.record_initialization(world.initialization()).await;
    assert!(matches!(refused, Err(StoreError::Exists(_))), "{refused:?}");
    assert_eq!(world.audit().await, before);
    assert!(matches!(P::new().open().domain().await, Err(StoreError::NotFound(_))));
}

pub(crate) async fn an_enrolled_device_is_found_by_its_certificate<P: Place>() {
    let world = World::<P>::new().await;
    let enrollment = world.enrollment("pump-7", 5);
    world.store.record_enrollment(enrollment.clone()).await.unwrap();
    let new = enrollment.certificate;
    let peer = world.store.peer(new.serial).await.unwrap().unwrap();
    let expected = CertificateRow {
        serial: new.serial,
        holder: device("pump-7"),
        issuer: new.issuer,
        key: new.key,
        hash: new.hash,
        not_before: new.not_before,
        not_after: new.not_after,
        position: Position::Head,
        presented: None,
        token: None,
        revoked: None,
        attested: Some(enrollment.attested.clone()),
    };
    assert_eq!(peer.certificate, expected);
    let holder = peer.holder;
    assert_eq!(holder, world.holder("pump-7").await);
    assert_eq!((holder.subject, holder.fleet, holder.status), (device("pump-7"), Some(fleet()), Status::Active));
    assert_eq!((holder.lineage, holder.attested), (enrollment.lineage, Some(enrollment.attested)));
    assert_eq!((holder.expires_at, holder.last_seen_at), (Some(new.not_after), Some(at(5))));
    assert_eq!(world.store.certificate(new.serial).await.unwrap(), Some((expected.clone(), new.der)));
    assert_eq!(world.store.live_certificates(&device("pump-7"), at(6)).await.unwrap(), vec![expected.clone()]);
    assert_eq!(world.store.live_certificates(&device("pump-7"), at(6 + DAY)).await.unwrap(), []);
    let of_key = world.store.key_use(&new.key).await.unwrap();
    assert_eq!(of_key, KeyUse { banned: false, certificates: vec![expected] });
    assert_eq!(world.store.key_use(&KeyFingerprint::of(b"another")).await.unwrap(), KeyUse::default());
    assert_eq!(world.store.peer(world.certificate(9).serial).await.unwrap(), None);
    assert_eq!(world.store.fleet(&fleet()).await.unwrap().unwrap().device_count, 1);
}

pub(crate) async fn an_id_that_differs_in_case_only_conflicts<P: Place>() {
    let world = World::<P>::new().await;
    world.enroll("Pump-7", 1).await;
    let refused = world.store.record_enrollment(world.enrollment("pump-7", 2)).await;
    assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    let found = world.store.holder_folded(Kind::Device, "pump-7").await.unwrap().unwrap();
    assert_eq!(found.subject, device("Pump-7"));
    assert_eq!(world.store.holder(&device("pump-7")).await.unwrap(), None);
}

pub(crate) async fn fifty_uses_of_one_token_make_one_certificate<P: Place>() {
    let world = World::<P>::new().await;
    let token = world.fleet_token(1, 1).await;
    let racers = (0..50).map(|n| {
        let mut enrollment = world.enrollment(&format!("d{n}"), 1);
        enrollment.token = Some(token.id.clone());
        let store = world.store.clone();
        tokio::spawn(async move { store.record_enrollment(enrollment).await })
    });
    let mut made = 0;
    for racer in racers.collect::<Vec<_>>() {
        match racer.await.unwrap() {
            Ok(()) => made += 1,
            Err(error) => assert!(matches!(error, StoreError::Conflict), "{error:?}"),
        }
    }
    assert_eq!(made, 1);
    assert_eq!(world.store.token(&token.id).await.unwrap().unwrap().uses_left, 0);
    assert_eq!(world.store.fleet(&fleet()).await.unwrap().unwrap().device_count, 1);
}

pub(crate) async fn a_fleet_token_counts_its_uses_down<P: Place>() {
    let world = World::<P>::new().await;
    let token = world.fleet_token(1, 3).await;
    for n in 0..5 {
        let mut enrollment = world.enrollment(&format!("d{n}"), 1);
        (enrollment.token, enrollment.came_by) = (Some(token.id.clone()), Some(token.id.clone()));
        enrollment.certificate.token = Some(token.id.clone());
        let serial = enrollment.certificate.serial;
        let recorded = world.store.record_enrollment(enrollment).await;
        assert_eq!(recorded.is_ok(), n < 3, "{n}: {recorded:?}");
        let found = world.store.peer(serial).await.unwrap().map(|peer| peer.certificate.token);
        assert_eq!(found, (n < 3).then(|| Some(token.id.clone())));
    }
}

pub(crate) async fn a_token_that_is_revoked_expired_or_spent_conflicts<P: Place>() {
    let world = World::<P>::new().await;
    world.fleet_token(1, 1).await;
    world.fleet_token(2, 1).await;
    let revoked = world.store.record_token_revocation(&token_id(1), draft(1, "token.revoked")).await.unwrap();
    assert_eq!(revoked.state, TokenState::Revoked);
    let records = world.audit().await.len();
    let again = world.store.record_token_revocation(&token_id(1), draft(1, "token.revoked")).await.unwrap();
    assert_eq!((again, world.audit().await.len()), (revoked, records));
    let late = DAY + 1;
    for (token, secs) in [(token_id(1), 1), (token_id(2), late), (token_id(3), 1)] {
        let mut enrollment = world.enrollment("d", secs);
        enrollment.token = Some(token);
        let refused = world.store.record_enrollment(enrollment).await;
        assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    }
    assert_eq!(world.store.token(&token_id(2)).await.unwrap().unwrap().uses_left, 1);
    assert_eq!(world.store.holder(&device("d")).await.unwrap(), None);
    let unknown = world.store.record_token_revocation(&token_id(9), draft(1, "token.revoked")).await;
    assert!(matches!(unknown, Err(StoreError::NotFound("token"))), "{unknown:?}");
}

pub(crate) async fn a_key_of_another_device_conflicts<P: Place>() {
    let world = World::<P>::new().await;
    let first = world.enrollment("a", 1);
    world.store.record_enrollment(first.clone()).await.unwrap();
    let mut second = world.enrollment("b", 1);
    second.certificate.key = first.certificate.key;
    let refused = world.store.record_enrollment(second).await;
    assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
}

pub(crate) async fn a_device_registered_with_its_token_enrolls_as_it_was_read<P: Place>() {
    let world = World::<P>::new().await;
    let row = token(1, Some("a"), 1);
    let register = Some(world.new_holder("a", 1));
    world.store.record_token(row.clone(), register, draft(1, "token.created")).await.unwrap();
    assert_eq!(world.store.token(&row.id).await.unwrap(), Some(row.clone()));
    let registered = world.holder("a").await;
    assert_eq!((registered.status, registered.expires_at), (Status::Registered, None));
    let mut enrollment = world.enrollment("a", 2);
    enrollment.holder = EnrollmentHolder::Known(registered.version);
    enrollment.token = Some(row.id);
    world.store.record_enrollment(enrollment.clone()).await.unwrap();
    let holder = world.holder("a").await;
    assert_eq!(holder.status, Status::Active);
    assert!(holder.version.version > registered.version.version);
    let refused = world.store.record_enrollment(enrollment).await;
    assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
}

pub(crate) async fn a_second_enrollment_supersedes_what_was_pending<P: Place>() {
    let world = World::<P>::new().await;
    let holder = world.enroll("a", 1).await;
    world.store.record_renewal(world.renewal(&holder, 2)).await.unwrap();
    let holder = world.holder("a").await;
    let mut again = world.enrollment("a", 3);
    again.holder = EnrollmentHolder::Known(holder.version);
    again.lineage = holder.lineage.issued(false, again.certificate.serial);
    again.superseded = holder.lineage.pending;
    world.store.record_enrollment(again.clone()).await.unwrap();
    let superseded = holder.lineage.pending.unwrap();
    assert_eq!(world.revoked(superseded).await, Some(RevocationReason::Superseded));
    let changes = world.changes().await;
    assert_eq!((changes.len(), changes[0].serial, changes[0].sequence), (1, superseded, 1));
    let positions: Vec<_> = world.store.live_certificates(&device("a"), at(3)).await.unwrap();
    let positions: Vec<_> = positions.iter().map(|row| row.position).collect();
    assert_eq!(positions, [Position::Pending, Position::Superseded, Position::Head]);
}

pub(crate) async fn names_that_are_taken_in_whatever_case_are_refused<P: Place>() {
    let world = World::<P>::new().await;
    let taken = world.store.record_fleet(&"Sensors".parse().unwrap(), &Policy::default(), draft(1, "f")).await;
    assert!(matches!(taken, Err(StoreError::Exists("fleet"))), "{taken:?}");
    world
        .store
        .record_registrations(vec![world.new_holder("a", 1).into()], vec![draft(1, "device.registered")])
        .await
        .unwrap();
    for id in ["a", "A"] {
        let taken = world
            .store
            .record_registrations(vec![world.new_holder(id, 1).into()], vec![draft(1, "device.registered")])
            .await;
        assert!(matches!(taken, Err(StoreError::Taken(_))), "{taken:?}");
    }
    let look_alike = Some(world.new_holder("A", 1));
    let taken = world.store.record_token(token(1, Some("A"), 1), look_alike, draft(1, "token.created")).await;
    assert!(matches!(taken, Err(StoreError::Exists("device"))), "{taken:?}");
    let same = Some(world.new_holder("a", 1));
    world.store.record_token(token(1, Some("a"), 1), same, draft(1, "token.created")).await.unwrap();
    let taken = world.store.record_token(token(1, Some("a"), 1), None, draft(1, "token.created")).await;
    assert!(matches!(taken, Err(StoreError::Exists("token"))), "{taken:?}");
}

pub(crate) async fn a_policy_is_swapped_only_for_the_one_that_was_read<P: Place>() {
    let world = World::<P>::new().await;
    let (first, second) = (Policy::default(), Policy { validity_secs: 600, ..Policy::default() });
    let swap = async |was: &Policy, policy: &Policy| {
        world.store.record_policy(&fleet(), was, policy, draft(1, "fleet.changed")).await
    };
    swap(&first, &second).await.unwrap();
    assert!(matches!(swap(&first, &second).await, Err(StoreError::Conflict)));
    assert_eq!(world.store.fleet(&fleet()).await.unwrap().unwrap().policy, second);
}

pub(crate) async fn an_unknown_fleet_or_issuer_is_named<P: Place>() {
    let world = World::<P>::new().await;
    let mut holder = world.new_holder("a", 1);
    holder.fleet = Some("nowhere".parse().unwrap());
    let refused = world.store.record_registrations(vec![holder.into()], vec![draft(1, "device.registered")]).await;
    assert!(matches!(refused, Err(StoreError::NotFound("fleet"))), "{refused:?}");
    let mut enrollment = world.enrollment("a", 1);
    enrollment.certificate.issuer = issuer("nobody");
    let refused = world.store.record_enrollment(enrollment).await;
    assert!(matches!(refused, Err(StoreError::NotFound("issuer"))), "{refused:?}");
    assert_eq!(world.store.holder(&device("a")).await.unwrap(), None);
}

pub(crate) async fn hardware_that_two_devices_claim_at_once_is_one_devices<P: Place>() {
    let world = World::<P>::new().await;
    let hardware = HardwareId::Ek([7; 32]);
    let attempts = (0..20).map(|n| {
        let (store, hardware) = (world.store.clone(), Some(hardware.clone()));
        let enrollment = Enrollment { hardware, ..world.enrollment(&format!("d-{n}"), 1) };
        tokio::spawn(async move { store.record_enrollment(enrollment).await })
    });
    let mut won = 0;
    for attempt in attempts.collect::<Vec<_>>() {
        match attempt.await.unwrap() {
            Ok(()) => won += 1,
            Err(StoreError::Conflict) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(won, 1);
    let (own, owner) = world.store.holder_of_hardware(&hardware).await.unwrap().unwrap();
    assert_eq!(own, Hardware { id: hardware, retired_at: None });
    assert_eq!(world.store.hardware_of(&owner.subject).await.unwrap(), [own]);
    let devices = world.store.devices(&DeviceQuery { limit: 100, ..DeviceQuery::default() }).await.unwrap().devices;
    assert_eq!(devices, [owner]);
}
