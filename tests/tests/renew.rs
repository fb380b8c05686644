//! Renewal: how a certificate replaces itself, and how the lineage tells one holder from two.

use fleetca_proto::v1::{RenewRequest, TrustBundle};
use fleetca_tests::{
    device::Device,
    holder::Holder,
    server::Server,
    stranger::{Refusal, SubjectKey},
};
use prost::Message;

fn server() -> Server {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    server
}

#[test]
fn devices_gateways_and_operators_renew_with_the_same_client() {
    let server = server();
    let peers = [
        Device::enroll(&server, "sensors", "pump-7"),
        Device::enroll_gateway(&server, "eu-7"),
        Device::enroll_operator(&server, "ana", "viewer"),
    ];
    for peer in &peers {
        let (before, key) = (peer.serial(), std::fs::read(peer.presented().key).expect("a key"));
        peer.renew();
        assert_ne!(peer.serial(), before);
        assert_ne!(std::fs::read(peer.presented().key).expect("a key"), key, "a renewal has a key of its own");
    }
    let shown = server.admin().run(&["device", "show", "pump-7"]);
    assert_eq!(shown["head_serial"], peers[0].serial());
    assert_eq!(shown["generation"], 2);
}

#[tokio::test]
async fn a_lost_reply_is_harmless() {
    let server = server();
    let head = Holder::copy(&Device::enroll(&server, "sensors", "pump-7"));
    let key = SubjectKey::generate();
    let first = head.renew(&server, &key).await.expect("a certificate");
    let again = head.renew(&server, &key).await.expect("the certificate again");
    assert_eq!(again.chain, first.chain);
    let next = Holder::of(&first, &key);
    next.confirm(&server).await.expect("in force");
    next.confirm(&server).await.expect("a lost reply to Confirm");
    let late = head.renew(&server, &key).await.expect("the same answer, whatever the lineage is now");
    assert_eq!(late.chain, first.chain);
    assert_eq!(server.admin().run(&["device", "show", "pump-7"])["status"], "active");
}

#[tokio::test]
async fn two_holders_of_one_identity_are_found_and_the_device_goes_on_hold() {
    let server = server();
    let device = Device::enroll(&server, "sensors", "pump-7");
    let thief = Holder::copy(&device);
    device.renew();
    let refused = thief.renew(&server, &SubjectKey::generate()).await.expect_err("an old certificate");
    assert_eq!(Refusal::of(&refused).reason, "LINEAGE_FORK");

    let admin = server.admin();
    let shown = admin.run(&["device", "show", "pump-7"]);
    assert_eq!(shown["status"], "held");
    let held = Holder::copy(&device).renew(&server, &SubjectKey::generate()).await.expect_err("on hold");
    assert_eq!(Refusal::of(&held).reason, "DEVICE_HELD");

    admin.run(&["device", "release", "pump-7", "--keep", &device.serial()]);
    assert_eq!(admin.run(&["device", "show", "pump-7"])["status"], "active");
    device.renew();
    let refused = thief.renew(&server, &SubjectKey::generate()).await.expect_err("its certificate was revoked");
    assert_eq!(Refusal::of(&refused).reason, "CERTIFICATE_REVOKED");
    assert_eq!(admin.run(&["device", "show", "pump-7"])["status"], "active", "a revoked certificate holds nobody");
}

#[tokio::test]
async fn a_thief_who_renews_first_is_found_by_the_honest_device() {
    let server = server();
    let device = Device::enroll(&server, "sensors", "pump-7");
    Holder::copy(&device).renew_and_confirm(&server).await;
    let refused = Holder::copy(&device).renew(&server, &SubjectKey::generate()).await.expect_err("an old certificate");
    assert_eq!(Refusal::of(&refused).reason, "LINEAGE_FORK");
    assert_eq!(server.admin().run(&["device", "show", "pump-7"])["status"], "held");
}

#[tokio::test]
async fn a_second_key_replaces_the_pending_certificate_and_a_fourth_holds() {
    let server = server();
    let head = Holder::copy(&Device::enroll(&server, "sensors", "pump-7"));
    let mut pending = Vec::new();
    for _ in 0..3 {
        let key = SubjectKey::generate();
        pending.push(Holder::of(&head.renew(&server, &key).await.expect("a certificate"), &key));
    }
    let refused = head.renew(&server, &SubjectKey::generate()).await.expect_err("two replacements are enough");
    assert_eq!(Refusal::of(&refused).reason, "LINEAGE_FORK");
    assert_eq!(server.admin().run(&["device", "show", "pump-7"])["status"], "held");
}

#[tokio::test]
async fn a_superseded_certificate_that_is_confirmed_is_a_fork() {
    let server = server();
    let head = Holder::copy(&Device::enroll(&server, "sensors", "pump-7"));
    let (first, second) = (SubjectKey::generate(), SubjectKey::generate());
    let superseded = Holder::of(&head.renew(&server, &first).await.expect("a certificate"), &first);
    head.renew(&server, &second).await.expect("another instead");
    let refused = superseded.confirm(&server).await.expect_err("superseded");
    assert_eq!(Refusal::of(&refused).reason, "LINEAGE_FORK");
    assert_eq!(server.admin().run(&["device", "show", "pump-7"])["status"], "held");
}

#[tokio::test]
async fn a_renewal_needs_a_fresh_key() {
    let server = server();
    let device = Device::enroll(&server, "sensors", "pump-7");
    let key = SubjectKey::generate();
    let holder = Holder::copy(&device);
    let next = Holder::of(&holder.renew(&server, &key).await.expect("a certificate"), &key);
    next.confirm(&server).await.expect("in force");
    let refused = next.renew(&server, &key).await.expect_err("its own key");
    assert_eq!(Refusal::of(&refused).reason, "KEY_REUSED");
}

#[tokio::test]
async fn a_window_for_renewal_lies_within_the_validity() {
    let server = server();
    let holder = Holder::copy(&Device::enroll(&server, "sensors", "pump-7"));
    let info = holder.renewal(&server).get_renewal_info(fleetca_proto::v1::GetRenewalInfoRequest {}).await;
    let window = info.expect("an answer").into_inner().renewal_window.expect("a window");
    let (from, until) = (window.not_before.expect("a time").seconds, window.not_after.expect("a time").seconds);
    use x509_cert::der::Decode;
    let certificate = x509_cert::Certificate::from_der(holder.certificate()).expect("a certificate");
    let end = certificate.tbs_certificate().validity().not_after.to_unix_duration().as_secs() as i64;
    assert!(from < until && until < end, "{from} {until} {end}");
}

#[tokio::test]
async fn who_holds_the_trust_bundle_in_force_is_not_sent_it_again() {
    let server = server();
    let holder = Holder::copy(&Device::enroll(&server, "sensors", "pump-7"));
    let mut renewal = holder.renewal(&server);
    let csr = SubjectKey::generate().csr();
    let mut sent = async |trust_bundle_sequence| {
        let request = RenewRequest { csr: csr.clone(), trust_bundle_sequence };
        renewal.renew(request).await.expect("an answer").into_inner().trust_bundle
    };
    let bundle = sent(0).await.expect("whoever has none is sent one");
    let sequence = TrustBundle::decode(bundle.bundle.as_slice()).expect("a trust bundle").sequence;
    assert_eq!(sent(sequence).await, None);
    // One of a lost time, or of nobody.
    assert_eq!(sent(sequence + 1).await, Some(bundle));
}
