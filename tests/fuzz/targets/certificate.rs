//! Certificates of peers: both sides read the same of what both take; no accessor panics.

#![no_main]

use std::sync::LazyLock;

use ca_server::pki::{IssuerCertificate, PeerCertificate};
use enroll_client::{certificate::Certificate, trust::Roots};
use fleetca_fuzz::{
    variant,
    world::{DOMAIN, World},
};
use libfuzzer_sys::fuzz_target;

static REAL: LazyLock<Vec<u8>> = LazyLock::new(|| World::new().issued.chain[0].clone());

fuzz_target!(|input: &[u8]| {
    let der = variant(&REAL, input);
    let domain = DOMAIN.parse().expect("a trust domain");
    let server = PeerCertificate::parse(&der, &domain);
    let client = Certificate::parse(&der);
    if let Ok(client) = &client {
        assert_eq!(client.der().as_ref(), der);
        let _ = (client.subject_text(), client.key_identifier(), client.is_ca(), client.to_pem(), client.fingerprint());
        let _ = (client.issuer(), client.subject(), client.not_before().until(client.not_after()));
        let _ = Roots::from_ders(&[&der]);
        assert_eq!(client.spiffe_id().ok().map(|id| id.to_string().parse().ok()), client.spiffe_id().ok().map(Some));
    }
    let _ = IssuerCertificate::parse(&der);
    // The server skips names unread: it knows its certificates by their hash.
    let (Ok(server), Ok(client)) = (server, client) else { return };
    assert_eq!(server.subject.spiffe_uri(&domain).parse().ok(), client.spiffe_id().ok());
    assert_eq!(server.key.spki_der(), client.spki());
    assert_eq!(server.serial.to_string().trim_start_matches('0'), client.serial().trim_start_matches('0'));
    if server.not_after.secs() >= 0 {
        assert_eq!(server.not_after.secs().unsigned_abs(), client.not_after().unix());
    }
});
