//! A thief of a join token, with all that he may have seen beside it.

use fleetca_proto::v1::{Kind, Start, enroll_request::Step};
use fleetca_tests::{
    admin::{Admin, read_token},
    device::Device,
    holder::Holder,
    stranger::{self, Exchange, SubjectKey, reason},
};
use prost::Message;

use super::{contents, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spent_token_is_worth_nothing_even_with_the_devices_own_request() {
    let server = server();
    let admin = Admin::of(&server);
    let connection = stranger::connect(&server).await;
    let (token, key) = (admin.token("sensors", "pump-7").await, SubjectKey::generate());
    let honest = stranger::start("pump-7", &token, &key);
    let first = honest.encode_to_vec();
    let mut exchange = Exchange::start(&connection, &first).await.expect("a stream");
    let challenge = exchange.challenge().await.expect("a challenge");
    exchange.send(Step::Proof(stranger::proof(&token, &key, &first, &challenge)));
    let issued = exchange.issued().await.expect("a certificate");
    let before = contents(&server);

    // The request is no secret, and a lost answer would be given again: but only to who holds its key.
    let thief = SubjectKey::generate();
    let mut exchange = Exchange::start(&connection, &first).await.expect("a stream");
    let challenge = exchange.challenge().await.expect("a challenge");
    exchange.send(Step::Proof(stranger::proof(&token, &thief, &first, &challenge)));
    assert_eq!(reason(exchange.issued().await), "CSR_POP_FAILED");
    for (id, kind) in [("pump-7", Kind::Device), ("pump-8", Kind::Device), ("pump-7", Kind::Gateway)] {
        let start = Start { kind: kind.into(), ..stranger::start(id, &token, &thief) }.encode_to_vec();
        let mut exchange = Exchange::start(&connection, &start).await.expect("a stream");
        let challenge = exchange.challenge().await.expect("a challenge");
        exchange.send(Step::Proof(stranger::proof(&token, &thief, &start, &challenge)));
        let why = reason(exchange.issued().await);
        assert!(["TOKEN_SPENT", "ID_REFUSED"].contains(&&*why), "{id} {kind:?}: {why}");
    }
    assert_eq!(contents(&server), before);
    Holder::of(&issued, &key).renew_and_confirm(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_ends_with_the_device_that_it_was_for() {
    let server = server();
    Device::enroll(&server, "sensors", "pump-7");
    let admin = server.admin();
    let out = server.scratch().join("again.token");
    let again = ["--fleet", "sensors", "--device-id", "pump-7", "--reenroll"];
    let token = read_token(&admin.token(&again, &out));
    admin.run(&["device", "revoke", "pump-7", "--reason", "cessationOfOperation"]);
    let connection = stranger::connect(&server).await;
    let refused = stranger::enroll(&connection, "pump-7", &token, &SubjectKey::generate()).await;
    assert_eq!(reason(refused), "TOKEN_REVOKED");
    let tokens = admin.run(&["token", "list"]);
    let states: Vec<_> = tokens.as_array().expect("a list").iter().map(|token| &token["state"]).collect();
    assert!(states.iter().all(|state| *state != "active"), "{tokens}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thief_and_device_that_race_with_one_token_never_both_get_in() {
    let server = server();
    let admin = Admin::of(&server);
    let connection = stranger::connect(&server).await;
    for round in 0..8 {
        let id = format!("pump-{round}");
        let (token, device, thief) =
            (admin.token("sensors", &id).await, SubjectKey::generate(), SubjectKey::generate());
        let (one, other) = tokio::join!(
            stranger::enroll(&connection, &id, &token, &device),
            stranger::enroll(&connection, &id, &token, &thief),
        );
        assert_eq!(usize::from(one.is_ok()) + usize::from(other.is_ok()), 1, "{one:?} {other:?}");
        let loser = if one.is_ok() { other } else { one };
        assert_eq!(reason(loser), "TOKEN_SPENT");
    }
}
