//! What a stranger can send: too much, nonsense, or only the beginning. Refused, and the server goes on.

use std::collections::HashSet;

use enroll_client::attester::token::JoinToken;
use fleetca_proto::{
    MAX_MESSAGE_BYTES,
    v1::{GetRenewalInfoRequest, Start},
};
use fleetca_tests::{
    device::Device,
    holder::Holder,
    server::Server,
    stranger::{self, Exchange, Refusal, SubjectKey},
};
use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Sends a first message, and gives the refusal.
async fn refusal(connection: &enroll_client::connect::Connection, start: &[u8]) -> Status {
    match Exchange::start(connection, start).await {
        Ok(mut exchange) => exchange.answer().await.expect_err("a refusal"),
        Err(status) => status,
    }
}

#[tokio::test]
async fn a_message_over_64_kib_is_refused_and_the_server_goes_on() {
    let server = Server::start();
    let connection = stranger::connect(&server).await;
    let (token, key) = (JoinToken::generate().expect("a token"), SubjectKey::generate());
    let honest = stranger::start("pump-7", &token, &key);
    let bloated = Start { csr: vec![0x30; MAX_MESSAGE_BYTES], ..honest };
    let refused = refusal(&connection, &bloated.encode_to_vec()).await;
    assert_eq!(Refusal::of(&refused).reason, "PROTOCOL_ERROR");
    server.admin().create_fleet("sensors");
    Device::enroll(&server, "sensors", "pump-7");
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused() {
    let server = Server::start();
    let connection = stranger::connect(&server).await;
    for bytes in [&[0xff; 40][..], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], &[0x0a, 0x02, 0xc3, 0x28], &[]] {
        let refused = Refusal::of(&refusal(&connection, bytes).await);
        assert_eq!(refused.code, Code::InvalidArgument, "{bytes:x?}: {refused:?}");
        assert_eq!(refused.action, "stop");
    }
}

#[tokio::test]
async fn five_hundred_challenges_are_all_distinct() {
    let server = Server::start();
    let connection = stranger::connect(&server).await;
    let (token, key) = (JoinToken::generate().expect("a token"), SubjectKey::generate());
    let start = stranger::start("pump-7", &token, &key).encode_to_vec();
    let mut challenges = HashSet::new();
    for _ in 0..500 {
        let mut exchange = Exchange::start(&connection, &start).await.expect("a stream");
        challenges.insert(exchange.challenge().await.expect("a challenge"));
    }
    assert_eq!(challenges.len(), 500);
}

#[tokio::test]
async fn streams_that_are_left_open_keep_nobody_out() {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    let connection = stranger::connect(&server).await;
    let (token, key) = (JoinToken::generate().expect("a token"), SubjectKey::generate());
    let start = stranger::start("pump-7", &token, &key).encode_to_vec();
    let mut open = Vec::new();
    for _ in 0..20 {
        let mut exchange = Exchange::start(&connection, &start).await.expect("a stream");
        exchange.challenge().await.expect("a challenge");
        open.push(exchange);
    }
    Device::enroll(&server, "sensors", "pump-8").renew();
}

#[tokio::test]
async fn who_was_cut_off_holds_no_better_place_than_a_stranger() {
    let mut server = Server::start();
    server.admin().create_fleet("sensors");
    let (revoked, honest) =
        (Device::enroll(&server, "sensors", "pump-7"), Device::enroll(&server, "sensors", "pump-8"));
    server.admin().run(&["device", "revoke", "pump-7", "--reason", "keyCompromise"]);
    server.stop();
    let settings = server.dir().join("config.toml");
    let text = std::fs::read_to_string(&settings).expect("init writes them");
    let text = text.replace("connections = 10000", "connections = 6");
    let text = text.replace("stranger_connections = 512", "stranger_connections = 2");
    std::fs::write(&settings, text).expect("written");
    server.start_again();

    let thief = Holder::copy(&revoked);
    let (mut open, mut answered) = (Vec::new(), 0);
    for _ in 0..8 {
        let mut renewal = thief.renewal(&server);
        let refused = renewal.get_renewal_info(GetRenewalInfoRequest {}).await.expect_err("it was revoked");
        // Who finds no place hears nothing from us: the connection ends.
        answered += usize::from(refused.get_details_error_info().is_some_and(|info| info.reason == "DEVICE_REVOKED"));
        open.push(renewal);
    }
    assert_eq!(answered, 2, "two are answered, the others find no place");
    honest.renew();
}
