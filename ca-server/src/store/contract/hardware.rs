//! Hardware that is added to devices and retired, and registered keys that are.

use super::world::*;
use crate::{identity::HardwareId, pki::PublicKey, store::*};

const HARDWARE: HardwareId = HardwareId::Ek([7; 32]);

async fn add<P: Place>(world: &World<P>, id: &str) -> Result<(), StoreError> {
    world.store.record_hardware(&device(id), HARDWARE, draft(2, "hardware.registered")).await
}

async fn retire<P: Place>(world: &World<P>, id: &str, secs: u64) -> Result<(), StoreError> {
    let audit = draft(secs, "hardware.retired");
    world.store.record_hardware_retirement(&device(id), &HARDWARE, at(secs), audit).await
}

pub(crate) async fn hardware_that_is_added_while_others_claim_it_is_one_devices<P: Place>() {
    let world = World::<P>::new().await;
    for n in 0..10 {
        world.enroll(&format!("d-{n}"), 1).await;
    }
    let mut attempts = Vec::new();
    for n in 0..10 {
        let (store, claim) = (world.store.clone(), world.enrollment(&format!("n-{n}"), 1));
        let claim = Enrollment { hardware: Some(HARDWARE), ..claim };
        attempts.push(tokio::spawn(async move { store.record_enrollment(claim).await }));
        let store = world.store.clone();
        let added = async move {
            store.record_hardware(&device(&format!("d-{n}")), HARDWARE, draft(2, "hardware.registered")).await
        };
        attempts.push(tokio::spawn(added));
    }
    let mut won = 0;
    for attempt in attempts {
        match attempt.await.unwrap() {
            Ok(()) => won += 1,
            Err(StoreError::Conflict | StoreError::Taken(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(won, 1);
    let (own, owner) = world.store.holder_of_hardware(&HARDWARE).await.unwrap().unwrap();
    assert_eq!(world.store.hardware_of(&owner.subject).await.unwrap(), [own]);
}

/// Half of them by an operator's hand, half by themselves.
pub(crate) async fn twenty_tpms_that_race_for_one_device_are_one<P: Place>() {
    let world = World::<P>::new().await;
    let mut racers = Vec::new();
    for n in 0..20 {
        let (store, hardware) = (world.store.clone(), HardwareId::Ek([n; 32]));
        let claim = Enrollment { hardware: Some(hardware.clone()), ..world.enrollment("pump-7", 1) };
        let row = Registration { hardware: vec![hardware], ..Registration::from(world.new_holder("pump-7", 1)) };
        racers.push(tokio::spawn(async move {
            match n % 2 {
                0 => store.record_enrollment(claim).await,
                _ => store.record_registrations(vec![row], vec![draft(1, "device.registered")]).await,
            }
        }));
    }
    let mut won = Vec::new();
    for (n, racer) in (0..).zip(racers) {
        match racer.await.unwrap() {
            Ok(()) => won.push(Hardware { id: HardwareId::Ek([n; 32]), retired_at: None }),
            Err(StoreError::Conflict | StoreError::Taken(_) | StoreError::Exists(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(won.len(), 1, "{won:?}");
    assert_eq!(world.store.hardware_of(&device("pump-7")).await.unwrap(), won);
    for n in 0..20 {
        let owner = world.store.holder_of_hardware(&HardwareId::Ek([n; 32])).await.unwrap();
        assert_eq!(owner.is_some(), won[0].id == HardwareId::Ek([n; 32]), "who lost is bound to nothing");
    }
}

pub(crate) async fn hardware_that_was_retired_lets_in_nobody_who_was_decided_upon_before<P: Place>() {
    let world = World::<P>::new().await;
    let pump = world.enroll("pump-7", 1).await;
    world.enroll("pump-8", 1).await;
    add(&world, "pump-7").await.unwrap();
    let read = world.holder("pump-7").await;
    assert_eq!(read, pump, "of the device itself nothing has changed");
    let mut late = world.enrollment("pump-7", 4);
    late.holder = EnrollmentHolder::Known(read.version);
    late.lineage = read.lineage.issued(false, late.certificate.serial);

    for stranger in ["pump-8", "nobody"] {
        let refused = retire(&world, stranger, 3).await;
        assert!(matches!(refused, Err(StoreError::NotFound(_))), "{stranger}: {refused:?}");
    }
    retire(&world, "pump-7", 3).await.unwrap();
    let refused = world.store.record_enrollment(late).await;
    assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");

    // Again: nothing changes, and nothing is recorded.
    retire(&world, "pump-7", 5).await.unwrap();
    let retired = Hardware { id: HARDWARE, retired_at: Some(at(3)) };
    assert_eq!(world.store.hardware_of(&device("pump-7")).await.unwrap(), [retired]);
    let records = world.audit().await.into_iter().filter(|kept| kept.record.action == "hardware.retired");
    assert_eq!(records.count(), 1);
    for id in ["pump-7", "pump-8"] {
        let refused = add(&world, id).await;
        assert!(
            matches!(&refused, Err(StoreError::Taken(whose)) if whose.ends_with("is device pump-7's already")),
            "{id}: {refused:?}"
        );
    }
}

pub(crate) async fn a_key_that_was_retired_lets_in_nobody_who_was_decided_upon_before<P: Place>() {
    let world = World::<P>::new().await;
    world.enroll("pump-7", 1).await;
    let pair = rcgen::KeyPair::generate().unwrap();
    let key = PublicKey::from_spki_der(&rcgen::PublicKeyData::subject_public_key_info(&pair)).unwrap();
    let thumbprint = key.thumbprint();
    let new = NewRegisteredKey { key, active_from: at(0), retires_at: None };
    world.store.record_registered_key(&device("pump-7"), new, draft(2, "key.registered")).await.unwrap();
    let read = world.holder("pump-7").await;
    let mut late = world.enrollment("pump-7", 4);
    late.holder = EnrollmentHolder::Known(read.version);
    late.lineage = read.lineage.issued(false, late.certificate.serial);
    let retired = draft(3, "key.retired");
    world.store.record_key_retirement(&device("pump-7"), &thumbprint, at(3), retired).await.unwrap();
    let refused = world.store.record_enrollment(late.clone()).await;
    assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    // Decided anew, by whatever else it has.
    late.holder = EnrollmentHolder::Known(world.holder("pump-7").await.version);
    world.store.record_enrollment(late).await.unwrap();
}
