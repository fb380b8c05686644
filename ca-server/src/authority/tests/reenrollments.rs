//! Revoked devices that an admin lets enroll once more.

use super::*;
use crate::store::AuditQuery;

fn bound(id: &str) -> TokenFor {
    TokenFor::Device { fleet: "pumps".parse().unwrap(), id: id.parse().unwrap(), reenroll: false }
}

async fn holder(world: &World, id: &str) -> Holder {
    world.authority.store.holder(&subject(id)).await.unwrap().unwrap()
}

async fn revoke(world: &World, id: &str, reason: RevocationReason) {
    world.authority.revoke(&subject(id), reason, "operator/ana").await.unwrap();
}

async fn allow(world: &World, id: &str) -> Result<Holder, Refusal> {
    world.authority.allow_reenroll(&subject(id), Duration::ZERO, "operator/ana").await
}

async fn told(world: &World, action: &str) -> usize {
    let query = AuditQuery { action: Some(action.into()), limit: 100, ..AuditQuery::default() };
    world.authority.store.audit_records(&query).await.unwrap().len()
}

/// Comes back by a new token; what it gets waits for Confirm.
async fn come_back(world: &World, id: &str) -> Device {
    let token = world.token(bound(id), Duration::ZERO).await.unwrap();
    world.enroll_with(&token, id, &request()).await.unwrap()
}

#[tokio::test]
async fn a_revoked_device_that_is_allowed_enrolls_once_and_confirms() {
    let world = World::new().await;
    let before = world.enroll("pump-1").await;
    revoke(&world, "pump-1", RevocationReason::Unspecified).await;
    assert!(matches!(world.token(bound("pump-1"), Duration::ZERO).await, Err(Refusal::Revoked)));
    assert_eq!(allow(&world, "pump-1").await.unwrap().reenroll_until, Some(START + DAY * 7));
    let back = come_back(&world, "pump-1").await;
    let pending = holder(&world, "pump-1").await;
    assert_eq!((pending.status, pending.reenroll_until), (Status::Active, None));
    assert_eq!((pending.lineage.head, pending.lineage.pending), (None, Some(back.0.serial)));
    world.authority.confirm(&back.0).await.unwrap();
    let lineage = holder(&world, "pump-1").await.lineage;
    assert_eq!((lineage.head, lineage.generation), (Some(back.0.serial), 2));
    assert!(matches!(world.renew(&before).await, Err(Refusal::CertificateRevoked)), "what was revoked stays so");
    assert_eq!(holder(&world, "pump-1").await.status, Status::Active, "and holds nobody");
    world.renew(&back).await.unwrap();
    assert!(matches!(world.token(bound("pump-1"), Duration::ZERO).await, Err(Refusal::AlreadyEnrolled(_))));
}

#[tokio::test]
async fn only_what_is_revoked_can_be_allowed_and_saying_it_twice_is_once() {
    let world = World::new().await;
    world.enroll("pump-1").await;
    assert!(matches!(allow(&world, "pump-1").await, Err(Refusal::State(_))));
    assert!(matches!(allow(&world, "nobody").await, Err(Refusal::NotFound("device"))));
    world.authority.hold(&subject("pump-1"), "operator/ana").await.unwrap();
    assert!(matches!(allow(&world, "pump-1").await, Err(Refusal::State(_))));
    revoke(&world, "pump-1", RevocationReason::Unspecified).await;
    let first = allow(&world, "pump-1").await.unwrap();
    assert_eq!(allow(&world, "pump-1").await.unwrap(), first);
    assert_eq!(told(&world, "device.reenroll_allowed").await, 1);
    world.authority.decommission(&subject("pump-1"), "operator/ana").await.unwrap();
    assert_eq!(holder(&world, "pump-1").await.reenroll_until, None);
    assert!(matches!(allow(&world, "pump-1").await, Err(Refusal::State(_))));
}

#[tokio::test]
async fn what_was_allowed_ends_by_itself() {
    let world = World::new().await;
    world.enroll("pump-1").await;
    revoke(&world, "pump-1", RevocationReason::Unspecified).await;
    allow(&world, "pump-1").await.unwrap();
    world.at(DAY * 6);
    let token = world.token(bound("pump-1"), DAY * 3).await.unwrap();
    world.at(DAY * 7 + Duration::from_secs(1));
    assert!(!holder(&world, "pump-1").await.may_reenroll(world.authority.now()));
    let refused = world.enroll_with(&token, "pump-1", &request()).await.err().expect("refused");
    assert!(matches!(refused, Refusal::Revoked), "{refused:?}");
    assert!(matches!(world.token(bound("pump-1"), Duration::ZERO).await, Err(Refusal::Revoked)));
    // Said again, for less; the last word counts, and each is on record.
    let authority = &world.authority;
    authority.allow_reenroll(&subject("pump-1"), HOUR * 2, "operator/ana").await.unwrap();
    authority.allow_reenroll(&subject("pump-1"), HOUR, "operator/ana").await.unwrap();
    assert_eq!(holder(&world, "pump-1").await.reenroll_until, Some(authority.now() + HOUR));
    assert_eq!(told(&world, "device.reenroll_allowed").await, 3);
    let too_long = authority.allow_reenroll(&subject("pump-1"), DAY * 31, "operator/ana").await;
    assert!(matches!(too_long, Err(Refusal::Invalid { .. })), "{too_long:?}");
    world.enroll_with(&token, "pump-1", &request()).await.unwrap();
}

#[tokio::test]
async fn who_is_revoked_again_before_it_came_back_stays_so() {
    let world = World::new().await;
    world.enroll("pump-1").await;
    revoke(&world, "pump-1", RevocationReason::Unspecified).await;
    allow(&world, "pump-1").await.unwrap();
    let records = told(&world, "device.revoked").await;
    revoke(&world, "pump-1", RevocationReason::Unspecified).await;
    assert_eq!(holder(&world, "pump-1").await.reenroll_until, None);
    assert_eq!(told(&world, "device.revoked").await, records + 1, "that it ended is on record");
    assert!(matches!(world.token(bound("pump-1"), Duration::ZERO).await, Err(Refusal::Revoked)));
}

#[tokio::test]
async fn of_two_that_come_at_once_one_gets_in() {
    let world = World::new().await;
    world.enroll("pump-1").await;
    revoke(&world, "pump-1", RevocationReason::Unspecified).await;
    allow(&world, "pump-1").await.unwrap();
    let tokens = (
        world.token(bound("pump-1"), Duration::ZERO).await.unwrap(),
        world.token(bound("pump-1"), HOUR).await.unwrap(),
    );
    let keys = (request(), request());
    let outcomes =
        tokio::join!(world.enroll_with(&tokens.0, "pump-1", &keys.0), world.enroll_with(&tokens.1, "pump-1", &keys.1));
    let refused = match outcomes {
        (Ok(_), Err(why)) | (Err(why), Ok(_)) => why,
        (Ok(_), Ok(_)) => panic!("both got in"),
        (Err(first), Err(second)) => panic!("nobody got in: {first}, {second}"),
    };
    assert!(matches!(refused, Refusal::AlreadyEnrolled(_)), "{refused:?}");
}

/// What had expired when its device was revoked is on no CRL, and nothing in its row says that it was.
#[tokio::test]
async fn who_is_revoked_again_before_the_permission_was_answered_is_not_given_it_twice() {
    let world = World::new().await;
    world.enroll("pump-1").await;
    revoke(&world, "pump-1", RevocationReason::Unspecified).await;
    let allowing = allow(&world, "pump-1");
    tokio::pin!(allowing);
    assert!(futures::poll!(allowing.as_mut()).is_pending());
    // What was handed to the store before this is committed when this is.
    let _ = world.authority.store.record_acknowledgements(Vec::new()).await;
    assert_eq!(told(&world, "device.reenroll_allowed").await, 1);
    revoke(&world, "pump-1", RevocationReason::Unspecified).await;
    assert_eq!(allowing.await.unwrap().reenroll_until, None, "what is answered is how it is");
    assert_eq!(holder(&world, "pump-1").await.reenroll_until, None);
    assert_eq!(told(&world, "device.reenroll_allowed").await, 1);
}

#[tokio::test]
async fn an_expired_certificate_of_before_the_revocation_brings_nobody_back() {
    let world = World::new().await;
    let (key, csr) = request();
    let token = world.token(bound("pump-1"), Duration::ZERO).await.unwrap();
    let thief =
        previous::Sleeper { device: world.enroll_with(&token, "pump-1", &(clone(&key), csr)).await.unwrap(), key };
    world.at(DAY * 3);
    world.publish(true).await;
    revoke(&world, "pump-1", RevocationReason::Unspecified).await;
    allow(&world, "pump-1").await.unwrap();
    let (row, _) = world.authority.store.certificate(thief.device.0.serial).await.unwrap().unwrap();
    assert_eq!(row.revoked, None);
    assert!(matches!(thief.refused(&world).await, Refusal::Revoked), "an expired certificate is no new proof");
    let back = come_back(&world, "pump-1").await;
    assert!(matches!(thief.refused(&world).await, Refusal::CertificateSuperseded));
    world.authority.confirm(&back.0).await.unwrap();
    assert!(matches!(thief.refused(&world).await, Refusal::CertificateSuperseded));
    assert_eq!(holder(&world, "pump-1").await.lineage.head, Some(back.0.serial));
}

#[tokio::test]
async fn a_certificate_that_was_replaced_before_the_revocation_stops_nobody_after_it() {
    let world = World::new().await;
    let first = world.enroll("pump-1").await;
    let replaced = world.renew(&first).await.unwrap();
    world.renew(&first).await.unwrap();
    revoke(&world, "pump-1", RevocationReason::Unspecified).await;
    allow(&world, "pump-1").await.unwrap();
    come_back(&world, "pump-1").await;
    assert!(matches!(world.renew(&replaced).await, Err(Refusal::CertificateRevoked)));
    assert!(world.authority.confirm(&replaced.0).await.is_err());
    assert_eq!(holder(&world, "pump-1").await.status, Status::Active);
}

#[tokio::test]
async fn a_device_that_lost_what_it_came_back_with_still_has_to_confirm() {
    let world = World::new().await;
    world.enroll("pump-1").await;
    revoke(&world, "pump-1", RevocationReason::Unspecified).await;
    allow(&world, "pump-1").await.unwrap();
    let lost = come_back(&world, "pump-1").await;
    let again = TokenFor::Device { fleet: "pumps".parse().unwrap(), id: "pump-1".parse().unwrap(), reenroll: true };
    let token = world.token(again, Duration::ZERO).await.unwrap();
    let back = world.enroll_with(&token, "pump-1", &request()).await.unwrap();
    let lineage = holder(&world, "pump-1").await.lineage;
    assert_eq!((lineage.head, lineage.pending), (None, Some(back.0.serial)));
    let (row, _) = world.authority.store.certificate(lost.0.serial).await.unwrap().unwrap();
    assert_eq!(row.revoked.map(|revoked| revoked.reason), Some(RevocationReason::Superseded));
}

#[tokio::test]
async fn a_key_that_was_banned_and_a_certificate_that_was_revoked_do_not_come_back() {
    let world = World::new().await;
    for (id, reason) in [("pump-1", RevocationReason::Unspecified), ("pump-2", RevocationReason::KeyCompromise)] {
        let old = world.token(bound(id), DAY).await.unwrap();
        let key = request();
        world.enroll_with(&old, id, &key).await.unwrap();
        revoke(&world, id, reason).await;
        allow(&world, id).await.unwrap();
        let new = world.token(bound(id), DAY).await.unwrap();
        let refused = [
            world.enroll_with(&old, id, &key).await.err().unwrap(),
            world.enroll_with(&new, id, &key).await.err().unwrap(),
        ];
        match reason {
            RevocationReason::KeyCompromise => {
                assert!(refused.iter().all(|why| matches!(why, Refusal::KeyCompromised)), "{refused:?}");
            }
            _ => assert!(
                matches!(refused, [Refusal::TokenRevoked | Refusal::TokenSpent, Refusal::KeyReused]),
                "{refused:?}"
            ),
        }
        assert!(holder(&world, id).await.may_reenroll(START), "a failed attempt uses nothing up");
        come_back(&world, id).await;
    }
}

#[tokio::test]
async fn a_certificate_that_was_superseded_before_the_revocation_is_not_given_again_to_who_is_allowed_back() {
    let world = World::new().await;
    world.enroll("pump-1").await;
    let reenroll =
        || TokenFor::Device { fleet: "pumps".parse().unwrap(), id: "pump-1".parse().unwrap(), reenroll: true };
    let (old, key) = (world.token(reenroll(), DAY).await.unwrap(), request());
    let superseded = world.enroll_with(&old, "pump-1", &key).await.unwrap();
    let newer = world.token(reenroll(), DAY).await.unwrap();
    world.enroll_with(&newer, "pump-1", &request()).await.unwrap();
    let (row, _) = world.authority.store.certificate(superseded.0.serial).await.unwrap().unwrap();
    assert_eq!(row.revoked.map(|revoked| revoked.reason), Some(RevocationReason::Superseded));
    revoke(&world, "pump-1", RevocationReason::Unspecified).await;
    allow(&world, "pump-1").await.unwrap();
    let refused = world.enroll_with(&old, "pump-1", &key).await.err().expect("refused");
    assert!(matches!(refused, Refusal::TokenRevoked | Refusal::TokenSpent), "{refused:?}");
    come_back(&world, "pump-1").await;
}

fn clone(key: &rcgen::KeyPair) -> rcgen::KeyPair {
    rcgen::KeyPair::from_pem(&key.serialize_pem()).unwrap()
}
