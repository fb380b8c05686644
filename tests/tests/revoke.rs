//! Cutting devices off: one command, and they are on the CRL, refused by every call, and without tokens.

use std::{collections::BTreeSet, sync::Arc, thread};

use fleetca_proto::v1::{CreateTokenRequest, RevocationReason, RevokeDeviceRequest, enroll_request::Step};
use fleetca_tests::{
    admin::{Admin, read_token},
    crl::Crl,
    device::Device,
    holder::Holder,
    process::run,
    server::Server,
    stranger::{self, Exchange, Refusal, SubjectKey, reason},
};
use prost::Message;
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinSet};
use tonic::Code;
use x509_cert::ext::pkix::CrlReason;

fn server() -> Server {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    server
}

/// The one CRL of a receipt, which must be served by now: that one, or a later one.
fn served(server: &Server, receipt: &Value) -> Crl {
    let [crl] = &receipt["crls"].as_array().expect("a list of CRLs")[..] else { panic!("not one CRL: {receipt}") };
    let list = Crl::fetch(server, crl["issuer"].as_str().expect("an issuer"));
    assert!(list.number() >= number(receipt), "{receipt}");
    list
}

fn number(receipt: &Value) -> u64 {
    receipt["crls"][0]["number"].as_u64().expect("a number")
}

#[tokio::test]
async fn a_revoked_device_is_on_the_crl_and_refused_everywhere() {
    let server = server();
    let admin = server.admin();
    let device = Device::enroll(&server, "sensors", "pump-7");
    let first = device.serial();
    device.renew();
    let options = ["--fleet", "sensors", "--device-id", "pump-7", "--reenroll"];
    let unspent = read_token(&admin.token(&options, &server.scratch().join("unspent.token")));

    let receipt = admin.run(&["device", "revoke", "pump-7", "--reason", "affiliationChanged"]);
    assert_eq!(receipt["subject"], "device/pump-7");
    assert_eq!(receipt["status"], "revoked");
    assert_eq!(receipt["certificates"], 2);
    assert_eq!(receipt["tokens"], 1);
    let list = served(&server, &receipt);
    assert_eq!(list.serials().len(), 2);
    for serial in [&first, &device.serial()] {
        assert_eq!(list.reason(serial), Some(CrlReason::AffiliationChanged), "{serial}");
    }

    let holder = Holder::copy(&device);
    let refused = holder.renew(&server, &SubjectKey::generate()).await.expect_err("it is revoked");
    let expected = Refusal { code: Code::PermissionDenied, reason: "DEVICE_REVOKED".into(), action: "stop".into() };
    assert_eq!(Refusal::of(&refused), expected);
    assert_eq!(reason(holder.confirm(&server).await), "DEVICE_REVOKED");
    let strangers = stranger::connect(&server).await;
    let enrolled = stranger::enroll(&strangers, "pump-7", &unspent, &SubjectKey::generate()).await;
    assert_eq!(reason(enrolled), "TOKEN_REVOKED");
    let renewed = run(device.command("renew").arg("--force"));
    assert_eq!(renewed.code, 1, "refused for good: {renewed:?}");
    let token = ["token", "create", "--fleet", "sensors", "--device-id", "pump-7", "--reenroll", "--out", "/none/t"];
    assert_eq!(admin.try_run(&token).code, 1);
    let tokens = admin.run(&["token", "list"]);
    assert_eq!(tokens[0]["state"], "suspended", "{tokens}");

    let again = admin.run(&["device", "revoke", "pump-7", "--reason", "affiliationChanged"]);
    assert_eq!(again["status"], "revoked");
    assert_eq!((&again["certificates"], &again["tokens"]), (&0.into(), &0.into()));
    assert!(number(&again) >= number(&receipt));
    assert_eq!(served(&server, &again).serials().len(), 2);
    let shown = admin.run(&["device", "show", "pump-7"]);
    assert_eq!(shown["status"], "revoked");
    assert_eq!(shown["crls"].as_array().expect("a list").len(), 1);
    for field in ["issuer", "number"] {
        assert_eq!(shown["crls"][0][field], again["crls"][0][field], "{field}");
    }
}

#[tokio::test]
async fn every_reason_that_people_give_stands_on_the_crl() {
    let server = server();
    let (admin, strangers) = (Admin::of(&server), stranger::connect(&server).await);
    let reasons = [
        ("unspecified", None),
        ("keyCompromise", Some(CrlReason::KeyCompromise)),
        ("affiliationChanged", Some(CrlReason::AffiliationChanged)),
        ("cessationOfOperation", Some(CrlReason::CessationOfOperation)),
    ];
    let mut serials = Vec::new();
    for (reason, _) in reasons {
        serials.push(admin.enroll(&strangers, "sensors", reason).await.serial());
    }
    let operator = server.admin();
    let revoke = |id: &'static str| {
        let operator = operator.clone();
        thread::spawn(move || operator.run(&["device", "revoke", id, "--reason", id]))
    };
    let revocations: Vec<_> = reasons.map(|(reason, _)| revoke(reason)).into_iter().collect();
    for ((revocation, serial), (name, expected)) in revocations.into_iter().zip(&serials).zip(reasons) {
        let list = served(&server, &revocation.join().expect("it is revoked"));
        assert!(list.lists(serial), "{name}");
        assert_eq!(list.reason(serial), expected, "{name}");
    }
}

#[tokio::test]
async fn reasons_that_people_do_not_give_are_refused() {
    let server = server();
    let operator = server.admin();
    let (admin, strangers) = (Admin::of(&server), stranger::connect(&server).await);
    let device = admin.enroll(&strangers, "sensors", "pump-7").await;
    let words = ["certificateHold", "removeFromCRL", "stolen", "keycompromise", "superseded", "privilegeWithdrawn"];
    let words = words.into_iter().chain(["cACompromise"]);
    for reason in words {
        let finished = operator.try_run(&["device", "revoke", "pump-7", "--reason", reason]);
        assert_eq!(finished.code, 2, "{finished:?}");
    }
    let others = {
        use RevocationReason::{CaCompromise, CertificateHold, PrivilegeWithdrawn, Superseded};
        [CaCompromise, CertificateHold, PrivilegeWithdrawn, Superseded].map(i32::from)
    };
    for number in others.into_iter().chain([7, 8, 10, -1]) {
        let request = RevokeDeviceRequest { id: "pump-7".into(), reason: number };
        assert_eq!(reason(admin.client().revoke_device(request).await), "INVALID_ARGUMENT", "{number}");
    }
    assert_eq!(operator.reason(&["device", "revoke", "pump-8"]), "NOT_FOUND");
    device.renew_and_confirm(&server).await;
}

#[tokio::test]
async fn a_reason_can_be_raised_to_key_compromise_and_never_lowered() {
    let server = server();
    let admin = server.admin();
    let device = Device::enroll(&server, "sensors", "pump-7");
    let revoke = |reason| admin.run(&["device", "revoke", "pump-7", "--reason", reason]);
    assert_eq!(revoke("affiliationChanged")["certificates"], 1);
    let raised = revoke("keyCompromise");
    assert_eq!(raised["certificates"], 1);
    assert_eq!(served(&server, &raised).reason(&device.serial()), Some(CrlReason::KeyCompromise));
    for reason in ["affiliationChanged", "unspecified"] {
        let lowered = revoke(reason);
        assert_eq!(lowered["certificates"], 0, "{reason}");
        assert_eq!(served(&server, &lowered).reason(&device.serial()), Some(CrlReason::KeyCompromise), "{reason}");
    }
}

#[tokio::test]
async fn a_key_revoked_for_compromise_is_refused_for_ever_under_any_id() {
    let server = server();
    let (admin, strangers) = (Admin::of(&server), stranger::connect(&server).await);
    let key = SubjectKey::generate();
    let first = admin.token("sensors", "pump-7").await;
    let issued = stranger::enroll(&strangers, "pump-7", &first, &key).await.expect("a certificate");
    let other = admin.token("sensors", "pump-8").await;
    assert_eq!(reason(stranger::enroll(&strangers, "pump-8", &other, &key).await), "KEY_REUSED");
    // The key of the first certificate is banned too, though another one is in force by now.
    Holder::of(&issued, &key).renew_and_confirm(&server).await;
    server.admin().run(&["device", "revoke", "pump-7", "--reason", "keyCompromise"]);

    let pattern =
        CreateTokenRequest { fleet: "sensors".into(), id_pattern: "north-*".into(), uses: 2, ..Default::default() };
    let tokens = [
        ("pump-8", other),
        ("pump-9", admin.token("sensors", "pump-9").await),
        ("north-1", admin.make_token(pattern).await),
    ];
    for (id, token) in tokens {
        let refused = stranger::enroll(&strangers, id, &token, &key).await;
        assert_eq!(reason(refused), "KEY_COMPROMISED", "{id}");
    }
    let device = admin.enroll(&strangers, "sensors", "pump-10").await;
    assert_eq!(reason(device.renew(&server, &key).await), "KEY_COMPROMISED");
    device.renew_and_confirm(&server).await;
}

#[tokio::test]
async fn revoking_a_device_suspends_the_fleet_token_that_it_came_by() {
    let server = server();
    let admin = server.admin();
    let options = ["--fleet", "sensors", "--pattern", "north-*", "--uses", "9"];
    let token = read_token(&admin.token(&options, &server.scratch().join("fleet.token")));
    let strangers = stranger::connect(&server).await;
    let mut devices = Vec::new();
    for id in ["north-1", "north-2"] {
        let key = SubjectKey::generate();
        let issued = stranger::enroll(&strangers, id, &token, &key).await.expect("a certificate");
        devices.push(Holder::of(&issued, &key));
    }
    let receipt = admin.run(&["device", "revoke", "north-1"]);
    assert_eq!(receipt["tokens"], 1);
    let refused = stranger::enroll(&strangers, "north-3", &token, &SubjectKey::generate()).await;
    assert_eq!(reason(refused), "TOKEN_REVOKED");
    assert_eq!(admin.run(&["token", "list"])[0]["state"], "suspended");

    assert_eq!(reason(devices[0].renew(&server, &SubjectKey::generate()).await), "DEVICE_REVOKED");
    assert_eq!(served(&server, &receipt).serials(), [devices[0].serial()]);
    devices[1].renew_and_confirm(&server).await;
}

#[tokio::test]
async fn a_held_device_is_cut_off_until_it_is_released() {
    let server = server();
    let admin = server.admin();
    let device = Device::enroll(&server, "sensors", "pump-7");
    let options = ["--fleet", "sensors", "--device-id", "pump-7", "--reenroll"];
    let token = read_token(&admin.token(&options, &server.scratch().join("again.token")));
    let held = admin.run(&["device", "hold", "pump-7"]);
    assert_eq!((&held["status"], &held["certificates"]), (&"held".into(), &1.into()));
    assert_eq!(held["tokens"], 0, "a hold is not for good");
    let list = served(&server, &held);
    assert_eq!(list.reason(&device.serial()), Some(CrlReason::CertificateHold));

    let refused = Holder::copy(&device).renew(&server, &SubjectKey::generate()).await.expect_err("it is held");
    let expected = Refusal { code: Code::PermissionDenied, reason: "DEVICE_HELD".into(), action: "retry".into() };
    assert_eq!(Refusal::of(&refused), expected);
    let strangers = stranger::connect(&server).await;
    let enrolled = stranger::enroll(&strangers, "pump-7", &token, &SubjectKey::generate()).await;
    assert_eq!(reason(enrolled), "DEVICE_HELD");
    let renewed = run(device.command("renew").arg("--force"));
    assert_eq!(renewed.code, 3, "to be tried again later: {renewed:?}");
    let again = admin.run(&["device", "hold", "pump-7"]);
    assert_eq!((&again["status"], &again["certificates"]), (&"held".into(), &0.into()));

    let released = admin.run(&["device", "release", "pump-7"]);
    assert_eq!((&released["status"], &released["certificates"]), (&"active".into(), &1.into()));
    assert!(number(&released) > number(&held));
    assert_eq!(served(&server, &released).serials(), [""; 0]);
    assert_eq!(admin.run(&["device", "release", "pump-7"])["certificates"], 0, "repeating it is no error");
    device.renew();
    stranger::enroll(&strangers, "pump-7", &token, &SubjectKey::generate()).await.expect("a certificate");
}

#[test]
fn what_is_revoked_can_be_neither_held_nor_released() {
    let server = server();
    let admin = server.admin();
    let device = Device::enroll(&server, "sensors", "pump-7");
    admin.run(&["device", "hold", "pump-7"]);
    let revoked = admin.run(&["device", "revoke", "pump-7", "--reason", "cessationOfOperation"]);
    assert_eq!(revoked["certificates"], 1, "a hold can be made a revocation");
    for command in ["hold", "release"] {
        assert_eq!(admin.reason(&["device", command, "pump-7"]), "STATE_REFUSED", "{command}");
    }
    assert_eq!(served(&server, &revoked).reason(&device.serial()), Some(CrlReason::CessationOfOperation));

    admin.run(&["device", "register", "new-1", "--fleet", "sensors"]);
    for (command, status) in [("hold", "held"), ("release", "registered"), ("release", "registered")] {
        let receipt = admin.run(&["device", command, "new-1"]);
        assert_eq!((&receipt["status"], &receipt["certificates"]), (&status.into(), &0.into()), "{command}");
    }
    let receipt = admin.run(&["device", "revoke", "new-1"]);
    assert_eq!((&receipt["status"], &receipt["crls"]), (&"revoked".into(), &Value::Array(Vec::new())));
}

#[tokio::test]
async fn a_decommissioned_device_stays_out() {
    let server = server();
    let admin = server.admin();
    let device = Device::enroll(&server, "sensors", "pump-7");
    let receipt = admin.run(&["device", "decommission", "pump-7"]);
    assert_eq!(receipt["status"], "decommissioned");
    assert_eq!(served(&server, &receipt).reason(&device.serial()), Some(CrlReason::CessationOfOperation));
    let refused = Holder::copy(&device).renew(&server, &SubjectKey::generate()).await;
    assert_eq!(reason(refused), "DEVICE_DECOMMISSIONED");
    for command in ["hold", "release"] {
        assert_eq!(admin.reason(&["device", command, "pump-7"]), "STATE_REFUSED", "{command}");
    }
    let out = server.scratch().join("again.token");
    let create = ["token", "create", "--fleet", "sensors", "--device-id", "pump-7", "--out", out.to_str().unwrap()];
    assert_eq!(admin.reason(&create), "DEVICE_DECOMMISSIONED");
    assert!(!out.exists());

    let again = admin.run(&["device", "revoke", "pump-7", "--reason", "affiliationChanged"]);
    assert_eq!((&again["status"], &again["certificates"]), (&"decommissioned".into(), &0.into()));
    let stolen = admin.run(&["device", "revoke", "pump-7", "--reason", "keyCompromise"]);
    assert_eq!(stolen["status"], "decommissioned", "that its key was stolen does not bring it back");
    assert_eq!(served(&server, &stolen).reason(&device.serial()), Some(CrlReason::KeyCompromise));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_wins_every_race_with_renewals() {
    const DEVICES: usize = 6;
    let server = server();
    let (admin, strangers) = (Admin::of(&server), stranger::connect(&server).await);
    let (renewed, mut renewals) = mpsc::unbounded_channel();
    let (mut devices, mut revocations) = (JoinSet::new(), JoinSet::new());
    let server = Arc::new(server);
    for index in 0..DEVICES {
        let id = format!("pump-{index}");
        let mut holder = admin.enroll(&strangers, "sensors", &id).await;
        let (server, renewed) = (server.clone(), renewed.clone());
        devices.spawn(async move {
            let mut serials = vec![holder.serial()];
            // Renews as fast as it can, until it is told why not.
            let refused = loop {
                let key = SubjectKey::generate();
                let issued = match holder.renew(&server, &key).await {
                    Ok(issued) => issued,
                    Err(refused) => break refused,
                };
                holder = Holder::of(&issued, &key);
                serials.push(holder.serial());
                if let Err(refused) = holder.confirm(&server).await {
                    break refused;
                }
                renewed.send(id.clone()).expect("the test listens");
            };
            assert_eq!(Refusal::of(&refused).reason, "DEVICE_REVOKED", "{id}");
            serials
        });
    }
    let mut revoked = BTreeSet::new();
    while revoked.len() < DEVICES {
        let id = renewals.recv().await.expect("devices renew");
        if revoked.insert(id.clone()) {
            let mut client = admin.client();
            revocations.spawn(async move {
                let request = RevokeDeviceRequest { id, reason: RevocationReason::KeyCompromise.into() };
                client.revoke_device(request).await.expect("it is revoked").into_inner()
            });
        }
    }
    let receipts = revocations.join_all().await;
    let list = Crl::fetch(&server, &receipts[0].crls[0].issuer);
    let certificates: Vec<String> = devices.join_all().await.into_iter().flatten().collect();
    for serial in &certificates {
        assert_eq!(list.reason(serial), Some(CrlReason::KeyCompromise), "{serial}");
    }
    assert!(certificates.len() >= DEVICES * 2);
    assert_eq!(list.serials().len(), certificates.len(), "nothing else is on it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_wins_every_race_with_enrollments() {
    const DEVICES: usize = 16;
    let server = server();
    let (admin, strangers) = (Admin::of(&server), stranger::connect(&server).await);
    let mut races = JoinSet::new();
    for index in 0..DEVICES {
        let id = format!("pump-{index}");
        let token = admin.token("sensors", &id).await;
        let (mut client, strangers) = (admin.client(), strangers.clone());
        races.spawn(async move {
            let key = SubjectKey::generate();
            let request = RevokeDeviceRequest { id: id.clone(), reason: RevocationReason::AffiliationChanged.into() };
            let start = stranger::start(&id, &token, &key).encode_to_vec();
            let mut exchange = Exchange::start(&strangers, &start).await.expect("a stream");
            let challenge = exchange.challenge().await.expect("a challenge");
            let enroll = async {
                exchange.send(Step::Proof(stranger::proof(&token, &key, &start, &challenge)));
                exchange.issued().await
            };
            let (enrolled, revoked) = tokio::join!(enroll, client.revoke_device(request));
            revoked.expect("it is revoked");
            match enrolled {
                Ok(issued) => Some(Holder::of(&issued, &key).serial()),
                Err(refused) => {
                    // Its token ended with it, and is looked at first.
                    let reason = Refusal::of(&refused).reason;
                    assert!(["TOKEN_REVOKED", "DEVICE_REVOKED"].contains(&reason.as_str()), "{id}: {reason}");
                    None
                }
            }
        });
    }
    let certificates: Vec<String> = races.join_all().await.into_iter().flatten().collect();
    let issuers = server.admin().run(&["issuer", "list"]);
    let issuing = issuers.as_array().expect("a list").iter().find(|issuer| issuer["hierarchy"] == "device");
    let list = Crl::fetch(&server, issuing.expect("an issuing CA")["id"].as_str().expect("an ID"));
    let (mut listed, mut expected) = (list.serials(), certificates);
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected, "all that were issued, and nothing else");
    for device in server.admin().run(&["device", "list"]).as_array().expect("a list") {
        assert_eq!(device["status"], "revoked");
    }
}

#[tokio::test]
async fn after_a_fork_an_operator_says_which_certificate_stays() {
    let server = server();
    let admin = server.admin();
    let device = Device::enroll(&server, "sensors", "pump-7");
    let honest = Holder::copy(&device);
    let thief = Holder::copy(&device).renew_and_confirm(&server).await;
    let other = Device::enroll(&server, "sensors", "pump-8").serial();
    let refused = honest.renew(&server, &SubjectKey::generate()).await.expect_err("it was renewed by another");
    let expected = Refusal { code: Code::PermissionDenied, reason: "LINEAGE_FORK".into(), action: "retry".into() };
    assert_eq!(Refusal::of(&refused), expected);
    let shown = admin.run(&["device", "show", "pump-7"]);
    assert_eq!((&shown["status"], &shown["status_reason"]), (&"held".into(), &"lineage fork".into()));
    for holder in [&honest, &thief] {
        assert_eq!(reason(holder.renew(&server, &SubjectKey::generate()).await), "DEVICE_HELD");
    }

    assert_eq!(admin.reason(&["device", "release", "pump-7"]), "STATE_REFUSED");
    assert_eq!(admin.reason(&["device", "release", "pump-7", "--keep", &other]), "NOT_FOUND");
    assert_eq!(admin.run(&["device", "show", "pump-7"])["status"], "held");
    let released = admin.run(&["device", "release", "pump-7", "--keep", &honest.serial()]);
    assert_eq!(released["status"], "active");
    let list = served(&server, &released);
    assert_eq!(list.serials(), [thief.serial()]);
    assert_eq!(list.reason(&thief.serial()), Some(CrlReason::PrivilegeWithdrawn));

    assert_eq!(reason(thief.renew(&server, &SubjectKey::generate()).await), "CERTIFICATE_REVOKED");
    assert_eq!(reason(thief.confirm(&server).await), "CERTIFICATE_REVOKED");
    device.renew();
    let shown = admin.run(&["device", "show", "pump-7"]);
    assert_eq!((&shown["status"], &shown["head_serial"]), (&"active".into(), &device.serial().into()));
}

#[test]
fn a_revocation_survives_a_kill_right_after_its_receipt() {
    let mut server = server();
    let device = Device::enroll(&server, "sensors", "pump-7");
    let receipt = server.admin().run(&["device", "revoke", "pump-7", "--reason", "keyCompromise"]);
    server.kill();
    server.start_again();
    assert_eq!(served(&server, &receipt).reason(&device.serial()), Some(CrlReason::KeyCompromise));
    assert_eq!(server.admin().run(&["device", "show", "pump-7"])["status"], "revoked");
}
