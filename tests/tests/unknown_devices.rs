//! Devices that nobody registered: what a fleet that takes them by itself lets in, and what it does not.

use fleetca_tests::{
    device::Device,
    maker::{CA, IDEVID, Made, Wish, text},
    newcomers::{TEMPLATE, World, refused},
    pem::write_certificate,
    process::{Finished, run},
    server::Server,
    tpm::{self, Tpm},
    wait::{SOON, until_true},
};

const REGISTER: [&str; 5] = ["--unknown-devices", "register", "--accept-any-holder", "--id-template", TEMPLATE];

#[test]
fn a_device_of_a_pinned_maker_registers_itself_under_the_name_that_it_proves() {
    let Some(world) = World::new() else { return };
    world.fleet("boards", &world.root, &REGISTER);
    let board = world.board("one", "SN-1", &world.root);
    // It asks for another name than it proves.
    refused(&world.enroll("wish", &board, Some("pump-7")), "ID_REFUSED");
    assert_eq!(world.devices(), 0);
    world.enroll("one", &board, None).succeeded();
    let name = world.name("SN-1");
    let shown = world.shown(&name);
    assert_eq!(
        (&shown["status"], &shown["tier"], &shown["fleet"]),
        (&"active".into(), &"factory".into(), &"boards".into())
    );
    assert_eq!(shown["hardware"][0], format!("idevid:{}:SN-1", world.root.spki_sha256()));

    // From here on it is known: with a new disk it comes back through Confirm, and under no other name.
    world.enroll("again", &board, Some(&name)).succeeded();
    assert_eq!(world.shown(&name)["generation"], 2);
    refused(&world.enroll("moved", &board, Some(&world.name("SN-2"))), "ID_REFUSED");
    let records = world.server.admin().run(&["audit", "list", "--subject", &format!("device/{name}")]);
    assert!(records.to_string().contains("registered"), "{records}");

    // Revoked is revoked: it does not register itself anew.
    world.server.admin().run(&["device", "revoke", &name]);
    refused(&world.enroll("revoked", &board, None), "DEVICE_REVOKED");
    assert_eq!(world.devices(), 1);
}

#[test]
fn a_name_that_is_taken_or_none_at_all_registers_nobody() {
    let Some(world) = World::new() else { return };
    world.fleet("boards", &world.root, &REGISTER);
    let taken = world.name("sn-1").replace("board", "Board");
    let idevid = format!("{}:SN-0", world.root.spki_sha256());
    world.server.admin().run(&["device", "register", &taken, "--fleet", "boards", "--idevid", &idevid]);
    // The same serial number as a registered device's, and one that differs in case only.
    refused(&world.enroll("one", &world.board("one", "SN-1", &world.root), None), "ID_TAKEN");
    for (folder, serial) in [("slash", "a\\/b"), ("space", "a b"), ("quote", "a'b")] {
        refused(&world.enroll(folder, &world.board(folder, serial, &world.root), None), "ID_REFUSED");
    }
    assert_eq!(world.devices(), 1);
}

/// Nothing tells whoever is refused why: that a fleet takes unknown devices at all, or of another maker, or that his key
/// is banned.
#[test]
fn where_no_fleet_takes_it_an_unknown_device_is_answered_as_ever() {
    let Some(world) = World::new() else { return };
    let admin = world.server.admin();
    let board = world.board("one", "SN-1", &world.root);
    world.fleet("boards", &world.root, &[]);
    let answer = world.enroll("one", &board, None);
    refused(&answer, "ATTESTATION_FAILED");
    let same = |why: &str| {
        let now = world.enroll("one", &board, None);
        assert_eq!((now.code, &now.stderr), (answer.code, &answer.stderr), "{why}");
    };

    world.fleet("others", &world.other, &REGISTER);
    same("another maker's devices are taken");
    let set = |options: &[&str]| _ = admin.run(&[&["fleet", "set"], options].concat());
    set(&[&["boards"], &REGISTER[..], &["--banned-keys", &board.spki_sha256()]].concat());
    same("its key is banned");
    set(&["boards", "--banned-keys", &"0".repeat(64), "--factory-validity", "now"]);
    let ended = Wish { subject: "/CN=Ended/serialNumber=SN-1", until: "20210101000000Z", ..IDEVID };
    let ended = world.maker.make("ended", &ended, Some(&world.root));
    let refused = world.enroll("ended", &ended, None);
    assert_eq!((refused.code, &refused.stderr), (answer.code, &answer.stderr), "it has expired");

    assert_eq!(world.devices(), 0);
    world.enroll("one", &board, None).succeeded();
}

#[test]
fn a_device_that_two_fleets_would_take_is_taken_by_none() {
    let Some(world) = World::new() else { return };
    let factory = world.maker.make("factory", &Wish { subject: "/O=Maker/CN=Factory", ..CA }, Some(&world.root));
    world.fleet("boards", &world.root, &REGISTER);
    // The intermediate as a root: not the same one, and so it can be set.
    world.fleet("plant", &factory, &REGISTER);
    let board = world.board("one", "SN-1", &factory);
    let enroll = |folder: &str, chain: &[&Made]| run(&mut world.enrollment_by(folder, chain, None));
    refused(&enroll("one", &[&board, &factory]), "ATTESTATION_FAILED");
    until_true(SOON, "the event is told", || {
        world.server.admin().run(&["audit", "list", "--security"]).to_string().contains("attestation.ambiguous")
    });
    // It does not choose: not by what it leaves out, nor by what it puts in, a certificate that makes another time of it.
    refused(&enroll("short", &[&board]), "ATTESTATION_FAILED");
    let late = Wish { subject: "/CN=Late", from: "20260101000000Z", ..CA };
    let late = world.maker.make("late", &late, None);
    world.server.admin().run(&["fleet", "set", "plant", "--factory-validity", "now"]);
    refused(&enroll("long", &[&board, &late]), "ATTESTATION_FAILED");
    // Nor does one fleet's ban make it the other's.
    for fleet in ["plant", "boards"] {
        world.server.admin().run(&["fleet", "set", fleet, "--banned-keys", &factory.spki_sha256()]);
        refused(&enroll("banned", &[&board, &factory]), "ATTESTATION_FAILED");
        refused(&enroll("banned-short", &[&board]), "ATTESTATION_FAILED");
        world.server.admin().run(&["fleet", "set", fleet, "--banned-keys", &"0".repeat(64)]);
    }
    assert_eq!(world.devices(), 0);
    let idevid = format!("{}:SN-1", factory.spki_sha256());
    for (fleet, other) in [("plant", "boards"), ("boards", "plant")] {
        let name = format!("board-{}-SN-1", &idevid[..16]);
        let explain = ["fleet", "explain", fleet, &name, "--identity", &idevid];
        let explained = world.server.admin().run(&explain).to_string();
        assert!(explained.contains(&format!("no root of the fleet {other}")), "{explained}");
    }
    // Registered, it is one fleet's.
    world.server.admin().run(&["device", "register", "board-1", "--fleet", "plant", "--idevid", &idevid]);
    enroll("one", &[&board, &factory]).succeeded();
}

/// A maker's web server, his mail, what he signs code with: all of it may be below the root, and has serial numbers.
#[test]
fn a_certificate_that_says_that_it_is_something_else_is_no_unknown_device() {
    let Some(world) = World::new() else { return };
    world.fleet("boards", &world.root, &REGISTER);
    let made = |name: &str, purposes: &str| {
        let subject = format!("/CN=web/serialNumber={name}");
        let extensions = format!("{}extendedKeyUsage={purposes}\n", IDEVID.extensions);
        world.maker.make(name, &Wish { subject: &subject, extensions: &extensions, ..IDEVID }, Some(&world.root))
    };
    let others = ["serverAuth", "codeSigning", "emailProtection", "OCSPSigning", "timeStamping,1.3.6.1.4.1.99999.1"];
    for (n, purposes) in others.into_iter().enumerate() {
        let other = made(&format!("OTHER-{n}"), purposes);
        refused(&world.enroll(&format!("other-{n}"), &other, None), "ATTESTATION_FAILED");
    }
    // What a CA for web servers has signed is a web server's, though it does not say so itself.
    let below = |name: &str, purposes: &str| {
        let extensions = format!("{}extendedKeyUsage={purposes}\n", CA.extensions);
        let subject = format!("/O=Maker/CN={name}");
        let ca = world.maker.make(name, &Wish { subject: &subject, extensions: &extensions, ..CA }, Some(&world.root));
        let board = world.board(&format!("below-{name}"), &format!("BELOW-{name}"), &ca);
        (run(&mut world.enrollment_by(&format!("under-{name}"), &[&board, &ca], None)), ca)
    };
    let (web, ca) = below("web", "serverAuth");
    refused(&web, "ATTESTATION_FAILED");
    assert_eq!(world.devices(), 0);
    below("any", "serverAuth,clientAuth").0.succeeded();
    below("own", "1.3.6.1.4.1.99999.1").0.succeeded();
    let idevid = format!("{}:REGISTERED", ca.spki_sha256());
    world.server.admin().run(&["device", "register", "registered", "--fleet", "boards", "--idevid", &idevid]);
    let board = world.board("registered", "REGISTERED", &ca);
    run(&mut world.enrollment_by("registered", &[&board, &ca], None)).succeeded();
    for (n, purposes) in ["clientAuth", "serverAuth,clientAuth", "1.3.6.1.4.1.99999.1"].into_iter().enumerate() {
        world.enroll(&format!("device-{n}"), &made(&format!("SN-{n}"), purposes), None).succeeded();
    }
    // Of a device that was registered an operator has said what it is.
    let odd = made("ODD", "serverAuth");
    let idevid = format!("{}:ODD", world.root.spki_sha256());
    world.server.admin().run(&["device", "register", "odd", "--fleet", "boards", "--idevid", &idevid]);
    world.enroll("odd", &odd, None).succeeded();
}

#[test]
fn a_policy_that_takes_anybody_has_to_be_said_aloud() {
    let Some(world) = World::new() else { return };
    let admin = world.server.admin();
    let (root, other) = (text(&world.root.certificate), text(&world.other.certificate));
    let create = ["fleet", "create", "boards", "--attest", "factory,token", "--factory-roots", root];
    for (arguments, says) in [
        (&["--unknown-devices", "register", "--id-template", TEMPLATE][..], "--accept-any-holder"),
        (
            &["--unknown-devices", "register", "--accept-any-holder", "--id-template", "board-{serial}"],
            "must have {issuer}",
        ),
        (
            &["--unknown-devices", "register", "--accept-any-holder", "--id-template", "{issuer}-{serial}"],
            "begins with letters",
        ),
        (&["--unknown-devices", "register", "--accept-any-holder"], "--id-template"),
        (&["--unknown-devices", "register", "--accept-any-holder", "--id-template", "board"], "must have {serial}"),
        (
            &["--unknown-devices", "register", "--accept-any-holder", "--id-template", "a {serial}"],
            "an ID template has",
        ),
        (&["--accept-any-holder"], "--accept-any-holder is for"),
    ] {
        let refused = admin.refused(&[&create, arguments].concat());
        assert!(refused.contains(says), "{says}: {refused}");
    }
    world.fleet("boards", &world.root, &REGISTER);
    // Another maker's devices are others: it has to be said again.
    let refused = admin.refused(&["fleet", "set", "boards", "--factory-roots", other]);
    assert!(refused.contains("--accept-any-holder"), "{refused}");
    admin.run(&["fleet", "set", "boards", "--factory-roots", other, "--accept-any-holder"]);
    // What has nothing to do with it leaves it as it is.
    admin.run(&["fleet", "set", "boards", "--validity", "12h"]);
    let shown = admin.run(&["fleet", "show", "boards"]);
    assert_eq!(
        (&shown["unknown_devices"], &shown["accept_any_holder"], &shown["id_template"]),
        (&"register".into(), &true.into(), &TEMPLATE.into())
    );
    // One device, two fleets: no.
    let rival = ["fleet", "create", "rivals", "--attest", "factory", "--factory-roots", other];
    let refused = admin.refused(&[&rival, &REGISTER[..]].concat());
    assert!(refused.contains("the fleet boards takes unknown devices under the same root"), "{refused}");
    // Another certificate of the same root is the same root.
    let wish = Wish { subject: "/O=Other/CN=Root", until: "20500101000000Z", ..CA };
    let again = world.maker.certify("again", &wish, &world.other.key, None);
    let rival = ["fleet", "create", "rivals", "--attest", "factory", "--factory-roots", text(&again.certificate)];
    let refused = admin.refused(&[&rival, &REGISTER[..]].concat());
    assert!(refused.contains("the fleet boards takes unknown devices under the same root"), "{refused}");
    let records = admin.run(&["audit", "list", "--subject", "fleet/boards"]);
    assert!(records.to_string().contains("accept_any_holder"), "{records}");
}

#[test]
fn one_identity_that_comes_twice_at_once_is_one_device() {
    let Some(world) = World::new() else { return };
    world.fleet("boards", &world.root, &REGISTER);
    let board = world.board("one", "SN-1", &world.root);
    std::thread::scope(|scope| {
        let (world, board) = (&world, &board);
        let attempts: Vec<_> = (0..6)
            .map(|n| {
                let mut command = world.enrollment(&format!("attempt-{n}"), board, None);
                scope.spawn(move || run(&mut command))
            })
            .collect();
        let codes: Vec<_> = attempts.into_iter().map(|attempt| attempt.join().expect("it ends").code).collect();
        assert!(codes.contains(&0), "{codes:?}");
    });
    assert_eq!(world.devices(), 1);
    // A clone of another board's identity, made by whoever has its maker's key, is that board.
    refused(
        &world.enroll("clone", &world.board("clone", "SN-1", &world.root), Some(&world.name("SN-2"))),
        "ID_REFUSED",
    );
}

fn enroll_tpm(server: &Server, folder: &str, tpm: &Tpm, kind: &str) -> Finished {
    let mut command = Device::new(server.scratch().join(folder)).command("enroll");
    command.args(["--server", &server.url(), "--attest", &format!("tpm:{},{kind}", tpm.socket()), "--root"]);
    run(command.arg(server.control_root()))
}

#[test]
fn a_tpm_registers_itself_under_its_makers_root_and_without_it_not() {
    let (Some(tpm), Some(elsewhere), Some(bare)) = (Tpm::manufactured(), Tpm::manufactured(), Tpm::start()) else {
        return;
    };
    let server = Server::start();
    let maker = tpm.folder().join("maker/issuercert.pem").display().to_string();
    let register = ["--unknown-devices", "register", "--accept-any-holder", "--id-template", "tpm-{ek}"];
    let create = ["fleet", "create", "pumps", "--attest", "tpm"];
    let refusal = server.admin().refused(&[&create, &register[..]].concat());
    assert!(refusal.contains("nothing vouches"), "{refusal}");
    let create = [&create[..], &["--tpm-roots", &maker]].concat();
    let refusal = server.admin().refused(&[&create[..], &register].concat());
    assert!(refusal.contains("--ek-kind"), "{refusal}");
    server.admin().run(&[&create[..], &register, &["--ek-kind", "p-384"]].concat());

    refused(&enroll_tpm(&server, "bare", &bare, "p-256"), "ATTESTATION_FAILED");
    refused(&enroll_tpm(&server, "elsewhere", &elsewhere, "p-384"), "ATTESTATION_FAILED");
    // This key of the TPM has no certificate: nobody vouches for it.
    refused(&enroll_tpm(&server, "other-key", &tpm, "p-256"), "ATTESTATION_FAILED");
    enroll_tpm(&server, "own", &tpm, "p-384").succeeded();
    let devices = server.admin().run(&["device", "list"]);
    assert_eq!(devices.as_array().expect("a list").len(), 1);
    let id = devices[0]["id"].as_str().expect("an ID");
    let shown = server.admin().run(&["device", "show", id]);
    let hardware = shown["hardware"][0].as_str().expect("its hardware");
    assert_eq!(id.strip_prefix("tpm-"), hardware.strip_prefix("ek:").map(|hash| &hash[..16]));
    assert_eq!(shown["tier"], "hardware");
    // Under another of its keys, which its maker has certified too, it would be another device.
    refused(&enroll_tpm(&server, "second", &tpm, "rsa-2048"), "ATTESTATION_FAILED");
    server.admin().run(&["device", "revoke", id]);
    refused(&enroll_tpm(&server, "third", &tpm, "rsa-2048"), "ATTESTATION_FAILED");
    refused(&enroll_tpm(&server, "fourth", &tpm, "p-384"), "DEVICE_REVOKED");
    let anew = ["fleet", "set", "pumps", "--ek-kind", "rsa-2048"];
    assert!(server.admin().refused(&anew).contains("--accept-any-holder"), "it opens the fleet to every TPM once more");
    // Its EK is banned: another of the maker's keys is none of these.
    server.admin().run(&["fleet", "set", "pumps", "--banned-keys", &hardware[3..]]);
    refused(&enroll_tpm(&server, "banned", &tpm, "p-384"), "ATTESTATION_FAILED");
}

/// A maker of boards vouches for no TPM, nor a maker of TPMs for a board: whether the device is registered or not.
#[test]
fn a_root_that_is_pinned_for_the_one_method_vouches_for_nobody_by_the_other() {
    let Some(world) = World::new() else { return };
    let Some([strange, own]) = Tpm::start_many(2).map(|tpms| <[Tpm; 2]>::try_from(tpms).expect("two")) else { return };
    // Of each list, one root that certifies for its own method, and one that certifies for the other.
    let (of_boards, of_tpms) = (tpm::maker::Maker::new(), tpm::maker::Maker::new());
    strange.deliver(&of_boards);
    own.deliver(&of_tpms);
    let roots = |name: &str, boards: &Made, tpms: &tpm::maker::Maker| {
        let path = write_certificate(world.server.scratch(), name, tpms.root());
        let pem = [&boards.certificate, &path].map(|path| std::fs::read_to_string(path).expect("a certificate"));
        std::fs::write(&path, pem.concat()).expect("it is written");
        text(&path).to_owned()
    };
    let (factory, tpm) = (roots("factory", &world.root, &of_boards), roots("tpm", &world.other, &of_tpms));
    let create = ["fleet", "create", "plant", "--attest", "factory,tpm", "--factory-roots", &factory];
    let options = ["--tpm-roots", &tpm, "--unknown-devices", "pending", "--ek-kind", "p-256"];
    let admin = world.server.admin();
    admin.run(&[&create[..], &options].concat());
    let [strange_board, own_board] =
        [("strange", &world.other), ("own", &world.root)].map(|(name, root)| world.board(name, "SN-1", root));
    let enroll_tpm = |tpm: &Tpm, id: &str| {
        let mut command = Device::new(world.folder(id)).command("enroll");
        command.args(["--server", &world.server.url(), "--device-id", id, "--root"]).arg(world.server.control_root());
        run(command.args(["--attest", &format!("tpm:{},p-256", tpm.socket())]))
    };
    let attempts = || {
        refused(&enroll_tpm(&strange, "strange-tpm"), "ATTESTATION_FAILED");
        refused(&world.enroll("strange-board", &strange_board, Some("strange-board")), "ATTESTATION_FAILED");
        [enroll_tpm(&own, "own-tpm"), world.enroll("own-board", &own_board, Some("own-board"))]
    };
    for waits in attempts() {
        assert_eq!(waits.code, 3, "{waits:?}");
    }
    let waiting = admin.run(&["device", "list", "--status", "pending"]);
    assert_eq!(waiting.as_array().map(Vec::len), Some(2), "{waiting}");

    for (tpm, id) in [(&strange, "strange-tpm"), (&own, "own-tpm")] {
        let mut command = Device::new(world.folder(id)).program("show-tpm");
        let shown = run(command.args([&format!("{},p-256", tpm.socket()), "--output", "json"])).succeeded();
        let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
        let hash = shown["ek_sha256"].as_str().expect("a hash");
        admin.run(&["device", "register", id, "--fleet", "plant", "--ek-hash", hash]);
    }
    for (root, id) in [(&world.other, "strange-board"), (&world.root, "own-board")] {
        let idevid = format!("{}:SN-1", root.spki_sha256());
        admin.run(&["device", "register", id, "--fleet", "plant", "--idevid", &idevid]);
    }
    attempts().into_iter().for_each(|enrolled| _ = enrolled.succeeded());
    for id in ["strange-tpm", "strange-board"] {
        assert_eq!(world.shown(id)["status"], "registered");
    }
}
