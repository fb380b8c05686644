//! The audit log: one record a change, chained and sealed, so that what is changed afterwards shows.

use std::{fs, path::PathBuf};

use fleetca_tests::{
    device::Device,
    server::Server,
    wait::{SOON, until},
};
use rusqlite::Connection;
use serde_json::Value;

/// Waits until every record is sealed, and gives what `audit verify` says.
fn sealed(server: &Server) -> Value {
    until(SOON, "the sealer has sealed all records", || {
        let report = server.admin().run(&["audit", "verify"]);
        (report["sealed"] == report["records"]).then_some(report)
    })
}

/// The server's database, which its owner can change: that is what the chain is against.
fn database(server: &Server) -> Connection {
    let is_database = |path: &PathBuf| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3"));
    let mut files = fs::read_dir(server.dir()).expect("the CA's folder").map(|entry| entry.expect("an entry").path());
    let path = files.find(is_database).expect("the CA's folder holds a database");
    Connection::open(path).expect("it opens")
}

/// A server with a few sealed records, stopped.
fn stopped() -> (Server, u64) {
    let mut server = Server::start();
    server.admin().create_fleet("sensors");
    Device::enroll(&server, "sensors", "pump-7");
    server.admin().run(&["device", "revoke", "pump-7", "--reason", "keyCompromise"]);
    let records = sealed(&server)["records"].as_u64().expect("a number");
    server.stop();
    (server, records)
}

fn change(server: &mut Server, sql: &str) -> String {
    let changed = database(server).execute(sql, []).expect("the statement runs");
    assert!(changed > 0, "{sql}");
    server.start_again();
    server.admin().refused(&["audit", "verify"])
}

#[test]
fn every_change_leaves_one_record() {
    let server = Server::start();
    let admin = server.admin();
    admin.create_fleet("sensors");
    let device = Device::enroll(&server, "sensors", "pump-7");
    device.renew();
    admin.run(&["device", "revoke", "pump-7", "--reason", "keyCompromise"]);
    let records = admin.run(&["audit", "list", "--subject", "device/pump-7"]);
    let actions: Vec<&str> = records
        .as_array()
        .expect("a list")
        .iter()
        .map(|record| record["action"].as_str().expect("an action"))
        .collect();
    assert_eq!(actions, ["certificate.issued", "certificate.issued", "certificate.confirmed", "device.revoked"]);
    assert_eq!(records[1]["serial"], device.serial());
    assert_eq!(records[1]["actor"], "device/pump-7");
    assert!(records[3]["actor"].as_str().expect("an actor").starts_with("operator/"));
    assert_eq!(records[3]["outcome"], "ok");
}

#[test]
fn the_log_is_sealed_and_proven_to_have_grown_only() {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    let first = sealed(&server);
    let head = server.scratch().join("head.json");
    let options = ["audit", "verify", "--head", head.to_str().expect("UTF-8")];
    server.admin().run(&options);
    server.admin().create_fleet("pumps");
    let later = server.admin().run(&options);
    assert_eq!(later["grown_since"], first["records"]);
    assert!(later["records"].as_u64() > first["records"].as_u64());
}

#[test]
fn a_changed_record_is_named() {
    let (mut server, _) = stopped();
    let found = change(&mut server, "UPDATE audit_records SET actor = 'operator/eve' WHERE action = 'device.revoked'");
    assert!(found.contains("was changed"), "{found}");
}

#[test]
fn a_record_that_is_gone_is_named() {
    let (mut server, _) = stopped();
    let found = change(&mut server, "DELETE FROM audit_records WHERE action = 'device.revoked'");
    assert!(found.contains("is missing") || found.contains("the log ends at"), "{found}");
}

#[test]
fn a_log_cut_off_at_its_end_is_no_longer_the_one_seen_before() {
    let (mut server, records) = stopped();
    server.start_again();
    let head = server.scratch().join("head.json");
    let options = ["audit", "verify", "--head", head.to_str().expect("UTF-8")];
    server.admin().run(&options);
    server.stop();
    let database = database(&server);
    database.execute("DELETE FROM audit_records WHERE sequence > 2", []).expect("the statement runs");
    database.execute("DELETE FROM audit_seals WHERE last_sequence > 2", []).expect("the statement runs");
    drop(database);
    server.start_again();
    let found = server.admin().refused(&options);
    assert!(found.contains(&records.to_string()), "{found}");
}

#[test]
fn refusals_are_events_and_no_records() {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    let token = server.admin().device_token("sensors", "pump-7", server.scratch());
    Device::new(server.scratch().join("pump-8")).try_enroll(&server, "pump-8", &token);
    let before = server.admin().run(&["audit", "list", "--subject", "device/pump-8"]);
    assert_eq!(before, Value::Array(vec![]));
    until(SOON, "the refusal is among the events", || {
        let events = server.admin().run(&["audit", "list", "--security"]);
        let kinds: Vec<_> = events.as_array().expect("a list").iter().map(|event| event["kind"].clone()).collect();
        kinds.contains(&Value::from("attestation.refused")).then_some(())
    });
}
