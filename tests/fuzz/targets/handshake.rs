//! Chains that a client shows in the TLS handshake, with leaves that our own CA has signed among them: nobody passes for
//! somebody whom the store does not know by exactly these octets.

#![no_main]

use std::sync::{Arc, LazyLock};

use ca_server::{
    pki::{CaRole, PeerCertificate, PemLabel, to_pem},
    tls::{ClientCertificate, ServerIdentity, server_config},
};
use fleetca_fuzz::{
    signed_variant, split,
    world::{DOMAIN, World},
};
use libfuzzer_sys::fuzz_target;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, SignatureScheme,
    client::ResolvesClientCert,
    crypto::ring::{default_provider, sign::any_supported_type},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    sign::{CertifiedKey, SigningKey},
};

struct Ca {
    world: World,
    server: Arc<ServerConfig>,
    roots: Arc<RootCertStore>,
    key: Arc<dyn SigningKey>,
}

static CA: LazyLock<Ca> = LazyLock::new(|| {
    let world = World::new();
    let certificate = |place| CertificateDer::from(world.certificate(place).to_vec());
    let chain = vec![CertificateDer::from(world.server.clone()), certificate(CaRole::ControlCa)];
    let key = world.server_key.to_pem(None).expect("it is written");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("it is read");
    let identity = ServerIdentity::new(chain, key).expect("they fit");
    let trusted = [world.certificate(CaRole::DeviceRoot), world.certificate(CaRole::ControlRoot)];
    let server = server_config(identity, &trusted, ClientCertificate::Optional).expect("roots");
    let mut roots = RootCertStore::empty();
    roots.add(certificate(CaRole::ControlRoot)).expect("a root");
    let key = any_supported_type(&world.key.to_der()).expect("a key");
    Ca { world, server, roots: Arc::new(roots), key }
});

/// Shows any chain.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Octets from one side to the other; whether all went well.
fn carry(from: &mut rustls::Connection, to: &mut rustls::Connection) -> bool {
    let mut octets = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut octets).expect("memory takes it");
    }
    let mut rest = octets.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).expect("memory has it");
        if to.process_new_packets().is_err() {
            return false;
        }
    }
    true
}

fuzz_target!(|input: &[u8]| {
    let (leaf, rest) = split(input);
    let (world, chain) = (&CA.world, &CA.world.issued.chain);
    let leaf = signed_variant(&chain[0], leaf, world.signers[&CaRole::DeviceIssuing].as_ref());
    let issuing = signed_variant(&chain[1], rest, world.signers[&CaRole::DeviceRoot].as_ref());
    let shown = vec![CertificateDer::from(leaf.clone()), CertificateDer::from(issuing)];
    let shown = Shows(Arc::new(CertifiedKey::new(shown, CA.key.clone())));
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(CA.roots.clone())
        .with_client_cert_resolver(Arc::new(shown));
    let name = ServerName::try_from("localhost").expect("a name");
    let client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let server = ServerConnection::new(CA.server.clone()).expect("a server");
    let (mut client, mut server) = (rustls::Connection::from(client), rustls::Connection::from(server));
    let through = (0..2).all(|_| carry(&mut client, &mut server) && carry(&mut server, &mut client));
    if !through || server.is_handshaking() {
        assert!(leaf != chain[0] || !rest.is_empty(), "the real chain was refused");
        return;
    }
    let proven = server.peer_certificates().expect("a chain was shown");
    assert_eq!(proven[0].as_ref(), leaf);
    let Ok(peer) = PeerCertificate::parse(&leaf, &DOMAIN.parse().expect("a trust domain")) else { return };
    assert_eq!(peer.key.spki_der(), world.key.spki(), "whoever does not hold the key got through");
    let known = world.runtime.block_on(world.authority.authenticate(&peer));
    assert_eq!(known.is_ok(), leaf == chain[0], "{}", to_pem(PemLabel::Certificate, &leaf));
});
