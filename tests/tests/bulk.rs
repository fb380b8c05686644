//! Many devices cut off, held and released at once: a plan, one transaction, one publication, one receipt.

use std::{fmt::Write, time::Instant};

use fleetca_tests::{crl::Crl, device::Device, operator::Operator, server::Server, stranger::SubjectKey, wait::SOON};
use fleetca_tests::{holder::Holder, stranger::reason};
use rusqlite::Connection;
use serde_json::{Value, json};

/// How many at once: with debug assertions, where each takes many times as long, fewer.
const MANY: u32 = if cfg!(debug_assertions) { 2_000 } else { 100_000 };

fn database(server: &Server) -> Connection {
    let database = Connection::open(server.dir().join("ca.db")).expect("the test may read it");
    database.busy_timeout(SOON).expect("a timeout can be set");
    database
}

/// A server with devices `pump-0`, `pump-1`, … that are active, with a certificate each: as if they had enrolled, which
/// would take its time.
fn server(devices: u32) -> Server {
    let mut server = Server::start();
    let admin = server.admin();
    admin.create_fleet("pumps");
    admin.create_fleet("valves");
    let ids: String = (0..devices).map(|number| format!("pump-{number}\n")).collect();
    let path = file(&server, "all.csv", &format!("id\n{ids}"));
    admin.run(&["device", "register", "--fleet", "pumps", "--from", &path]);
    server.stop();
    let database = database(&server);
    database
        .execute_batch(
            "BEGIN;
             UPDATE holders SET status = 'active', head = randomblob(16), generation = 1, attested_method = 'token',
                 attested_tier = 'token', attested_identity = 't' WHERE kind = 'device';
             INSERT INTO certificates (serial, holder, issuer, key_hash, hash, not_before, not_after, was_head, der)
                 SELECT head, key, (SELECT key FROM issuers WHERE role = 'device'), randomblob(32), randomblob(32),
                     created_at, created_at + 86400000, 1, randomblob(600) FROM holders WHERE kind = 'device';
             COMMIT",
        )
        .expect("they are written");
    drop(database);
    server.start_again();
    server
}

fn file(server: &Server, name: &str, content: &str) -> String {
    let path = server.scratch().join(name);
    std::fs::write(&path, content).expect("it is written");
    path.to_str().expect("temporary folders have names in UTF-8").to_owned()
}

fn issuer(server: &Server) -> String {
    database(server)
        .query_row("SELECT id FROM issuers WHERE role = 'device'", [], |row| row.get(0))
        .expect("an issuing CA of devices")
}

/// How many CRLs of devices' certificates were ever published.
fn publications(server: &Server) -> u32 {
    let sql = "SELECT count(*) FROM published_crls JOIN issuers ON issuers.key = published_crls.issuer \
               WHERE issuers.role = 'device'";
    database(server).query_row(sql, [], |row| row.get(0)).expect("a count")
}

fn entries(server: &Server) -> usize {
    Crl::fetch(server, &issuer(server)).serials().len()
}

/// What would be done, which is said and not done.
fn plan(admin: &Operator, arguments: &[&str]) -> Value {
    let finished = admin.try_run(arguments);
    assert_eq!(finished.code, 2, "{finished:?}");
    assert!(finished.stderr.contains("nothing is changed yet: say --yes to do it"), "{}", finished.stderr);
    let plan: Value = serde_json::from_str(&finished.stdout).expect("a plan");
    assert_eq!(plan["done"], false);
    plan
}

fn counts(told: &Value) -> [u64; 4] {
    ["devices", "certificates", "unchanged", "undecided"].map(|field| told[field].as_u64().expect("a number"))
}

#[test]
fn many_devices_are_revoked_by_one_publication_or_not_at_all() {
    let server = server(MANY);
    let admin = server.admin();
    admin.run(&["device", "register", "valve-1", "--fleet", "valves"]);
    admin.run(&["device", "revoke", "pump-7"]);
    let (before, last) = (publications(&server), Crl::fetch(&server, &issuer(&server)).number());
    let mut csv = "id,fleet\n".to_owned();
    for number in 0..MANY {
        writeln!(csv, "pump-{number},").expect("it is written");
    }
    let revoke = |content: &str| -> Vec<String> {
        let path = file(&server, "stolen.csv", content);
        ["device", "revoke", "--reason", "keyCompromise", "--from", &path].map(str::to_owned).to_vec()
    };
    for (row, says) in [
        ("pump-x,\n", "no such device: pump-x"),
        ("valve-1,pumps\n", "no such device of this fleet: valve-1, fleet pumps"),
        ("pump 1,\n", "id: may have only"),
        ("pump-1\n", "has 1 fields, and the head 2"),
    ] {
        let mut command = revoke(&format!("{csv}{row}"));
        command.push("--yes".into());
        let refused = admin.refused(&command.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(refused.contains(&format!("line {}: {says}", MANY + 2)), "{refused}");
    }
    let command = revoke(&format!("{csv}valve-1,valves\npump-1,pumps\n"));
    let mut command: Vec<&str> = command.iter().map(String::as_str).collect();
    let planned = plan(&admin, &command);
    // Of the one that was revoked before, the key is banned besides; the other fleet's has no certificate.
    assert_eq!(counts(&planned), [u64::from(MANY) + 1, u64::from(MANY), 0, 0]);
    assert_eq!((&planned["action"], &planned["reason"]), (&json!("revoke"), &json!("keyCompromise")));
    let shares = planned["fleets"].as_array().expect("fleets");
    assert_eq!(shares.iter().map(|share| &share["fleet"]).collect::<Vec<_>>(), ["pumps", "valves"]);
    assert_eq!((publications(&server), entries(&server)), (before, 1), "all or nothing");

    let yes = format!("--yes={}", planned["plan"].as_str().expect("a plan's name"));
    command.push(&yes);
    let begun = Instant::now();
    let receipt = admin.run(&command);
    println!("{MANY} devices took {:?}", begun.elapsed());
    assert_eq!((counts(&receipt), &receipt["done"]), (counts(&planned), &json!(true)));
    assert_eq!(publications(&server), before + 1, "one publication");
    let list = Crl::fetch(&server, &issuer(&server));
    assert_eq!(receipt["crls"], json!([{ "issuer": issuer(&server), "number": list.number(), "loaded": null }]));
    assert!(list.number() > last);
    assert_eq!(list.serials().len(), MANY as usize);
    let shown = admin.run(&["device", "show", "pump-5"]);
    assert_eq!((&shown["status"], &shown["crls"][0]["number"]), (&json!("revoked"), &json!(list.number())));
    // Who asks for one device finds out about it, and by the plan about all that were done with it.
    let records = admin.run(&["audit", "list", "--subject", "device/pump-5", "--action", "device.revoked"]);
    assert_eq!(records.as_array().map(Vec::len), Some(1));
    let name = records[0]["detail"]["plan"].as_str().expect("a plan");
    assert!(planned["plan"].as_str().expect("a plan").starts_with(name));
    assert_eq!(
        (&records[0]["actor"], &records[0]["detail"]["certificate_count"]),
        (&json!("operator/admin"), &json!(1))
    );
    admin.run(&["audit", "verify"]);

    // Again it changes nothing, and names a CRL that holds it all.
    command.pop();
    command.push("--yes");
    let again = admin.run(&command);
    assert_eq!(counts(&again), [0, 0, u64::from(MANY) + 1, 0]);
    assert_eq!((&again["crls"], publications(&server)), (&receipt["crls"], before + 1));
}

#[test]
fn what_was_seen_is_what_is_done() {
    let server = server(3);
    let admin = server.admin();
    let command = ["device", "revoke", "--fleet", "pumps", "--all"];
    let planned = plan(&admin, &command);
    assert_eq!(counts(&planned), [3, 3, 0, 0]);
    admin.run(&["device", "register", "pump-late", "--fleet", "pumps"]);
    let yes = format!("--yes={}", planned["plan"].as_str().expect("a plan's name"));
    let with =
        |yes: &str| -> Vec<String> { command.iter().map(|word| (*word).to_owned()).chain([yes.to_owned()]).collect() };
    let run = |words: Vec<String>| admin.try_run(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let refused = run(with(&yes));
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("the plan is another one by now"), "{}", refused.stderr);
    assert_eq!(entries(&server), 0);
    // Nor another action, nor another reason.
    let other = ["device", "hold", "--fleet", "pumps", "--all", &yes];
    assert_eq!(admin.try_run(&other).code, 1);
    for lost in ["--yes=00", "--yes="] {
        assert_eq!(run(with(lost)).code, 2, "{lost} is no plan");
    }
    assert_eq!(entries(&server), 0);
    let live = |pattern: &str| {
        let out = server.scratch().join("pattern.token");
        let out = out.to_str().expect("a path");
        let token = ["token", "create", "--fleet", "pumps", "--pattern", pattern, "--uses", "2", "--out", out];
        admin.run(&token);
        std::fs::remove_file(out).expect("it was written");
        plan(&admin, &command)["pattern_tokens"].clone()
    };
    assert_eq!((live("new-*"), live("late-*")), (json!(1), json!(2)));
    let done: Value = serde_json::from_str(&run(with("--yes")).succeeded()).expect("a receipt");
    assert_eq!((counts(&done), entries(&server)), ([4, 3, 0, 0], 3));
    assert_eq!(done["pattern_tokens"], json!(2), "the fleet still takes new devices");
    let nobody = admin.refused(&["device", "revoke", "--fleet", "tmp", "--all", "--yes"]);
    assert!(nobody.contains("no such fleet: tmp"), "{nobody}");
    let whom = admin.try_run(&["device", "revoke"]);
    assert!(whom.code == 2 && whom.stderr.contains("--fleet NAME --all"), "{whom:?}");
    let apart = admin.try_run(&["device", "revoke", "--wait", "5m"]);
    assert!(apart.code == 2 && apart.stderr.contains("write --wait=5m"), "{apart:?}");
    for wrong in [
        &["device", "revoke", "--fleet", "pumps"][..],
        &["device", "revoke", "--all", "--yes"],
        &["device", "revoke", "pump-1", "--yes"],
        &["device", "revoke", "pump-1", "--from", "x"],
        &["device", "release", "--fleet", "pumps", "--all", "--keep", "00"],
    ] {
        assert_eq!(admin.try_run(wrong).code, 2, "{wrong:?}");
    }
}

#[tokio::test]
async fn many_are_held_and_come_back_but_for_those_that_somebody_has_to_decide() {
    let server = server(50);
    let admin = server.admin();
    // One that is real, and one after a fork.
    let device = Device::enroll(&server, "pumps", "pump-real");
    let forked = Device::enroll(&server, "pumps", "pump-forked");
    let thief = Holder::copy(&forked);
    forked.renew();
    assert_eq!(reason(thief.renew(&server, &SubjectKey::generate()).await), "LINEAGE_FORK");
    admin.run(&["device", "revoke", "pump-3"]);
    let hold = ["device", "hold", "--fleet", "pumps", "--all"];
    let planned = plan(&admin, &hold);
    assert_eq!(counts(&planned), [50, 50, 2, 0], "one is revoked, one on hold");
    let held = admin.run(&[&hold[..], &["--yes", "--wait=1s"]].concat());
    assert_eq!((counts(&held), &held["gateways"]["gateways"]), ([50, 50, 2, 0], &json!(0)));
    let before = entries(&server);
    assert_eq!(reason(Holder::copy(&device).renew(&server, &SubjectKey::generate()).await), "DEVICE_HELD");

    let ids: String = (0..50)
        .map(|number| format!("pump-{number}\n"))
        .chain(["pump-real\n", "pump-forked\n"].map(str::to_owned))
        .collect();
    let path = file(&server, "found.txt", &ids);
    let release = ["device", "release", "--from", &path];
    let (seen, count) = (plan(&admin, &release), publications(&server));
    assert_eq!(counts(&seen), [50, 50, 1, 1]);
    let released = admin.run(&[&release[..], &["--yes"]].concat());
    assert_eq!((counts(&released), publications(&server)), ([50, 50, 1, 1], count + 1));
    assert_eq!(entries(&server), before - 50);
    for (id, status) in [("pump-1", "active"), ("pump-3", "revoked"), ("pump-forked", "held"), ("pump-real", "active")]
    {
        assert_eq!(admin.run(&["device", "show", id])["status"], status, "{id}");
    }
    Holder::copy(&device).renew_and_confirm(&server).await;
}

#[test]
fn rows_that_cannot_be_read_are_counted_in_the_receipt_which_ends_with_another_exit_code() {
    let server = server(3);
    let database = database(&server);
    database
        .execute_batch(
            "PRAGMA ignore_check_constraints = 1;
             UPDATE certificates SET serial = CAST(x'0102' || holder AS BLOB)
                 WHERE holder IN (SELECT key FROM holders WHERE id IN ('pump-0', 'pump-1'))",
        )
        .expect("what the CA never would write");
    drop(database);
    let admin = server.admin();
    for (command, certificates, unreadable) in [
        (&["device", "revoke", "pump-0"][..], 0, 1),
        (&["device", "revoke", "--fleet", "pumps", "--all", "--yes"], 1, 1),
    ] {
        let finished = admin.try_run(command);
        assert_eq!(finished.code, 1, "{finished:?}");
        let told: Value = serde_json::from_str(&finished.stdout).expect("a receipt");
        assert_eq!((&told["certificates"], &told["unreadable"]), (&json!(certificates), &json!(unreadable)), "{told}");
        assert!(finished.stderr.contains("but for 1 row of the CA's database"), "{finished:?}");
    }
    let statuses = admin.run(&["device", "list", "--fleet", "pumps"]);
    assert!(statuses.as_array().expect("a list").iter().all(|row| row["status"] == "revoked"), "{statuses}");
    assert_eq!(entries(&server), 1);
}

#[test]
fn a_fleet_on_hold_lets_no_registered_device_enroll_until_it_is_released() {
    let server = Server::start();
    let admin = server.admin();
    admin.create_fleet("pumps");
    let (enrolled, token) =
        (Device::enroll(&server, "pumps", "pump-1"), admin.device_token("pumps", "pump-2", server.scratch()));
    let pattern = server.scratch().join("pattern.token");
    admin.token(&["--fleet", "pumps", "--pattern", "bench-*", "--uses", "2"], &pattern);
    let hold = ["device", "hold", "--fleet", "pumps", "--all"];
    assert_eq!(counts(&plan(&admin, &hold)), [2, 1, 0, 0]);
    let held = admin.run(&[&hold[..], &["--yes"]].concat());
    // Who comes by a pattern token is no device yet: that is told.
    assert_eq!((counts(&held), &held["pattern_tokens"]), ([2, 1, 0, 0], &json!(1)));
    let status = || ["pump-1", "pump-2"].map(|id| admin.run(&["device", "show", id])["status"].clone());
    assert_eq!(status(), [json!("held"), json!("held")]);

    let pump = Device::new(server.scratch().join("pump-2"));
    let refused = pump.try_enroll(&server, "pump-2", &token);
    assert!(refused.code == 3 && refused.stderr.contains("DEVICE_HELD"), "{refused:?}");
    let released = admin.run(&["device", "release", "--fleet", "pumps", "--all", "--yes"]);
    assert_eq!(counts(&released), [2, 1, 0, 0]);
    assert_eq!(status(), [json!("active"), json!("registered")]);
    assert_eq!(admin.run(&["device", "release", "pump-2"])["status"], "registered");
    pump.try_enroll(&server, "pump-2", &token).succeeded();
    enrolled.renew();
    // One alone, in the same way; and whoever is held may be revoked.
    admin.run(&["device", "register", "pump-3", "--fleet", "pumps"]);
    assert_eq!(admin.run(&["device", "hold", "pump-3"])["status"], "held");
    assert_eq!(admin.run(&["device", "revoke", "pump-3"])["status"], "revoked");
}
