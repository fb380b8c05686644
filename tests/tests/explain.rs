//! `fleet explain`, held against what happens.

use fleetca_tests::{
    device::Device,
    maker::text,
    newcomers::{TEMPLATE, World, refused},
    openssl,
    operator::Operator,
    process::{Finished, run},
    server::Server,
};
use serde_json::Value;

/// What is said of one way: the reason, or what it would get.
fn way(explained: &Value, name: &str) -> String {
    let ways = explained["ways"].as_array().expect("ways");
    let ways: Vec<&Value> = ways.iter().filter(|way| way["way"] == name).collect();
    let [way] = ways[..] else { panic!("not one {name}: {explained}") };
    match ["admitted", "waits", "confirm_required"].map(|field| way[field].as_bool().expect("a flag")) {
        [true, false, true] => "to be confirmed".into(),
        [true, false, false] => "in force".into(),
        [false, true, false] => "waits".into(),
        [false, false, false] => {
            assert!(way["because"].as_str().is_some_and(|why| !why.is_empty()), "{way}");
            way["reason"].as_str().expect("a reason").to_owned()
        }
        _ => panic!("{way}"),
    }
}

#[test]
fn what_is_explained_is_what_happens_and_nothing_comes_of_explaining() {
    let server = Server::start();
    let admin = server.admin();
    admin.create_fleet("sensors");
    admin.create_fleet("others");
    let explain = |id: &str| admin.run(&["fleet", "explain", "sensors", id]);
    let all = |explained: &Value| {
        ["token", "token --reenroll", "registered-key", "factory", "tpm", "renew", "previous"]
            .map(|name| way(explained, name))
    };
    let none = "METHOD_REFUSED";
    let new = ["in force", "in force", none, none, none, "NOT_ENROLLED", "NOT_ENROLLED"];
    let nobody = explain("sensor-1");
    assert_eq!((all(&nobody), &nobody["status"]), (new.map(str::to_owned), &Value::Null));
    admin.run(&["device", "register", "sensor-1", "--fleet", "sensors"]);
    let registered = explain("sensor-1");
    assert_eq!((all(&registered), &registered["status"]), (new.map(str::to_owned), &"registered".into()));
    let device = Device::enroll(&server, "sensors", "sensor-1");
    let told = |options: &[&str]| admin.run(&[&["audit", "list"], options].concat()).as_array().expect("a list").len();
    let (serial, before) = (device.serial(), (told(&[]), told(&["--security"])));
    let active = explain("sensor-1");
    assert_eq!(way(&active, "token"), "ALREADY_ENROLLED");
    assert_eq!(way(&active, "token --reenroll"), "to be confirmed");
    assert_eq!((way(&active, "renew"), way(&active, "previous")), ("to be confirmed".into(), "STATE_REFUSED".into()));
    assert_eq!((told(&[]), told(&["--security"])), before, "it was only said");
    assert_eq!(device.serial(), serial);
    device.renew();
    // Nothing is registered, of what its fleet takes.
    admin.run(&["fleet", "create", "vaults", "--attest", "registered-key,tpm", "--least-tier", "hardware"]);
    let vault = admin.run(&["fleet", "explain", "vaults", "vault-1"]);
    assert_eq!(
        ["token", "registered-key", "factory", "tpm"].map(|name| way(&vault, name)),
        ["METHOD_REFUSED", "TIER_REFUSED", "METHOD_REFUSED", "ATTESTATION_FAILED"].map(str::to_owned)
    );
    // Its kind of key is not taken any more: what renews is stopped, too.
    admin.run(&["fleet", "set", "sensors", "--key-types", "ed25519"]);
    assert_eq!(way(&explain("sensor-1"), "renew"), "CSR_REFUSED");
    admin.run(&["fleet", "set", "sensors", "--key-types", "p256"]);

    admin.run(&["device", "hold", "sensor-1"]);
    let held = explain("sensor-1");
    for name in ["token", "token --reenroll", "renew", "previous"] {
        assert_eq!(way(&held, name), "DEVICE_HELD", "{name}");
    }
    admin.run(&["device", "revoke", "sensor-1"]);
    for name in ["token", "token --reenroll", "renew", "previous"] {
        assert_eq!(way(&explain("sensor-1"), name), "DEVICE_REVOKED", "{name}");
    }
    admin.run(&["device", "allow-reenroll", "sensor-1"]);
    let allowed = explain("sensor-1");
    assert_eq!(way(&allowed, "token"), "to be confirmed");
    assert_eq!((way(&allowed, "renew"), way(&allowed, "previous")), ("DEVICE_REVOKED".into(), "DEVICE_REVOKED".into()));
    assert_eq!(admin.reason(&["fleet", "explain", "others", "sensor-1"]), "STATE_REFUSED");
    assert_eq!(admin.reason(&["fleet", "explain", "nothing", "sensor-1"]), "NOT_FOUND");
    assert_eq!(way(&explain("SENSOR-1"), "token"), "ID_TAKEN");
}

#[test]
fn what_is_registered_for_a_device_is_what_it_could_come_by() {
    let server = Server::start();
    let admin = server.admin();
    admin.run(&["fleet", "create", "depot", "--attest", "tpm,registered-key"]);
    let ek = "7".repeat(64);
    admin.run(&["device", "register", "lock-1", "--fleet", "depot", "--ek-hash", &ek]);
    let explained = admin.run(&["fleet", "explain", "depot", "lock-1"]);
    assert_eq!(
        (way(&explained, "tpm"), way(&explained, "registered-key")),
        ("in force".into(), "ATTESTATION_FAILED".into())
    );
    let ways = explained["ways"].as_array().expect("ways");
    assert!(ways.iter().any(|way| way["way"] == "tpm" && way["identity"] == format!("ek:{ek}")), "{explained}");
    // It is this device's, and nobody else's.
    let other = admin.run(&["fleet", "explain", "depot", "lock-2", "--identity", &format!("ek:{ek}")]);
    assert_eq!(way(&other, "tpm"), "ID_REFUSED");
    let unknown = admin.run(&["fleet", "explain", "depot", "lock-1", "--identity", &format!("ek:{}", "8".repeat(64))]);
    assert_eq!(way(&unknown, "tpm"), "ATTESTATION_FAILED");
}

#[test]
fn who_proves_too_little_is_told_so() {
    let Some(world) = World::new() else { return };
    let admin = world.server.admin();
    let root = text(&world.root.certificate);
    let create = ["fleet", "create", "boards", "--attest", "factory,token", "--factory-roots", root];
    admin.run(&create);
    let token = admin.device_token("boards", "board-9", world.server.scratch());
    admin.run(&["fleet", "set", "boards", "--least-tier", "factory"]);
    let idevid = format!("{}:SN-1", world.root.spki_sha256());
    admin.run(&["device", "register", "board-1", "--fleet", "boards", "--idevid", &idevid]);
    let explain = || admin.run(&["fleet", "explain", "boards", "board-1"]);
    assert_eq!((way(&explain(), "token"), way(&explain(), "factory")), ("TIER_REFUSED".into(), "in force".into()));
    refused(&Device::new(world.folder("by-token")).try_enroll(&world.server, "board-9", &token), "TIER_REFUSED");
    world.enroll("one", &world.board("one", "SN-1", &world.root), None).succeeded();
    // What the device has proven before is what counts, though the fleet takes less now.
    admin.run(&["fleet", "set", "boards", "--least-tier", "token"]);
    assert_eq!(
        (way(&explain(), "token"), way(&explain(), "factory")),
        ("TIER_REFUSED".into(), "to be confirmed".into())
    );
    admin.run(&["fleet", "set", "boards", "--attest", "token"]);
    assert_eq!(way(&explain(), "factory"), "METHOD_REFUSED");
}

#[test]
fn roots_and_bans_count_in_what_is_explained() {
    let Some(world) = World::new() else { return };
    let admin = world.server.admin();
    world.fleet("boards", &world.root, &[]);
    let (issuer, other) = (world.root.spki_sha256(), world.other.spki_sha256());
    admin.run(&["device", "register", "board-1", "--fleet", "boards", "--idevid", &format!("{issuer}:SN-1")]);
    let provided = || {
        let explained = admin.run(&["fleet", "explain", "boards", "board-1"]);
        let ways = explained["ways"].as_array().expect("ways").clone();
        let factory = ways.iter().find(|way| way["way"] == "factory").expect("factory");
        (way(&explained, "factory"), format!("{}{}", factory["provided"], factory["because"]))
    };
    let (answer, what) = provided();
    assert!(answer == "in force" && what.contains("its certificate is good"), "{answer}: {what}");
    let board = world.board("one", "SN-1", &world.root);
    admin.run(&["fleet", "set", "boards", "--banned-keys", &issuer]);
    let (answer, what) = provided();
    assert!(answer == "ATTESTATION_FAILED" && what.contains("is banned"), "{answer}: {what}");
    refused(&world.enroll("one", &board, Some("board-1")), "ATTESTATION_FAILED");
    // Of another root that is pinned it does not follow that the issuer leads to it.
    admin.run(&["fleet", "set", "boards", "--banned-keys", &other]);
    assert_eq!(provided().0, "in force");
    admin.run(&["fleet", "set", "boards", "--factory-roots", text(&world.other.certificate)]);
    let (answer, what) = provided();
    assert!(answer == "ATTESTATION_FAILED" && what.contains("is banned"), "the only root: {answer}: {what}");
    admin.run(&["fleet", "set", "boards", "--banned-keys", &"5".repeat(64)]);
    let (answer, what) = provided();
    assert!(answer == "in force" && what.contains("which is none of the fleet's roots"), "{answer}: {what}");
    assert!(what.contains("no key of its chain is banned"), "{what}");
    refused(&world.enroll("one", &board, Some("board-1")), "ATTESTATION_FAILED");
    admin.run(&["fleet", "set", "boards", "--factory-roots", text(&world.root.certificate)]);
    world.enroll("one", &board, Some("board-1")).succeeded();
}

#[test]
fn every_registered_key_is_explained_and_what_would_let_its_device_in_again() {
    let server = Server::start();
    let admin = server.admin();
    let Some(keys) = openssl::command().map(|_| ["one", "two", "three"].map(|name| public_key(&server, name))) else {
        return;
    };
    admin.run(&["fleet", "create", "pumps", "--attest", "registered-key"]);
    let first = admin.run(&["device", "register", "pump-1", "--fleet", "pumps", "--key", &keys[0]]);
    let retired = first["keys"][0]["thumbprint"].as_str().expect("a thumbprint");
    admin.run(&["device", "key", "retire", "pump-1", retired]);
    admin.run(&["device", "key", "add", "pump-1", "--key", &keys[1]]);
    admin.run(&["device", "key", "add", "pump-1", "--key", &keys[2], "--active-from", "2126-01-01T00:00:00Z"]);
    let ways = || {
        let explained = admin.run(&["fleet", "explain", "pumps", "pump-1"]);
        let ways = explained["ways"].as_array().expect("ways").clone();
        ways.into_iter().filter(|way| way["way"] == "registered-key").collect::<Vec<_>>()
    };
    let because = |way: &Value| way["because"].as_str().unwrap_or_default().to_owned();
    let [counts, later, over] = &ways()[..] else { panic!("not three: {:?}", ways()) };
    assert_eq!(counts["admitted"], true);
    assert!(because(later).starts_with("this key counts from 2126-01-01"), "{later}");
    assert!(because(over).starts_with("this key has retired"), "{over}");
    assert_eq!((&over["identity"], &over["reason"]), (&retired.into(), &"ATTESTATION_FAILED".into()));

    let enroll = |device: &Device| {
        let mut command = device.command("enroll");
        command.args(["--server", &server.url(), "--device-id", "pump-1", "--root"]).arg(server.control_root());
        run(command.arg("--attest").arg(format!("registered-key:{}", keys[1].replace(".pub", ".pem"))))
    };
    enroll(&Device::new(server.scratch().join("pump-1"))).succeeded();
    assert_eq!(ways()[0]["reason"], "ALREADY_ENROLLED");
    assert!(because(&ways()[0]).contains("--reenroll registered"), "{:?}", ways());
    let again = enroll(&Device::new(server.scratch().join("again")));
    assert!(again.stderr.contains("--reenroll registered"), "{again:?}");
    admin.run(&["fleet", "set", "pumps", "--reenroll", "registered"]);
    assert_eq!((&ways()[0]["admitted"], &ways()[0]["confirm_required"]), (&true.into(), &true.into()));
    enroll(&Device::new(server.scratch().join("again"))).succeeded();
}

/// The public half of a new key, in a file beside it.
fn public_key(server: &Server, name: &str) -> String {
    let (key, public) = (server.scratch().join(format!("{name}.pem")), server.scratch().join(format!("{name}.pub")));
    let openssl = || openssl::command().expect("it was there");
    run(openssl().args(["genpkey", "-algorithm", "ED25519", "-out"]).arg(&key)).succeeded();
    run(openssl().args(["pkey", "-pubout", "-in"]).arg(&key).arg("-out").arg(&public)).succeeded();
    text(&public).to_owned()
}

fn waits(finished: &Finished) {
    assert_eq!(finished.code, 3, "{finished:?}");
    assert!(finished.stderr.contains("an operator has to approve"), "{finished:?}");
}

/// Decides about the one that waits under this name, by all that is seen of it.
fn decide(admin: &Operator, word: &str, id: &str) {
    let rows = admin.run(&["device", "show", id]);
    let seen = |field: &str| rows[0][field].as_str().unwrap_or_else(|| panic!("nothing waits: {rows}")).to_owned();
    let (key, identity) = (seen("key_sha256"), seen("identity"));
    admin.run(&["device", word, id, "--key", &key, "--fleet", &seen("fleet"), "--identity", &identity]);
}

#[test]
fn an_unknown_device_is_told_what_its_fleet_does_with_such() {
    let Some(world) = World::new() else { return };
    let admin = world.server.admin();
    let board = world.board("one", "SN-1", &world.root);
    let identity = format!("idevid:{}:SN-1", world.root.spki_sha256());
    let explain = |id: &str| way(&admin.run(&["fleet", "explain", "boards", id]), "factory");
    let explain_it =
        |id: &str| way(&admin.run(&["fleet", "explain", "boards", id, "--identity", &identity]), "factory");
    world.fleet("boards", &world.root, &[]);
    assert_eq!((explain("board-1"), explain_it("board-1")), ("ATTESTATION_FAILED".into(), "ATTESTATION_FAILED".into()));
    refused(&world.enroll("one", &board, Some("board-1")), "ATTESTATION_FAILED");

    admin.run(&["fleet", "set", "boards", "--unknown-devices", "pending"]);
    assert_eq!((explain("board-1"), explain_it("board-1")), ("waits".into(), "waits".into()));
    waits(&world.enroll("one", &board, Some("board-1")));
    let waiting = admin.run(&["fleet", "explain", "boards", "board-1"]);
    let found = waiting["ways"].as_array().expect("ways").iter().find(|way| way["way"] == "factory").expect("factory");
    assert_eq!((&waiting["status"], &found["identity"]), (&"pending".into(), &identity.as_str().into()));
    assert_eq!(explain("board-1"), "waits");
    decide(&admin, "approve", "board-1");
    for _ in 0..2 {
        assert_eq!(explain("board-1"), "in force", "to say it uses nothing up");
    }
    // Other hardware under that name was not approved.
    let other = identity.replace("SN-1", "SN-2");
    let other = admin.run(&["fleet", "explain", "boards", "board-1", "--identity", &other]);
    assert_eq!(way(&other, "factory"), "waits");

    // A fleet that is full takes nobody, and uses up no approval.
    let other = format!("{}:SN-0", world.root.spki_sha256());
    admin.run(&["device", "register", "board-0", "--fleet", "boards", "--idevid", &other]);
    admin.run(&["fleet", "set", "boards", "--max-devices", "1"]);
    assert_eq!(explain("board-1"), "FLEET_FULL");
    refused(&world.enroll("one", &board, Some("board-1")), "FLEET_FULL");
    admin.run(&["fleet", "set", "boards", "--max-devices", "2"]);
    assert_eq!(explain("board-1"), "in force");
    world.enroll("one", &board, Some("board-1")).succeeded();
    assert_eq!(explain("board-1"), "to be confirmed", "it is known now, and may come again");
    assert_eq!(explain_it("board-2"), "ID_REFUSED", "it is another device's");

    // Turned down.
    admin.run(&["fleet", "set", "boards", "--max-devices", "none"]);
    let two = world.board("two", "SN-2", &world.root);
    waits(&world.enroll("two", &two, Some("board-2")));
    decide(&admin, "reject", "board-2");
    assert_eq!(explain("board-2"), "ATTESTATION_FAILED");
    refused(&world.enroll("two", &two, Some("board-2")), "ATTESTATION_FAILED");

    let register = ["--unknown-devices", "register", "--accept-any-holder", "--id-template", TEMPLATE];
    admin.run(&[&["fleet", "set", "boards"], &register[..]].concat());
    let named = world.name("SN-3");
    assert_eq!(explain(&named), "INVALID_ARGUMENT", "its hardware names it");
    let identity = identity.replace("SN-1", "SN-3");
    let explain_it =
        |id: &str| way(&admin.run(&["fleet", "explain", "boards", id, "--identity", &identity]), "factory");
    assert_eq!((explain_it(&named), explain_it("board-3")), ("in force".into(), "ID_REFUSED".into()));
    let three = world.board("three", "SN-3", &world.root);
    refused(&world.enroll("three", &three, Some("board-3")), "ID_REFUSED");
    world.enroll("three", &three, None).succeeded();
    // What asks for a TPM's is none.
    let malformed = ["fleet", "explain", "boards", "board-4", "--identity", "SN-4"];
    assert_eq!(admin.reason(&malformed), "INVALID_ARGUMENT");
}
