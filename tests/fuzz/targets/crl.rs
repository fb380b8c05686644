//! CRLs: server, client and x509-cert read the same of what more than one of them takes.

#![no_main]

use std::sync::LazyLock;

use ca_server::{
    identity::RevocationReason,
    pki::{CaRole, ParsedCrl},
};
use der::Decode;
use enroll_client::crl_sync::crl::Crl;
use fleetca_fuzz::{variant, world::World};
use libfuzzer_sys::fuzz_target;
use x509_cert::crl::CertificateList;

static REAL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let (world, device) = (World::new(), "device/pump-7".parse().expect("a subject"));
    let revoked = world.authority.revoke(&device, RevocationReason::KeyCompromise, "operator/ana");
    world.runtime.block_on(revoked).expect("a receipt");
    world.crl(CaRole::DeviceIssuing)
});

fuzz_target!(|input: &[u8]| {
    let der = variant(&REAL, input);
    let (server, client) = (ParsedCrl::parse(&der), Crl::parse(&der));
    if let Ok(client) = &client {
        assert_eq!(client.der(), der);
        let (count, serials) = (client.count(), client.serials());
        if let (Ok(count), Ok(serials)) = (count, serials) {
            assert_eq!(count, serials.len());
        }
        let _ = client.number.to_string();
    }
    let Ok(server) = server else { return };
    assert_eq!(server.der(), der);
    let other: CertificateList = CertificateList::from_der(&der).expect("what is taken is a CRL");
    let listed = other.tbs_cert_list.revoked_certificates.unwrap_or_default();
    assert_eq!(server.entries().len(), listed.len());
    let Ok(client) = client else { return };
    assert_eq!(client.count().expect("what the server takes has entries"), server.entries().len());
    let serials = client.serials().expect("what the server takes has serials");
    assert!(server.entries().iter().zip(&serials).all(|(entry, serial)| entry.serial.to_string() == *serial));
    assert_eq!(client.number.as_hex(), format!("{:x}", server.number()));
    assert_eq!(client.authority_key, server.authority_key());
    if server.this_update().secs() >= 0 && server.next_update().secs() >= 0 {
        assert_eq!(client.this_update.unix(), server.this_update().secs().unsigned_abs());
        assert_eq!(client.next_update.unix(), server.next_update().secs().unsigned_abs());
    }
});
