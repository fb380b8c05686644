//! What a stranger can send: too much, nonsense, or only the beginning. Refused, and the server goes on.

use std::{
    collections::HashSet,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use enroll_client::attester::token::JoinToken;
use fleetca_proto::{
    MAX_MESSAGE_BYTES,
    v1::{
        EnrollRequest, GetRenewalInfoRequest, Start, enroll_request::Step, enrollment_client::EnrollmentClient,
        renewal_client::RenewalClient,
    },
};
use fleetca_tests::{
    crowd::{self, ELSEWHERE, stalled},
    device::Device,
    holder::Holder,
    server::Server,
    stranger::{self, Exchange, Refusal, SubjectKey},
    wait::SOON,
};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint, Uri},
};
use tonic_types::StatusExt;
use tower::service_fn;

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

/// Refuse 21.
#[tokio::test]
async fn a_thousand_challenges_are_all_distinct() {
    let server = Server::start();
    let connection = stranger::connect(&server).await;
    let (token, key) = (JoinToken::generate().expect("a token"), SubjectKey::generate());
    let start = stranger::start("pump-7", &token, &key).encode_to_vec();
    let mut challenges = HashSet::new();
    for _ in 0..1000 {
        let mut exchange = Exchange::start(&connection, &start).await.expect("a stream");
        challenges.insert(exchange.challenge().await.expect("a challenge"));
    }
    assert_eq!(challenges.len(), 1000);
}

/// `Start`s that get their challenge and then wait, on one connection of a stranger.
async fn wait_in_start(channel: &Channel, streams: usize) -> Vec<Result<Exchange, Status>> {
    let (token, key) = (JoinToken::generate().expect("a token"), SubjectKey::generate());
    let start = EnrollRequest { step: Some(Step::Start(stranger::start("pump-7", &token, &key).encode_to_vec())) };
    let mut open = Vec::new();
    for _ in 0..streams {
        let exchange = async {
            let mut exchange = Exchange::over(EnrollmentClient::new(channel.clone()), start.clone()).await?;
            exchange.challenge().await?;
            Ok(exchange)
        };
        open.push(exchange.await);
    }
    open
}

#[tokio::test]
async fn streams_that_are_left_open_keep_nobody_out() {
    let server = Server::start_with_limits(&[("stranger_requests", 8), ("turn_seconds", 60)]);
    server.admin().create_fleet("sensors");
    let (one, two) = (crowd::stranger(&server, ELSEWHERE).await, crowd::stranger(&server, ELSEWHERE).await);
    let (one, two) = (one.expect("a connection"), two.expect("a connection"));
    let mut open = wait_in_start(&one, 8).await;
    assert!(open.iter().all(Result::is_ok), "{open:?}");
    // Nobody has more than he, and he has just come: he is told to come again.
    let refused = wait_in_start(&two, 1).await.remove(0).expect_err("all places are taken");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(Refusal::of(&refused).reason, "OVERLOADED");
    assert_eq!(refused.get_details_retry_info().and_then(|info| info.retry_delay), Some(Duration::from_secs(5)));
    Device::enroll(&server, "sensors", "pump-8").renew();
    // Whose place was taken hears it, too.
    let lost = open.remove(0).expect("it was open").answer().await.expect_err("the first is gone");
    assert_eq!(Refusal::of(&lost).reason, "OVERLOADED");
}

#[tokio::test]
async fn a_stranger_has_few_requests_under_way_on_one_connection() {
    let server = Server::start();
    let connection = crowd::stranger(&server, ELSEWHERE).await.expect("a connection");
    let open = wait_in_start(&connection, 8).await;
    let ninth = wait_in_start(&connection, 1);
    tokio::pin!(ninth);
    // The client keeps it back until one of the others ends.
    assert!(futures::poll!(ninth.as_mut()).is_pending());
    let others = crowd::stranger(&server, ELSEWHERE).await.expect("a connection");
    assert!(wait_in_start(&others, 1).await.remove(0).is_ok());
    assert!(futures::poll!(ninth.as_mut()).is_pending());
    drop(open);
    assert!(ninth.await.remove(0).is_ok());
}

#[tokio::test]
async fn requests_of_holders_are_bounded_and_who_finds_no_place_is_told_when_to_come_again() {
    let server = Server::start_with_limits(&[("requests", 2), ("turn_seconds", 60)]);
    server.admin().create_fleet("sensors");
    let thief = Holder::copy(&Device::enroll(&server, "sensors", "pump-7"));
    let honest = Holder::copy(&Device::enroll(&server, "sensors", "pump-8"));
    let channel = thief.connect(&server, server.addresses().devices.port());
    let stalled = [(); 3].map(|()| Box::pin(stalled(&channel, "/fleetca.v1.Renewal/GetRenewalInfo")));
    let (third, _, stalled) = futures::future::select_all(stalled).await;
    let third = third.expect_err("there are two places");
    assert_eq!(third.code(), Code::ResourceExhausted);
    assert!(third.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()));
    // Another holder takes one of his places.
    honest.renewal(&server).get_renewal_info(GetRenewalInfoRequest {}).await.expect("an answer");
    let (lost, ..) = futures::future::select_all(stalled).await;
    assert_eq!(Refusal::of(&lost.expect_err("it has lost its place")).reason, "OVERLOADED");
}

#[tokio::test]
async fn who_was_cut_off_holds_no_better_place_than_a_stranger() {
    let server = Server::start_with_limits(&[("connections", 6), ("stranger_connections", 2), ("turn_seconds", 60)]);
    server.admin().create_fleet("sensors");
    let (revoked, honest) =
        (Device::enroll(&server, "sensors", "pump-7"), Device::enroll(&server, "sensors", "pump-8"));
    server.admin().run(&["device", "revoke", "pump-7", "--reason", "keyCompromise"]);

    let thief = Holder::copy(&revoked);
    let (mut open, mut reasons) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        let mut renewal = thief.renewal(&server);
        let refused = renewal.get_renewal_info(GetRenewalInfoRequest {}).await.expect_err("it was revoked");
        reasons.push(Refusal::of(&refused).reason);
        open.push(renewal);
    }
    let count = |wanted| reasons.iter().filter(|reason| *reason == wanted).count();
    assert_eq!((count("DEVICE_REVOKED"), count("OVERLOADED")), (2, 6), "{reasons:?}");
    honest.renew();
}

/// A connection of this holder to the devices' port.
async fn open(server: &Server, holder: &Holder) -> TlsStream<TcpStream> {
    let (config, port) = (holder.tls(server), server.addresses().devices);
    crowd::tls(Ipv4Addr::LOCALHOST, port, config).await.expect("a connection")
}

/// Speaks as much HTTP/2 as a peer who is there and asks nothing, until the connection ends. Gives whether the server said
/// before that it would.
async fn is_dismissed(mut stream: TlsStream<TcpStream>) -> bool {
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    let mut words = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", SETTINGS].concat();
    let mut dismissed = false;
    loop {
        let mut head = [0; 9];
        // Whoever is dismissed may find the connection closed when he answers.
        if stream.write_all(&words).await.is_err() || stream.read_exact(&mut head).await.is_err() {
            return dismissed;
        }
        let mut body = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut body).await.expect("whole frames");
        words = match (head[3], head[4]) {
            (4, 0) => vec![0, 0, 0, 4, 1, 0, 0, 0, 0],
            (6, 0) => [&[0, 0, 8, 6, 1, 0, 0, 0, 0], &*body].concat(),
            _ => Vec::new(),
        };
        dismissed |= head[3] == 7;
    }
}

#[tokio::test]
async fn a_holders_connection_ends_after_its_time_whatever_became_of_the_holder() {
    let server = Server::start_with_limits(&[("connection_seconds", 1)]);
    server.admin().create_fleet("sensors");
    let (honest, revoked) =
        (Device::enroll(&server, "sensors", "pump-7"), Device::enroll(&server, "sensors", "pump-8"));
    let (one, other) = (open(&server, &Holder::copy(&honest)).await, open(&server, &Holder::copy(&revoked)).await);
    server.admin().run(&["device", "revoke", "pump-8", "--reason", "keyCompromise"]);
    let both = futures::future::join(is_dismissed(one), is_dismissed(other));
    let ended = tokio::time::timeout(SOON, both).await.expect("they end");
    assert_eq!(ended, (true, true), "and are told so before");
}

#[tokio::test]
async fn who_calls_again_and_again_does_not_notice_that_connections_end_and_what_is_under_way_goes_on() {
    let server = Server::start_with_limits(&[("connection_seconds", 1)]);
    server.admin().create_fleet("sensors");
    let holder = Holder::copy(&Device::enroll(&server, "sensors", "pump-7"));
    let (config, port, connections) = (holder.tls(&server), server.addresses().devices, Arc::new(AtomicUsize::new(0)));
    let connector = service_fn({
        let connections = connections.clone();
        move |_: Uri| {
            let config = config.clone();
            connections.fetch_add(1, Ordering::SeqCst);
            async move { crowd::tls(Ipv4Addr::LOCALHOST, port, config).await.map(TokioIo::new) }
        }
    });
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(connector).await;
    let channel = channel.expect("a connection");
    let mut exchange = wait_in_start(&channel, 1).await.remove(0).expect("a stream");
    let mut renewal = RenewalClient::new(channel);
    let begun = Instant::now();
    while connections.load(Ordering::SeqCst) < 3 {
        // One that meets the very end may have to be repeated, as after any broken connection.
        if renewal.get_renewal_info(GetRenewalInfoRequest {}).await.is_err() {
            renewal.get_renewal_info(GetRenewalInfoRequest {}).await.expect("an answer");
        }
        assert!(begun.elapsed() < SOON, "connections end");
    }
    // Two connections later, the first one's stream is still there.
    assert!(futures::poll!(std::pin::pin!(exchange.answer())).is_pending());
}
