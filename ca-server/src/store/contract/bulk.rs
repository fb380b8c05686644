//! Many devices at once: what the plan says is what is done, to all of them or to none.

use super::world::*;
use crate::{
    identity::RevocationReason::{CertificateHold, CessationOfOperation, KeyCompromise, Unspecified},
    inventory::{
        device::Status::{Active, Held, Revoked as Cut},
        fleet::Policy,
    },
    store::*,
};

fn listed(ids: &[&str]) -> Selection {
    let one = |(line, id): (u32, &&str)| Listed { id: id.parse().unwrap(), fleet: None, line };
    Selection::Listed((1..).zip(ids).map(one).collect())
}

fn bulk(action: BulkAction, devices: Selection, secs: u64) -> Bulk {
    Bulk { action, devices, needs_choice: &["fork"], at: at(secs) }
}

pub(crate) async fn what_the_plan_says_of_many_is_what_is_done<P: Place>() {
    let world = World::<P>::new().await;
    world.store.record_fleet(&"valves".parse().unwrap(), &Policy::default(), draft(0, "fleet.created")).await.unwrap();
    let expired = world.enroll("a", 1).await.lineage.head.unwrap();
    let head = world.renew("a", 60_000).await.lineage.head.unwrap();
    world.enroll("b", 80_000).await;
    world.enroll("c", 80_000).await;
    let first = world.cut_off("c", Cut, Unspecified, 80_001).await;
    let what = bulk(BulkAction::Revoke(CessationOfOperation), listed(&["b", "a", "c", "a"]), DAY + 2);
    let plan = world.store.plan_bulk(what.clone()).await.unwrap();
    assert_eq!(plan.total(), BulkCounts { devices: 2, certificates: 2, unchanged: 1, ..BulkCounts::default() });
    assert_eq!(plan.fleets.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["sensors"]);
    assert_eq!((world.changes().await.len(), world.holder("a").await.status), (1, Active));

    let records = world.audit().await.len();
    let receipt = world.store.record_bulk(what.clone(), Some(plan.digest), draft(9, "device.revoked")).await.unwrap();
    assert_eq!(receipt, BulkReceipt { plan, tokens: 0, watermarks: vec![(devices_ca(), 3)] });
    assert_eq!((world.revoked(expired).await, world.revoked(head).await), (None, Some(CessationOfOperation)));
    // Each device has a record of its own, which names the plan.
    let told: Vec<_> = world.audit().await.split_off(records).into_iter().map(|kept| kept.record).collect();
    assert_eq!(told.iter().map(|record| &record.subject[..]).collect::<Vec<_>>(), ["device/a", "device/b"]);
    assert!(told.iter().all(|record| record.detail.contains("\"plan\":")), "{told:?}");

    // Again it is another plan, changes nothing, and names what holds the first one.
    let again = world.store.record_bulk(what, None, draft(9, "device.revoked")).await.unwrap();
    assert_eq!(again.plan.total(), BulkCounts { unchanged: 3, ..BulkCounts::default() });
    assert_ne!(again.plan.digest, receipt.plan.digest);
    assert_eq!((again.watermarks, first.watermarks), (receipt.watermarks, vec![(devices_ca(), 1)]));
    assert_eq!(world.audit().await.len(), records + 2);
}

pub(crate) async fn many_change_all_or_none<P: Place>() {
    let world = World::<P>::new().await;
    for id in ["a", "b"] {
        world.enroll(id, 1).await;
    }
    let before = (world.audit().await.len(), world.changes().await);
    let refused = |devices, expected| {
        let (store, what) = (world.store.clone(), bulk(BulkAction::Hold, devices, 2));
        async move { store.record_bulk(what, expected, draft(2, "device.held")).await.unwrap_err() }
    };
    let error = refused(listed(&["a", "b", "B"]), None).await;
    assert!(matches!(&error, StoreError::Line(3, why) if matches!(**why, StoreError::NotFound("device"))), "{error:?}");
    let other = Listed { id: "b".parse().unwrap(), fleet: Some("valves".parse().unwrap()), line: 7 };
    let error = refused(Selection::Listed(vec![other.clone()]), None).await;
    assert!(matches!(&error, StoreError::Line(7, why) if matches!(**why, StoreError::NotFound(_))), "{error:?}");
    let planned = world.store.plan_bulk(bulk(BulkAction::Hold, Selection::Listed(vec![other]), 2)).await.unwrap_err();
    assert_eq!(planned.to_string(), error.to_string());
    assert!(matches!(refused(Selection::Fleet("valves".parse().unwrap()), None).await, StoreError::NotFound("fleet")));

    // What was seen is what is done: neither other devices nor another action.
    let plan = world.store.plan_bulk(bulk(BulkAction::Hold, Selection::Fleet(fleet()), 2)).await.unwrap();
    let revoked = world.store.plan_bulk(bulk(BulkAction::Revoke(Unspecified), Selection::Fleet(fleet()), 2)).await;
    assert_ne!(plan.digest, revoked.unwrap().digest);
    world.enroll("c", 1).await;
    let error = refused(Selection::Fleet(fleet()), Some(plan.digest)).await;
    assert!(matches!(error, StoreError::Conflict), "{error:?}");
    assert_eq!((world.audit().await.len(), world.changes().await), (before.0 + 1, before.1));
    // Those that were seen renew meanwhile, and are these devices still.
    world.renew("a", 2).await;
    let what = bulk(BulkAction::Hold, listed(&["a", "b"]), 3);
    let receipt = world.store.record_bulk(what, Some(plan.digest), draft(3, "device.held")).await.unwrap();
    assert_eq!(receipt.plan.total(), BulkCounts { devices: 2, certificates: 3, ..BulkCounts::default() });
}

pub(crate) async fn many_are_released_where_they_are_held_and_nobody_has_to_decide<P: Place>() {
    let world = World::<P>::new().await;
    for id in ["active", "fork", "held", "revoked"] {
        world.enroll(id, 1).await;
    }
    world.cut_off("revoked", Cut, Unspecified, 2).await;
    world
        .store
        .record_cutoff(Cutoff { status_reason: "fork".into(), ..cutoff("fork", Held, CertificateHold, 2) })
        .await
        .unwrap();
    world.cut_off("held", Held, CertificateHold, 2).await;
    let what = bulk(BulkAction::Release, Selection::Fleet(fleet()), 3);
    let plan = world.store.plan_bulk(what.clone()).await.unwrap();
    assert_eq!(
        plan.total(),
        BulkCounts { devices: 1, certificates: 1, unchanged: 2, undecided: 1, ..BulkCounts::default() }
    );
    let receipt = world.store.record_bulk(what, Some(plan.digest), draft(3, "device.released")).await.unwrap();
    assert_eq!((receipt.plan, receipt.watermarks), (plan, vec![(devices_ca(), 4)]));
    for (id, status) in [("active", Active), ("fork", Held), ("held", Active), ("revoked", Cut)] {
        assert_eq!(world.holder(id).await.status, status, "{id}");
    }
    world.renew("held", 4).await;
    // Stolen keys are banned of those as well that were revoked before.
    let what = bulk(BulkAction::Revoke(KeyCompromise), Selection::Fleet(fleet()), 5);
    let receipt = world.store.record_bulk(what.clone(), None, draft(5, "device.revoked")).await.unwrap();
    assert_eq!(receipt.plan.total().devices, 4);
    let again = world.store.record_bulk(what, None, draft(5, "device.revoked")).await.unwrap();
    assert_eq!(again.plan.total(), BulkCounts { unchanged: 4, ..BulkCounts::default() });
}

pub(crate) async fn who_is_cut_off_already_keeps_no_way_back_among_many_either<P: Place>() {
    let world = World::<P>::new().await;
    for (n, reason) in [(1, Unspecified), (5, KeyCompromise)] {
        let ids = ["alone", "token", "way-back", "nothing"].map(|name| format!("{name}-{n}"));
        let [alone, with_token, with_way_back, nothing] = ids.each_ref().map(|id| &id[..]);
        for id in [alone, with_token, with_way_back, nothing] {
            world.enroll(id, 1).await;
            world
                .store
                .record_cutoff(Cutoff { status_reason: reason.to_string(), ..cutoff(id, Cut, reason, 2) })
                .await
                .unwrap();
        }
        for id in [alone, with_way_back] {
            let until = (world.holder(id).await.version, at(DAY));
            world.store.record_reenrollment(until.0, until.1, draft(3, "device.reenroll_allowed")).await.unwrap();
        }
        for (token_number, id) in [(n, alone), (n + 1, with_token)] {
            world.store.record_token(token(token_number, Some(id), 1), None, draft(3, "token.created")).await.unwrap();
        }
        world.cut_off(alone, Cut, reason, 4).await;

        let what = bulk(BulkAction::Revoke(reason), listed(&[alone, with_token, with_way_back, nothing]), 4);
        let plan = world.store.plan_bulk(what.clone()).await.unwrap();
        assert_eq!(plan.total(), BulkCounts { devices: 2, unchanged: 2, ..BulkCounts::default() }, "{reason}");
        let receipt =
            world.store.record_bulk(what.clone(), Some(plan.digest), draft(4, "device.revoked")).await.unwrap();
        assert_eq!((receipt.plan, receipt.tokens), (plan, 1), "{reason}");
        for id in [alone, with_token, with_way_back, nothing] {
            assert_eq!(world.holder(id).await.reenroll_until, None, "{id}");
        }
        for number in [n, n + 1] {
            let state = world.store.token(&token_id(number)).await.unwrap().unwrap().state;
            assert_eq!(state, TokenState::Suspended, "{number}");
        }
        let again = world.store.plan_bulk(what).await.unwrap();
        assert_eq!(again.total(), BulkCounts { unchanged: 4, ..BulkCounts::default() });
    }
}
