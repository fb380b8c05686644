//! Quotas and explanations in the course of time.

use super::*;
use crate::{
    inventory::{fleet::Method, quota::Quotas},
    store::NewRegisteredKey,
};

fn target(id: &str, reenroll: bool) -> TokenFor {
    TokenFor::Device { fleet: "pumps".parse().unwrap(), id: id.parse().unwrap(), reenroll }
}

async fn set(world: &World, change: impl Fn(&mut Policy)) {
    world.authority.change_policy(&"pumps".parse().unwrap(), change, "operator/ana").await.unwrap();
}

async fn explained(world: &World, id: &str, way: &str) -> Result<Answer, Refusal> {
    let explained = world.authority.explain(&"pumps".parse().unwrap(), &subject(id), None).await.unwrap();
    explained.ways.into_iter().find(|found| found.way == way).unwrap().outcome
}

#[tokio::test]
async fn a_lost_answer_is_given_again_where_the_quotas_are_used_up() {
    let world = World::new().await;
    let tokens = [
        world.token(target("pump-1", false), Duration::ZERO).await.unwrap(),
        world.token(target("pump-2", false), Duration::ZERO).await.unwrap(),
    ];
    let fleet_token = TokenFor::NewDevices { fleet: "pumps".parse().unwrap(), pattern: "*".into(), uses: 3 };
    let fleet_token = world.token(fleet_token, Duration::ZERO).await.unwrap();
    set(&world, |policy| policy.quotas = Quotas { max_devices: Some(2), max_enrollments_per_hour: Some(1) }).await;
    let own = request();
    let first = world.enroll_with(&tokens[0], "pump-1", &own).await.unwrap();
    let again = world.enroll_with(&tokens[0], "pump-1", &own).await.unwrap();
    assert_eq!(first.0.serial, again.0.serial);
    let third = world.enroll_with(&fleet_token, "pump-3", &request()).await.err();
    assert!(matches!(third, Some(Refusal::FleetFull)), "{third:?}");
    let later = request();
    let second = world.enroll_with(&tokens[1], "pump-2", &later).await.err();
    let Some(Refusal::EnrollmentQuota { again_at }) = second else { panic!("{second:?}") };
    assert!(matches!(explained(&world, "pump-2", "token").await, Err(Refusal::EnrollmentQuota { .. })));
    // Who comes when he was told gets in: the refusal has used up nothing.
    world.at(again_at.since(START));
    assert!(matches!(explained(&world, "pump-2", "token").await, Ok(Answer::Certificate { confirm: false })));
    world.enroll_with(&tokens[1], "pump-2", &later).await.unwrap();
    world.renew(&first).await.unwrap();
}

/// Whoever comes second finds the quotas used up, by himself.
#[tokio::test]
async fn one_request_that_comes_twice_at_once_is_answered_twice_in_the_last_place() {
    let world = World::new().await;
    set(&world, |policy| policy.quotas = Quotas { max_devices: Some(1), max_enrollments_per_hour: Some(1) }).await;
    let token = TokenFor::NewDevices { fleet: "pumps".parse().unwrap(), pattern: "*".into(), uses: 2 };
    let token = world.token(token, Duration::ZERO).await.unwrap();
    let own = request();
    let (one, other) =
        tokio::join!(world.enroll_with(&token, "pump-1", &own), world.enroll_with(&token, "pump-1", &own));
    assert_eq!(one.unwrap().0.serial, other.unwrap().0.serial);
}

#[tokio::test]
async fn what_is_allowed_at_once_is_what_is_left_of_the_hour() {
    let world = World::new().await;
    set(&world, |policy| policy.quotas.max_enrollments_per_hour = Some(2)).await;
    for (n, after) in [(1, 0), (2, 1800)] {
        world.at(Duration::from_secs(after));
        world.enroll(&format!("pump-{n}")).await;
    }
    let token = world.token(target("pump-3", false), DAY).await.unwrap();
    for after in [1801, 3599] {
        world.at(Duration::from_secs(after));
        let refused = world.enroll_with(&token, "pump-3", &request()).await.err();
        assert!(matches!(refused, Some(Refusal::EnrollmentQuota { .. })), "{refused:?}");
    }
    world.at(Duration::from_secs(3700));
    world.enroll_with(&token, "pump-3", &request()).await.unwrap();
    let refused = explained(&world, "pump-4", "token").await;
    assert!(matches!(refused, Err(Refusal::EnrollmentQuota { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_device_that_enrolls_in_a_loop_is_stopped() {
    let world = World::new().await;
    world.enroll("pump-1").await;
    set(&world, |policy| {
        policy.attest = vec![Method::Token, Method::RegisteredKey];
        policy.reenroll = Some(Tier::Registered);
    })
    .await;
    let key = crate::pki::Csr::parse(&request().1).unwrap().into_public_key();
    let key = NewRegisteredKey { key, active_from: START, retires_at: None };
    world.authority.register_key(&subject("pump-1"), key, "operator/ana").await.unwrap();
    for more in 1..crate::store::MAX_LIVE {
        let answer = explained(&world, "pump-1", "registered-key").await;
        assert!(matches!(answer, Ok(Answer::Certificate { confirm: true })), "{more}: {answer:?}");
        let token = world.token(target("pump-1", true), Duration::ZERO).await.unwrap();
        world.enroll_with(&token, "pump-1", &request()).await.unwrap();
    }
    let answer = explained(&world, "pump-1", "registered-key").await;
    assert!(matches!(answer, Err(Refusal::Overloaded)), "{answer:?}");
    // Those that have expired count no more.
    world.at(DAY * 2);
    assert!(explained(&world, "pump-1", "registered-key").await.is_ok());
}

#[tokio::test]
async fn explaining_writes_nothing() {
    let world = World::new().await;
    set(&world, |policy| {
        policy.quotas = Quotas { max_devices: Some(1), max_enrollments_per_hour: Some(1) };
        policy.attest.push(Method::RegisteredKey);
    })
    .await;
    let device = world.enroll("pump-1").await;
    world.renew(&device).await.unwrap();
    let database = rusqlite::Connection::open(world.dir.path().join("ca.db")).unwrap();
    let version = || database.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0)).unwrap();
    let before = version();
    for id in ["pump-1", "pump-2"] {
        world.authority.explain(&"pumps".parse().unwrap(), &subject(id), None).await.unwrap();
    }
    assert_eq!(version(), before);
    // It would be seen if it did.
    world
        .authority
        .register_key(
            &subject("pump-1"),
            NewRegisteredKey {
                key: crate::pki::Csr::parse(&request().1).unwrap().into_public_key(),
                active_from: START,
                retires_at: None,
            },
            "operator/ana",
        )
        .await
        .unwrap();
    assert_ne!(version(), before);
}

#[tokio::test]
async fn a_device_that_slept_is_told_how_it_comes_back_and_until_when() {
    let world = World::new().await;
    let sleeper = previous::Sleeper::enroll(&world, "pump-1").await;
    assert!(matches!(explained(&world, "pump-1", "previous").await, Err(Refusal::State(_))));
    world.at(DAY * 2);
    set(&world, |policy| policy.quotas = Quotas { max_devices: Some(1), max_enrollments_per_hour: Some(1) }).await;
    let confirmed = |answer| matches!(answer, Ok(Answer::Certificate { confirm: true }));
    assert!(matches!(explained(&world, "pump-1", "renew").await, Err(Refusal::CertificateExpired)));
    assert!(confirmed(explained(&world, "pump-1", "previous").await));
    assert!(matches!(explained(&world, "pump-2", "token").await, Err(Refusal::FleetFull)));
    let (_, confirm_required) = sleeper.come_back(&world, request().0).await.unwrap();
    assert!(confirm_required);
    world.at(DAY * 40);
    assert!(matches!(explained(&world, "pump-1", "previous").await, Err(Refusal::CertificateExpired)));
    assert!(matches!(sleeper.refused(&world).await, Refusal::CertificateExpired));
}
