//! Handshakes with servers of all kinds.

use std::net::SocketAddr;

use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    keys::FileKey,
    test_pki::{Ca, House},
};

const SERVER: &str = "spiffe://fleet.example/server/one";

/// A TLS server for `localhost` that keeps every connection open and says nothing.
async fn listen(house: &House, uri: &str, version: &'static SupportedProtocolVersion) -> SocketAddr {
    let key = FileKey::generate().unwrap();
    let leaf = house.control_ca.leaf(&key, &[uri], &["localhost"]);
    let chain = [&leaf, &house.control_ca.certificate, &house.control_root.certificate];
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.iter().map(|certificate| certificate.der().clone()).collect(), key.to_der())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(acceptor.accept(stream).await);
        }
    });
    address
}

fn url(address: SocketAddr) -> ServerUrl {
    format!("https://localhost:{}", address.port()).parse().unwrap()
}

#[tokio::test]
async fn a_server_under_the_root_is_reached_and_tells_its_trust_domain() {
    let house = House::new();
    let address = listen(&house, SERVER, &rustls::version::TLS13).await;
    let pinned = Trust::Fingerprint(house.control_root.certificate.fingerprint());
    for trust in [Trust::Roots(house.control_root.roots()), pinned] {
        let connection = Connection::open(&url(address), &trust, None).await.unwrap();
        assert_eq!(connection.trust_domain().as_str(), "fleet.example");
        assert_eq!(connection.roots().certificates()[0].der(), house.control_root.certificate.der());
    }
}

#[tokio::test]
async fn a_server_under_another_root_is_not_trusted_and_that_needs_somebody_to_look() {
    let house = House::new();
    let address = listen(&house, SERVER, &rustls::version::TLS13).await;
    let trust = Trust::Roots(Ca::root("control root").roots());
    let refused = Connection::open(&url(address), &trust, None).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Untrusted { reason: Distrust::Chain(_), .. }), "{refused}");
    assert_eq!(refused.action(), Action::Stop);
}

#[tokio::test]
async fn another_certificate_of_the_control_hierarchy_does_not_make_a_server() {
    let house = House::new();
    let address = listen(&house, "spiffe://fleet.example/operator/ana", &rustls::version::TLS13).await;
    let refused = Connection::open(&url(address), &Trust::Roots(house.control_root.roots()), None).await;
    assert!(matches!(refused, Err(ConnectError::Untrusted { reason: Distrust::NotAServer(_), .. })));
}

#[tokio::test]
async fn tls_1_2_is_not_spoken() {
    let house = House::new();
    let address = listen(&house, SERVER, &rustls::version::TLS12).await;
    let refused = Connection::open(&url(address), &Trust::Roots(house.control_root.roots()), None).await;
    assert!(matches!(refused, Err(ConnectError::Tls { .. })));
}

#[tokio::test]
async fn nobody_there_is_worth_another_try() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let trust = Trust::Fingerprint([0; 32]);
    let refused = Connection::open(&url(address), &trust, None).await.unwrap_err();
    assert!(matches!(refused, ConnectError::Unreachable { .. }));
    assert_eq!(refused.action(), Action::Retry { after: None });
}
