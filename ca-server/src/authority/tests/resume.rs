//! The decision to go on after a lost time: whose lists it wants, and whose loss somebody has to say.

use super::{past::WINDOW, *};
use crate::{audit::Draft, authority::root_crl, store::Notice};

#[tokio::test]
async fn going_on_wants_a_list_of_every_issuer_or_a_word_that_it_is_lost() {
    let world = World::new().await;
    let crl = world.lost_crl(HOUR * 2, &[]);
    let world = world.loses(HOUR, HOUR * 3).await;
    let (store, now) = (world.authority.store.as_ref(), world.authority.now());
    let refused = resume(store, &[], &[], WINDOW, now).await;
    assert!(matches!(refused, Err(RestoreError::CrlMissing(ids)) if ids == [world.issuer()]));
    let foreign = World::new().await.lost_crl(HOUR * 2, &[]);
    assert!(matches!(take_back(store, &[foreign], now).await, Err(RestoreError::UnknownIssuer)));
    // One that was given by an earlier command counts.
    take_back(store, &[crl], now).await.unwrap();
    let resumption = resume(store, &[], &[], WINDOW * 9, now).await.unwrap();
    assert_eq!((resumption.loss_accepted, resumption.window_until), (false, now + LONGEST_WINDOW));
    assert!(matches!(resume(store, &[], &[world.issuer()], WINDOW, now).await, Err(RestoreError::NotRestored)));
}

#[tokio::test]
async fn a_list_older_than_the_one_that_a_gateway_holds_is_not_enough_to_go_on() {
    let world = World::new().await;
    world.enroll("pump-1").await;
    let last = world.crl().der().to_vec();
    let newer = world.lost_crl(HOUR / 4, &[]);
    let number = (START + HOUR / 4).millis() as u64;
    world.at(HOUR / 3);
    let store = world.authority.store.clone();
    let now = world.authority.now();
    let audit = Draft::done(now, "system", "ca.restored", "ca".into())
        .fact("issuer", world.issuer().to_string())
        .fact("number", number);
    let evidence = "a gateway holds it".into();
    store.record_notice(Notice { at: now, lost_from: START, lost_until: now, evidence, audit }).await.unwrap();
    let given = take_back(store.as_ref(), &[last], now).await.unwrap();
    let refused = resume(store.as_ref(), &given, &[], WINDOW, now).await;
    assert!(matches!(refused, Err(RestoreError::CrlMissing(_))), "{refused:?}");
    let given = take_back(store.as_ref(), &[newer], now).await.unwrap();
    resume(store.as_ref(), &given, &[], WINDOW, now).await.unwrap();
}

#[tokio::test]
async fn a_list_of_an_issuing_ca_that_was_made_in_the_lost_time_keeps_the_others_from_nobody() {
    let world = World::new().await;
    let (ours, stranger) = (world.lost_crl(HOUR * 2, &[]), World::new().await.lost_crl(HOUR * 9, &[]));
    let world = world.loses(HOUR, HOUR * 3).await;
    let (store, now) = (world.authority.store.as_ref(), world.authority.now());
    let both = [stranger.clone(), ours];
    let looked = look_at(store, &both).await.unwrap();
    let unknown = ParsedCrl::parse(stranger.clone().into()).unwrap();
    assert_eq!(looked.newest, Some((START + HOUR * 2).floor_secs()), "whoever signed the other one dates nothing here");
    let [UnknownCrl { issuer, number }] = looked.unknown[..] else { panic!("{looked:?}") };
    assert_eq!((issuer, number), (IssuerId::of_key_identifier(&unknown.authority_key()), unknown.number()));
    let given = take_back(store, &both, now).await.unwrap();
    assert_eq!(given.iter().map(|back| back.issuer).collect::<Vec<_>>(), [world.issuer()]);
    resume(store, &given, &[], WINDOW, now).await.unwrap();
    // Alone it is a mistake.
    let refused = look_at(store, &[stranger]).await;
    assert!(matches!(refused, Err(RestoreError::Given { index: 0, .. })), "{refused:?}");
}

#[tokio::test]
async fn each_issuer_whose_list_is_missing_is_named_and_given_up_by_name() {
    let world = World::new().await;
    let first = world.issuer();
    let (world, second) = world.with_issuer(None).await;
    let world = world.loses(HOUR, HOUR * 3).await;
    let (store, now) = (world.authority.store.as_ref(), world.authority.now());
    let refused = resume(store, &[], &[], WINDOW, now).await.unwrap_err().to_string();
    for id in [first, second] {
        assert!(refused.contains(&format!("--accept-loss {id}")), "{refused}");
    }
    let refused = resume(store, &[], &[first], WINDOW, now).await;
    assert!(matches!(refused, Err(RestoreError::CrlMissing(ids)) if ids == [second]));
    let stranger = "0123456789abcdef".parse().unwrap();
    let refused = resume(store, &[], &[first, second, stranger], WINDOW, now).await;
    assert!(matches!(refused, Err(RestoreError::NoIssuer(id)) if id == stranger));
    let crl = world.lost_crl(HOUR * 2, &[]);
    let given = take_back(store, &[crl], now).await.unwrap();
    assert!(resume(store, &given, &[second], WINDOW, now).await.unwrap().loss_accepted);
}

#[tokio::test]
async fn what_nobody_has_lost_is_not_given_up_whatever_is_said() {
    let world = World::new().await;
    let (first, crl) = (world.issuer(), world.lost_crl(HOUR * 2, &[]));
    let world = world.loses(HOUR, HOUR * 3).await;
    let (store, now) = (world.authority.store.as_ref(), world.authority.now());
    let given = take_back(store, &[crl], now).await.unwrap();
    assert!(!resume(store, &given, &[first], WINDOW, now).await.unwrap().loss_accepted);
}

#[tokio::test]
async fn an_issuing_ca_that_had_expired_when_the_lost_time_began_has_lost_nothing() {
    let world = World::new().await;
    let ends = world.authority.issuers().certificate(&world.issuer()).unwrap().not_after().since(START);
    for (after, wanted) in [(HOUR * 24, true), (HOUR * 25, false)] {
        let world = World::new().await.loses(ends + after, ends + HOUR * 30).await;
        let (store, now) = (world.authority.store.as_ref(), world.authority.now());
        assert_eq!(resume(store, &[], &[], WINDOW, now).await.is_err(), wanted, "{after:?}");
    }
}

#[tokio::test]
async fn a_roots_crl_that_a_gateway_has_shown_is_wanted_before_the_ca_goes_on() {
    for is_lost in [false, true] {
        let world = World::new().await;
        let (gateway, root, crl) =
            (world.enrolled_gateway("eu-7").await, world.device_root(), world.lost_crl(HOUR, &[]));
        world.at(HOUR * 2);
        let head = world.lost_head_of(root, HOUR);
        world.authority.acknowledge(&gateway.0, &[head], Shown::Loaded).await.unwrap();
        let world = world.loses(HOUR / 2, HOUR * 3).await;
        let (store, now) = (world.authority.store.as_ref(), world.authority.now());
        let given = take_back(store, &[crl], now).await.unwrap();
        let refused = resume(store, &given, &[], WINDOW, now).await;
        assert!(matches!(refused, Err(RestoreError::CrlMissing(ids)) if ids == [root]));
        if is_lost {
            assert!(resume(store, &given, &[root], WINDOW, now).await.unwrap().loss_accepted);
            continue;
        }
        let key = world.roots().device.unwrap();
        let (newer, _) = root_crl(&key.certificate, key.signer.as_ref(), None, None, now).unwrap();
        take_back(store, &[newer], now).await.unwrap();
        assert!(!resume(store, &given, &[], WINDOW, now).await.unwrap().loss_accepted);
    }
}
