//! Answers to threats that no other flow holds: see `docs/threat-model.md`.

use enroll_client::attester::token::JoinToken;
use fleetca_proto::v1::{
    Bundle, GetCrlRequest, enroll_request::Step, get_crl_request::Form, revocation_client::RevocationClient,
};
use fleetca_tests::{
    device::Device,
    holder::Holder,
    server::Server,
    stranger::{self, Exchange, Refusal, SubjectKey},
    wait::{SOON, until_true},
};
use prost::Message;
use rusqlite::Connection;
use tonic::Status;

/// A server with a fleet.
fn server() -> Server {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    server
}

/// Enrolls with `token` in `Start`, and `signer` in the proof.
async fn attempt(server: &Server, token: &JoinToken, signer: &JoinToken) -> Status {
    let connection = stranger::connect(server).await;
    let key = SubjectKey::generate();
    let start = stranger::start("pump-7", token, &key).encode_to_vec();
    let mut exchange = Exchange::start(&connection, &start).await.expect("a stream");
    let challenge = exchange.challenge().await.expect("a challenge, whatever the token");
    exchange.send(Step::Proof(stranger::proof(signer, &key, &start, &challenge)));
    exchange.issued().await.expect_err("a refusal")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_token_fails_like_a_wrong_signature() {
    let server = server();
    let file = server.admin().device_token("sensors", "pump-7", server.scratch());
    let known = JoinToken::parse(&std::fs::read_to_string(file).expect("the token's file")).expect("a token");
    let unknown = JoinToken::generate().expect("randomness");
    let wrong_signature = attempt(&server, &known, &unknown).await;
    let wrong_token = attempt(&server, &unknown, &unknown).await;
    assert_eq!(Refusal::of(&wrong_token).reason, "ATTESTATION_FAILED");
    let seen = |status: &Status| (Refusal::of(status), status.message().to_owned(), status.details().to_owned());
    assert_eq!(seen(&wrong_token), seen(&wrong_signature));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_renewed_since_fetches_nothing() {
    let server = server();
    let device = Device::enroll(&server, "sensors", "pump-7");
    let thief = Holder::copy(&device);
    let fetch = async |holder: &Holder| {
        let channel = holder.connect(&server, server.addresses().devices.port());
        let request = GetCrlRequest { form: Some(Form::Bundle(Bundle::default())) };
        RevocationClient::new(channel).get_crl(request).await.map(drop)
    };
    fetch(&thief).await.expect("it is the device's own certificate");
    device.renew();
    let refused = fetch(&thief).await.expect_err("the device has renewed");
    assert_eq!(Refusal::of(&refused).reason, "CERTIFICATE_SUPERSEDED");
    fetch(&Holder::copy(&device)).await.expect("the device's new certificate");
}

#[test]
fn a_revocation_taken_back_beneath_the_ca_is_noticed() {
    let mut server = server();
    Device::enroll(&server, "sensors", "pump-7");
    server.admin().run(&["device", "revoke", "pump-7", "--reason", "keyCompromise"]);
    server.stop();
    let database = Connection::open(server.dir().join("ca.db")).expect("its owner opens it");
    let sql = "UPDATE changes SET revoked_at = NULL, reason = NULL WHERE reason IS NOT NULL";
    assert_eq!(database.execute(sql, []).expect("its owner writes it"), 1);
    drop(database);
    server.start_again();
    until_true(SOON, "the mismatch is an event", || {
        let events = server.admin().run(&["audit", "list", "--security", "--action", "crl.mismatch"]);
        events.as_array().is_some_and(|events| events.len() == 1)
    });
    // Its certificate says that it is revoked: it stays on the CRL.
    let crls = server.admin().run(&["crl", "publish"]);
    let devices = crls.as_array().into_iter().flatten().find(|crl| crl["hierarchy"] == "device");
    assert_eq!(devices.map(|crl| &crl["entries"]), Some(&1.into()), "{crls}");
}
