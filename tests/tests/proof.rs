//! Proof: operators see at which gateways a revocation is in force, and can wait until it is, with `sync-crls --watch` as
//! gateways run it.

use std::{fs, path::PathBuf, process::Command};

use fleetca_proto::v1::{AcknowledgeRequest, Bundle, CrlHead, GetCrlRequest, get_crl_request::Form};
use fleetca_tests::{
    binaries,
    crl::Crl,
    device::Device,
    holder::Holder,
    http,
    process::Running,
    server::Server,
    wait::{SOON, until, until_true},
};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

fn server() -> Server {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    for id in ["pump-1", "pump-2"] {
        Device::enroll(&server, "sensors", id);
    }
    server
}

/// A gateway that watches, and whose program takes a new list in unless the second file says that it can't.
fn watching(server: &Server, id: &str) -> (Running, PathBuf) {
    let gateway = Device::enroll_gateway(server, id);
    let out = server.scratch().join(format!("{id}.pem"));
    let mut command = Command::new(binaries::enroll_client());
    command.args(["sync-crls", "--watch", "--dir"]).arg(gateway.folder()).arg("--out").arg(&out);
    command.args(["--on-change", "test ! -e \"$FLEETCA_FILE.broken\""]);
    let watch = Running::start(id, command, server.scratch());
    until_true(SOON, "it has loaded what is served", || {
        let row = row(server, id);
        row["watches"] == true && row["loaded"][0]["is_served"] == true
    });
    (watch, server.scratch().join(format!("{id}.pem.broken")))
}

fn row(server: &Server, id: &str) -> Value {
    let gateways = server.admin().run(&["gateway", "list"]);
    gateways.as_array().expect("a list").iter().find(|row| row["id"] == id).expect("the gateway").clone()
}

/// What `crl status` says of the devices' CA.
fn status(server: &Server) -> Value {
    let crls = server.admin().run(&["crl", "status"]);
    crls.as_array().expect("a list").iter().find(|crl| crl["hierarchy"] == "device").expect("the CRL").clone()
}

#[test]
fn who_waits_hears_when_every_gateway_that_is_there_has_loaded_a_revocation() {
    let server = server();
    let admin = server.admin();
    let _watches = [watching(&server, "eu-7"), watching(&server, "eu-8")];
    // One that was never there keeps nobody waiting, and is told of all the same.
    Device::enroll_gateway(&server, "eu-9");
    for (action, device) in [("revoke", "pump-1"), ("hold", "pump-2"), ("decommission", "pump-2")] {
        let receipt = admin.run(&["device", action, device, "--wait"]);
        assert_eq!(
            receipt["gateways"],
            json!({ "gateways": 2, "loaded": 2, "behind": [], "not_heard": 1 }),
            "{action}"
        );
    }
    let shown = admin.run(&["device", "show", "pump-1"])["crls"][0]["loaded"].clone();
    assert_eq!((&shown["loaded"], &shown["gateways"]), (&json!(2), &json!(3)));
    let loaded = status(&server)["loaded"].clone();
    assert_eq!((&loaded["loaded"], &loaded["gateways"]), (&json!(2), &json!(3)));
    assert_eq!((&loaded["behind"][0]["gateway"], &loaded["behind"][0]["number"]), (&json!("eu-9"), &Value::Null));
    until_true(SOON, "metrics tell", || {
        let metrics = String::from_utf8(http::get(&server.metrics_url("/metrics")).ok()).expect("text");
        let count = |name: &str| {
            let line = metrics.lines().find(|line| line.starts_with(&format!("fleetca_{name}_seconds_count")));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<u32>().ok()).unwrap_or(0)
        };
        count("revoke_to_signed") == 3
            && count("revoke_to_acknowledged") == 6
            && metrics.contains("fleetca_gateway_lag_seconds{gateway=\"eu-8\"} 0")
    });
}

#[test]
fn a_gateway_whose_program_takes_nothing_in_is_named_until_it_is_cut_off() {
    let server = server();
    let admin = server.admin();
    let (_eu_7, _) = watching(&server, "eu-7");
    let (_eu_8, broken) = watching(&server, "eu-8");
    let before = row(&server, "eu-8")["loaded"][0]["number"].clone();
    fs::write(&broken, "").expect("a file");

    let finished = admin.try_run(&["device", "revoke", "pump-1", "--wait=1s"]);
    assert_eq!(finished.code, 3, "{finished:?}");
    let receipt: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!((&receipt["status"], &receipt["gateways"]["gateways"]), (&json!("revoked"), &json!(2)));
    let behind = &receipt["gateways"]["behind"];
    assert!(behind.as_array().is_some_and(|behind| behind.iter().any(|one| one["gateway"] == "eu-8")), "{behind}");

    let loaded = until(SOON, "the other has loaded it", || {
        let loaded = status(&server)["loaded"].clone();
        (loaded["loaded"] == 1).then_some(loaded)
    });
    assert_eq!((&loaded["gateways"], &loaded["behind"][0]["gateway"]), (&json!(2), &json!("eu-8")));
    assert_eq!(loaded["behind"][0]["number"], before);
    let eu_7 = row(&server, "eu-7");
    assert!(eu_7["last_seen_at"].as_str() >= eu_7["heard_at"].as_str(), "{eu_7}");
    let eu_8 = row(&server, "eu-8")["loaded"][0].clone();
    assert_eq!((&eu_8["is_served"], &eu_8["number"]), (&json!(false), &before));
    assert!(eu_8["behind_seconds"].is_u64(), "{eu_8}");
    let held_at = |loaded: u32, gateways: u32| {
        let shown = admin.run(&["device", "show", "pump-1"])["crls"][0]["loaded"].clone();
        assert_eq!((&shown["loaded"], &shown["gateways"]), (&json!(loaded), &json!(gateways)));
    };
    held_at(1, 2);
    let said = format!("loaded at 1 of 2 gateways, by their word; behind: eu-8, CRL {before}, ");
    for arguments in [&["gateway", "list"][..], &["crl", "status"], &["device", "show", "pump-1"]] {
        let told = admin.told(arguments);
        assert!(told.contains(&said), "{arguments:?}: {told}");
    }
    admin.run(&["gateway", "revoke", "eu-8"]);
    held_at(1, 1);
    assert_eq!(row(&server, "eu-8")["loaded"], json!([]));
}

#[tokio::test]
async fn a_gateway_that_lies_about_what_it_has_loaded_changes_its_own_row_only() {
    let server = server();
    let mut rows = Vec::new();
    let liar = Holder::copy(&Device::enroll_gateway(&server, "eu-9"));
    let (_eu_7, _) = watching(&server, "eu-7");
    let head = served(&server, &liar).await;
    let forged = CrlHead { number: head.number + 1_000_000, ..head.clone() };
    for (held, not_loaded, is_served) in [(forged, false, false), (head.clone(), true, false), (head, false, true)] {
        let request = AcknowledgeRequest { held: vec![held], not_loaded, continues: false };
        liar.revocation(&server).acknowledge(request).await.expect("nothing is learnt");
        rows.push(row(&server, "eu-7")["loaded"].clone());
        assert_eq!(row(&server, "eu-9")["loaded"][0]["is_served"], is_served);
    }
    rows.dedup();
    assert_eq!(rows.len(), 1, "{rows:?}");
}

/// The head of the devices' CRL, as a gateway is given it.
async fn served(server: &Server, gateway: &Holder) -> CrlHead {
    let crls = server.admin().run(&["crl", "status"]);
    let root = crls.as_array().expect("a list").iter().find(|crl| crl["hierarchy"] == "device-root").expect("a root");
    let root = root["issuer"].as_str().expect("an ID");
    let request = GetCrlRequest { form: Some(Form::Bundle(Bundle::default())) };
    let mut chunks = gateway.revocation(server).get_crl(request).await.expect("the bundle").into_inner();
    while let Some(chunk) = chunks.message().await.expect("a chunk") {
        if chunk.head_signature.is_empty() || chunk.issuer == root {
            continue;
        }
        let (this_update, _) = Crl::from_der(&chunk.data).dates();
        return CrlHead {
            issuer: chunk.issuer,
            number: chunk.number,
            this_update: Some(prost_types::Timestamp { seconds: this_update as i64, nanos: 0 }),
            sha256: digest(&SHA256, &chunk.data).as_ref().to_vec(),
            signature: chunk.head_signature,
        };
    }
    panic!("no CRL came with a signature");
}

#[test]
fn what_gateways_have_loaded_is_known_after_a_restart() {
    let mut server = server();
    let (mut eu_7, _) = watching(&server, "eu-7");
    server.admin().run(&["device", "revoke", "pump-1", "--wait"]);
    eu_7.kill();
    let before = row(&server, "eu-7")["loaded"][0]["number"].clone();
    server.stop();
    server.start_again();
    let after = row(&server, "eu-7");
    assert_eq!((&after["loaded"][0]["number"], &after["watches"]), (&before, &json!(false)));
}
