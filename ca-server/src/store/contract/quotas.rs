//! Quotas of fleets: never above them, whoever races, and never at the cost of those who renew.

use super::{newcomers, world::*};
use crate::{
    identity::RevocationReason::CessationOfOperation,
    inventory::{
        device::Status,
        fleet::Policy,
        quota::{Exceeded, Quotas},
    },
    store::*,
};

async fn with<P: Place>(quotas: Quotas) -> World<P> {
    let world = World::<P>::new().await;
    let policy = Policy { quotas, ..Policy::default() };
    world.store.record_policy(&fleet(), &Policy::default(), &policy, draft(0, "fleet.changed")).await.unwrap();
    world
}

/// How many of fifty new devices at once get in, and why the others do not.
async fn fifty_at_once<P: Place>(world: &World<P>, secs: u64) -> (usize, Vec<Exceeded>) {
    let racers = (0..50).map(|n| {
        let (store, enrollment) = (world.store.clone(), world.enrollment(&format!("d{n}-{secs}"), secs));
        tokio::spawn(async move { store.record_enrollment(enrollment).await })
    });
    let (mut admitted, mut refused) = (0, Vec::new());
    for racer in racers.collect::<Vec<_>>() {
        match racer.await.unwrap() {
            Ok(()) => admitted += 1,
            Err(StoreError::Quota(why)) => refused.push(why),
            Err(other) => panic!("{other:?}"),
        }
    }
    (admitted, refused)
}

pub(crate) async fn a_fleet_never_has_more_devices_than_it_may<P: Place>() {
    let world = with::<P>(Quotas { max_devices: Some(10), ..Quotas::default() }).await;
    let (admitted, refused) = fifty_at_once(&world, 1).await;
    assert_eq!((admitted, refused), (10, vec![Exceeded::Devices; 40]));
    let count = async |secs| world.store.usage(&fleet(), at(secs)).await.unwrap().devices;
    assert_eq!(count(2).await, 10);
    let more = vec![world.new_holder("more", 2).into()];
    let refused = world.store.record_registrations(more.clone(), vec![draft(2, "device.registered")]).await;
    assert!(matches!(refused, Err(StoreError::Quota(Exceeded::Devices))), "{refused:?}");
    let bound = token(1, Some("more"), 1);
    let register = || Some(world.new_holder("more", 2));
    let refused = world.store.record_token(bound.clone(), register(), draft(2, "token.created")).await;
    assert!(matches!(refused, Err(StoreError::Quota(Exceeded::Devices))), "{refused:?}");
    // Who is there goes on, and who is out of use makes room.
    let one = world.store.holders(crate::identity::Kind::Device, "", 1).await.unwrap().remove(0);
    world.store.record_renewal(world.renewal(&one, 3)).await.unwrap();
    world.cut_off(one.subject.id.as_str(), Status::Revoked, CessationOfOperation, 3).await;
    assert_eq!(count(3).await, 10);
    world.cut_off(one.subject.id.as_str(), Status::Decommissioned, CessationOfOperation, 3).await;
    assert_eq!(count(3).await, 9);
    world.store.record_registrations(more, vec![draft(4, "device.registered")]).await.unwrap();
    assert_eq!(count(4).await, 10);
}

pub(crate) async fn a_fleet_that_is_full_uses_up_no_approval_and_no_token<P: Place>() {
    let world = with::<P>(Quotas { max_devices: Some(1), ..Quotas::default() }).await;
    let first = world.enroll("first", 1).await;
    let asking = newcomers::approved(&world).await;
    let token = world.fleet_token(1, 1).await;
    let by_token = || Enrollment { token: Some(token.id.clone()), ..world.enrollment("second", 3) };
    for enrollment in [newcomers::enrollment(&world, &asking, 3), by_token()] {
        let refused = world.store.record_enrollment(enrollment).await;
        assert!(matches!(refused, Err(StoreError::Quota(Exceeded::Devices))), "{refused:?}");
    }
    assert_eq!(newcomers::state(&world, &asking).await, Some(NewcomerState::Approved));
    assert_eq!(world.store.token(&token.id).await.unwrap().unwrap().uses_left, 1);
    world.cut_off(first.subject.id.as_str(), Status::Decommissioned, CessationOfOperation, 4).await;
    world.store.record_enrollment(newcomers::enrollment(&world, &asking, 5)).await.unwrap();
    assert!(matches!(world.store.record_enrollment(by_token()).await, Err(StoreError::Quota(Exceeded::Devices))));
}

pub(crate) async fn rows_that_are_too_many_are_told_by_the_line_of_the_first<P: Place>() {
    let world = with::<P>(Quotas { max_devices: Some(3), ..Quotas::default() }).await;
    let other: crate::identity::FleetName = "others".parse().unwrap();
    world.store.record_fleet(&other, &Policy::default(), draft(0, "fleet.created")).await.unwrap();
    world.enroll("first", 1).await;
    let rows = |n: u32| -> Vec<Registration> {
        let row = |line: u32| {
            let mut holder = world.new_holder(&format!("row-{line}"), 2);
            // Those of another fleet do not count.
            if line % 2 == 1 {
                holder.fleet = Some(other.clone());
            }
            Registration { line, ..Registration::from(holder) }
        };
        (2..2 + n).map(row).collect()
    };
    let record = async |rows| world.store.record_registrations(rows, vec![draft(2, "device.registered")]).await;
    let records = world.audit().await.len();
    let refused = record(rows(8)).await;
    let Err(StoreError::Line(6, why)) = &refused else { panic!("{refused:?}") };
    assert!(matches!(**why, StoreError::Quota(Exceeded::Devices)), "{why:?}");
    let sensors = fleet();
    let devices = async |fleet| world.store.usage(fleet, at(2)).await.unwrap().devices;
    assert_eq!((devices(&sensors).await, devices(&other).await, world.audit().await.len()), (1, 0, records));
    record(rows(3)).await.unwrap();
    assert_eq!((devices(&sensors).await, devices(&other).await), (3, 1));
    // The quota was lowered below what is there: the first row is one too many.
    let (was, lower) = (Policy::default(), Quotas { max_devices: Some(1), ..Quotas::default() });
    let was = Policy { quotas: Quotas { max_devices: Some(3), ..Quotas::default() }, ..was };
    let policy = Policy { quotas: lower, ..was.clone() };
    world.store.record_policy(&fleet(), &was, &policy, draft(3, "fleet.changed")).await.unwrap();
    let late = Registration { line: 7, ..Registration::from(world.new_holder("late", 3)) };
    assert!(matches!(record(vec![late]).await, Err(StoreError::Line(7, _))));
}

pub(crate) async fn no_more_enroll_in_an_hour_than_may<P: Place>() {
    let world = with::<P>(Quotas { max_enrollments_per_hour: Some(10), ..Quotas::default() }).await;
    let (admitted, refused) = fifty_at_once(&world, 1).await;
    assert_eq!((admitted, refused.len()), (10, 40));
    let Some(Exceeded::Enrollments { again_at }) = refused.first() else { panic!("{refused:?}") };
    // Who is there renews all the same, and comes back by what has expired.
    let one = world.store.holders(crate::identity::Kind::Device, "", 1).await.unwrap().remove(0);
    world.store.record_renewal(world.renewal(&one, 3)).await.unwrap();
    let one = world.holder(one.subject.id.as_str()).await;
    let mut back = world.enrollment("any", 4);
    back.holder = EnrollmentHolder::Known(one.version);
    back.certificate.presented = one.lineage.head;
    back.lineage = one.lineage.issued(false, back.certificate.serial);
    world.store.record_enrollment(back).await.unwrap();
    let secs = again_at.since(at(0)).as_secs();
    assert!((3600..=3660).contains(&secs), "{secs}");
    assert_eq!(fifty_at_once(&world, secs - 1).await.0, 0);
    assert_eq!(fifty_at_once(&world, secs).await.0, 10);
}
