//! Rows that can't be read, or say something else than they did: no revocation waits for them, and none is lost by them.

use rusqlite::Connection;

use super::*;
use crate::store::{BulkAction, Selection, StoreError};

/// The database, for somebody who writes what the CA never would.
fn database(world: &World) -> Connection {
    let db = Connection::open(world.dir.path().join("ca.db")).unwrap();
    db.busy_timeout(Duration::from_secs(30)).unwrap();
    db.execute_batch("PRAGMA ignore_check_constraints = 1").unwrap();
    db
}

fn damage(world: &World, sql: &str) {
    assert_eq!(database(world).execute(sql, []).unwrap(), 1, "{sql}");
}

/// From now on a change is no sooner there than this becomes of it.
fn haunt(world: &World, action: &str) {
    let sql = format!(
        "CREATE TRIGGER haunted AFTER INSERT ON changes BEGIN {action} WHERE issuer = NEW.issuer AND sequence = NEW.sequence; END"
    );
    database(world).execute_batch(&sql).unwrap();
}

fn told(world: &World) -> Vec<String> {
    world
        .authority
        .telemetry
        .take_events()
        .into_iter()
        .map(|event| event.kind)
        .filter(|kind| kind.starts_with("crl."))
        .collect()
}

async fn revoke(world: &World, id: &str) -> crate::authority::Receipt {
    world.authority.revoke(&subject(id), RevocationReason::KeyCompromise, "operator/ana").await.unwrap()
}

#[tokio::test]
async fn a_change_that_is_lost_is_taken_from_its_certificate() {
    let world = World::new().await;
    for id in ["pump-1", "pump-2", "pump-3"] {
        world.enroll(id).await;
    }
    revoke(&world, "pump-1").await;
    assert!(told(&world).is_empty());
    haunt(&world, "DELETE FROM changes");
    let receipt = revoke(&world, "pump-2").await;
    assert_eq!((receipt.certificates, receipt.crls.len(), world.crl().entries().len()), (1, 1, 2));
    assert_eq!(told(&world), ["crl.unreadable"]);
    database(&world).execute_batch("DROP TRIGGER haunted").unwrap();
    revoke(&world, "pump-3").await;
    assert_eq!((world.crl().entries().len(), told(&world).len()), (3, 0), "and it goes on from there");

    // The log has a gap for ever: a restart makes the same bytes all the same.
    let before = world.crl();
    let world = world.restarted().await;
    assert_eq!(world.crl().der(), before.der());
    assert_eq!(told(&world), ["crl.unreadable"]);
}

#[tokio::test]
async fn what_cannot_be_read_of_a_change_is_taken_from_its_certificate() {
    let world = World::new().await;
    let publisher = &world.authority.publisher;
    for number in 1.. {
        let id = format!("pump-{number}");
        world.enroll(&id).await;
        let cutoff = crate::store::Cutoff {
            subject: subject(&id),
            status: Status::Revoked,
            reason: RevocationReason::AffiliationChanged,
            status_reason: "sold".into(),
            at: START,
            audit: crate::audit::Draft::done(START, "operator/ana", "device.revoked", format!("device/{id}")),
        };
        // Nobody wakes the publisher before the row is damaged.
        let receipt = world.authority.store.record_cutoff(cutoff).await.unwrap();
        damage(&world, &format!("UPDATE changes SET reason = 7 WHERE sequence = {number}"));
        if publisher.current(&world.issuer()).unwrap().watermark >= number {
            continue;
        }
        publisher.in_force(&receipt.watermarks).await.unwrap();
        let entries = world.crl().entries().clone();
        assert_eq!((entries.len() as u64, told(&world)), (number, vec!["crl.unreadable".to_owned()]));
        assert!(entries.iter().all(|entry| entry.reason == RevocationReason::AffiliationChanged));
        break;
    }
}

/// Where neither knows it any more the entry is carried for as long as the server runs: it is on the CRL.
#[tokio::test]
async fn an_entry_that_nobody_knows_any_more_is_carried_from_the_last_crl() {
    let world = World::new().await;
    for id in ["pump-1", "pump-2"] {
        world.enroll(id).await;
    }
    revoke(&world, "pump-1").await;
    let listed = world.crl().entries().serials().next().unwrap();
    damage(&world, "DELETE FROM changes");
    damage(&world, "UPDATE certificates SET revoked_at = NULL, reason = NULL, change = NULL WHERE reason IS NOT NULL");
    revoke(&world, "pump-2").await;
    assert_eq!(world.crl().entries().len(), 2);
    assert!(world.crl().entries().get(&listed).is_some());
}

#[tokio::test]
async fn an_entry_leaves_only_where_its_certificate_says_so_too() {
    let world = World::new().await;
    for id in ["pump-1", "pump-2", "pump-3"] {
        world.enroll(id).await;
    }
    for id in ["pump-1", "pump-2"] {
        revoke(&world, id).await;
    }
    // The log says that one certificate has expired, and of a new change that another was released.
    damage(&world, &format!("UPDATE changes SET not_after = {} WHERE sequence = 1", (START - DAY + HOUR / 2).millis()));
    world.at(HOUR);
    assert_eq!((world.publish(false).await, told(&world)), (2, vec!["crl.carried".to_owned()]));
    assert_eq!((world.publish(false).await, told(&world).len()), (2, 0), "told of once");
    world.authority.hold(&subject("pump-3"), "operator/ana").await.unwrap();
    haunt(&world, "UPDATE changes SET revoked_at = NULL, reason = NULL");
    revoke(&world, "pump-3").await;
    assert_eq!((world.crl().entries().len(), told(&world)), (3, vec!["crl.carried".to_owned()]));
    database(&world).execute_batch("DROP TRIGGER haunted").unwrap();

    // And so after a restart: what the certificates say stays on it.
    let world = world.restarted().await;
    world.at(HOUR * 2);
    assert_eq!(world.publish(false).await, 3);
    assert!(told(&world).contains(&"crl.mismatch".to_owned()));
}

#[tokio::test]
async fn a_certificate_that_cannot_be_read_keeps_no_other_from_being_revoked() {
    let world = World::new().await;
    let first = world.enroll("pump-1").await;
    world.renew(&first).await.unwrap();
    damage(
        &world,
        "UPDATE certificates SET serial = x'0102' WHERE key = (SELECT min(key) FROM certificates WHERE holder = (SELECT key FROM holders WHERE id = 'pump-1'))",
    );
    let receipt = revoke(&world, "pump-1").await;
    assert_eq!((receipt.certificates, world.crl().entries().len()), (1, 1));
    assert_eq!(told(&world), ["crl.unreadable"]);

    // A state, or a revocation, that can't be read is written anew.
    world.enroll("pump-2").await;
    damage(&world, "UPDATE holders SET status = 'lost' WHERE id = 'pump-2'");
    damage(
        &world,
        "UPDATE certificates SET revoked_at = 7, reason = 7 WHERE holder = (SELECT key FROM holders WHERE id = 'pump-2')",
    );
    let receipt = revoke(&world, "pump-2").await;
    assert_eq!((receipt.status, receipt.certificates, world.crl().entries().len()), (Status::Revoked, 1, 2));
    let holder = world.authority.store.holder(&subject("pump-2")).await.unwrap().unwrap();
    assert_eq!(holder.status, Status::Revoked);
}

/// What the disk reads fails in the middle, and then does not any more.
#[tokio::test]
async fn a_revocation_that_a_fault_of_the_disk_stops_is_recorded_not_at_all_and_done_when_it_has_passed() {
    let world = World::new().await;
    let first = world.enroll("pump-1").await;
    world.renew(&first).await.unwrap();
    let columns: String = database(&world)
        .query_row("SELECT group_concat(name) FROM pragma_table_info('certificates')", [], |row| row.get(0))
        .unwrap();
    let faulty = columns.replace(
        "not_after",
        "iif(key = (SELECT max(key) FROM whole), abs(-9223372036854775807 - (key > 0)), not_after) AS not_after",
    );
    let sql =
        format!("ALTER TABLE certificates RENAME TO whole; CREATE VIEW certificates AS SELECT {faulty} FROM whole");
    database(&world).execute_batch(&sql).unwrap();
    let actor = "operator/ana";
    let device = subject("pump-1");
    let all = || Selection::Fleet("pumps".parse().unwrap());
    let refused = world.authority.revoke(&device, RevocationReason::KeyCompromise, actor).await;
    assert!(matches!(refused, Err(Refusal::Store(StoreError::Database(_)))), "{refused:?}");
    let refused = world.authority.change_bulk(BulkAction::Hold, all(), None, actor).await;
    assert!(matches!(refused, Err(Refusal::Store(StoreError::Database(_)))), "{refused:?}");
    let refused = world.authority.plan_bulk(BulkAction::Hold, all()).await;
    assert!(matches!(refused, Err(Refusal::Store(StoreError::Database(_)))), "{refused:?}");
    database(&world).execute_batch("DROP VIEW certificates; ALTER TABLE whole RENAME TO certificates").unwrap();
    let holder = world.authority.store.holder(&device).await.unwrap().unwrap();
    assert_eq!((holder.status, world.crl().entries().len(), told(&world).len()), (Status::Active, 0, 0));
    let receipt = revoke(&world, "pump-1").await;
    assert_eq!((receipt.certificates, receipt.unreadable, world.crl().entries().len()), (2, 0, 2));
}

#[tokio::test]
async fn a_revocation_that_cannot_be_read_is_one_and_no_hold_takes_its_place() {
    let world = World::new().await;
    for id in ["pump-1", "pump-2"] {
        world.enroll(id).await;
    }
    let of = |id: &str| format!("holder = (SELECT key FROM holders WHERE id = '{id}')");
    damage(&world, &format!("UPDATE certificates SET revoked_at = 7, reason = 7 WHERE {}", of("pump-1")));
    damage(&world, &format!("UPDATE certificates SET reason = 1 WHERE {}", of("pump-2")));
    let actor = "operator/ana";
    for id in ["pump-1", "pump-2"] {
        world.authority.hold(&subject(id), actor).await.unwrap();
    }
    let listed = |world: &World| {
        let mut reasons: Vec<_> = world.crl().entries().iter().map(|entry| entry.reason).collect();
        reasons.sort_by_key(|reason| reason.number());
        reasons
    };
    let revoked = vec![RevocationReason::Unspecified, RevocationReason::KeyCompromise];
    assert_eq!(listed(&world), revoked);
    // It can be read from now on; nobody gets it off.
    for id in ["pump-1", "pump-2"] {
        let head = world.authority.store.live_certificates(&subject(id), START).await.unwrap()[0].serial;
        let kept = world.authority.release(&subject(id), Some(head), actor).await;
        assert!(matches!(kept, Err(Refusal::NotFound(_))), "{id}: {kept:?}");
        world.authority.release(&subject(id), None, actor).await.unwrap();
    }
    assert_eq!(listed(&world), revoked);
}

#[tokio::test]
async fn a_hold_whose_rows_are_damaged_meanwhile_ends_for_what_can_be_read() {
    let world = World::new().await;
    let first = world.enroll("pump-1").await;
    world.renew(&first).await.unwrap();
    let actor = "operator/ana";
    let device = subject("pump-1");
    assert_eq!(world.authority.hold(&device, actor).await.unwrap().certificates, 2);
    damage(
        &world,
        "UPDATE certificates SET reason = 7 WHERE key = (SELECT min(key) FROM certificates WHERE reason = 6)",
    );
    let receipt = world.authority.release(&device, None, actor).await.unwrap();
    assert_eq!((receipt.certificates, receipt.unreadable, world.crl().entries().len()), (2, 0, 1));
}

#[tokio::test]
async fn a_device_whose_state_cannot_be_read_is_held_until_somebody_decides() {
    let world = World::new().await;
    let actor = "operator/ana";
    for id in ["pump-1", "pump-2"] {
        world.enroll(id).await;
    }
    world.authority.revoke(&subject("pump-2"), RevocationReason::CessationOfOperation, actor).await.unwrap();
    for id in ["pump-1", "pump-2"] {
        damage(&world, &format!("UPDATE holders SET status = 'lost' WHERE id = '{id}'"));
        assert_eq!(world.authority.hold(&subject(id), actor).await.unwrap().status, Status::Held);
    }
    let all = || Selection::Fleet("pumps".parse().unwrap());
    let many = world.authority.change_bulk(BulkAction::Release, all(), None, actor).await.unwrap();
    assert_eq!((many.plan.total().devices, many.plan.total().undecided), (0, 2));
    let head = async |id: &str| world.authority.store.live_certificates(&subject(id), START).await.unwrap()[0].serial;
    for id in ["pump-1", "pump-2"] {
        let alone = world.authority.release(&subject(id), None, actor).await;
        assert!(matches!(alone, Err(Refusal::State(_))), "{id}: {alone:?}");
    }
    // Who was revoked before is not brought back by that, but by an admin who says so.
    let refused = world.authority.release(&subject("pump-2"), Some(head("pump-2").await), actor).await;
    assert!(matches!(refused, Err(Refusal::NotFound(_))), "{refused:?}");
    let kept = world.authority.release(&subject("pump-1"), Some(head("pump-1").await), actor).await.unwrap();
    assert_eq!((kept.status, world.crl().entries().len()), (Status::Active, 1));
    // Where no certificate is left to choose, nobody is let in either.
    damage(&world, "UPDATE holders SET status = 'lost' WHERE id = 'pump-1'");
    world.authority.hold(&subject("pump-1"), actor).await.unwrap();
    world.at(DAY * 3);
    let alone = world.authority.release(&subject("pump-1"), None, actor).await;
    assert!(matches!(alone, Err(Refusal::State(_))), "{alone:?}");
}

#[tokio::test]
async fn the_receipt_of_many_says_what_could_not_be_read() {
    let world = World::new().await;
    for id in ["pump-1", "pump-2", "pump-3", "pump-4"] {
        world.enroll(id).await;
    }
    damage(
        &world,
        "UPDATE certificates SET serial = x'0102' WHERE holder = (SELECT key FROM holders WHERE id = 'pump-1')",
    );
    damage(&world, "UPDATE holders SET status = 'lost' WHERE id = 'pump-2'");
    damage(&world, "UPDATE holders SET id = '' WHERE id = 'pump-3'");
    let all = Selection::Fleet("pumps".parse().unwrap());
    let what = BulkAction::Revoke(RevocationReason::KeyCompromise);
    let plan = world.authority.plan_bulk(what, all.clone()).await.unwrap();
    let counts = plan.total();
    assert_eq!((counts.devices, counts.certificates, counts.unreadable), (3, 2, 2));
    let done = world.authority.change_bulk(what, all, Some(plan.digest), "operator/ana").await.unwrap();
    assert_eq!((done.plan.total(), world.crl().entries().len()), (counts, 2));
    assert_eq!(told(&world), ["crl.unreadable"]);
}
