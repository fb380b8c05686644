//! Hardware of devices: added to one that is there, and retired.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::Command,
    thread,
};

use enroll_client::{
    attester::{Attester, factory::FactoryIdentity},
    credential::LockedFolder,
    enroll::{Enrollment, enroll},
    flow::{Observer, Step},
    identity::Kind,
    trust::{Roots, Trust},
};
use fleetca_tests::{
    device::Device,
    maker::Made,
    newcomers::{World, refused},
    process::run,
    wait::{SOON, until_true},
};
use serde_json::Value;

/// A board's identity as the command line takes it.
fn idevid(issuer: &Made, serial: &str) -> String {
    format!("{}:{serial}", issuer.spki_sha256())
}

/// A fleet of boards, and a device in it with the board of this serial number, enrolled.
fn enrolled(world: &World, id: &str, serial: &str) -> Made {
    let board = world.board(id, serial, &world.root);
    let admin = world.server.admin();
    admin.run(&["device", "register", id, "--fleet", "boards", "--idevid", &idevid(&world.root, serial)]);
    world.enroll(id, &board, Some(id)).succeeded();
    board
}

fn add(world: &World, id: &str, serial: &str) -> Value {
    world.server.admin().run(&["device", "hardware", "add", id, "--idevid", &idevid(&world.root, serial)])
}

/// The list as text.
fn list(shown: &Value, field: &str) -> Vec<String> {
    shown[field].as_array().expect("a list").iter().map(|id| id.as_str().expect("text").to_owned()).collect()
}

#[test]
fn a_board_that_was_replaced_keeps_its_id_and_the_old_one_enrolls_nothing() {
    let Some(world) = World::new() else { return };
    world.fleet("boards", &world.root, &[]);
    let admin = world.server.admin();
    let old = enrolled(&world, "board-1", "SN-1");
    let new = world.board("new", "SN-2", &world.root);
    refused(&world.enroll("new", &new, Some("board-1")), "ATTESTATION_FAILED");

    let shown = add(&world, "board-1", "SN-2");
    let (first, second) =
        (format!("idevid:{}", idevid(&world.root, "SN-1")), format!("idevid:{}", idevid(&world.root, "SN-2")));
    assert_eq!(list(&shown, "hardware"), [first.as_str(), second.as_str()]);
    assert_eq!((&shown["generation"], &shown["tier"]), (&1.into(), &"factory".into()));
    let shown = admin.run(&["device", "hardware", "retire", "board-1", &first]);
    assert_eq!((list(&shown, "hardware"), list(&shown, "retired_hardware")), (vec![second], vec![first.clone()]));

    // What it gets goes through Confirm, as after a renewal; and by no other name.
    refused(&world.enroll("moved", &new, Some("board-2")), "ID_REFUSED");
    world.enroll("new", &new, Some("board-1")).succeeded();
    let shown = world.shown("board-1");
    assert_eq!(
        (&shown["generation"], &shown["status"], &shown["pending_serial"]),
        (&2.into(), &"active".into(), &Value::Null)
    );
    // The old one holds a key and an identity that were good; neither is of use.
    refused(&world.enroll("again", &old, Some("board-1")), "ATTESTATION_FAILED");
    until_true(SOON, "the event is told, about its device", || {
        let events = admin.run(&["audit", "list", "--security"]);
        let mut events = events.as_array().expect("a list").iter();
        events.any(|event| event["kind"] == "attestation.hardware_retired" && event["subject"] == "device/board-1")
    });

    // It stays the device's for ever: nobody gets it, the device itself neither.
    admin.run(&["device", "hardware", "retire", "board-1", &first]);
    let mine = idevid(&world.root, "SN-1");
    assert_eq!(admin.reason(&["device", "hardware", "add", "board-1", "--idevid", &mine]), "ALREADY_EXISTS");
    let register = ["device", "register", "board-9", "--fleet", "boards", "--idevid", &mine];
    assert_eq!(admin.reason(&register), "ALREADY_EXISTS");
    let records = admin.run(&["audit", "list", "--subject", "device/board-1"]).to_string();
    assert_eq!((records.matches("hardware.registered").count(), records.matches("hardware.retired").count()), (1, 1));
}

#[test]
fn a_board_that_is_let_in_again_enrolls_by_the_same_command_in_the_same_folder() {
    let Some(world) = World::new() else { return };
    world.fleet("boards", &world.root, &[]);
    let admin = world.server.admin();
    let board = enrolled(&world, "board-1", "SN-1");
    let folder = Device::new(world.server.scratch().join("board-1"));
    for round in 2..=3 {
        let before = folder.serial();
        admin.run(&["device", "revoke", "board-1", "--reason", "cessationOfOperation"]);
        admin.run(&["device", "allow-reenroll", "board-1"]);
        // The key of its certificate is never certified again: it asks with another.
        world.enroll("board-1", &board, Some("board-1")).succeeded();
        assert_ne!(folder.serial(), before);
        assert_eq!(world.shown("board-1")["generation"], round);
    }
    // The same question once more changes nothing, or is answered anew.
    world.enroll("board-1", &board, Some("board-1")).succeeded();
}

/// What the command does, up to the answer, which is lost.
fn lose_the_answer(world: &World, id: &str, board: &Made) {
    let chain = fs::read(world.maker.chain(id, &[board])).expect("a chain");
    let identity = FactoryIdentity::from_pem(&chain, &fs::read(&board.key).expect("a key")).expect("an IDevID");
    let root = fs::read(world.server.control_root()).expect("a root");
    let enrollment = Enrollment {
        server: world.server.url().parse().expect("a URL"),
        trust: Trust::Roots(Roots::from_pem(&root).expect("a root")),
        kind: Kind::Device,
        id: Some(id.parse().expect("an ID")),
        attester: Attester::Factory(identity),
    };
    let folder = LockedFolder::open(&world.folder(id)).expect("the folder");
    let lose = |step| assert!(step != Step::Answered, "lost");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let asked = || runtime.block_on(enroll(&folder, &enrollment, Observer::new(&lose)));
    catch_unwind(AssertUnwindSafe(asked)).expect_err("the answer is lost");
}

/// A board is let in again, and the answer to its other key is lost: it is given again; and where what was answered has come
/// to its end as well, there is one more key.
#[test]
fn an_answer_to_another_key_that_was_lost_is_given_again_or_asked_for_anew() {
    let Some(world) = World::new() else { return };
    world.fleet("boards", &world.root, &[]);
    let admin = world.server.admin();
    let let_in_again = |id| {
        admin.run(&["device", "revoke", id, "--reason", "cessationOfOperation"]);
        admin.run(&["device", "allow-reenroll", id]);
    };
    let first = enrolled(&world, "board-1", "SN-1");
    // This one has never heard an answer.
    let second = world.board("board-2", "SN-2", &world.root);
    let identity = idevid(&world.root, "SN-2");
    admin.run(&["device", "register", "board-2", "--fleet", "boards", "--idevid", &identity]);
    lose_the_answer(&world, "board-2", &second);
    for (id, board) in [("board-1", first), ("board-2", second)] {
        let device = Device::new(world.folder(id));
        let_in_again(id);
        lose_the_answer(&world, id, &board);
        let answered = newest(&world, id);
        world.enroll(id, &board, Some(id)).succeeded();
        assert_eq!(device.serial(), answered);

        let_in_again(id);
        lose_the_answer(&world, id, &board);
        let_in_again(id);
        world.enroll(id, &board, Some(id)).succeeded();
        assert_ne!(device.serial(), answered);
        assert_eq!(device.serial(), newest(&world, id));
    }
}

#[test]
fn the_same_command_once_more_gets_the_same_certificate_by_whichever_key() {
    let Some(world) = World::new() else { return };
    world.fleet("boards", &world.root, &[]);
    let admin = world.server.admin();
    let board = enrolled(&world, "board-1", "SN-1");
    let device = Device::new(world.folder("board-1"));
    for _ in 0..3 {
        let serial = device.serial();
        world.enroll("board-1", &board, Some("board-1")).succeeded();
        assert_eq!(device.serial(), serial);
        admin.run(&["device", "revoke", "board-1", "--reason", "cessationOfOperation"]);
        admin.run(&["device", "allow-reenroll", "board-1"]);
        world.enroll("board-1", &board, Some("board-1")).succeeded();
        assert_ne!(device.serial(), serial);
    }
}

/// The serial of a device's newest certificate that counts.
fn newest(world: &World, id: &str) -> String {
    let shown = world.shown(id);
    let serial = [&shown["pending_serial"], &shown["head_serial"]].into_iter().find_map(Value::as_str);
    serial.expect("a certificate").to_owned()
}

/// An old image is put back, and the command of the first day is given: its certificate was followed by another since, and a
/// renewal with it would be a second holder's.
#[test]
fn a_board_with_its_disk_of_the_first_day_is_given_a_new_certificate_and_no_former_one() {
    let Some(world) = World::new() else { return };
    world.fleet("boards", &world.root, &[]);
    let board = enrolled(&world, "board-1", "SN-1");
    let (folder, image) = (world.server.scratch().join("board-1"), world.server.scratch().join("image"));
    let copy = |from: &Path, to: &Path| run(Command::new("cp").arg("-a").args([from, to])).succeeded();
    copy(&folder, &image);
    let device = Device::new(folder.clone());
    let first = device.serial();
    device.renew();
    fs::remove_dir_all(&folder).expect("the disk is lost");
    copy(&image, &folder);

    world.enroll("board-1", &board, Some("board-1")).succeeded();
    assert_ne!(device.serial(), first);
    device.renew();
    let shown = world.shown("board-1");
    assert_eq!((&shown["status"], &shown["generation"]), (&"active".into(), &4.into()), "{shown}");
}

#[test]
fn hardware_of_another_banned_or_for_nobody_is_not_added() {
    let Some(world) = World::new() else { return };
    let banned = "ab".repeat(32);
    world.fleet("boards", &world.root, &["--banned-keys", &banned]);
    let admin = world.server.admin();
    let none = ["device", "hardware", "add", "board-1", "--ek-hash", &"cd".repeat(32)];
    enrolled(&world, "board-1", "SN-1");
    assert_eq!(admin.reason(&none), "STATE_REFUSED", "its fleet takes no TPMs");
    admin.run(&["fleet", "set", "boards", "--attest", "factory,tpm"]);
    let other = enrolled(&world, "board-2", "SN-2");
    let before = admin.run(&["audit", "list"]);
    let theirs = idevid(&world.root, "SN-2");
    let refusals: [(&str, &[&str], &str); 6] = [
        ("board-1", &["--idevid", &theirs], "ALREADY_EXISTS"),
        ("board-2", &["--idevid", &theirs], "ALREADY_EXISTS"),
        ("board-1", &["--ek-hash", &banned], "INVALID_ARGUMENT"),
        ("board-1", &["--ek-hash", "abc"], "INVALID_ARGUMENT"),
        ("board-1", &["--idevid", "SN-3"], "INVALID_ARGUMENT"),
        ("board-9", &["--ek-hash", &"cd".repeat(32)], "NOT_FOUND"),
    ];
    for (id, what, reason) in refusals {
        assert_eq!(admin.reason(&[&["device", "hardware", "add", id], what].concat()), reason, "{id} {what:?}");
    }
    let retire = |id, identity: &str| admin.reason(&["device", "hardware", "retire", id, identity]);
    assert_eq!(retire("board-1", &format!("idevid:{theirs}")), "NOT_FOUND", "another's is not retired");
    assert_eq!(retire("board-1", &theirs), "NOT_FOUND", "without its prefix, too");
    assert_eq!(retire("board-1", "SN-2"), "INVALID_ARGUMENT");
    assert_eq!(admin.run(&["audit", "list"]), before);
    world.enroll("other", &other, Some("board-2")).succeeded();

    admin.run(&["device", "decommission", "board-1"]);
    let late = ["device", "hardware", "add", "board-1", "--ek-hash", &"cd".repeat(32)];
    assert_eq!(admin.reason(&late), "STATE_REFUSED");
}

#[test]
fn hardware_that_is_added_raises_no_tier_and_opens_no_door_that_was_closed() {
    let Some(world) = World::new() else { return };
    world.fleet("boards", &world.root, &["--reenroll", "never"]);
    let admin = world.server.admin();
    admin.run(&["fleet", "set", "boards", "--attest", "token,factory"]);
    Device::enroll(&world.server, "boards", "board-1");
    let board = world.board("one", "SN-1", &world.root);
    let shown = add(&world, "board-1", "SN-1");
    assert_eq!((&shown["tier"], &shown["generation"]), (&"token".into(), &1.into()));
    refused(&world.enroll("one", &board, Some("board-1")), "ALREADY_ENROLLED");
    admin.run(&["device", "hold", "board-1"]);
    let held = world.enroll("held", &board, Some("board-1"));
    assert!(held.code != 0 && held.stderr.contains("DEVICE_HELD"), "{held:?}");
    admin.run(&["device", "release", "board-1"]);
    admin.run(&["fleet", "set", "boards", "--reenroll", "factory"]);
    world.enroll("one", &board, Some("board-1")).succeeded();
    let shown = world.shown("board-1");
    assert_eq!((&shown["tier"], &shown["generation"]), (&"factory".into(), &2.into()));

    admin.run(&["device", "revoke", "board-1"]);
    add(&world, "board-1", "SN-2");
    let next = world.board("next", "SN-2", &world.root);
    refused(&world.enroll("next", &next, Some("board-1")), "DEVICE_REVOKED");
    admin.run(&["device", "allow-reenroll", "board-1"]);
    world.enroll("next", &next, Some("board-1")).succeeded();
}

#[test]
fn what_waits_for_approval_becomes_the_hardware_of_the_device_that_it_is_added_to() {
    let Some(world) = World::new() else { return };
    world.fleet("boards", &world.root, &["--unknown-devices", "pending"]);
    let admin = world.server.admin();
    enrolled(&world, "board-1", "SN-1");
    let board = world.board("new", "SN-2", &world.root);
    assert_eq!(world.enroll("new", &board, Some("board-2")).code, 3);
    let waiting = admin.run(&["device", "list", "--status", "pending"]);
    let key = waiting[0]["key_sha256"].as_str().expect("a key").to_owned();
    let identity = format!("idevid:{}", idevid(&world.root, "SN-2"));
    let approve = ["device", "approve", "board-2", "--key", &key, "--identity", &identity, "--fleet", "boards"];
    admin.run(&approve);
    add(&world, "board-1", "SN-2");
    // An approval of before is worth nothing.
    assert_eq!(admin.run(&["device", "list", "--status", "pending"]).as_array().expect("a list").len(), 0);
    refused(&world.enroll("new", &board, Some("board-2")), "ID_REFUSED");
    assert_eq!(admin.reason(&approve), "NOT_FOUND");
    world.enroll("own", &board, Some("board-1")).succeeded();
    assert_eq!(world.devices(), 1);
}

#[test]
fn hardware_that_is_added_while_it_registers_itself_is_one_devices() {
    let Some(world) = World::new() else { return };
    let register = ["--unknown-devices", "register", "--accept-any-holder", "--id-template", "new-{issuer}-{serial}"];
    world.fleet("boards", &world.root, &register);
    let admin = world.server.admin();
    let boards: Vec<Made> = (0..6).map(|n| world.board(&format!("own-{n}"), &format!("SN-{n}"), &world.root)).collect();
    for (n, board) in boards.iter().enumerate() {
        let (id, serial) = (format!("board-{n}"), format!("SN-{n}"));
        let first = idevid(&world.root, &format!("FIRST-{n}"));
        admin.run(&["device", "register", &id, "--fleet", "boards", "--idevid", &first]);
        let added = thread::scope(|scope| {
            let enrollment = scope.spawn(|| world.enroll(&format!("own-{n}"), board, None).succeeded());
            let added = scope.spawn(|| {
                // Now one is first, now the other.
                (0..n).for_each(|_| drop(admin.run(&["fleet", "list"])));
                let identity = idevid(&world.root, &serial);
                admin.try_run(&["device", "hardware", "add", &id, "--idevid", &identity])
            });
            enrollment.join().expect("it enrolls, whoever it is");
            added.join().expect("an answer")
        });
        let devices = admin.run(&["device", "list"]).to_string();
        let new = format!("new-{}-{serial}", &world.root.spki_sha256()[..16]);
        match added.code {
            0 => {
                assert!(!devices.contains(&new), "{devices}");
                assert_eq!(world.shown(&id)["status"], "active", "it came as the device that it was given to");
            }
            _ => {
                assert!(added.stderr.contains("ALREADY_EXISTS"), "{added:?}");
                assert_eq!(list(&world.shown(&new), "hardware").len(), 1);
                assert_eq!(world.shown(&id)["status"], "registered");
            }
        }
    }
}
