//! CRLs: server, client and x509-cert read the same of what more than one of them takes.

#![no_main]

use std::sync::LazyLock;

use ca_server::{
    identity::RevocationReason,
    pki::{CaRole, IssuerCertificate, ParsedCrl},
};
use der::Decode;
use enroll_client::{
    certificate::Certificate,
    crl_sync::{CrlError, crl::Crl},
    wall_time::WallTime,
};
use fleetca_fuzz::{signed_variant, world::World};
use libfuzzer_sys::fuzz_target;
use x509_cert::crl::CertificateList;

struct Real {
    world: World,
    crl: Vec<u8>,
    server: IssuerCertificate,
    client: Certificate,
}

static REAL: LazyLock<Real> = LazyLock::new(|| {
    let (world, device) = (World::new(), "device/pump-7".parse().expect("a subject"));
    let revoked = world.authority.revoke(&device, RevocationReason::KeyCompromise, "operator/ana");
    world.runtime.block_on(revoked).expect("a receipt");
    let (crl, issuer) = (world.crl(CaRole::DeviceIssuing), world.certificate(CaRole::DeviceIssuing));
    let server = IssuerCertificate::parse(issuer).expect("a CA certificate");
    let client = Certificate::parse(issuer).expect("a certificate");
    Real { world, crl, server, client }
});

fuzz_target!(|input: &[u8]| {
    let der = signed_variant(&REAL.crl, input, REAL.world.signers[&CaRole::DeviceIssuing].as_ref());
    let (server, client) = (ParsedCrl::parse(der.clone().into()), Crl::parse(&der));
    if let Ok(client) = &client {
        assert_eq!(client.der(), der);
        let (count, serials) = (client.count(), client.serials());
        if let (Ok(count), Ok(serials)) = (count, serials) {
            assert_eq!(count, serials.len());
        }
        let _ = client.number.to_string();
    }
    let Ok(server) = server else { return };
    assert_eq!(server.der()[..], der[..]);
    let other: CertificateList = CertificateList::from_der(&der).expect("what is taken is a CRL");
    let listed = other.tbs_cert_list.revoked_certificates.unwrap_or_default();
    assert_eq!(server.entries().len(), listed.len());
    let Ok(client) = client else { return };
    assert_eq!(client.count().expect("what the server takes has entries"), server.entries().len());
    let serials = client.serials().expect("what the server takes has serials");
    // A serial that is shorter than ours are is written in full by the server.
    let number = |serial: &str| serial.trim_start_matches('0').to_owned();
    let ours: Vec<_> = server.entries().iter().map(|entry| number(&entry.serial.to_string())).collect();
    assert!(ours.iter().zip(&serials).all(|(ours, theirs)| *ours == number(theirs)));
    assert_eq!(client.number.as_hex(), format!("{:x}", server.number()));
    assert_eq!(client.authority_key, server.authority_key());
    if server.this_update().secs() >= 0 && server.next_update().secs() >= 0 {
        assert_eq!(client.this_update.unix(), server.this_update().secs().unsigned_abs());
        assert_eq!(client.next_update.unix(), server.next_update().secs().unsigned_abs());
    }
    // What no gateway may take, the server knows all the same: its own lists of one device, and what is out of date.
    let (ours, theirs) = (server.verify(&REAL.server), client.verify(&REAL.client, WallTime::now()));
    let passes = matches!(theirs, Err(CrlError::NotYet(_) | CrlError::Stale(_) | CrlError::Scope));
    assert!(passes || ours.is_ok() == theirs.is_ok(), "{ours:?} {theirs:?}");
});
