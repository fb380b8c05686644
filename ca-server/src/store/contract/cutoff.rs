//! Cutting a device off: at once, whole, again without harm, and before everybody else.

use super::world::*;
use crate::{
    identity::RevocationReason::{CertificateHold, CessationOfOperation, KeyCompromise, Superseded, Unspecified},
    inventory::device::Status::{Active, Decommissioned, Held, Registered, Revoked as Cut},
    store::*,
};

pub(crate) async fn a_revoked_device_loses_all_its_unexpired_certificates_at_once<P: Place>() {
    let world = World::<P>::new().await;
    let expired = world.enroll("a", 1).await.lineage.head.unwrap();
    let former = world.renew("a", 60_000).await.lineage.head.unwrap();
    let head = world.renew("a", 80_000).await.lineage.head.unwrap();
    let receipt = world.cut_off("a", Cut, CessationOfOperation, DAY + 2).await;
    let expected =
        CutoffReceipt { status: Cut, certificates: 2, tokens: 0, watermarks: vec![(devices_ca(), 2)], unreadable: 0 };
    assert_eq!(receipt, expected);
    assert_eq!(world.revoked(expired).await, None);
    let revoked = Some(Revoked { at: at(DAY + 2), reason: CessationOfOperation });
    let change = |sequence, serial, secs| Change { sequence, serial, not_after: at(secs + DAY), revoked };
    assert_eq!(world.changes().await, [change(1, former, 60_000), change(2, head, 80_000)]);
    let holder = world.holder("a").await;
    assert_eq!((holder.status, holder.status_reason.as_str()), (Cut, "lost"));
}

pub(crate) async fn a_cutoff_beats_a_renewal_decided_before_it<P: Place>() {
    let world = World::<P>::new().await;
    let read = world.enroll("a", 1).await;
    let renewal = world.renewal(&read, 2);
    world.cut_off("a", Cut, Unspecified, 2).await;
    let refused = world.store.record_renewal(renewal.clone()).await;
    assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    assert_eq!(world.store.peer(renewal.certificate.serial).await.unwrap(), None);
}

pub(crate) async fn a_cutoff_that_races_renewals_leaves_no_certificate_in_force<P: Place>() {
    let world = World::<P>::new().await;
    for n in 0..20 {
        let id = format!("d{n}");
        let holder = world.enroll(&id, 1).await;
        let (store, renewal) = (world.store.clone(), world.renewal(&holder, 2));
        let renewing = tokio::spawn(async move { store.record_renewal(renewal).await });
        world.cut_off(&id, Cut, Unspecified, 2).await;
        let _ = renewing.await.unwrap();
        let live = world.store.live_certificates(&device(&id), at(2)).await.unwrap();
        assert!(live.iter().all(|row| row.revoked.is_some()), "{live:?}");
    }
}

pub(crate) async fn doing_it_again_changes_nothing_and_answers_the_same_watermark<P: Place>() {
    let world = World::<P>::new().await;
    world.enroll("a", 1).await;
    world.enroll("b", 1).await;
    let first = world.cut_off("a", Cut, Unspecified, 2).await;
    world.cut_off("b", Cut, Unspecified, 3).await;
    let (holder, records) = (world.holder("a").await, world.audit().await);
    for reason in [Unspecified, CessationOfOperation] {
        let again = world.cut_off("a", Cut, reason, 4).await;
        assert_eq!(again, CutoffReceipt { certificates: 0, ..first.clone() });
    }
    assert_eq!((world.holder("a").await, world.audit().await), (holder, records));
    assert_eq!(world.changes().await.len(), 2);
}

pub(crate) async fn a_revoked_device_never_goes_back_on_hold<P: Place>() {
    let world = World::<P>::new().await;
    world.enroll("a", 1).await;
    world.cut_off("a", Cut, Unspecified, 2).await;
    assert_eq!(world.cut_off("a", Held, CertificateHold, 3).await.status, Cut);
    assert_eq!(world.cut_off("a", Decommissioned, Unspecified, 4).await.status, Decommissioned);
    assert_eq!(world.cut_off("a", Cut, Unspecified, 5).await.status, Decommissioned);
    assert_eq!(world.changes().await.len(), 1);
    world
        .store
        .record_registrations(vec![world.new_holder("b", 1).into()], vec![draft(1, "device.registered")])
        .await
        .unwrap();
    world.cut_off("b", Decommissioned, Unspecified, 3).await;
    assert_eq!(world.cut_off("b", Held, CertificateHold, 4).await.status, Decommissioned);
}

pub(crate) async fn a_device_that_has_never_enrolled_is_held_and_registered_again_after_that<P: Place>() {
    let world = World::<P>::new().await;
    let release = async |secs| {
        let Holder { version: holder, lineage, .. } = world.holder("a").await;
        let release = Release { holder, keep: None, lineage, at: at(secs), audit: draft(secs, "device.released") };
        world.store.record_release(release).await.unwrap().status
    };
    let rows = vec![world.new_holder("a", 1).into()];
    world.store.record_registrations(rows, vec![draft(1, "device.registered")]).await.unwrap();
    let read = world.holder("a").await;
    let mut enrollment = world.enrollment("a", 2);
    enrollment.holder = EnrollmentHolder::Known(read.version);
    let receipt = world.cut_off("a", Held, CertificateHold, 3).await;
    assert_eq!((receipt.status, receipt.certificates, receipt.watermarks), (Held, 0, vec![]));
    // What was decided before it does not go through, and what is decided now neither.
    for version in [read.version, world.holder("a").await.version] {
        enrollment.holder = EnrollmentHolder::Known(version);
        let refused = world.store.record_enrollment(enrollment.clone()).await;
        assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    }
    assert_eq!(release(4).await, Registered);
    enrollment.holder = EnrollmentHolder::Known(world.holder("a").await.version);
    world.store.record_enrollment(enrollment).await.unwrap();
    // From now on a release leaves it active.
    world.cut_off("a", Held, CertificateHold, 5).await;
    assert_eq!(release(6).await, Active);
}

pub(crate) async fn revoking_what_is_on_hold_changes_its_reason_and_keeps_its_date<P: Place>() {
    let world = World::<P>::new().await;
    let head = world.enroll("a", 1).await.lineage.head.unwrap();
    // Whatever reason is given: a hold is a hold.
    world.cut_off("a", Held, KeyCompromise, 2).await;
    assert_eq!(world.revoked(head).await, Some(CertificateHold));
    let receipt = world.cut_off("a", Cut, CessationOfOperation, 9).await;
    assert_eq!((receipt.certificates, receipt.watermarks), (1, vec![(devices_ca(), 2)]));
    let last = world.changes().await.pop().unwrap();
    assert_eq!(last.revoked, Some(Revoked { at: at(2), reason: CessationOfOperation }));
    let key = world.store.peer(head).await.unwrap().unwrap().certificate.key;
    assert!(!world.store.key_use(&key).await.unwrap().banned);
}

pub(crate) async fn a_superseded_certificate_stays_superseded_unless_keys_were_stolen<P: Place>() {
    let world = World::<P>::new().await;
    let holder = world.enroll("a", 1).await;
    world.store.record_renewal(world.renewal(&holder, 2)).await.unwrap();
    let holder = world.holder("a").await;
    world.store.record_renewal(world.renewal(&holder, 3)).await.unwrap();
    let superseded = holder.lineage.pending.unwrap();
    assert_eq!(world.cut_off("a", Held, CertificateHold, 4).await.certificates, 2);
    assert_eq!(world.cut_off("a", Cut, Unspecified, 5).await.certificates, 2);
    assert_eq!(world.revoked(superseded).await, Some(Superseded));
    assert_eq!(world.cut_off("a", Cut, KeyCompromise, 6).await.certificates, 3);
    assert_eq!(world.revoked(superseded).await, Some(KeyCompromise));
    assert_eq!(world.cut_off("a", Cut, KeyCompromise, 7).await.certificates, 0);
}

pub(crate) async fn a_stolen_key_is_banned_for_ever_under_any_id<P: Place>() {
    let world = World::<P>::new().await;
    let stolen = world.enrollment("a", 1);
    world.store.record_enrollment(stolen.clone()).await.unwrap();
    world.renew("a", 100).await;
    // Long after the first certificate expired.
    world.cut_off("a", Cut, KeyCompromise, DAY + 10).await;
    assert!(world.store.key_use(&stolen.certificate.key).await.unwrap().banned);
    let mut other = world.enrollment("b", DAY + 11);
    other.certificate.key = stolen.certificate.key;
    let refused = world.store.record_enrollment(other).await;
    assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    let holder = world.enroll("c", DAY + 11).await;
    let mut renewal = world.renewal(&holder, DAY + 12);
    renewal.certificate.key = stolen.certificate.key;
    let refused = world.store.record_renewal(renewal).await;
    assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
}

pub(crate) async fn theft_found_out_later_is_recorded_even_of_the_decommissioned<P: Place>() {
    let world = World::<P>::new().await;
    let head = world.enroll("a", 1).await.lineage.head.unwrap();
    world.cut_off("a", Decommissioned, CessationOfOperation, 2).await;
    let records = world.audit().await.len();
    let receipt = world.cut_off("a", Cut, KeyCompromise, 3).await;
    assert_eq!((receipt.status, receipt.certificates), (Decommissioned, 1));
    assert_eq!(receipt.watermarks, [(devices_ca(), 2)]);
    assert_eq!(world.revoked(head).await, Some(KeyCompromise));
    assert_eq!(world.audit().await.len(), records + 1);
    let key = world.store.peer(head).await.unwrap().unwrap().certificate.key;
    assert!(world.store.key_use(&key).await.unwrap().banned);
}

pub(crate) async fn tokens_end_with_their_device_and_so_does_the_fleet_token_it_came_by<P: Place>() {
    let world = World::<P>::new().await;
    let came_by = world.fleet_token(1, 10).await.id;
    world.fleet_token(2, 10).await;
    let mut enrollment = world.enrollment("a", 1);
    (enrollment.token, enrollment.came_by) = (Some(came_by.clone()), Some(came_by));
    world.store.record_enrollment(enrollment).await.unwrap();
    for (n, id, uses_left) in [(3, "a", 1), (4, "a", 0), (5, "b", 1)] {
        let mut row = token(n, Some(id), 1);
        row.uses_left = uses_left;
        world.store.record_token(row, None, draft(1, "token.created")).await.unwrap();
    }
    assert_eq!(world.cut_off("a", Cut, Unspecified, 2).await.tokens, 2);
    for (n, state) in [
        (1, TokenState::Suspended),
        (2, TokenState::Live),
        (3, TokenState::Suspended),
        (4, TokenState::Live),
        (5, TokenState::Live),
    ] {
        assert_eq!(world.store.token(&token_id(n)).await.unwrap().unwrap().state, state, "{n}");
    }
    assert_eq!(world.cut_off("a", Cut, Unspecified, 3).await.tokens, 0);
    let mut late = world.enrollment("c", 4);
    late.token = Some(token_id(1));
    let refused = world.store.record_enrollment(late).await;
    assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
}

pub(crate) async fn a_hold_leaves_tokens_alone<P: Place>() {
    let world = World::<P>::new().await;
    world.enroll("a", 1).await;
    world.store.record_token(token(1, Some("a"), 1), None, draft(1, "token.created")).await.unwrap();
    assert_eq!(world.cut_off("a", Held, CertificateHold, 2).await.tokens, 0);
    assert_eq!(world.store.token(&token_id(1)).await.unwrap().unwrap().state, TokenState::Live);
}

pub(crate) async fn a_device_that_does_not_exist_is_named<P: Place>() {
    let world = World::<P>::new().await;
    let refused = world.store.record_cutoff(cutoff("nobody", Cut, Unspecified, 1)).await;
    assert!(matches!(refused, Err(StoreError::NotFound("device"))), "{refused:?}");
}

pub(crate) async fn every_change_has_the_next_number<P: Place>() {
    let world = World::<P>::new().await;
    for n in 0..40 {
        world.enroll(&format!("d{n}"), 1).await;
    }
    let racers = (0..40).map(|n| {
        let store = world.store.clone();
        // Half of them fail, and must leave no gap.
        let id = if n % 2 == 0 { format!("d{n}") } else { format!("x{n}") };
        tokio::spawn(async move { store.record_cutoff(cutoff(&id, Cut, Unspecified, 2)).await })
    });
    for racer in racers.collect::<Vec<_>>() {
        let _ = racer.await.unwrap();
    }
    let sequences: Vec<_> = world.changes().await.into_iter().map(|change| change.sequence).collect();
    assert_eq!(sequences, (1..=20).collect::<Vec<_>>());
    assert_eq!(world.store.last_change(devices_ca()).await.unwrap(), 20);
    assert_eq!(world.holder("d0").await.status, Cut);
    assert_eq!(world.holder("d1").await.status, Active);
}
