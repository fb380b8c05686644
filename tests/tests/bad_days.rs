//! Bad days: a full disk, a folder that can't be written, a damaged database, keys that are gone, a clock that is wrong.
//! Each is told by name with what to do, on one line and with exit code 1, and nothing that was acknowledged is lost.
//!
//! A port in use and wrong settings are in `init.rs`, kills in `crash.rs`, `server_crash.rs` and `command_crash.rs`.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use ca_server::{
    clock::{Clock, ManualClock, SystemClock},
    inventory::fleet::Policy,
    server,
};
use fleetca_proto::v1::{HoldDeviceRequest, RevocationReason, RevokeDeviceRequest};
use fleetca_tests::{
    admin::Admin,
    binaries, http, inside,
    ledger::Ledger,
    mount::{Disk, ReadOnly},
    process::{Finished, run},
    server::{Server, init, issuer_in},
    stranger::{self, Refusal, SubjectKey},
    wait::{SOON, until, until_true},
};
use ring::digest::{SHA256, digest};
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

/// `serve`, which must be refused before it serves; gives the error, which must be one line.
fn refused(dir: &Path, options: &[&str]) -> String {
    let ports = ["--listen", "--operator-listen", "--http-listen", "--metrics-listen"];
    let mut command = Command::new(binaries::ca_server());
    command.arg("serve").arg("--dir").arg(dir).args(ports.into_iter().flat_map(|option| [option, "127.0.0.1:0"]));
    let Finished { code, stdout, stderr } = run(command.args(options).env("FLEETCA_LOG", "off"));
    assert_eq!((code, &*stdout), (1, ""), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr.trim_end().strip_prefix("error: ").expect("an error").to_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary folders have names in UTF-8")
}

/// A CA that nobody serves.
struct Ca(TempDir);

impl Ca {
    fn new() -> Ca {
        let ca = Ca(TempDir::new().expect("a temporary folder"));
        init(&ca.dir());
        ca
    }

    fn dir(&self) -> PathBuf {
        self.0.path().join("ca")
    }

    fn database(&self) -> PathBuf {
        self.dir().join("ca.db")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_issuing_and_no_revocation_and_is_forgotten_when_there_is_room() {
    let Some(disk) = Disk::new(64) else { return };
    let server = Server::start_in(disk.path());
    server.admin().create_fleet("sensors");
    let (admin, mut ledger) = (Admin::of(&server), Ledger::default());
    let strangers = stranger::connect(&server).await;
    let mut devices = Vec::new();
    for number in 0..6 {
        let holder = admin.enroll(&strangers, "sensors", &format!("d{number}")).await;
        ledger.issued(&holder);
        devices.push((format!("d{number}"), holder));
    }

    // Somebody eats every page that becomes free, until nothing is recorded any more.
    let mut device = devices.pop().expect("a device").1;
    let status = loop {
        disk.fill();
        let key = SubjectKey::generate();
        match device.renew(&server, &key).await {
            Ok(issued) => {
                device = fleetca_tests::holder::Holder::of(&issued, &key);
                ledger.issued(&device);
            }
            Err(status) => break status,
        }
        disk.fill();
        if let Err(status) = device.confirm(&server).await {
            break status;
        }
    };
    let refusal = Refusal::of(&status);
    assert_eq!((&*refusal.reason, &*refusal.action), ("STORE_UNAVAILABLE", "retry"), "{status:?}");
    assert!(status.message().contains("disk is full"), "{status:?}");
    let told = until(SOON, "readiness says why", || {
        disk.fill();
        let answer = http::get(&server.metrics_url("/readyz"));
        (answer.status == 503).then(|| String::from_utf8_lossy(&answer.body).into_owned())
    });
    assert!(told.contains("store: the disk is full"), "{told}");
    http::get(&server.metrics_url("/healthz")).ok();

    // Revocations go through all the same, and are published.
    for (number, (id, holder)) in devices.iter().enumerate() {
        disk.fill();
        let mut client = admin.client();
        let receipt = match number {
            0 => client.hold_device(HoldDeviceRequest { id: id.clone() }).await,
            _ => {
                let reason = RevocationReason::KeyCompromise.into();
                client.revoke_device(RevokeDeviceRequest { id: id.clone(), reason }).await
            }
        };
        let receipt = receipt.unwrap_or_else(|status| panic!("{id} is cut off: {status:?}")).into_inner();
        assert_eq!(receipt.crls.len(), 1, "{receipt:?}");
        ledger.revoked(holder.serial(), &receipt);
    }

    disk.clear();
    until_true(SOON, "it is ready again", || http::get(&server.metrics_url("/readyz")).status == 200);
    let reserve = || fs::metadata(server.dir().join("reserve")).is_ok_and(|found| found.len() == 32 << 20);
    until_true(SOON, "the reserve is set aside again", || {
        let ready = http::get(&server.metrics_url("/readyz")).status == 200;
        ready && reserve()
    });
    ledger.check(&server).await;
    device.confirm(&server).await.expect("it is in force");
    ledger.issued(&device.renew_and_confirm(&server).await);
    ledger.issued(&admin.enroll(&strangers, "sensors", "another").await);
    ledger.check(&server).await;
}

#[test]
fn a_server_that_was_stopped_starts_on_a_full_disk_and_revokes() {
    let Some(disk) = Disk::new(64) else { return };
    let mut server = Server::start_in(disk.path());
    disk.fill();
    // Its log is gone, and others take the room.
    server.stop();
    disk.fill();
    server.start_again();
    server.admin().run(&["operator", "revoke", "admin", "--reason", "keyCompromise", "--yes"]);
}

#[test]
fn where_a_crl_cannot_be_recorded_the_last_one_goes_on_being_served_and_readiness_says_why() {
    let Some(disk) = Disk::new(64) else { return };
    let server = Server::start_in(disk.path());
    let admin = server.admin();
    admin.create_fleet("sensors");
    let recorded = || -> BTreeMap<String, Vec<u8>> {
        let database = Connection::open(server.dir().join("ca.db")).expect("the test may read it");
        let sql = "SELECT issuers.id, sha256 FROM crl_heads JOIN issuers ON issuers.key = crl_heads.issuer \
                   WHERE role IN ('control', 'device')";
        let mut heads = database.prepare(sql).expect("a query");
        let rows = heads.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
        rows.collect::<Result<_, _>>().expect("what is on disk")
    };
    let served = || -> BTreeMap<String, Vec<u8>> {
        let hash = |id: String| {
            let der = http::get(&server.http_url(&format!("/crl/{id}/full.crl"))).ok();
            (id, digest(&SHA256, &der).as_ref().to_vec())
        };
        recorded().into_keys().map(hash).collect()
    };
    // What is kept for revocations and CRLs is gone, too.
    fs::remove_file(server.dir().join("reserve")).expect("it is there");
    let (before, refused) = loop {
        disk.fill();
        let before = served();
        let finished = admin.try_run(&["crl", "publish"]);
        if finished.code != 0 {
            break (before, finished);
        }
    };
    assert!(refused.stderr.contains("disk is full"), "{refused:?}");
    let after = served();
    assert_eq!((after.len(), &after), (2, &recorded()), "what is not on disk is served to nobody");
    assert!(after.iter().any(|(id, hash)| before[id] == *hash), "one could not be published, and is served as it was");
    let answer = http::get(&server.metrics_url("/readyz"));
    let told = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(answer.status == 503 && told.lines().any(|line| line.starts_with("publishing CRLs: ")), "{told}");

    disk.clear();
    until_true(SOON, "it is published again", || admin.try_run(&["crl", "publish"]).code == 0);
    assert!(served().iter().all(|(id, hash)| after[id] != *hash));
    until_true(SOON, "it is ready", || http::get(&server.metrics_url("/readyz")).status == 200);
}

#[test]
fn a_backup_to_a_full_disk_names_the_disk() {
    let Some(disk) = Disk::new(4) else { return };
    let server = Server::start();
    // Room for its folders, and for the beginning of a database.
    let room = disk.path().join("room");
    fs::write(&room, vec![0; 64 << 10]).expect("a file");
    disk.fill();
    fs::remove_file(&room).expect("it was there");
    let out = disk.path().join("backup");
    let error = local(&["backup", "--dir", path(&server.dir()), "--out", path(&out)]);
    assert_eq!(error.code, 1, "{error:?}");
    assert!(error.stderr.contains("ca.db: the disk is full: make room there, or choose another --out"), "{error:?}");
    assert!(!out.exists());
}

#[test]
fn a_server_starts_on_a_full_disk_and_revokes() {
    let Some(disk) = Disk::new(64) else { return };
    let mut server = Server::start_in(disk.path());
    server.admin().create_fleet("sensors");
    server.admin().run(&["device", "list"]);
    disk.fill();
    server.kill();
    disk.fill();
    server.start_again();
    let answer = http::get(&server.http_url("/crl/bundle.pem"));
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    server.admin().run(&["operator", "revoke", "admin", "--reason", "keyCompromise", "--yes"]);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let ca = Ca::new();
    let Some(read_only) = ReadOnly::new(&ca.dir()) else { return };
    let error = refused(&ca.dir(), &[]);
    assert!(error.starts_with(&format!("cannot write {}/serve.lock: ", path(&ca.dir()))), "{error}");
    assert!(error.ends_with("give it to the user that runs this, or mount it writable"), "{error}");
    drop(read_only);
}

#[test]
fn a_recovery_whose_folder_cannot_be_written_ends_nobodys_credential() {
    let server = Server::start();
    let (dir, out) = (server.dir(), server.scratch().join("out"));
    fs::create_dir(&out).expect("a folder");
    let Some(read_only) = ReadOnly::new(&out) else { return };
    let recover = ["operator", "recover", "--dir", path(&dir), "--name", "admin", "--out", path(&out)];
    let error = local(&recover);
    assert!(error.code == 1 && error.stderr.contains(path(&out)), "{error:?}");
    server.admin().create_fleet("sensors");
    drop(read_only);
    let _ = fs::set_permissions(&out, fs::Permissions::from_mode(0o700));
    local(&recover).succeeded();
}

/// Damages the database in one way, and gives what `serve` must say after its path.
type Damage = (&'static str, fn(&Path), &'static str);

const DAMAGES: [Damage; 7] = [
    ("its header", |file| overwrite(file, 0, 100), "restore the last backup"),
    ("a page in the middle", |file| overwrite(file, 40_960, 8192), "restore the last backup"),
    ("half of it", |file| cut(file, 2), "restore the last backup"),
    ("all of it", |file| fs::write(file, "").expect("a file"), "is empty: restore the last backup"),
    ("its name", |file| fs::remove_file(file).expect("it was there"), "does not exist: run ca-server init"),
    ("whose it is", foreign, "is the database of another program: check --dir"),
    ("its version", newer, "was written by a newer ca-server (schema 99, this one knows "),
];

fn overwrite(file: &Path, at: usize, length: usize) {
    let mut bytes = fs::read(file).expect("a file");
    bytes[at..at + length].fill(0x5a);
    fs::write(file, bytes).expect("a file");
}

fn cut(file: &Path, by: usize) {
    let bytes = fs::read(file).expect("a file");
    fs::write(file, &bytes[..bytes.len() / by]).expect("a file");
}

fn foreign(file: &Path) {
    fs::remove_file(file).expect("it was there");
    Connection::open(file).expect("a database").execute_batch("CREATE TABLE theirs (x)").expect("a table");
}

fn newer(file: &Path) {
    let database = Connection::open(file).expect("a database");
    database.pragma_update(None, "user_version", 99).expect("a version");
}

#[test]
fn a_database_that_is_damaged_is_refused_by_name_and_left_as_it_is() {
    for (what, damage, cure) in DAMAGES {
        let ca = Ca::new();
        damage(&ca.database());
        let before = fs::read(ca.database()).ok();
        let error = refused(&ca.dir(), &[]);
        assert!(error.starts_with(path(&ca.database())), "{what}: {error}");
        assert!(error.contains(cure), "{what}: {error}");
        assert_eq!(fs::read(ca.database()).ok(), before, "{what}: it can still be examined");
    }
}

#[test]
fn a_key_that_is_missing_or_anothers_is_named() {
    let ca = Ca::new();
    let mut keys: Vec<_> =
        fs::read_dir(ca.dir().join("keys")).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    keys.sort();
    let issuer = |key: &Path| key.file_stem().expect("a name").to_string_lossy().into_owned();
    let [first, second] = &keys[..] else { panic!("not two keys: {keys:?}") };
    let whole = fs::read(first).expect("a file");

    fs::remove_file(first).expect("it was there");
    let error = refused(&ca.dir(), &[]);
    let id = issuer(first);
    assert_eq!(error, format!("the key of issuer {id} is missing: put {} back from a backup", path(first)));
    let Finished { code, stderr, .. } =
        local(&["backup", "--dir", path(&ca.dir()), "--out", path(&ca.0.path().join("out"))]);
    let missing = format!("error: the key of issuer {id} is missing: put {} back from an earlier backup", path(first));
    assert_eq!((code, stderr.trim_end()), (1, &*missing));

    fs::copy(second, first).expect("a copy");
    assert_eq!(refused(&ca.dir(), &[]), format!("issuer {id}: its key file holds another key"));

    fs::write(first, &whole[..whole.len() / 2]).expect("a file");
    assert!(refused(&ca.dir(), &[]).starts_with(&format!("{} does not hold one PKCS#8", path(first))));
}

#[test]
fn settings_that_nobody_knows_are_told_with_their_line() {
    let ca = Ca::new();
    let file = ca.dir().join("config.toml");
    let text = fs::read_to_string(&file).expect("init writes them");
    fs::write(&file, format!("{text}conections = 3\n")).expect("a file");
    let line = text.lines().count() + 1;
    let error = refused(&ca.dir(), &[]);
    assert!(error.starts_with(&format!("{}: line {line}: unknown field `conections`", path(&file))), "{error}");
}

#[test]
fn what_is_not_there_is_named_with_what_to_do() {
    let ca = Ca::new();
    let (dir, gone) = (ca.dir(), ca.0.path().join("gone"));
    let (dir, gone) = (path(&dir), path(&gone));
    let nowhere =
        format!("{gone}/config.toml does not exist: check --dir or --config, or make a CA with ca-server init");
    let no_settings = format!("{gone} does not exist: check --dir or --config");
    let no_folder = format!("{gone} does not exist: check --dir, or make a CA with ca-server init");
    let no_passphrase = format!("the passphrase file {gone} cannot be read: ");
    let cases: [(&[&str], &str, &str); 7] = [
        (&["serve", "--dir", gone], &nowhere, "init"),
        (&["operator", "recover", "--dir", gone, "--out", gone], &nowhere, "init"),
        (&["serve", "--dir", dir, "--config", gone], &no_settings, "init"),
        (&["restore", "--dir", gone, "--resume", "--accept-loss", "0123456789abcdef"], &no_folder, "init"),
        (&["serve", "--dir", dir, "--key-passphrase-file", gone], &no_passphrase, "under [keys] in the settings"),
        (&["key", "encrypt", "--dir", dir, "--new-passphrase-file", gone], &no_passphrase, "in the settings"),
        // An address for documentation: nobody has it.
        (
            &["serve", "--dir", dir, "--listen", "192.0.2.1:7443"],
            "cannot listen on 192.0.2.1:7443 for devices: ",
            "this machine has no such address: choose one that it has (`ip address` tells), or 0.0.0.0 for all of them, with \
             --listen",
        ),
    ];
    for (command, what, cure) in cases {
        let Finished { code, stderr, .. } = local(command);
        assert_eq!((code, stderr.lines().count()), (1, 1), "{command:?}: {stderr}");
        let error = stderr.trim_end().strip_prefix("error: ").expect("an error");
        assert!(error.starts_with(what) && error.ends_with(cure), "{command:?}: {error}");
    }
}

async fn create_fleet(server: &server::Server, name: &str) {
    let name = name.parse().expect("a name");
    server.authority().create_fleet(&name, Policy::default(), "local").await.expect("a fleet");
}

/// What must never go back: times of the audit log, dates and numbers of CRLs.
fn times(server: &Server) -> (Vec<i64>, Vec<(String, u64, String)>) {
    let Value::Array(records) = server.admin().run(&["audit", "list"]) else { panic!("no list") };
    let at = records.iter().map(|record| record["at_millis"].as_i64().expect("a time")).collect();
    let Value::Array(crls) = server.admin().run(&["crl", "status"]) else { panic!("no list") };
    let text = |crl: &Value, name: &str| crl[name].as_str().unwrap_or_else(|| panic!("no {name} in {crl}")).to_owned();
    let crls = crls.iter().filter(|crl| !text(crl, "hierarchy").ends_with("root"));
    let crls =
        crls.map(|crl| (text(crl, "issuer"), crl["number"].as_u64().expect("a number"), text(crl, "this_update")));
    (at, crls.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_before_the_last_audit_record_is_refused_unless_it_is_accepted_and_no_time_goes_back() {
    let mut server = Server::start();
    server.stop();
    let dir = server.dir();
    // The clock runs 20 minutes ahead, and is set right while the server runs: nothing goes back, nothing stops.
    let now = SystemClock.now();
    let ahead = now + Duration::from_secs(1200);
    let clock = Arc::new(ManualClock::new(ahead));
    let inside = inside::serve(&dir, clock.clone()).await;
    create_fleet(&inside, "ahead").await;
    inside.authority().publisher.publish_now(false).await.expect("published");
    let published = inside.authority().publisher.all();
    clock.set(now);
    create_fleet(&inside, "set-right").await;
    inside.authority().publisher.publish_now(false).await.expect("published");
    for (before, after) in
        published.iter().zip(inside.authority().publisher.all()).filter(|(crl, _)| !crl.role.is_root())
    {
        assert!(after.number > before.number && after.this_update == before.this_update, "{before:?}, {after:?}");
    }
    inside.stop().await;

    // It is not started by a clock that lies so far back, unless somebody says that this one is right.
    let error = refused(&dir, &[]);
    assert!(error.starts_with("the clock says 20") && error.contains(&format!("the last audit record is of {ahead}")));
    assert!(error.ends_with("say --accept-clock"), "{error}");
    server.start_again_with(&["--accept-clock"]);
    server.admin().create_fleet("accepted");
    server.admin().run(&["crl", "publish"]);
    let (at, crls) = times(&server);
    assert!(at.is_sorted() && *at.last().expect("a record") >= ahead.millis(), "{at:?}");
    for (issuer, number, this_update) in &crls {
        let before = published.iter().find(|crl| crl.issuer.to_string() == *issuer).expect("it was published");
        assert!(*number > before.number && *this_update == before.this_update.to_string(), "{crls:?}");
    }
    let accepted = server.admin().run(&["audit", "list", "--action", "clock.accepted"]);
    assert_eq!(accepted.as_array().map(Vec::len), Some(1), "{accepted}");
    server.admin().run(&["audit", "verify"]);
    server.stop();
    assert!(refused(&dir, &[]).contains("--accept-clock"), "until the clock has caught up");
}

/// A command on the CA's own folder.
fn local(arguments: &[&str]) -> Finished {
    run(Command::new(binaries::ca_server()).args(arguments).env("FLEETCA_LOG", "off"))
}

#[test]
fn no_command_dates_anything_by_a_clock_a_week_ahead_unless_it_is_accepted() {
    let mut server = Server::start();
    server.stop();
    let (dir, scratch) = (server.dir(), server.scratch().to_owned());
    // What was published is older than it was, so that the clock is ahead of it.
    let database = Connection::open(dir.join("ca.db")).expect("a database");
    database.execute("UPDATE crl_heads SET this_update = this_update - 8 * 86400000", []).expect("heads");
    drop(database);
    let (secret, new, backup) = (scratch.join("secret"), scratch.join("new"), scratch.join("backup"));
    fs::write(&secret, "correct horse\n").expect("a file");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("a mode");
    local(&["backup", "--dir", path(&dir), "--out", path(&backup), "--passphrase-file", path(&secret)]).succeeded();
    let admin = scratch.join("admin");
    let recover = ["operator", "recover", "--dir", path(&dir), "--out", path(&admin)];
    let encrypt = ["key", "encrypt", "--dir", path(&dir), "--new-passphrase-file", path(&secret)];
    let lost = issuer_in(&backup);
    let restore = ["restore", "--from", path(&backup), "--dir", path(&new), "--resume", "--accept-loss", &lost];
    for command in [&recover[..], &encrypt, &restore] {
        let Finished { code, stderr, .. } = local(command);
        assert_eq!((code, stderr.lines().count()), (1, 1), "{command:?}: {stderr}");
        assert!(stderr.starts_with("error: the clock says 20") && stderr.contains("the newest CRL here is of 20"));
        assert!(stderr.trim_end().ends_with("say --accept-clock"), "{stderr}");
    }
    assert!(!admin.exists() && !new.exists(), "nothing is made");
    for command in [&recover[..], &encrypt, &restore] {
        local(&[command, &["--accept-clock"]].concat()).succeeded();
    }
    // What is restored goes on: the decision is dated.
    fs::remove_dir_all(&dir).expect("a folder");
    fs::rename(&new, &dir).expect("a folder");
    server.start_again_with(&["--key-passphrase-file", path(&secret)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_a_little_ahead_is_set_right_without_a_word() {
    let mut server = Server::start();
    server.stop();
    let clock = Arc::new(ManualClock::new(SystemClock.now() + Duration::from_secs(540)));
    let inside = inside::serve(&server.dir(), clock).await;
    create_fleet(&inside, "ahead").await;
    inside.stop().await;
    server.start_again();
    server.admin().create_fleet("set-right");
    assert!(times(&server).0.is_sorted());
}
