//! A thief of one device's key: is that device, and nobody else.

use std::{fmt, sync::Arc};

use fleetca_proto::v1::ConfirmRequest;
use fleetca_tests::{
    calls::{self, outcome},
    crowd::{self, ELSEWHERE},
    device::Device,
    holder::Holder,
    server::Server,
    stranger::{SubjectKey, reason},
    tls,
};
use rcgen::{CertificateParams, DistinguishedName, DnType, SanType};
use rustls::{
    ClientConfig, SignatureScheme, client::ResolvesClientCert, crypto::ring::sign::any_supported_type,
    sign::CertifiedKey,
};

use super::{contents, server};

/// Presents a certificate with the key of another.
struct Liar(Arc<CertifiedKey>);

impl fmt::Debug for Liar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Liar")
    }
}

impl ResolvesClientCert for Liar {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A TLS client with the certificate of one and the key of another.
fn liar(server: &Server, certificate: &Holder, key: &Holder) -> ClientConfig {
    let key = any_supported_type(&key.key()).expect("a key");
    let mut config = tls::config(&server.control_root(), None);
    config.client_auth_cert_resolver = Arc::new(Liar(Arc::new(CertifiedKey::new(certificate.chain().to_vec(), key))));
    config
}

#[tokio::test]
async fn anothers_certificate_is_worth_nothing_without_its_key() {
    let server = server();
    let thief = Holder::copy(&Device::enroll(&server, "sensors", "pump-7"));
    let victim = Holder::copy(&Device::enroll(&server, "sensors", "pump-8"));
    let admin = Holder::copy(&Device::new(server.admin().credential().to_path_buf()));
    let before = contents(&server);
    for (certificate, address) in [(&victim, server.addresses().devices), (&admin, server.addresses().operators)] {
        if let Ok(channel) = crowd::channel(ELSEWHERE, address, liar(&server, certificate, &thief)).await {
            for call in calls::all() {
                assert_eq!(outcome(&channel, &call.path(), ()).await, "CUT", "{call:?}");
            }
        }
    }
    assert_eq!(contents(&server), before);
}

#[tokio::test]
async fn a_renewal_is_for_the_device_whose_key_asks_whatever_the_request_says() {
    let server = server();
    let thief = Holder::copy(&Device::enroll(&server, "sensors", "pump-7"));
    let victim = Device::enroll(&server, "sensors", "pump-8");
    let mut wishes = CertificateParams::new(vec!["pump-8".to_owned()]).expect("a name");
    let uri = "spiffe://fleet.test/device/pump-8".try_into().expect("a URI");
    wishes.subject_alt_names.push(SanType::URI(uri));
    wishes.distinguished_name = DistinguishedName::new();
    wishes.distinguished_name.push(DnType::CommonName, "pump-8");
    let key = SubjectKey::generate();
    let csr = key.csr_that_asks_for(wishes);
    let issued = thief
        .renewal(&server)
        .renew(fleetca_proto::v1::RenewRequest { csr, ..Default::default() })
        .await
        .expect("a renewal");
    let next = Holder::of(&issued.into_inner(), &key);
    next.confirm(&server).await.expect("its own");
    let admin = server.admin();
    assert_eq!(admin.run(&["certificate", "show", &next.serial()])["subject"], "device/pump-7");
    let shown = admin.run(&["device", "show", "pump-8"]);
    assert_eq!((&shown["status"], &shown["head_serial"]), (&"active".into(), &victim.serial().into()));
}

#[tokio::test]
async fn nothing_that_a_device_sends_touches_another() {
    let server = server();
    let thief = Device::enroll(&server, "sensors", "pump-7");
    let victim = Device::enroll(&server, "sensors", "pump-8");
    let stale = Holder::copy(&thief);
    thief.renew();
    // All that it can do is make itself look like two: with its old key, with its new one, and with both at once.
    for holder in [stale, Holder::copy(&thief)] {
        let channel = holder.connect(&server, server.addresses().devices.port());
        for call in calls::all() {
            for message in ["pump-8".to_owned(), victim.serial(), String::new()] {
                let outcome = outcome(&channel, &call.path(), message).await;
                assert!(outcome != "OK" || is_harmless(&call.method), "{call:?}: {outcome}");
            }
        }
        let _ = holder.renewal(&server).confirm(ConfirmRequest {}).await;
        let _ = holder.renew(&server, &SubjectKey::generate()).await;
    }
    assert_eq!(reason(Holder::copy(&thief).renew(&server, &SubjectKey::generate()).await), "DEVICE_HELD");
    let shown = server.admin().run(&["device", "show", "pump-8"]);
    assert_eq!((&shown["status"], &shown["head_serial"]), (&"active".into(), &victim.serial().into()));
    victim.renew();
}

/// Calls that answer about the caller itself, or what everybody may know.
fn is_harmless(method: &str) -> bool {
    ["GetTime", "GetTrustBundle", "GetRenewalInfo", "Confirm"].contains(&method)
}
