//! Devices that nobody registered, and that an operator lets in one by one: by what he has seen of each.

use fleetca_tests::{
    device::Device,
    maker::Made,
    newcomers::{World, refused},
    process::{Finished, run},
    tpm::Tpm,
};
use serde_json::Value;

const PENDING: [&str; 2] = ["--unknown-devices", "pending"];

fn waits(finished: &Finished) {
    assert_eq!(finished.code, 3, "{finished:?}");
    assert!(finished.stderr.contains("an operator has to approve this enrollment first"), "{finished:?}");
}

fn waiting(world: &World) -> Vec<Value> {
    world.server.admin().run(&["device", "list", "--status", "pending"]).as_array().expect("a list").clone()
}

/// The key with which the device in this folder waits, as the operator sees it.
fn key(world: &World, finished: &Finished) -> String {
    let rows = waiting(world);
    let key = |row: &Value| row["key_sha256"].as_str().expect("a key").to_owned();
    let keys: Vec<String> = rows.iter().map(key).filter(|key| finished.stderr.contains(key.as_str())).collect();
    assert_eq!(keys.len(), 1, "the device says the key that the operator sees: {rows:?}, {finished:?}");
    keys[0].clone()
}

/// A decision upon what waits with this key, by all that the operator sees of it.
fn decision(world: &World, verb: &str, id: &str, key: &str) -> Vec<String> {
    let row = waiting(world).into_iter().find(|row| row["key_sha256"] == key).expect("it waits");
    let of = |name: &str| row[name].as_str().expect("a text").to_owned();
    let (fleet, identity) = (of("fleet"), of("identity"));
    ["device", verb, id, "--fleet", &fleet, "--identity", &identity, "--key", key].map(str::to_owned).to_vec()
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

fn approve(world: &World, id: &str, key: &str) -> Value {
    world.server.admin().run(&words(&decision(world, "approve", id, key)))
}

/// Why it is not approved.
fn unapproved(world: &World, id: &str, key: &str) -> String {
    world.server.admin().reason(&words(&decision(world, "approve", id, key)))
}

fn reject(world: &World, id: &str, key: &str) {
    world.server.admin().run(&words(&decision(world, "reject", id, key)));
}

/// A board that waits; and its key.
fn asks(world: &World, folder: &str, board: &Made, id: &str) -> String {
    let finished = world.enroll(folder, board, Some(id));
    waits(&finished);
    key(world, &finished)
}

#[test]
fn an_unknown_device_waits_until_an_operator_approves_what_he_has_seen() {
    let Some(world) = World::new() else { return };
    world.fleet("boards", &world.root, &PENDING);
    let admin = world.server.admin();
    let board = world.board("one", "SN-1", &world.root);
    let seen = asks(&world, "one", &board, "pump-7");
    // Asked again it waits, and nothing new is recorded.
    assert_eq!(asks(&world, "one", &board, "pump-7"), seen);
    let identity = format!("idevid:{}:SN-1", world.root.spki_sha256());
    let shown = world.shown("pump-7");
    assert_eq!(shown.as_array().expect("one that waits"), &waiting(&world));
    assert_eq!(
        (&shown[0]["identity"], &shown[0]["key_sha256"], &shown[0]["state"], &shown[0]["status"]),
        (&identity.as_str().into(), &seen.as_str().into(), &"asked".into(), &"pending".into())
    );
    // What was not seen is not approved.
    let unseen = admin.try_run(&["device", "approve", "pump-7"]);
    assert!(unseen.code == 2 && unseen.stdout.contains(&seen) && unseen.stderr.contains("--key"), "{unseen:?}");
    world.fleet("plant", &world.other, &PENDING);
    let whole = decision(&world, "approve", "pump-7", &seen);
    let others =
        [(2, "pump-8".into()), (4, "plant".into()), (6, identity.replace("SN-1", "SN-2")), (8, "0".repeat(64))];
    for (at, other) in others {
        let mut unseen = whole.clone();
        unseen[at] = other;
        assert_eq!(admin.reason(&words(&unseen)), "NOT_FOUND", "{unseen:?}");
        // And nothing of it can be left out.
        let mut less = whole.clone();
        less.drain(at - 1..=at);
        assert_eq!(admin.try_run(&words(&less)).code, 2, "{less:?}");
    }
    waits(&world.enroll("one", &board, Some("pump-7")));
    assert_eq!(world.devices(), 0);

    assert_eq!(approve(&world, "pump-7", &seen)["state"], "approved");
    // The same device, with a key that nobody has seen.
    waits(&world.enroll("thief", &board, Some("pump-7")));
    waits(&world.enroll("one", &board, Some("pump-7")));
    approve(&world, "pump-7", &seen);
    world.enroll("one", &board, Some("pump-7")).succeeded();
    let shown = world.shown("pump-7");
    assert_eq!((&shown["status"], &shown["hardware"][0]), (&"active".into(), &identity.as_str().into()));
    assert_eq!((world.devices(), waiting(&world).len()), (1, 0));
    let records = admin.run(&["audit", "list", "--subject", "device/pump-7"]);
    let actions: Vec<_> = records.as_array().expect("a list").iter().map(|row| row["action"].clone()).collect();
    let asked = ["device.asked", "device.approved", "device.asked", "device.asked", "device.approved"];
    assert_eq!(actions[..5], asked, "{actions:?}");
    assert_eq!(actions[5], "certificate.issued");
}

#[test]
fn an_approval_is_not_for_what_comes_later_under_that_name() {
    let Some(world) = World::new() else { return };
    world.fleet("boards", &world.root, &PENDING);
    let (one, two) = (world.board("one", "SN-1", &world.root), world.board("two", "SN-2", &world.root));
    let first = asks(&world, "one", &one, "pump-7");
    let second = asks(&world, "two", &two, "pump-7");
    assert_ne!(first, second);
    approve(&world, "pump-7", &first);
    waits(&world.enroll("two", &two, Some("pump-7")));
    assert_eq!(unapproved(&world, "pump-7", &second), "ALREADY_EXISTS");
    world.enroll("one", &one, Some("pump-7")).succeeded();
    waits(&world.enroll("two", &two, Some("pump-7")));
    // It has a name of its own, and was never approved under that.
    asks(&world, "two", &two, "pump-8");
    assert_eq!(world.devices(), 1);
    // Known by now: its identity moves nowhere.
    refused(&world.enroll("moved", &one, Some("pump-9")), "ID_REFUSED");
}

#[test]
fn what_waits_keeps_no_name_from_an_operator_and_no_place_from_who_waited_before() {
    let Some(world) = World::new() else { return };
    world.fleet("boards", &world.root, &[&PENDING[..], &["--most-pending", "1"]].concat());
    let admin = world.server.admin();
    let (one, two) = (world.board("one", "SN-1", &world.root), world.board("two", "SN-2", &world.root));
    let first = asks(&world, "one", &one, "pump-7");
    let crowded = world.enroll("two", &two, Some("pump-8"));
    assert!(crowded.code == 3 && crowded.stderr.contains("OVERLOADED"), "{crowded:?}");
    assert_eq!(waiting(&world).len(), 1);

    // Turned down, it hears what any unknown device hears; and there is room.
    let answer = world.enroll("stranger", &world.board("stranger", "SN-1", &world.other), Some("pump-7"));
    reject(&world, "pump-7", &first);
    let turned_down = world.enroll("one", &one, Some("pump-7"));
    assert_eq!((turned_down.code, &turned_down.stderr), (answer.code, &answer.stderr));
    refused(&answer, "ATTESTATION_FAILED");
    let second = asks(&world, "two", &two, "pump-8");

    // The operator registers who waits, or somebody else under that name.
    approve(&world, "pump-8", &second);
    let another = format!("{}:SN-8", world.root.spki_sha256());
    admin.run(&["device", "register", "Pump-8", "--fleet", "boards", "--idevid", &another]);
    refused(&world.enroll("two", &two, Some("pump-8")), "ID_TAKEN");
    let idevid = format!("{}:SN-1", world.root.spki_sha256());
    admin.run(&["device", "register", "pump-1", "--fleet", "boards", "--idevid", &idevid]);
    world.enroll("other", &one, Some("pump-1")).succeeded();
    assert!(waiting(&world).iter().all(|row| row["identity"] != format!("idevid:{idevid}").as_str()));
}

/// The same device with the same key under the same name, and yet not what was seen: it would be another fleet's.
#[test]
fn an_approval_is_for_the_fleet_that_was_seen() {
    let Some(world) = World::new() else { return };
    world.fleet("boards", &world.root, &PENDING);
    world.fleet("plant", &world.root, &[]);
    let board = world.board("one", "SN-1", &world.root);
    let seen = asks(&world, "one", &board, "pump-7");
    let approval = decision(&world, "approve", "pump-7", &seen);
    let move_to = |from: &str, to: &str| {
        let admin = world.server.admin();
        admin.run(&["fleet", "set", from, "--unknown-devices", "refuse"]);
        admin.run(&["fleet", "set", to, "--unknown-devices", "pending"]);
    };
    move_to("boards", "plant");
    assert_eq!(asks(&world, "one", &board, "pump-7"), seen, "with the same key");
    assert_eq!(world.server.admin().reason(&words(&approval)), "NOT_FOUND");
    waits(&world.enroll("one", &board, Some("pump-7")));
    // And what was approved for the one does not let it into the other.
    approve(&world, "pump-7", &seen);
    move_to("plant", "boards");
    waits(&world.enroll("one", &board, Some("pump-7")));
    assert_eq!(world.devices(), 0);
    world.server.admin().run(&words(&approval));
    world.enroll("one", &board, Some("pump-7")).succeeded();
    assert_eq!(world.shown("pump-7")["fleet"], "boards");
}

/// Nobody has proven a wish: whoever asks under it is not to learn from the answer which names there are.
#[test]
fn whether_a_name_is_taken_is_for_the_operator_to_hear_and_not_for_who_asks_for_it() {
    let Some(world) = World::new() else { return };
    world.fleet("boards", &world.root, &PENDING);
    let admin = world.server.admin();
    let another = format!("{}:SN-7", world.root.spki_sha256());
    admin.run(&["device", "register", "PUMP-7", "--fleet", "boards", "--idevid", &another]);
    let board = world.board("one", "SN-1", &world.root);
    let [free, taken] = [("free", "pump-8"), ("one", "pump-7")].map(|(folder, id)| {
        let finished = world.enroll(folder, &board, Some(id));
        waits(&finished);
        let key = key(&world, &finished);
        (finished.stderr.replace(&key, "KEY").replace(id, "ID"), key)
    });
    assert_eq!(taken.0, free.0, "the one is answered as the other");
    let taken = taken.1;
    assert_eq!(unapproved(&world, "pump-7", &taken), "ALREADY_EXISTS");
    assert_eq!(world.devices(), 1);
}

/// Whatever he sends: a wish or none, a key that would do or not.
#[test]
fn who_was_rejected_hears_nothing_that_no_other_unknown_device_would() {
    let Some(world) = World::new() else { return };
    world.fleet("boards", &world.root, &PENDING);
    let (board, stranger) = (world.board("one", "SN-1", &world.root), world.board("two", "SN-1", &world.other));
    let seen = asks(&world, "one", &board, "pump-7");
    refused(&world.enroll("none", &board, None), "INVALID_ARGUMENT");
    reject(&world, "pump-7", &seen);
    for (folder, id) in [("none", None), ("one", Some("pump-7")), ("other", Some("pump-8"))] {
        let answer = world.enroll(&format!("stranger-{folder}"), &stranger, id);
        refused(&answer, "ATTESTATION_FAILED");
        let rejected = world.enroll(folder, &board, id);
        assert_eq!((rejected.code, &rejected.stderr), (answer.code, &answer.stderr), "{folder}");
    }
}

#[test]
fn what_the_fleet_does_not_take_never_waits() {
    let Some(world) = World::new() else { return };
    world.fleet("boards", &world.root, &PENDING);
    let admin = world.server.admin();
    let board = world.board("one", "SN-1", &world.root);
    let set = |options: &[&str]| _ = admin.run(&[&["fleet", "set", "boards"], options].concat());
    refused(
        &world.enroll("others", &world.board("others", "SN-1", &world.other), Some("pump-7")),
        "ATTESTATION_FAILED",
    );
    set(&["--banned-keys", &board.spki_sha256()]);
    refused(&world.enroll("one", &board, Some("pump-7")), "ATTESTATION_FAILED");
    set(&["--banned-keys", &"0".repeat(64)]);
    let roots = fleetca_tests::maker::text(&world.root.certificate);
    let too_low = ["--attest", "factory,tpm", "--tpm-roots", roots, "--least-tier", "hardware"];
    assert!(admin.refused(&[&["fleet", "set", "boards"], &too_low[..]].concat()).contains("--ek-kind"));
    set(&[&too_low[..], &["--ek-kind", "p-256"]].concat());
    refused(&world.enroll("one", &board, Some("pump-7")), "ATTESTATION_FAILED");
    set(&["--least-tier", "token", "--key-types", "rsa"]);
    refused(&world.enroll("one", &board, Some("pump-7")), "CSR_REFUSED");
    set(&["--key-types", "p256"]);
    refused(&world.enroll("one", &board, None), "INVALID_ARGUMENT");
    assert_eq!(waiting(&world), Vec::<Value>::new());

    // By a template it has the name that it proves, and no other. Refused again, an approval is worth nothing.
    set(&["--attest", "factory", "--id-template", "board-{serial}"]);
    refused(&world.enroll("one", &board, Some("pump-8")), "ID_REFUSED");
    let finished = world.enroll("one", &board, None);
    waits(&finished);
    assert!(finished.stderr.contains("ca-server device approve board-SN-1"), "{finished:?}");
    approve(&world, "board-SN-1", &key(&world, &finished));
    set(&["--unknown-devices", "refuse"]);
    refused(&world.enroll("one", &board, None), "ATTESTATION_FAILED");
    set(&["--unknown-devices", "pending"]);
    world.enroll("one", &board, None).succeeded();
}

#[test]
fn a_tpm_that_waits_gets_a_certificate_for_the_key_that_was_approved() {
    let Some(world) = World::new() else { return };
    let Some(tpm) = Tpm::manufactured() else { return };
    let admin = world.server.admin();
    let maker = tpm.folder().join("maker/issuercert.pem").display().to_string();
    admin.run(
        &[
            &["fleet", "create", "pumps", "--attest", "tpm", "--tpm-roots", &maker],
            &PENDING[..],
            &["--ek-kind", "p-384"],
        ]
        .concat(),
    );
    let enroll = |folder: &str| {
        let mut command = Device::new(world.folder(folder)).command("enroll");
        command.args(["--server", &world.server.url(), "--device-id", "pump-7", "--root"]);
        let evidence = format!("tpm:{},p-384", tpm.socket());
        run(command.arg(world.server.control_root()).args(["--attest", &evidence]))
    };
    let finished = enroll("own");
    waits(&finished);
    // With another of its keys it waits for nothing: an operator would see another device.
    let mut other = Device::new(world.folder("other")).command("enroll");
    other.args(["--server", &world.server.url(), "--device-id", "pump-8", "--root"]).arg(world.server.control_root());
    refused(&run(other.args(["--attest", &format!("tpm:{},rsa-2048", tpm.socket())])), "ATTESTATION_FAILED");
    assert_eq!(waiting(&world).len(), 1);
    let seen = key(&world, &finished);
    approve(&world, "pump-7", &seen);
    enroll("own").succeeded();
    let shown = world.shown("pump-7");
    assert_eq!((&shown["tier"], &shown["certificates"][0]["spki_sha256"]), (&"hardware".into(), &seen.as_str().into()));
}
