//! Somebody without any key: reaches every port, and sends whatever there is to send.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use fleetca_proto::MAX_MESSAGE_BYTES;
use fleetca_tests::{
    calls::{self, outcome},
    crowd::{self, ELSEWHERE},
    device::Device,
    holder::Holder,
    http,
    server::Server,
    wait::SOON,
};

use super::{contents, server};

#[tokio::test]
async fn every_call_but_enrolling_needs_a_certificate() {
    let server = server();
    let before = contents(&server);
    let channel = crowd::stranger(&server, ELSEWHERE).await.expect("a connection");
    for call in calls::all() {
        let expected = match (&*call.service, &*call.method) {
            ("Enrollment", "GetTime" | "GetTrustBundle") => "OK",
            ("Enrollment", "Enroll") => "PROTOCOL_ERROR",
            ("Operator", _) => "Unimplemented",
            _ => "CERTIFICATE_REQUIRED",
        };
        assert_eq!(outcome(&channel, &call.path(), ()).await, expected, "{call:?}");
        // What is no message of the call is refused before anybody asks who sends it.
        let named = outcome(&channel, &call.path(), "pump-7".to_owned()).await;
        assert!(named == expected || named == "PROTOCOL_ERROR", "{call:?}: {named}");
    }
    let operators = server.addresses().operators;
    let anonymous = fleetca_tests::tls::config(&server.control_root(), None);
    let connected = crowd::channel(ELSEWHERE, operators, anonymous).await;
    // With TLS 1.3 a client learns of the refusal only when it reads.
    if let Ok(channel) = connected {
        for call in calls::all() {
            assert_eq!(outcome(&channel, &call.path(), ()).await, "CUT", "{call:?} on the operators' port");
        }
    }
    assert_eq!(contents(&server), before);
}

#[tokio::test]
async fn no_call_of_any_service_takes_a_message_over_64_kib() {
    let server = server();
    let admin = Holder::copy(&Device::new(server.admin().credential().to_path_buf()));
    let device = Holder::copy(&Device::enroll(&server, "sensors", "pump-7"));
    let devices = device.connect(&server, server.addresses().devices.port());
    let operators = admin.connect(&server, server.addresses().operators.port());
    let bloated = || vec![0x41_u8; MAX_MESSAGE_BYTES];
    for call in calls::all() {
        let channel = if call.service == "Operator" { &operators } else { &devices };
        assert_eq!(outcome(channel, &call.path(), bloated()).await, "PROTOCOL_ERROR", "{call:?}");
    }
    for channel in [&devices, &operators] {
        assert_eq!(outcome(channel, "/grpc.health.v1.Health/Check", bloated()).await, "PROTOCOL_ERROR");
        for version in ["v1", "v1alpha"] {
            let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
            assert_eq!(outcome(channel, &path, bloated()).await, "SILENCE", "{version}");
        }
    }
}

/// Sends octets as they are, and gives all that comes back.
fn say(server: &Server, octets: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.addresses().http).expect("a connection");
    stream.set_read_timeout(Some(SOON)).expect("a timeout can be set");
    // The server may have enough before all is sent.
    let _ = stream.write_all(octets);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn no_path_leads_out_of_what_is_served() {
    let server = server();
    let settings = std::fs::read_to_string(server.dir().join("config.toml")).expect("settings");
    let issuer = server.admin().run(&["crl", "status"])[0]["issuer"].as_str().expect("an issuer").to_owned();
    let paths = [
        "/../config.toml",
        "/crl/../../config.toml",
        "/crl/%2e%2e/%2e%2e/config.toml",
        "/crl/..%2f..%2fconfig.toml",
        "/crl/%00/full.crl",
        "//config.toml",
        "/config.toml",
        "/issuers/../config.toml",
        "/issuers/..%2fconfig.toml",
        "/issuers/%2Fetc%2Fpasswd",
        "/issuers/ca.db",
        "/metrics",
        "/readyz",
        "/crl/fleet/../bundle.pem/x",
        "/crl/fleet/%2e%2e/bundle.pem",
        "/crl/fleet/no-such-fleet/bundle.pem",
        "/crl/0000000000000000/full.crl",
        "/crl/0000000000000000/device/00000000000000000000000000000000.crl",
        "http://elsewhere.example/config.toml",
        "*",
    ];
    let own = [
        format!("/crl/{issuer}/full.crl/../../../config.toml"),
        format!("/crl/{issuer}/..%2f..%2fconfig.toml"),
        format!("/crl/{issuer}/device/..%2ffull.crl"),
        format!("/crl/{issuer}/device/%27%20OR%201=1--.crl"),
        format!("/crl/{issuer}/device/{}.crl", "a".repeat(8000)),
    ];
    for path in paths.iter().map(|path| path.to_string()).chain(own) {
        let answer = say(&server, format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes());
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(status.starts_with('4'), "{path}: {answer}");
        assert!(!answer.contains(&settings[..20]) && !answer.contains("root:"), "{path}: {answer}");
    }
}

#[test]
fn methods_and_heads_that_make_no_sense_change_nothing() {
    let server = server();
    let before = contents(&server);
    let bundle = || http::get(&server.http_url("/crl/bundle.pem")).ok();
    let served = bundle();
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "OPTIONS", "PROPFIND", "get"] {
        let answer = http::request(method, &server.http_url("/crl/bundle.pem"), &[("content-length", "0")]);
        assert!((400..500).contains(&answer.status), "{method}: {answer:?}");
        assert!(!answer.body.windows(5).any(|window| window == b"BEGIN"), "{method}");
    }
    let long = "a".repeat(40_000);
    let many = "x: y\r\n".repeat(2000);
    for head in [
        format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET /crl/bundle.pem HTTP/1.1\r\nHost: x\r\nx: {long}\r\n\r\n"),
        format!("GET /crl/bundle.pem HTTP/1.1\r\nHost: x\r\n{many}\r\n"),
        "GET /crl/bundle.pem HTTP/9.9\r\nHost: x\r\n\r\n".to_owned(),
        "GET /crl/bundle.pem\r\n\r\n".to_owned(),
        "\u{0}\u{1}\u{2}\r\n\r\n".to_owned(),
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n"
            .to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
    ] {
        let answer = say(&server, head.as_bytes());
        assert!(!answer.starts_with("HTTP/1.1 200"), "{}: {answer}", &head[..40.min(head.len())]);
        assert!(!answer.starts_with("HTTP/1.1 5"), "{answer}");
    }
    assert_eq!(bundle(), served);
    assert_eq!(contents(&server), before);
}

#[tokio::test]
async fn heads_that_never_end_keep_no_reader_of_crls_out() {
    let server = Server::start_with_limits(&[("http_connections", 8)]);
    let mut slow = Vec::new();
    for _ in 0..40 {
        use tokio::io::AsyncWriteExt;
        let mut stream = crowd::tcp(ELSEWHERE, server.addresses().http).await.expect("a connection");
        // It may have been refused already.
        let _ = stream.write_all(b"GET /crl/bundle.pem HTTP/1.1\r\nHost: ").await;
        slow.push(stream);
    }
    http::get(&server.http_url("/crl/bundle.pem")).ok();
}
