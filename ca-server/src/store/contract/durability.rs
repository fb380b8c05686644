//! What was acknowledged stays, what failed leaves nothing.

use super::world::*;
use crate::{identity::RevocationReason::Unspecified, inventory::device::Status::Revoked as Cut, store::*};

pub(crate) async fn what_was_acknowledged_survives_a_crash<P: Place>() {
    let world = World::<P>::new().await;
    for n in 0..30 {
        world.enroll(&format!("d{n}"), 1).await;
    }
    world.cut_off("d3", Cut, Unspecified, 2).await;
    let (records, changes) = (world.audit().await, world.changes().await);
    let place = world.place.after_crash();
    let after = place.open();
    let query = AuditQuery { limit: 1000, ..AuditQuery::default() };
    assert_eq!(after.audit_records(&query).await.unwrap(), records);
    assert_eq!(after.changes(devices_ca(), 0, 10).await.unwrap(), changes);
    for n in 0..30 {
        let id = format!("d{n}");
        assert_eq!(after.holder(&device(&id)).await.unwrap(), Some(world.holder(&id).await));
    }
    after.record_enrollment(world.enrollment("new", 3)).await.unwrap();
}

pub(crate) async fn a_closed_store_opens_as_it_was<P: Place>() {
    let mut world = World::<P>::new().await;
    let holder = world.enroll("a", 1).await;
    let records = world.audit().await;
    world.store = std::sync::Arc::new(P::new().open());
    world.store = std::sync::Arc::new(world.place.open());
    assert_eq!((world.holder("a").await, world.audit().await), (holder, records));
    world.renew("a", 2).await;
}

pub(crate) async fn a_failed_job_takes_no_other_with_it<P: Place>() {
    let world = World::<P>::new().await;
    // All at once, so that they share transactions; every third fails at its last step but one.
    let racers = (0..90).map(|n| {
        let (store, mut enrollment) = (world.store.clone(), world.enrollment(&format!("d{n}"), 1));
        if n % 3 == 0 {
            enrollment.came_by = Some(token_id(77));
        }
        tokio::spawn(async move { store.record_enrollment(enrollment).await })
    });
    for (n, racer) in racers.collect::<Vec<_>>().into_iter().enumerate() {
        let recorded = racer.await.unwrap();
        let found = world.store.holder(&device(&format!("d{n}"))).await.unwrap();
        match n % 3 {
            0 => assert!(matches!(recorded, Err(StoreError::NotFound("token"))), "{recorded:?}"),
            _ => recorded.unwrap(),
        }
        assert_eq!(found.is_some(), n % 3 != 0, "{n}");
    }
}

pub(crate) async fn a_failed_job_leaves_no_trace<P: Place>() {
    let world = World::<P>::new().await;
    let token = world.fleet_token(1, 1).await;
    let records = world.audit().await;
    let mut enrollment = world.enrollment("a", 1);
    (enrollment.token, enrollment.came_by) = (Some(token.id.clone()), Some(token_id(77)));
    let (serial, key) = (enrollment.certificate.serial, enrollment.certificate.key);
    world.store.record_enrollment(enrollment).await.unwrap_err();
    assert_eq!(world.store.token(&token.id).await.unwrap(), Some(token));
    assert_eq!(world.store.peer(serial).await.unwrap(), None);
    assert_eq!(world.store.key_use(&key).await.unwrap(), KeyUse::default());
    assert_eq!(world.store.holder(&device("a")).await.unwrap(), None);
    assert_eq!(world.audit().await, records);
}

pub(crate) async fn a_caller_that_goes_away_does_not_undo_what_it_asked<P: Place>() {
    let world = World::<P>::new().await;
    let enrollment = world.enrollment("a", 1);
    let mut asked = world.store.record_enrollment(enrollment);
    // Polled once: the job is on its way.
    assert!(futures::poll!(&mut asked).is_pending());
    drop(asked);
    // The next job comes after it.
    world.store.record_audit(draft(2, "key.exported")).await.unwrap();
    assert!(world.store.holder(&device("a")).await.unwrap().is_some());
}

pub(crate) async fn a_store_that_can_be_written_says_so<P: Place>() {
    let world = World::<P>::new().await;
    let records = world.audit().await;
    world.store.check_writable().await.unwrap();
    assert_eq!(world.audit().await, records);
}
