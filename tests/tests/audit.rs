//! The audit log: one record a change, chained and sealed, so that what is changed afterwards shows. Refusals are events,
//! apart from it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ca_server::audit::Record;
use fleetca_proto::v1::enroll_request::Step;
use fleetca_tests::{
    admin::Admin,
    binaries,
    device::Device,
    holder::Holder,
    http,
    newcomers::{World, refused},
    operator::Operator,
    process::run,
    server::Server,
    stranger::{self, Exchange, SubjectKey, reason},
    wait::{SOON, until},
};
use prost::Message;
use rusqlite::{Connection, params};
use serde_json::Value;

/// Waits until every record is sealed, and gives what `audit verify` says.
fn sealed(admin: &Operator) -> Value {
    until(SOON, "all records are sealed", || {
        let report = admin.run(&["audit", "verify"]);
        (report["sealed"] == report["records"]).then_some(report)
    })
}

fn records(admin: &Operator) -> Vec<Value> {
    admin.run(&["audit", "list"]).as_array().expect("a list").clone()
}

fn text<'a>(record: &'a Value, key: &str) -> &'a str {
    record[key].as_str().unwrap_or_default()
}

/// The records of one change as `action actor subject`, and the first one's serial.
struct Watch {
    admin: Operator,
    seen: usize,
}

impl Watch {
    /// What was written since the last look.
    fn written(&mut self) -> Vec<String> {
        let all = records(&self.admin);
        let new = all[self.seen..].iter();
        self.seen = all.len();
        new.map(|record| {
            assert_eq!(record["outcome"], "ok");
            ["action", "actor", "subject"].map(|key| text(record, key)).join(" ")
        })
        .collect()
    }

    /// The serial in the newest record.
    fn serial(&self) -> String {
        text(records(&self.admin).last().expect("a record"), "serial").to_owned()
    }
}

#[tokio::test]
async fn every_change_writes_one_record_and_nothing_else_does() {
    let server = Server::start();
    let admin = server.admin();
    let mut watch = Watch { admin: admin.clone(), seen: 0 };
    let [issued, made] = ["certificate.issued", "ca.initialized local domain/fleet.test"];
    let mut begun = watch.written();
    begun.sort();
    assert_eq!(begun, [made, &format!("{issued} local operator/admin"), &format!("{issued} system server/ca")]);

    let mut one = |command: &[&str], expected: &str| {
        let answer = admin.run(command);
        assert_eq!(watch.written(), [expected], "{command:?}");
        assert_eq!(watch.serial(), "", "{command:?}");
        answer
    };
    one(&["fleet", "create", "sensors"], "fleet.created operator/admin fleet/sensors");
    one(&["fleet", "set", "sensors", "--validity", "2h"], "fleet.changed operator/admin fleet/sensors");
    one(&["device", "register", "new-1", "--fleet", "sensors"], "device.registered operator/admin device/new-1");

    let token = |name: &str, command: &[&str]| {
        let out = server.scratch().join(format!("{name}.token"));
        let made = admin.run(&[command, &["--out", out.to_str().expect("UTF-8")]].concat());
        (out, format!("token/{}", text(&made, "id")))
    };
    let mut watch = Watch { admin: admin.clone(), seen: records(&admin).len() };
    let create = ["token", "create", "--fleet", "sensors", "--device-id", "pump-7"];
    let (file, made) = token("pump-7", &create);
    assert_eq!(watch.written(), [format!("token.created operator/admin {made}")]);
    let device = Device::new(server.scratch().join("pump-7"));
    device.try_enroll(&server, "pump-7", &file).succeeded();
    assert_eq!(watch.written(), ["certificate.issued device/pump-7 device/pump-7"]);
    assert_eq!(watch.serial(), device.serial());
    device.renew();
    let renewed =
        ["certificate.issued", "certificate.confirmed"].map(|what| format!("{what} device/pump-7 device/pump-7"));
    assert_eq!(watch.written(), renewed);
    assert_eq!(watch.serial(), device.serial());
    let (_, made) = token("again", &[&create[..], &["--reenroll"]].concat());
    watch.written();
    let revoke = ["token", "revoke", made.strip_prefix("token/").expect("a token")];
    for (kind, id, options) in [("gateway", "eu-7", &[][..]), ("operator", "ana", &["--role", "viewer"][..])] {
        let (file, made) = token(id, &[&[kind, "create", id], options].concat());
        assert_eq!(watch.written(), [format!("token.created operator/admin {made}")]);
        let peer = Device::new(server.scratch().join(id));
        peer.try_enroll_as(kind, &server, id, &file).succeeded();
        assert_eq!(watch.written(), [format!("certificate.issued {kind}/{id} {kind}/{id}")]);
        assert_eq!(watch.serial(), peer.serial());
    }

    let release = ["device", "release", "pump-7"];
    let root_crl = server.dir().join("offline/device-root.crl");
    let sign = ["root", "sign-crl", "--root-dir", root_crl.parent().and_then(Path::to_str).expect("UTF-8")];
    run(Command::new(binaries::ca_server()).args(sign)).succeeded();
    let take = ["crl", "publish", "--root-crl", root_crl.to_str().expect("UTF-8")];
    for (command, expected) in [
        (&revoke[..], format!("token.revoked operator/admin {made}")),
        (&["device", "hold", "pump-7"], "device.held operator/admin device/pump-7".into()),
        (&release, "device.released operator/admin device/pump-7".into()),
        (&["device", "revoke", "pump-7"], "device.revoked operator/admin device/pump-7".into()),
        (&["device", "decommission", "pump-7"], "device.decommissioned operator/admin device/pump-7".into()),
        (&["gateway", "revoke", "eu-7"], "gateway.revoked operator/admin gateway/eu-7".into()),
        (&["operator", "revoke", "ana"], "operator.revoked operator/admin operator/ana".into()),
        (&take, "crl.root_taken_in operator/admin crl".into()),
        (&["crl", "publish", "--accept-clock"], "clock.accepted operator/admin crl".into()),
    ] {
        admin.run(command);
        assert_eq!(watch.written(), [expected], "{command:?}");
    }
    // The same again changes nothing, and so do questions.
    for command in [
        &["fleet", "set", "sensors", "--validity", "2h"][..],
        &revoke,
        &["device", "decommission", "pump-7"],
        &["device", "revoke", "pump-7"],
        &["gateway", "revoke", "eu-7"],
        &["operator", "revoke", "ana"],
        &["device", "list"],
        &["device", "show", "pump-7"],
        &["crl", "status"],
        &["audit", "list", "--security"],
    ] {
        admin.run(command);
        assert_eq!(watch.written(), [""; 0], "{command:?}");
    }
    let proven = sealed(&admin);
    assert_eq!(proven["records"], watch.seen);
}

/// The server's database, which its owner can change: that is what the chain is against.
struct Database(Connection);

impl Database {
    /// Opens it beside the running server, and keeps a copy of the log.
    fn of(server: &Server) -> Database {
        let db = Connection::open(server.dir().join("ca.db")).expect("it opens");
        db.busy_timeout(SOON).expect("it waits");
        let keep = "CREATE TEMP TABLE records AS SELECT * FROM audit_records; \
                    CREATE TEMP TABLE seals AS SELECT * FROM audit_seals";
        db.execute_batch(keep).expect("a copy");
        Database(db)
    }

    fn change(&self, sql: &str) {
        self.0.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    fn restore(&self) {
        self.change(
            "BEGIN IMMEDIATE; DELETE FROM audit_records; INSERT INTO audit_records SELECT * FROM records; \
             DELETE FROM audit_seals; INSERT INTO audit_seals SELECT * FROM seals; COMMIT",
        );
    }

    fn number(&self, sql: &str) -> u64 {
        let number: i64 = self.0.query_row(sql, [], |row| row.get(0)).unwrap_or_else(|error| panic!("{sql}: {error}"));
        u64::try_from(number).expect("a count")
    }

    /// Changes a record's actor, and its hash with it: the hand of one who knows how it is made.
    fn rewrite(&self, sequence: u64) {
        let sequence = i64::try_from(sequence).expect("a small number");
        let sql = "SELECT at, action, subject, serial, outcome, detail FROM audit_records WHERE sequence = ?1";
        let record = self.0.query_row(sql, [sequence], |row| {
            Ok(Record {
                sequence: u64::try_from(sequence).expect("a small number"),
                at_millis: row.get(0)?,
                actor: "operator/eve".into(),
                action: row.get(1)?,
                subject: row.get(2)?,
                serial: row.get(3)?,
                outcome: row.get(4)?,
                detail: row.get(5)?,
            })
        });
        let record = record.expect("a record");
        let sql = "UPDATE audit_records SET actor = ?1, hash = ?2 WHERE sequence = ?3";
        self.0.execute(sql, params![record.actor, record.hash(), sequence]).expect("it is changed");
    }
}

/// A server with some sealed records, and how many.
fn quiet() -> (Server, u64) {
    let server = Server::start();
    let admin = server.admin();
    admin.create_fleet("sensors");
    for id in ["a", "b", "c"] {
        admin.run(&["device", "register", id, "--fleet", "sensors"]);
    }
    sealed(&admin);
    admin.run(&["device", "revoke", "b"]);
    let records = sealed(&admin)["records"].as_u64().expect("a number");
    assert_eq!(records, 8);
    (server, records)
}

/// What `audit verify` says is broken.
fn broken(admin: &Operator, options: &[&str]) -> String {
    let refused = admin.try_run(&[&["audit", "verify"], options].concat());
    assert_eq!(refused.code, 1, "{refused:?}");
    let report: Value = serde_json::from_str(&refused.stderr).expect("JSON");
    assert_eq!(report["error"]["reason"], "AUDIT_BROKEN");
    let message = text(&report["error"], "message");
    message.strip_prefix("the audit log is broken: ").unwrap_or_else(|| panic!("{message}")).to_owned()
}

#[test]
fn whatever_is_changed_afterwards_is_named() {
    let (server, last) = quiet();
    let admin = server.admin();
    let database = Database::of(&server);
    let seal_after = |sequence: u64, column: &str| {
        let sql = format!("SELECT {column} FROM audit_seals WHERE last_sequence >= {sequence} ORDER BY last_sequence");
        database.number(&sql)
    };
    let seal = |sequence| (seal_after(sequence, "first_sequence"), seal_after(sequence, "last_sequence"));
    let (first, end) = seal(5);
    let unsigned = format!("the seal over records {first} to {end} is not signed by the control CA");
    let chain = |(first, end): (u64, u64)| {
        format!("a record from {first} to {end} was changed: the chain does not reach the sealed head")
    };
    for (change, expected) in [
        ("UPDATE audit_records SET actor = 'operator/eve' WHERE sequence = 5", "record 5 was changed".into()),
        ("UPDATE audit_records SET detail = '{}' WHERE sequence IN (4, 6)", "record 4 was changed".into()),
        ("UPDATE audit_records SET hash = zeroblob(32) WHERE sequence = 3", "record 3 was changed".into()),
        ("DELETE FROM audit_records WHERE sequence = 4", "record 4 is missing: record 5 follows record 3".into()),
        ("DELETE FROM audit_records WHERE sequence = 1", "record 1 is missing: record 2 follows record 0".into()),
        (
            "DELETE FROM audit_records WHERE sequence > 6",
            format!("the seal covers records up to {}, but the log ends at 6", seal_after(7, "last_sequence")),
        ),
        ("UPDATE audit_seals SET signature = x'3006020101020101' WHERE last_sequence >= 5", unsigned.clone()),
        ("UPDATE audit_seals SET at = at + 1 WHERE last_sequence >= 5", unsigned),
        ("UPDATE audit_seals SET head = zeroblob(32) WHERE last_sequence >= 5", chain(seal(5))),
    ] {
        database.change(change);
        assert_eq!(broken(&admin, &[]), expected, "{change}");
        database.restore();
    }
    database.rewrite(last);
    assert_eq!(broken(&admin, &[]), chain(seal(last)), "a hash that was made to fit");
    database.restore();
    assert_eq!(admin.run(&["audit", "verify"])["records"], last);
}

#[test]
fn a_head_seen_before_finds_a_log_that_was_written_anew() {
    let (server, last) = quiet();
    let admin = server.admin();
    let file = server.scratch().join("head.json");
    let head = ["--head", file.to_str().expect("UTF-8")];
    let verify = ["audit", "verify", head[0], head[1]];
    let kept =
        |file: &PathBuf| -> Value { serde_json::from_slice(&fs::read(file).expect("it is there")).expect("JSON") };
    let first = admin.run(&verify);
    assert_eq!((&first["records"], &first["grown_since"]), (&last.into(), &Value::Null));
    assert_eq!((&kept(&file)["sequence"], &kept(&file)["head"]), (&last.into(), &first["head"]));

    admin.create_fleet("pumps");
    let later = admin.run(&verify);
    assert_eq!((&later["records"], &later["grown_since"]), (&(last + 1).into(), &last.into()));
    assert_eq!((&kept(&file)["sequence"], &kept(&file)["head"]), (&(last + 1).into(), &later["head"]));
    sealed(&admin);
    let before = fs::read(&file).expect("it is there");

    // Whoever can write the database and have it sealed anew passes, but not where the head was seen before.
    let database = Database::of(&server);
    database.rewrite(5);
    database.change("DELETE FROM audit_seals");
    assert_eq!(sealed(&admin)["records"], last + 1);
    let expected = format!("the log did not grow from the head seen before: record {} is not what it was", last + 1);
    assert_eq!(broken(&admin, &head), expected);
    database.restore();
    admin.run(&verify);

    database.change(&format!("DELETE FROM audit_records WHERE sequence > {}", last - 1));
    database.change("DELETE FROM audit_seals");
    assert_eq!(sealed(&admin)["records"], last - 1);
    assert_eq!(broken(&admin, &head), expected, "a log that ends before");
    let after: Value = kept(&file);
    let before: Value = serde_json::from_slice(&before).expect("JSON");
    assert_eq!((&after["sequence"], &after["head"]), (&before["sequence"], &before["head"]));
}

/// Waits for the events of a kind to be written down, all of them.
fn events(admin: &Operator, kind: &str, count: u64) -> Vec<Value> {
    until(SOON, &format!("{count} events {kind} are written down"), || {
        let events = admin.run(&["audit", "list", "--security", "--action", kind]);
        let events = events.as_array().expect("a list").clone();
        let counted: u64 = events.iter().map(|event| event["count"].as_u64().expect("a count")).sum();
        (counted == count).then_some(events)
    })
}

fn metric(server: &Server, name: &str) -> u64 {
    let metrics = String::from_utf8(http::get(&server.metrics_url("/metrics")).ok()).expect("text");
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in:\n{metrics}")).parse().expect("a number")
}

#[tokio::test]
async fn refusals_are_counted_events_and_no_records() {
    let server = Server::start();
    let operator = server.admin();
    operator.create_fleet("sensors");
    let (admin, strangers) = (Admin::of(&server), stranger::connect(&server).await);
    let device = admin.enroll(&strangers, "sensors", "pump-7").await;
    let (token, key) = (admin.token("sensors", "pump-8").await, SubjectKey::generate());
    let gateway = Holder::copy(&Device::enroll_gateway(&server, "eu-7"));
    let before = records(&operator).len();
    for _ in 0..3 {
        let refused = stranger::enroll(&strangers, "pump-9", &token, &SubjectKey::generate()).await;
        assert_eq!(reason(refused), "ID_REFUSED");
    }
    let mut fleets = gateway.operator(&server);
    assert_eq!(reason(fleets.list_fleets(fleetca_proto::v1::ListFleetsRequest::default()).await), "KIND_REFUSED");
    let start = stranger::start("pump-8", &token, &key).encode_to_vec();
    let mut exchange = Exchange::start(&strangers, &start).await.expect("a stream");
    let challenge = exchange.challenge().await.expect("a challenge");
    let mut proof = stranger::proof(&token, &key, &start, &challenge);
    proof.subject_signature = SubjectKey::generate().sign(b"something else");
    exchange.send(Step::Proof(proof));
    assert_eq!(reason(exchange.issued().await), "CSR_POP_FAILED");
    device.renew_and_confirm(&server).await;

    let counted = |kind: &str, count| {
        let events = events(&operator, kind, count);
        assert_eq!(metric(&server, &format!("fleetca_security_events_total{{kind=\"{kind}\"}}")), count);
        events
    };
    counted("attestation.refused", 3);
    assert_eq!(counted("permission.denied", 1)[0]["subject"], "gateway/eu-7");
    counted("csr.pop_failed", 1);
    assert_eq!(metric(&server, "fleetca_requests_refused_total{reason=\"ID_REFUSED\"}"), 3);
    let written: Vec<Value> = records(&operator)[before..].to_vec();
    let actions: Vec<_> = written.iter().map(|record| text(record, "action")).collect();
    assert_eq!(actions, ["certificate.issued", "certificate.confirmed"], "changes only");

    // A fork is both: an event, and a change of the device's state.
    assert_eq!(reason(device.renew(&server, &SubjectKey::generate()).await), "LINEAGE_FORK");
    let fork = counted("lineage.fork", 1);
    assert_eq!(fork[0]["subject"], "device/pump-7");
    assert!(text(&fork[0], "detail").contains(&device.serial()), "{fork:?}");
    let held = records(&operator).pop().expect("a record");
    let told = ["action", "actor", "subject", "serial"].map(|key| text(&held, key));
    assert_eq!(told, ["device.held", "system", "device/pump-7", &device.serial()]);
}

#[tokio::test]
async fn a_flood_of_failed_attestations_leaves_one_row() {
    const ATTEMPTS: u64 = 60;
    let server = Server::start();
    let operator = server.admin();
    let strangers = stranger::connect(&server).await;
    let before = records(&operator).len();
    for index in 0..ATTEMPTS {
        let token = enroll_client::attester::token::JoinToken::generate().expect("a token");
        let refused = stranger::enroll(&strangers, &format!("pump-{index}"), &token, &SubjectKey::generate()).await;
        assert_eq!(reason(refused), "ATTESTATION_FAILED");
    }
    let rows = events(&operator, "attestation.failed", ATTEMPTS);
    // One an hour, should the clock just strike.
    let hour = |row: &Value, key| text(row, key)[..13].to_owned();
    let hours = if hour(&rows[0], "last_at") == hour(rows.last().expect("a row"), "first_at") { 1 } else { 2 };
    assert_eq!(rows.len(), hours, "{rows:?}");
    assert_eq!(rows[0]["subject"], "nobody/token");
    assert_eq!(metric(&server, "fleetca_security_events_total{kind=\"attestation.failed\"}"), ATTEMPTS);
    assert_eq!(records(&operator).len(), before);
}

#[tokio::test]
async fn an_event_says_which_check_failed_and_who_came() {
    let Some(world) = World::new() else { return };
    let admin = world.server.admin();
    world.fleet("boards", &world.root, &[]);
    let issuer = world.root.spki_sha256();
    let identity = format!("idevid:{issuer}:SN-1");
    admin.run(&["device", "register", "board-1", "--fleet", "boards", "--idevid", &format!("{issuer}:SN-1")]);
    let board = world.board("one", "SN-1", &world.root);
    admin.run(&["fleet", "set", "boards", "--banned-keys", &issuer]);
    let told = world.enroll("one", &board, Some("board-1"));
    refused(&told, "ATTESTATION_FAILED");
    assert!(!told.stderr.contains("banned"), "only operators are told: {told:?}");
    let known = events(&admin, "attestation.failed", 1);
    let says = format!(
        "ATTESTATION_FAILED: a key of the chain is banned; by factory, proven {identity}, asked for board-1, fleet boards"
    );
    assert_eq!((text(&known[0], "subject"), text(&known[0], "detail")), ("device/board-1", says.as_str()));
    // Of another maker: what it says of itself is a claim.
    refused(&world.enroll("two", &world.board("two", "SN-2", &world.other), Some("board-1")), "ATTESTATION_FAILED");
    let all = events(&admin, "attestation.failed", 2);
    let claimed = all.iter().find(|event| event["subject"] == "nobody/factory").expect("a stranger's");
    let says = "the chain does not lead to a root of this fleet; by factory, claimed an IDevID with serial number \"SN-2\", issued by ";
    assert!(
        text(claimed, "detail").contains(says) && text(claimed, "detail").ends_with("asked for board-1"),
        "{claimed}"
    );

    // Evidence that holds, and does not allow what was asked; and who finds no place to wait.
    admin.run(&["fleet", "set", "boards", "--banned-keys", &"0".repeat(64)]);
    refused(&world.enroll("one", &board, Some("board-2")), "ID_REFUSED");
    let event = events(&admin, "attestation.refused", 1);
    assert!(text(&event[0], "detail").ends_with("asked for board-2, fleet boards"), "{event:?}");
    admin.run(&["fleet", "set", "boards", "--unknown-devices", "pending", "--most-pending", "1"]);
    for (name, serial) in [("three", "SN-3"), ("four", "SN-4")] {
        world.enroll(name, &world.board(name, serial, &world.root), Some(name));
    }
    let event = events(&admin, "approval.crowded", 1);
    let says = format!("OVERLOADED; by factory, proven idevid:{issuer}:SN-4, asked for four, fleet boards");
    assert_eq!((text(&event[0], "subject"), text(&event[0], "detail")), ("nobody/factory", says.as_str()));
}
