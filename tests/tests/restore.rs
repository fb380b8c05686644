//! Backups, and what becomes of a CA whose past was restored: by `restore`, or by somebody who put an old disk back.

#[path = "restore/ceremonies.rs"]
mod ceremonies;
#[path = "restore/hardware.rs"]
mod hardware;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use fleetca_proto::v1::{AcknowledgeRequest, CrlHead};
use fleetca_tests::{
    binaries,
    crl::Crl,
    device::Device,
    holder::Holder,
    http,
    mount::ReadOnly,
    newcomers,
    process::{Finished, run},
    server::{Server, init_with, issuer_in},
    stranger::{Refusal, SubjectKey},
};

/// A server with a fleet.
fn server() -> Server {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    server
}

/// A `ca-server` command of this machine.
fn local(arguments: &[&str]) -> Finished {
    run(Command::new(binaries::ca_server()).args(arguments))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have names in UTF-8")
}

fn backup(server: &Server, name: &str, options: &[&str]) -> PathBuf {
    let out = server.scratch().join(name);
    local(&[&["backup", "--dir", text(&server.dir()), "--out", text(&out)], options].concat()).succeeded();
    out
}

/// `restore` with these options.
fn restore(dir: &Path, options: &[&str]) -> Finished {
    local(&[&["restore", "--dir", text(dir)], options].concat())
}

/// The admin again, where a restoration has withdrawn all operators' certificates.
fn recover(server: &Server) {
    let operator = server.dir().join("operator");
    let _ = fs::remove_dir_all(&operator);
    local(&["operator", "recover", "--dir", text(&server.dir()), "--out", text(&operator)]).succeeded();
}

/// Moves the CA's folder away, as a machine that is lost.
fn lose(server: &mut Server) -> PathBuf {
    server.kill();
    let lost = server.scratch().join("lost");
    fs::rename(server.dir(), &lost).expect("the folder can be moved");
    lost
}

fn sync(server: &Server, gateway: &Device) -> Finished {
    run(gateway.command("sync-crls").arg("--out").arg(crls(server)))
}

fn crls(server: &Server) -> PathBuf {
    server.scratch().join("crls.pem")
}

/// Whether the gateway's file lists a certificate.
fn is_listed(server: &Server, serial: &str) -> bool {
    let pem = fs::read_to_string(crls(server)).expect("a file of CRLs");
    Crl::all_from_pem(&pem).iter().any(|crl| crl.lists(serial))
}

fn try_renew(device: &Device) -> Finished {
    run(device.command("renew").arg("--force"))
}

/// All file names below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn after_a_restoration_no_revoked_device_is_back_and_no_honest_one_is_stranded() {
    let mut server = server();
    let admin = server.admin();
    let [stays, renews, renews_twice, cut_off, cut_off_renewed] =
        ["stays", "renews", "renews-twice", "cut-off", "cut-off-renewed"]
            .map(|id| Device::enroll(&server, "sensors", id));
    let gateway = Device::enroll_gateway(&server, "eu-7");
    let ana = Device::enroll_operator(&server, "ana", "admin");
    let (late_token, unspent) = (
        admin.device_token("sensors", "late", server.scratch()),
        admin.device_token("sensors", "nobody", server.scratch()),
    );
    sync(&server, &gateway).succeeded();
    let copy = backup(&server, "backup", &[]);

    // The time that will be lost.
    for device in [&renews, &renews_twice, &cut_off_renewed, &renews_twice, &gateway] {
        device.renew();
    }
    let late = Device::new(server.scratch().join("late"));
    late.try_enroll(&server, "late", &late_token).succeeded();
    let [new, cut_off_new] = ["new", "cut-off-new"].map(|id| Device::enroll(&server, "sensors", id));
    let revoked = [&cut_off, &cut_off_renewed, &cut_off_new];
    for (id, reason) in
        [("cut-off", "keyCompromise"), ("cut-off-renewed", "unspecified"), ("cut-off-new", "cessationOfOperation")]
    {
        admin.run(&["device", "revoke", id, "--reason", reason]);
    }
    admin.run(&["operator", "revoke", "ana", "--reason", "keyCompromise"]);
    sync(&server, &gateway).succeeded();

    let lost = lose(&mut server);
    let (newest, keys) = (crls(&server), lost.join("keys"));
    let options = ["--from", text(&copy), "--keys", text(&keys), "--crl", text(&newest), "--resume"];
    let told = restore(&server.dir(), &options).succeeded();
    assert!(told.contains("device/cut-off, device/cut-off-renewed"), "{told}");
    server.start_again();
    recover(&server);

    for device in revoked {
        let refused = try_renew(device);
        assert!([1, 4].contains(&refused.code), "{refused:?}");
        assert!(is_listed(&server, &device.serial()), "the gateway goes on refusing it");
    }
    for device in [&stays, &renews, &renews_twice, &new, &late, &gateway] {
        let before = device.serial();
        device.renew();
        assert_ne!(device.serial(), before);
        device.renew();
    }
    // The next CRL holds them all as well.
    let admin = server.admin();
    admin.run(&["crl", "publish"]);
    sync(&server, &gateway).succeeded();
    for device in revoked {
        assert!(is_listed(&server, &device.serial()));
    }
    for device in [&stays, &renews, &renews_twice, &new, &late] {
        assert!(!is_listed(&server, &device.serial()));
    }
    for (id, status) in [("cut-off", "revoked"), ("cut-off-renewed", "revoked"), ("new", "active"), ("late", "active")]
    {
        assert_eq!(admin.run(&["device", "show", id])["status"], status, "{id}");
    }

    // Tokens of before are worth nothing, whether they were spent in the lost time or not.
    for (id, token) in [("late", &late_token), ("nobody", &unspent)] {
        let thief = Device::new(server.scratch().join(format!("thief-{id}")));
        let refused = thief.try_enroll(&server, id, token);
        assert!(refused.code == 1 && refused.stderr.contains("TOKEN_REVOKED"), "{refused:?}");
    }
    let ana = fleetca_tests::operator::Operator::new(server.operator_url(), ana.folder().to_path_buf());
    assert_eq!(ana.reason(&["fleet", "list"]), "NOT_ENROLLED");
    let operators = admin.run(&["operator", "list"]);
    let operators = operators.as_array().expect("a list").iter();
    let status: Vec<_> = operators.map(|one| (one["id"].as_str(), one["status"].as_str())).collect();
    assert_eq!(status, [(Some("admin"), Some("active")), (Some("ana"), Some("registered"))]);
    let report = admin.run(&["audit", "verify"]);
    assert!(report["records"].as_u64() > Some(20), "{report}");
}

/// It was open when the backup was made, and closed in the lost time: perhaps since something was revoked that the
/// restored CA has never heard of.
#[test]
fn a_fleet_that_was_open_when_the_backup_was_made_is_closed_until_an_operator_opens_it() {
    let Some(mut world) = newcomers::World::new() else { return };
    let register = ["--unknown-devices", "register", "--accept-any-holder", "--id-template", "board-{issuer}-{serial}"];
    world.fleet("boards", &world.root, &register);
    world.fleet("plant", &world.other, &["--unknown-devices", "pending"]);
    let copy = backup(&world.server, "backup", &[]);
    let board = world.board("one", "SN-1", &world.root);
    world.enroll("one", &board, None).succeeded();
    let devices = world.server.admin().run(&["device", "list"]);
    world.server.admin().run(&["device", "revoke", devices[0]["id"].as_str().expect("an ID")]);
    world.server.admin().run(&["fleet", "set", "boards", "--unknown-devices", "refuse"]);

    let keys = lose(&mut world.server).join("keys");
    let options = ["--from", text(&copy), "--keys", text(&keys), "--resume", "--accept-loss", &issuer_in(&copy)];
    let told = restore(&world.server.dir(), &options).succeeded();
    assert!(told.contains("NO LONGER OPEN to devices that nobody registered: boards, plant"), "{told}");
    world.server.start_again();
    recover(&world.server);
    newcomers::refused(&world.enroll("again", &board, None), "ATTESTATION_FAILED");
    let stranger = world.board("two", "SN-2", &world.other);
    newcomers::refused(&world.enroll("two", &stranger, Some("two")), "ATTESTATION_FAILED");
    let admin = world.server.admin();
    assert_eq!(admin.run(&["device", "list"]), serde_json::json!([]));
    let record = admin.run(&["audit", "list", "--action", "ca.restored"]).to_string();
    assert!(record.contains("boards") && record.contains("plant"), "{record}");
    let changes = admin.run(&["audit", "list", "--subject", "fleet/boards", "--action", "fleet.changed"]);
    assert!(changes.to_string().contains("ca.restored"), "{changes}");
    // To open it again is a decision, said aloud like the first one.
    let refused = admin.refused(&["fleet", "set", "boards", "--unknown-devices", "register"]);
    assert!(refused.contains("--accept-any-holder"), "{refused}");
    admin.run(&["fleet", "set", "boards", "--unknown-devices", "register", "--accept-any-holder"]);
    world.enroll("again", &board, None).succeeded();
}

#[test]
fn an_old_copy_that_is_served_is_noticed_by_a_gateway_and_stands_still() {
    let mut server = server();
    let [honest, cut_off] = ["honest", "cut-off"].map(|id| Device::enroll(&server, "sensors", id));
    let gateway = Device::enroll_gateway(&server, "eu-7");
    sync(&server, &gateway).succeeded();
    server.stop();
    let copy = server.scratch().join("copy");
    run(Command::new("cp").arg("-a").arg(server.dir()).arg(&copy)).succeeded();
    server.start_again();
    gateway.renew();
    honest.renew();
    server.admin().run(&["device", "revoke", "cut-off", "--reason", "keyCompromise"]);
    sync(&server, &gateway).succeeded();
    let held = fs::read(crls(&server)).expect("a file of CRLs");

    // Somebody puts the old disk back. Nobody has noticed yet: a certificate of the lost time is asked to wait.
    lose(&mut server);
    fs::rename(&copy, server.dir()).expect("the copy can be moved");
    server.start_again();
    let waits = try_renew(&honest);
    assert!(waits.code == 3 && waits.stderr.contains("CERTIFICATE_FORGOTTEN"), "{waits:?}");

    // The gateway shows what it holds, with a certificate that the old disk does not know.
    let refused = sync(&server, &gateway);
    assert!(refused.code == 3 && refused.stderr.contains("RESTORED"), "{refused:?}");
    let told = server.admin().try_run(&["audit", "list"]);
    assert!(told.stderr.contains("RESTORED") && told.stderr.contains("operator recover"), "{told:?}");
    assert_eq!(fs::read(crls(&server)).expect("a file of CRLs"), held, "the gateway keeps what it has");
    let renewal = try_renew(&honest);
    assert!(renewal.code == 3 && renewal.stderr.contains("RESTORED"), "{renewal:?}");
    assert_eq!(http::get(&server.http_url("/crl/bundle.pem")).status, 503);
    let ready = http::get(&server.metrics_url("/readyz"));
    assert!(ready.status == 503 && String::from_utf8_lossy(&ready.body).contains("RESTORED"), "{ready:?}");
    let metrics = String::from_utf8(http::get(&server.metrics_url("/metrics")).ok()).expect("text");
    assert!(metrics.contains("fleetca_restored 1"), "{metrics}");

    // It stays so across restarts, until an operator has decided.
    server.kill();
    let running = restore(&server.dir(), &["--resume"]);
    assert!(running.code == 1 && running.stderr.contains("--crl"), "{running:?}");
    server.start_again();
    assert_eq!(http::get(&server.http_url("/crl/bundle.pem")).status, 503);
    let locked = restore(&server.dir(), &["--resume", "--accept-loss", "0123456789abcdef"]);
    assert!(locked.code == 1 && locked.stderr.contains("another server is running"), "{locked:?}");
    server.stop();
    // What is none of ours is named, though another one is.
    let stranger = server.scratch().join("stranger.pem");
    for (written, says) in [
        (fs::read(server.control_root()).expect("a file"), "something else in it than PEM blocks"),
        (b"0\x03\x02\x01\x07".to_vec(), "not a CRL of this CA"),
    ] {
        fs::write(&stranger, written).expect("a file");
        let refused = restore(&server.dir(), &["--crl", text(&crls(&server)), "--crl", text(&stranger), "--resume"]);
        assert!(refused.code == 1 && refused.stderr.contains(text(&stranger)), "{refused:?}");
        assert!(refused.stderr.contains(says), "{refused:?}");
    }
    restore(&server.dir(), &["--crl", text(&crls(&server)), "--resume"]).succeeded();
    server.start_again();
    recover(&server);

    let refused = try_renew(&cut_off);
    assert!(refused.code == 1 && refused.stderr.contains("DEVICE_REVOKED"), "{refused:?}");
    honest.renew();
    // Without a renewal: what it shows takes it in.
    sync(&server, &gateway).succeeded();
    assert!(is_listed(&server, &cut_off.serial()) && !is_listed(&server, &honest.serial()));
    assert_ne!(fs::read(crls(&server)).expect("a file of CRLs"), held);
    // What comes to light after the decision can be taken back as well.
    server.stop();
    let told = restore(&server.dir(), &["--crl", text(&crls(&server))]).succeeded();
    assert!(told.contains("nothing in it is new") && told.contains("it goes on"), "{told}");
}

#[tokio::test]
async fn a_second_certificate_of_the_lost_time_is_a_second_holder() {
    let mut server = server();
    let device = Device::enroll(&server, "sensors", "pump-7");
    let copy = backup(&server, "backup", &[]);
    device.renew();
    let thief = Holder::copy(&device);
    device.renew();
    let lost = lose(&mut server);
    let keys = lost.join("keys");
    let options = ["--from", text(&copy), "--keys", text(&keys), "--resume", "--accept-loss", &issuer_in(&copy)];
    restore(&server.dir(), &options).succeeded();
    server.start_again();
    recover(&server);

    device.renew();
    let refused = thief.renew(&server, &SubjectKey::generate()).await.expect_err("a second one");
    assert_eq!(Refusal::of(&refused).reason, "LINEAGE_FORK");
    assert_eq!(server.admin().run(&["device", "show", "pump-7"])["status"], "held");
}

#[tokio::test]
async fn who_lies_about_the_crl_that_he_holds_stops_nobody() {
    let server = server();
    let device = Device::enroll(&server, "sensors", "pump-7");
    let gateway = Device::enroll_gateway(&server, "eu-7");
    sync(&server, &gateway).succeeded();
    let state = fs::read(crls(&server).with_file_name("crls.pem.state.json")).expect("a state file");
    let state: serde_json::Value = serde_json::from_slice(&state).expect("JSON");
    let kept = state["crls"].as_object().expect("CRLs").iter();
    let (issuer, crl) = kept
        .clone()
        .find(|(_, crl)| crl["head_signature"] != "" && crl["is_root"] != true)
        .expect("a CRL that came with a signature");
    let octets = |text: &serde_json::Value| {
        let text = text.as_str().expect("text");
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect::<Vec<_>>()
    };
    let genuine = CrlHead {
        issuer: issuer.clone(),
        number: u64::from_str_radix(crl["number"].as_str().expect("text"), 16).expect("hex"),
        this_update: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
        sha256: octets(&crl["sha256"]),
        signature: octets(&crl["head_signature"]),
    };
    let lies = [
        // thisUpdate is another than was signed; so is the number; nothing was signed at all.
        genuine.clone(),
        CrlHead { number: genuine.number + 1000, ..genuine.clone() },
        CrlHead { signature: vec![7; 70], ..genuine },
    ];
    let liar = Holder::copy(&gateway);
    for lie in lies {
        let answer = liar
            .revocation(&server)
            .acknowledge(AcknowledgeRequest { held: vec![lie], not_loaded: false, continues: false })
            .await;
        answer.expect("nothing is learnt");
    }
    device.renew();
    sync(&server, &gateway).succeeded();
    assert_eq!(http::get(&server.metrics_url("/readyz")).status, 200);
}

#[test]
fn keys_are_in_a_backup_only_when_they_are_encrypted() {
    let server = server();
    let private = |copy: &Path| {
        let texts = files(copy).into_iter().map(|path| fs::read(path).expect("a file"));
        let all: Vec<u8> = texts.flatten().collect();
        let all = String::from_utf8_lossy(&all).into_owned();
        (all.matches("BEGIN PRIVATE KEY").count(), all.matches("BEGIN ENCRYPTED PRIVATE KEY").count())
    };
    assert_eq!(private(&backup(&server, "without", &[])), (0, 0));
    let phrase = server.scratch().join("phrase");
    fs::write(&phrase, "correct horse\n").expect("a file");
    fs::set_permissions(&phrase, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
    assert_eq!(private(&backup(&server, "with", &["--passphrase-file", text(&phrase)])), (0, 2));

    let dir = server.scratch().join("restored");
    let refused = restore(&dir, &["--from", text(&server.scratch().join("without"))]);
    assert!(refused.code == 1 && refused.stderr.contains("--keys"), "{refused:?}");
    assert!(!dir.exists(), "all or nothing");
    restore(&dir, &["--from", text(&server.scratch().join("with"))]).succeeded();
    let serve = local(&["operator", "recover", "--dir", text(&dir), "--out", text(&server.scratch().join("op"))]);
    assert!(serve.code == 1 && serve.stderr.contains("passphrase"), "{serve:?}");
}

#[test]
fn a_backup_that_was_changed_or_would_replace_something_is_refused() {
    let server = server();
    let copy = backup(&server, "backup", &[]);
    let again = local(&["backup", "--dir", text(&server.dir()), "--out", text(&copy)]);
    assert!(again.code == 1 && again.stderr.contains("exists already"), "{again:?}");
    let dir = server.scratch().join("restored");
    let keys = server.dir().join("keys");
    let options = ["--from", text(&copy), "--keys", text(&keys)];
    let refused = restore(&server.dir(), &options);
    assert!(refused.code == 1 && refused.stderr.contains("something already"), "{refused:?}");
    for name in ["ca.db", "config.toml"] {
        let path = copy.join(name);
        let was = fs::read(&path).expect("a file");
        let mut now = was.clone();
        let middle = now.len() / 2;
        now[middle] ^= 1;
        fs::write(&path, &now).expect("a file");
        let refused = restore(&dir, &options);
        assert!(refused.code == 1 && refused.stderr.contains("not what it was"), "{refused:?}");
        assert!(!dir.exists());
        fs::write(&path, &was).expect("a file");
    }
    restore(&dir, &options).succeeded();
    assert!(!server.scratch().join("restored.init").exists() && !server.scratch().join("backup.part").exists());
}

#[test]
fn what_was_never_restored_is_not_decided_upon() {
    let mut server = server();
    server.stop();
    let refused = restore(&server.dir(), &["--resume", "--accept-loss", "0123456789abcdef"]);
    assert!(refused.code == 1 && refused.stderr.contains("nothing is known of a restored past"), "{refused:?}");
}

#[test]
fn the_passphrase_of_a_backup_opens_every_key_in_it() {
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let (dir, path) = (folder.path().join("ca"), |name: &str| folder.path().join(name));
    for name in ["machine", "safe"] {
        fs::write(path(name), format!("the {name}'s passphrase\n")).expect("a file");
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o600)).expect("its mode can be set");
    }
    let (machine, safe) = (path("machine"), path("safe"));
    init_with(&dir, &["--key-passphrase-file", text(&machine)]);
    let backup = |name: &str, options: &[&str]| {
        local(&[&["backup", "--dir", text(&dir), "--out", text(&path(name))], options].concat())
    };

    // A passphrase that would not open the keys is not taken for one that does.
    let refused = backup("refused", &["--passphrase-file", text(&safe)]);
    assert!(refused.code == 1 && refused.stderr.contains("--key-passphrase-file"), "{refused:?}");
    assert!(refused.stderr.contains("/keys/") && !path("refused").exists(), "{refused:?}");
    let options = ["--passphrase-file", text(&safe), "--key-passphrase-file", text(&safe)];
    let refused = backup("refused", &options);
    assert!(refused.code == 1 && refused.stderr.contains("does not decrypt"), "{refused:?}");

    let options = ["--passphrase-file", text(&safe), "--key-passphrase-file", text(&machine)];
    let told = backup("anew", &options).succeeded();
    assert!(told.contains(&format!("passphrase in {}", text(&safe))), "{told}");
    let told = backup("as-it-is", &[]).succeeded();
    assert!(told.contains("the passphrase that they have in"), "{told}");
    for (name, opens, other) in [("anew", &safe, &machine), ("as-it-is", &machine, &safe)] {
        let restored = path(&format!("restored-{name}"));
        let lost = issuer_in(&path(name));
        restore(&restored, &["--from", text(&path(name)), "--resume", "--accept-loss", &lost]).succeeded();
        let recover = |passphrase: &Path| {
            let out = path(&format!("operator-{name}"));
            let options = ["--dir", text(&restored), "--out", text(&out), "--key-passphrase-file", text(passphrase)];
            local(&[&["operator", "recover"], &options[..]].concat())
        };
        let refused = recover(other);
        assert!(refused.code == 1 && refused.stderr.contains("does not decrypt"), "{refused:?}");
        recover(opens).succeeded();
    }
}

#[test]
fn of_a_folder_with_keys_only_those_of_issuing_cas_are_restored() {
    let server = server();
    let (copy, keys) = (backup(&server, "backup", &[]), server.dir().join("keys"));
    let others = server.scratch().join("others");
    fs::create_dir(&others).expect("a folder");
    for key in files(&keys) {
        fs::copy(&key, others.join(key.file_name().expect("a name"))).expect("a key");
    }
    for root in files(&server.dir().join("offline")) {
        fs::copy(&root, others.join(root.file_name().expect("a name"))).expect("a root's key");
    }
    assert!(others.join("device-root.key.pem").exists());
    fs::write(others.join("stray.pem"), "whatever").expect("a file");
    let dir = server.scratch().join("restored");
    restore(&dir, &["--from", text(&copy), "--keys", text(&others)]).succeeded();
    let names = |folder: &Path| {
        let paths = files(folder).into_iter();
        paths.map(|path| path.file_name().expect("a name").to_owned()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names(&dir.join("keys")), names(&keys));
}

#[test]
fn a_backup_of_what_cannot_be_written_says_what_to_do() {
    let mut server = server();
    server.stop();
    let dir = server.dir();
    let out = tempfile::TempDir::new().expect("a temporary folder");
    let backup = |from: &Path| local(&["backup", "--dir", text(from), "--out", text(&out.path().join("backup"))]);
    let copy = out.path().join("copy");
    {
        let Some(_read_only) = ReadOnly::new(&dir) else { return };
        let refused = backup(&dir);
        assert!(refused.code == 1 && refused.stderr.contains("can't be written"), "{refused:?}");
        assert!(refused.stderr.contains("copy the folder"), "{refused:?}");
        run(Command::new("cp").arg("-a").arg(&dir).arg(&copy)).succeeded();
    }
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o700)).expect("a folder of ours");
    backup(&copy).succeeded();
}

#[test]
fn a_database_that_a_server_uses_is_not_even_opened() {
    let server = server();
    let database = server.dir().join("ca.db");
    fs::rename(&database, server.dir().join("elsewhere.db")).expect("it can be moved");
    let refused = restore(&server.dir(), &["--resume", "--accept-loss", "0123456789abcdef"]);
    assert!(refused.code == 1 && refused.stderr.contains("another server is running"), "{refused:?}");
}
