//! Renewals and their confirmations.

use super::world::*;
use crate::{
    identity::RevocationReason,
    inventory::{device::Status, fleet::Policy, lineage::Position},
    store::*,
};

pub(crate) async fn a_renewal_waits_for_its_confirmation<P: Place>() {
    let world = World::<P>::new().await;
    let before = world.enroll("a", 1).await;
    let renewal = world.renewal(&before, 100);
    world.store.record_renewal(renewal.clone()).await.unwrap();
    let waiting = world.holder("a").await;
    assert_eq!((&waiting.lineage, waiting.expires_at), (&renewal.lineage, before.expires_at));
    let peer = world.store.peer(renewal.certificate.serial).await.unwrap().unwrap();
    assert_eq!((peer.certificate.position, peer.certificate.presented), (Position::Pending, before.lineage.head));
    world.store.record_confirmation(confirmation(&waiting, 110)).await.unwrap();
    let after = world.holder("a").await;
    assert_eq!(after.lineage.head, Some(renewal.certificate.serial));
    assert_eq!((after.expires_at, after.last_seen_at), (Some(at(100 + DAY)), Some(at(110))));
    assert_eq!(after.lineage.generation, 2);
}

pub(crate) async fn fifty_racing_renewals_make_one_certificate<P: Place>() {
    let world = World::<P>::new().await;
    let holder = world.enroll("a", 1).await;
    let racers = (0..50).map(|_| {
        let (store, renewal) = (world.store.clone(), world.renewal(&holder, 2));
        tokio::spawn(async move { store.record_renewal(renewal).await })
    });
    let mut made = 0;
    for racer in racers.collect::<Vec<_>>() {
        match racer.await.unwrap() {
            Ok(()) => made += 1,
            Err(error) => assert!(matches!(error, StoreError::Conflict), "{error:?}"),
        }
    }
    assert_eq!(made, 1);
    assert_eq!(world.store.live_certificates(&device("a"), at(2)).await.unwrap().len(), 2);
}

pub(crate) async fn a_pending_certificate_that_is_replaced_is_superseded<P: Place>() {
    let world = World::<P>::new().await;
    let holder = world.enroll("a", 1).await;
    world.store.record_renewal(world.renewal(&holder, 2)).await.unwrap();
    let holder = world.holder("a").await;
    world.store.record_renewal(world.renewal(&holder, 3)).await.unwrap();
    let replaced = holder.lineage.pending.unwrap();
    let revoked = Revoked { at: at(3), reason: RevocationReason::Superseded };
    let not_after = at(2 + DAY);
    let change = Change { sequence: 1, serial: replaced, not_after, revoked: Some(revoked) };
    assert_eq!(world.changes().await, [change]);
    let peer = world.store.peer(replaced).await.unwrap().unwrap();
    assert_eq!((peer.certificate.position, peer.certificate.revoked), (Position::Superseded, Some(revoked)));
    assert_eq!(peer.holder.lineage.replacements, 1);
}

pub(crate) async fn a_head_that_was_followed_is_remembered_as_former<P: Place>() {
    let world = World::<P>::new().await;
    let first = world.enroll("a", 1).await.lineage.head.unwrap();
    world.renew("a", 100).await;
    let peer = world.store.peer(first).await.unwrap().unwrap();
    assert_eq!((peer.certificate.position, peer.certificate.revoked), (Position::Former, None));
}

pub(crate) async fn a_holder_that_changed_meanwhile_conflicts<P: Place>() {
    let world = World::<P>::new().await;
    let stale = world.enroll("a", 1).await;
    let fresh = world.renew("a", 2).await;
    let refused = world.store.record_renewal(world.renewal(&stale, 3)).await;
    assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    let refused = world.store.record_confirmation(confirmation(&stale, 3)).await;
    assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    world.cut_off("a", Status::Held, RevocationReason::CertificateHold, 4).await;
    let held = world.holder("a").await;
    for holder in [&fresh, &held] {
        let refused = world.store.record_renewal(world.renewal(holder, 5)).await;
        assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    }
    let mut enrollment = world.enrollment("a", 5);
    enrollment.holder = EnrollmentHolder::Known(held.version);
    let refused = world.store.record_enrollment(enrollment).await;
    assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
}

pub(crate) async fn what_decides_a_renewal_is_read_in_one_look<P: Place>() {
    let world = World::<P>::new().await;
    let first = world.enroll("a", 1).await;
    let head = first.lineage.head.unwrap();
    let stranger = world.certificate(0);
    assert_eq!(world.store.renewal(stranger.serial, &stranger.key).await.unwrap(), None);

    let renewal = world.renewal(&first, 2);
    world.store.record_renewal(renewal.clone()).await.unwrap();
    let facts = world.store.renewal(head, &renewal.certificate.key).await.unwrap().unwrap();
    assert_eq!(facts.peer, world.store.peer(head).await.unwrap().unwrap());
    assert_eq!(facts.key_use, world.store.key_use(&renewal.certificate.key).await.unwrap());
    assert_eq!(facts.key_use.certificates[0].presented, Some(head));
    assert_eq!((facts.policy, facts.oldest_that_counts), (Some(Policy::default()), None));

    for number in 3..=u64::from(MAX_LIVE) {
        assert_eq!(world.store.renewal(head, &stranger.key).await.unwrap().unwrap().oldest_that_counts, None);
        world.renew("a", number).await;
    }
    let facts = world.store.renewal(head, &stranger.key).await.unwrap().unwrap();
    assert_eq!(facts.oldest_that_counts, first.expires_at);
    world.renew("a", 100).await;
    let facts = world.store.renewal(head, &stranger.key).await.unwrap().unwrap();
    assert_eq!(facts.oldest_that_counts, Some(renewal.certificate.not_after));
}
