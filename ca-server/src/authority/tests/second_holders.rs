//! Two holders of one identity: what is noticed, who is told, and what an operator decides.

use super::*;
use crate::inventory::fleet::OnFork;

#[tokio::test]
async fn the_second_holder_of_an_identity_puts_it_on_hold_until_an_operator_decides() {
    let world = World::new().await;
    let honest = world.enroll("pump-1").await;
    let thief = world.renew(&honest).await.unwrap();
    world.authority.confirm(&thief.0).await.unwrap();
    assert!(matches!(world.renew(&honest).await, Err(Refusal::Fork { .. })));
    assert!(matches!(world.renew(&thief).await, Err(Refusal::Held)));
    let pump = subject("pump-1");
    let release = |keep| world.authority.release(&pump, keep, "operator/ana");
    assert!(matches!(release(None).await, Err(Refusal::State(_))));
    release(Some(honest.0.serial)).await.unwrap();
    assert!(world.renew(&honest).await.is_ok());
    assert!(matches!(world.renew(&thief).await, Err(Refusal::CertificateRevoked | Refusal::Fork { .. })));
    let revoked: Vec<_> = world.crl().entries().iter().map(|entry| entry.serial).collect();
    assert_eq!(revoked, [thief.0.serial]);
}

#[tokio::test]
async fn a_fork_whose_certificates_have_all_expired_is_released_without_a_choice() {
    let world = World::new().await;
    let honest = world.enroll("pump-1").await;
    let thief = world.renew(&honest).await.unwrap();
    world.authority.confirm(&thief.0).await.unwrap();
    assert!(matches!(world.renew(&honest).await, Err(Refusal::Fork { .. })));
    world.at(DAY * 3);
    let receipt = world.authority.release(&subject("pump-1"), None, "operator/ana").await.unwrap();
    assert_eq!(receipt.status, Status::Active);
}

#[tokio::test]
async fn a_certificate_that_a_release_took_away_never_holds_the_device_again() {
    let world = World::new().await;
    let honest = world.enroll("pump-1").await;
    let (_, stale) = request();
    let lost = world.device(&world.authority.renew(&honest.0, &stale).await.unwrap());
    let thief = world.renew(&honest).await.unwrap();
    world.authority.confirm(&thief.0).await.unwrap();
    assert!(matches!(world.renew(&honest).await, Err(Refusal::Fork { .. })));
    world.authority.release(&subject("pump-1"), Some(honest.0.serial), "operator/ana").await.unwrap();
    for taken in [&lost, &thief] {
        assert!(matches!(world.renew(taken).await, Err(Refusal::CertificateRevoked)));
        let confirmed = world.authority.confirm(&taken.0).await.map_err(|refused| refused.why);
        assert!(matches!(confirmed, Err(Refusal::CertificateRevoked)));
    }
    let again = world.authority.renew(&honest.0, &stale).await.map_err(|refused| refused.why);
    assert!(matches!(again, Err(Refusal::KeyReused)), "what was taken away is not given again");
    assert!(world.renew(&honest).await.is_ok());
}

/// The kinds of the events that wait to be written, with what they are about.
fn events(world: &World) -> Vec<(String, String)> {
    world.authority.telemetry.take_events().into_iter().map(|event| (event.kind, event.subject)).collect()
}

#[tokio::test]
async fn a_second_key_and_a_late_confirm_are_told_of_and_nothing_else_is() {
    let world = World::new().await;
    let event = |kind: &str| [(kind.to_owned(), "device/pump-1".to_owned())];
    let first = world.enroll("pump-1").await;
    let replaced = world.renew(&first).await.unwrap();
    world.authority.confirm(&first.0).await.unwrap();
    assert_eq!(events(&world), []);
    let second = world.renew(&first).await.unwrap();
    assert_eq!(events(&world), event("lineage.second_key"));
    for _ in 0..2 {
        world.authority.confirm(&second.0).await.unwrap();
    }
    assert_eq!(events(&world), []);
    assert_eq!(world.authority.confirm(&first.0).await.unwrap().generation, 2);
    assert_eq!(events(&world), event("lineage.late_confirm"));
    let confirmed = world.authority.confirm(&replaced.0).await.map_err(|refused| refused.why);
    assert!(matches!(confirmed, Err(Refusal::Fork { .. })));
}

#[tokio::test]
async fn who_hangs_up_is_told_of_all_the_same() {
    let world = World::new().await;
    let pump = subject("pump-1");
    let first = world.enroll("pump-1").await;
    let pending = world.renew(&first).await.unwrap();
    assert_eq!(events(&world), []);
    // Asked once: as far as the record, and then the caller is gone.
    let (_, csr) = request();
    {
        let renewal = world.authority.renew(&first.0, &csr);
        tokio::pin!(renewal);
        assert!(futures::poll!(renewal.as_mut()).is_pending());
    }
    let mut told = Vec::new();
    while told.is_empty() {
        tokio::task::yield_now().await;
        told = events(&world);
    }
    assert_eq!(told, [("lineage.second_key".to_owned(), pump.to_string())]);
    let lineage = world.authority.store.holder(&pump).await.unwrap().unwrap().lineage;
    assert_ne!(lineage.pending, Some(pending.0.serial));
    let fork = world.authority.confirm(&pending.0);
    {
        tokio::pin!(fork);
        assert!(futures::poll!(fork.as_mut()).is_pending());
    }
    assert_eq!(events(&world), [("lineage.fork".to_owned(), pump.to_string())]);
}

#[tokio::test]
async fn a_pending_certificate_that_renews_is_in_force_by_that() {
    let world = World::new().await;
    let first = world.enroll("pump-1").await;
    let pending = world.renew(&first).await.unwrap();
    let next = world.renew(&pending).await.unwrap();
    let lineage = world.authority.store.holder(&subject("pump-1")).await.unwrap().unwrap().lineage;
    assert_eq!((lineage.head, lineage.pending), (Some(pending.0.serial), Some(next.0.serial)));
    assert_eq!(lineage.generation, 2);
    assert!(matches!(world.renew(&first).await, Err(Refusal::Fork { .. })));
}

#[tokio::test]
async fn a_fleet_that_only_wants_to_know_refuses_the_second_holder_and_holds_nobody() {
    let world = World::new().await;
    let policy = Policy { on_fork: OnFork::Alert, ..Policy::default() };
    world.authority.create_fleet(&"gauges".parse().unwrap(), policy, "operator/ana").await.unwrap();
    let first = world.enroll_in("gauges", "gauge-1").await;
    let next = world.renew(&first).await.unwrap();
    world.authority.confirm(&next.0).await.unwrap();
    let Err(Refusal::Fork { detail }) = world.renew(&first).await else { panic!("not refused") };
    for serial in [first.0.serial, next.0.serial] {
        assert!(detail.contains(&serial.to_string()), "{detail}");
    }
    let holder = world.authority.store.holder(&subject("gauge-1")).await.unwrap().unwrap();
    assert_eq!(holder.status, Status::Active);
    world.renew(&next).await.unwrap();
}
