//! Several issuing CAs of devices: made by a ceremony, each with its own complete CRL; devices spread over them; and
//! bundles that hold what is needed.

#[path = "issuers/ceremony.rs"]
mod ceremony;
#[path = "issuers/crisis.rs"]
mod crisis;
#[path = "issuers/fleets.rs"]
mod fleets;
#[path = "issuers/retired.rs"]
mod retired;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use ca_server::{
    authority::root_crl,
    clock::{Clock, SystemClock},
    pki::{IssuerCertificate, ParsedCrl, PemLabel, from_pem},
    signer::SoftwareSigner,
    step::Step,
};
use fleetca_tests::{
    binaries,
    crl::Crl,
    device::Device,
    http, openssl,
    process::{Finished, Running, run},
    server::Server,
    wait::{SOON, until_true},
};
use serde_json::{Value, json};

/// A server whose new issuing CAs sign at once.
fn server() -> Server {
    Server::start_with_limits(&[("issuer_wait_seconds", 0)])
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary folders have names in UTF-8")
}

/// `ca-server issuer ACTION` with the root keys at hand.
fn ceremony(server: &Server, action: &[&str]) -> Finished {
    let (dir, roots) = (server.dir(), server.dir().join("offline"));
    let place = ["--dir", path(&dir), "--root-dir", path(&roots), "--output", "json"];
    run(Command::new(binaries::ca_server()).arg("issuer").args(action).args(place))
}

/// One more issuing CA; the server is stopped for it.
fn create(server: &mut Server) -> String {
    server.stop();
    let made: Value = serde_json::from_str(&ceremony(server, &["create"]).succeeded()).expect("JSON");
    server.start_again();
    made["issuer"].as_str().expect("an ID").to_owned()
}

/// The issuing CAs of devices by ID, as they are listed.
fn issuers(server: &Server) -> BTreeMap<String, Value> {
    let listed = server.admin().run(&["issuer", "list"]);
    let device = listed.as_array().expect("a list").iter().filter(|issuer| issuer["hierarchy"] == "device");
    device.map(|issuer| (issuer["id"].as_str().expect("an ID").to_owned(), issuer.clone())).collect()
}

fn first(server: &Server) -> String {
    issuers(server).into_keys().next().expect("there is one")
}

/// Who signed the certificate that a device has now.
fn issuer_of(server: &Server, device: &Device) -> String {
    let serial = device.serial();
    server.admin().run(&["certificate", "show", &serial])["issuer"].as_str().expect("an ID").to_owned()
}

/// Who has CRLs in a bundle, the device root aside, which must have one.
fn bundle(server: &Server, path: &str) -> BTreeSet<String> {
    let answer = http::get(&server.http_url(path));
    let text = String::from_utf8(answer.ok()).expect("PEM");
    let status = server.admin().run(&["crl", "status"]);
    let status = status.as_array().expect("a list");
    let crls = Crl::all_from_pem(&text);
    let of = |row: &Value| row["issuer"].as_str().expect("an ID").to_owned();
    // A key identifier begins with the octets of the issuer's ID.
    let signed_by = |crl: &Crl, id: &str| {
        let (_, key) = crl.extension("2.5.29.35").expect("an authority key identifier");
        key[4..].iter().map(|octet| format!("{octet:02x}")).collect::<String>().starts_with(id)
    };
    let held = status.iter().filter(|row| crls.iter().any(|crl| signed_by(crl, &of(row))));
    let (roots, issuing): (Vec<&Value>, Vec<&Value>) = held.partition(|row| row["hierarchy"] == "device-root");
    assert_eq!((roots.len(), roots.len() + issuing.len()), (1, crls.len()), "{status:?}");
    assert!(issuing.iter().all(|row| row["hierarchy"] == "device"), "{status:?}");
    issuing.into_iter().map(of).collect()
}

fn sync(options: &[&str], out: &Path) -> Finished {
    run(Command::new(binaries::enroll_client()).arg("sync-crls").args(options).arg("--out").arg(out))
}

/// Devices, as many as it takes until each of these issuing CAs has one.
fn devices(server: &Server, fleet: &str, over: &BTreeSet<String>) -> Vec<Device> {
    let (mut devices, mut without) = (Vec::new(), over.clone());
    while !without.is_empty() {
        assert!(devices.len() < 64, "hardly any came under one of them");
        let device = Device::enroll(server, fleet, &format!("{fleet}-{}", devices.len()));
        without.remove(&issuer_of(server, &device));
        devices.push(device);
    }
    devices
}

#[test]
fn a_second_issuing_ca_signs_for_its_share_of_the_devices_and_each_has_its_own_crl() {
    let mut server = server();
    server.admin().create_fleet("pumps");
    let one = first(&server);
    let old = Device::enroll(&server, "pumps", "old");
    assert_eq!(issuer_of(&server, &old), one);
    let other = create(&mut server);
    let admin = server.admin();
    let both = BTreeSet::from([one.clone(), other.clone()]);
    let listed = issuers(&server);
    assert_eq!(listed.keys().cloned().collect::<BTreeSet<_>>(), both);
    assert!(listed.values().all(|issuer| issuer["standing"] == "active"), "{listed:?}");
    assert_ne!(listed[&one]["name"], listed[&other]["name"]);

    let devices = devices(&server, "pumps", &both);
    let signers: BTreeSet<_> = devices.iter().map(|device| issuer_of(&server, device)).collect();
    assert_eq!(signers, both);
    for name in ["/crl/bundle.pem", "/crl/fleet/pumps/bundle.pem"] {
        assert_eq!(bundle(&server, name), both, "{name}");
    }
    // Each device's chain leads to the one root that gateways know.
    let whole = server.scratch().join("whole.pem");
    fs::write(&whole, http::get(&server.http_url("/crl/bundle.pem")).ok()).expect("a file");
    for device in &devices {
        let chain = device.presented().chain;
        if let Some(verified) = openssl::verify(&chain, &server.device_root(), Some(&chain), Some(&whole)) {
            verified.succeeded();
        }
    }
    // A revoked device is on the list of its own issuer, and on no other.
    for id in &both {
        let device = devices.iter().find(|device| issuer_of(&server, device) == *id).expect("it has some");
        let name = device.status()["id"].as_str().expect("an ID").to_owned();
        let receipt = admin.run(&["device", "revoke", &name]);
        assert_eq!(receipt["crls"].as_array().expect("a list").len(), 1, "{receipt}");
        assert_eq!(receipt["crls"][0]["issuer"], *id);
        let lists: Vec<_> = both.iter().filter(|id| Crl::fetch(&server, id).lists(&device.serial())).collect();
        assert_eq!(lists, [id]);
    }
    // A device that moves has certificates of both: all of them are put on lists, and the receipt names each.
    let moved = (0..).map(|n| format!("m-{n}"));
    let fleet = ["fleet", "create", "movers", "--issuers", &one];
    admin.run(&fleet);
    let mover = moved.map(|id| Device::enroll(&server, "movers", &id)).next().expect("one");
    admin.run(&["fleet", "set", "movers", "--issuers", &other]);
    let before = mover.serial();
    mover.renew();
    assert_eq!(issuer_of(&server, &mover), other);
    let receipt = admin.run(&["device", "revoke", "m-0"]);
    let named: BTreeSet<_> = receipt["crls"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|crl| crl["issuer"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(named, both, "{receipt}");
    assert!(Crl::fetch(&server, &one).lists(&before) && Crl::fetch(&server, &other).lists(&mover.serial()));
    let records = admin.run(&["audit", "list", "--action", "issuer.created"]);
    assert_eq!(records.as_array().expect("a list").len(), 1);
}

#[test]
fn a_gateway_takes_no_bundle_that_lacks_an_issuer_of_the_trust_bundle() {
    let mut server = server();
    let other = create(&mut server);
    let gateway = Device::enroll_gateway(&server, "eu-7");
    let out = server.scratch().join("bundle.pem");
    sync(&["--dir", path(gateway.folder())], &out).succeeded();
    let before = fs::read_to_string(&out).expect("a file");
    assert_eq!(Crl::all_from_pem(&before).len(), 3);
    // The store says of one that it has come to its end, and no root has.
    server.stop();
    let db = rusqlite::Connection::open(server.dir().join("ca.db")).expect("the database");
    let changed = db.execute("UPDATE issuers SET standing = 'ended' WHERE id = ?1", [&other]).expect("a change");
    assert_eq!(changed, 1);
    drop(db);
    server.start_again();
    let refused = sync(&["--dir", path(gateway.folder())], &out);
    assert!(refused.stderr.contains(&format!("the CRL of issuer {other} is missing")), "{refused:?}");
    assert_eq!(fs::read_to_string(&out).expect("a file"), before);
}

#[test]
fn a_ceremony_beside_a_running_server_or_with_other_roots_is_refused_and_leaves_nothing() {
    let mut server = server();
    let keys = |server: &Server| fs::read_dir(server.dir().join("keys")).expect("a folder").count();
    let refused = ceremony(&server, &["create"]);
    assert!(refused.code == 1 && refused.stderr.contains("another server is running"), "{refused:?}");
    server.stop();
    let stranger = server.scratch().join("stranger");
    fleetca_tests::server::init(&stranger);
    let (dir, roots) = (server.dir(), stranger.join("offline"));
    let create = ["issuer", "create", "--dir", path(&dir), "--root-dir", path(&roots)];
    let refused = run(Command::new(binaries::ca_server()).args(create));
    assert!(refused.code == 1 && refused.stderr.contains("is no root of the CA"), "{refused:?}");
    assert_eq!(keys(&server), 2);
    server.start_again();
    assert_eq!(issuers(&server).len(), 1);
}

#[test]
fn a_ceremony_killed_at_any_step_leaves_an_issuer_whole_or_none() {
    let mut server = Server::start();
    server.stop();
    let (dir, roots) = (server.dir(), server.dir().join("offline"));
    let create = ["issuer", "create", "--dir", path(&dir), "--root-dir", path(&roots)];
    let order: PathBuf = server.scratch().join("kill-ceremony");
    let mut made = 1;
    for step in Step::ALL {
        for times in 1.. {
            fs::write(&order, format!("{step:?} {times}")).expect("a file");
            let killed =
                Command::new(binaries::helper("killed-server")).args(create).env("FLEETCA_KILL", &order).output();
            assert!(killed.is_ok());
            let died = fs::remove_file(&order).is_err();
            let db = rusqlite::Connection::open(dir.join("ca.db")).expect("the database");
            let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number");
            let issuers = count("SELECT count(*) FROM issuers WHERE role = 'device'");
            assert_eq!(issuers, count("SELECT count(*) FROM trust_bundles"), "{step:?} {times}");
            assert!((made..=made + 1).contains(&issuers), "{step:?} {times}");
            made = issuers;
            if !died {
                break;
            }
        }
    }
    assert!(made > 4);
    server.start_again();
    assert_eq!(issuers(&server).len() as i64, made);
    assert_eq!(http::get(&server.metrics_url("/readyz")).status, 200);
}

#[test]
fn a_restored_ca_has_the_keys_of_all_its_issuers_or_there_is_none() {
    let mut server = Server::start();
    let other = create(&mut server);
    let out = server.scratch().join("backup");
    let ca_server = |arguments: &[&str]| run(Command::new(binaries::ca_server()).args(arguments));
    ca_server(&["backup", "--dir", path(&server.dir()), "--out", path(&out)]).succeeded();
    server.stop();
    let (keys, restored) = (server.dir().join("keys"), server.scratch().join("restored"));
    let some = server.scratch().join("some");
    fs::create_dir(&some).expect("a folder");
    for key in fs::read_dir(&keys).expect("a folder").map(|key| key.expect("a key").path()) {
        let name = key.file_name().expect("a name").to_owned();
        if name.to_string_lossy() != format!("{other}.pem") {
            fs::copy(&key, some.join(name)).expect("a copy");
        }
    }
    let restore =
        |keys: &Path| ca_server(&["restore", "--from", path(&out), "--dir", path(&restored), "--keys", path(keys)]);
    let refused = restore(&some);
    assert!(refused.code == 1 && refused.stderr.contains(&format!("the key of issuer {other}")), "{refused:?}");
    assert!(!restored.exists());
    restore(&keys).succeeded();
    assert!(restored.join(format!("keys/{other}.pem")).exists());
}

/// A ceremony about one issuing CA, while the server is stopped.
fn held(server: &mut Server, action: &str, issuer: &str) -> Finished {
    server.stop();
    let finished = ceremony(server, &[action, issuer]);
    server.start_again();
    finished
}

fn use_of(server: &Server, issuer: &str) -> Value {
    let all = server.admin().run(&["issuer", "status"]);
    all.as_array().expect("a list").iter().find(|row| row["id"] == issuer).expect("it is there").clone()
}

#[test]
fn a_successor_takes_over_and_the_one_before_it_ends_when_nobody_needs_it() {
    let mut server = server();
    let admin = server.admin();
    admin.create_fleet("pumps");
    let one = first(&server);
    let device = Device::enroll(&server, "pumps", "pump-1");
    let gateway = Device::enroll_gateway(&server, "eu-7");
    let out = server.scratch().join("crls.pem");
    let refused = held(&mut server, "end", &one);
    assert!(refused.code == 1 && refused.stderr.contains("is the only issuing CA"), "{refused:?}");
    let made: Value = serde_json::from_str(&held(&mut server, "rotate", &one).succeeded()).expect("JSON");
    let two = made["issuer"].as_str().expect("an ID").to_owned();
    assert_eq!(made["replaces"], one);
    assert!(held(&mut server, "rotate", &one).stderr.contains("is retired: nothing takes over from it"));
    sync(&["--dir", path(gateway.folder())], &out).succeeded();

    assert_eq!(
        (issuer_of(&server, &device), use_of(&server, &one)["live_certificates"].clone()),
        (one.clone(), json!(1))
    );
    let url = server.http_url(&format!("/issuers/{one}.cer"));
    device.renew();
    assert_eq!(issuer_of(&server, &device), two);
    // Every URL in a certificate that is live keeps answering, and its CRL stays in the bundle.
    assert_eq!(http::get(&url).status, 200);
    assert_eq!(bundle(&server, "/crl/fleet/pumps/bundle.pem"), BTreeSet::from([one.clone(), two.clone()]));
    let status = use_of(&server, &one);
    assert_eq!(
        (&status["standing"], &status["fleets"], &status["share"]),
        (&json!("retired"), &json!(["pumps"]), &json!(0.5))
    );
    let refused = held(&mut server, "end", &one);
    assert!(refused.stderr.contains(&format!("1 certificates of {one} have not expired")), "{refused:?}");

    // As if its last certificate had expired.
    server.stop();
    let db = rusqlite::Connection::open(server.dir().join("ca.db")).expect("the database");
    let past = "UPDATE certificates SET not_after = not_after - 864000000 WHERE issuer = (SELECT key FROM issuers WHERE id = ?1)";
    db.execute(past, [&one]).expect("a change");
    db.execute(
        "UPDATE fleet_issuers SET last_not_after = 0 WHERE issuer = (SELECT key FROM issuers WHERE id = ?1)",
        [&one],
    )
    .expect("a change");
    drop(db);
    ceremony(&server, &["end", &one]).succeeded();
    assert!(!server.dir().join(format!("keys/{one}.pem")).exists());
    server.start_again();
    assert_eq!(bundle(&server, "/crl/bundle.pem"), BTreeSet::from([two.clone()]));
    assert_eq!(http::get(&server.http_url(&format!("/crl/{one}/full.crl"))).status, 404);
    assert_eq!((http::get(&url).status, use_of(&server, &one)["standing"].clone()), (200, json!("ended")));
    // The gateway's file held it: that it is on its root's CRL, and the trust bundle names it no more, lets it go.
    sync(&["--dir", path(gateway.folder())], &out).succeeded();
    assert_eq!(Crl::all_from_pem(&fs::read_to_string(&out).expect("a file")).len(), 2);
    assert_eq!(http::get(&server.metrics_url("/readyz")).status, 200);
    let again = ceremony(&server, &["end", &one]);
    assert!(again.stderr.contains("another server is running"), "{again:?}");
}

#[test]
fn devices_of_a_stolen_issuing_ca_are_told_to_attest_anew_and_get_another() {
    let mut server = server();
    let admin = server.admin();
    admin.create_fleet("pumps");
    let one = first(&server);
    let device = Device::enroll(&server, "pumps", "pump-1");
    let kept_alive = Device::enroll(&server, "pumps", "pump-2");
    held(&mut server, "rotate", &one).succeeded();
    let revoked: Value = serde_json::from_str(&held(&mut server, "revoke", &one).succeeded()).expect("JSON");
    assert_eq!(
        (&revoked["standing"], &revoked["reason"], &revoked["live"]),
        (&json!("revoked"), &json!("cACompromise"), &json!(2))
    );
    // Nobody has to go and see a device whose agent runs.
    let agent = Running::start("agent", kept_alive.command("run"), server.scratch());
    until_true(SOON, "the agent has come back with what it had", || issuer_of(&server, &kept_alive) != one);
    drop(agent);
    let refused = run(device.command("renew").arg("--force"));
    assert!(
        refused.code == 4 && refused.stderr.contains("the issuing CA of the certificate presented was revoked"),
        "{refused:?}"
    );
    assert_eq!(admin.run(&["device", "show", "pump-1"])["must_reattest"], true);
    let token = admin
        .token(&["--fleet", "pumps", "--device-id", "pump-1", "--reenroll"], &server.scratch().join("again.token"));
    device.try_enroll(&server, "pump-1", &token).succeeded();
    assert_ne!(issuer_of(&server, &device), one);
    assert_eq!(admin.run(&["device", "show", "pump-1"])["must_reattest"], false);
    device.renew();
    let records = admin.run(&["audit", "list", "--action", "issuer.revoked"]);
    assert_eq!(records[0]["subject"], format!("issuer/{one}"));
    // A root's CRL that is signed later keeps it.
    let roots = server.dir().join("offline");
    run(Command::new(binaries::ca_server()).args(["root", "sign-crl", "--root-dir", path(&roots)])).succeeded();
    admin.run(&["crl", "publish", "--root-crl", path(&roots.join("device-root.crl"))]);
    assert_eq!(Crl::from_der(&fs::read(roots.join("device-root.crl")).expect("a file")).serials().len(), 1);
}

/// The reason that is explained for each of these ways, or null where it would get a certificate.
fn explained(server: &Server, fleet: &str, device: &str) -> [Value; 4] {
    let explained = server.admin().run(&["fleet", "explain", fleet, device]);
    let ways = explained["ways"].as_array().expect("ways");
    ["token", "token --reenroll", "renew", "previous"]
        .map(|name| ways.iter().find(|way| way["way"] == name).expect("a way")["reason"].clone())
}

#[test]
fn an_issuing_ca_is_not_cut_off_where_no_other_is_active() {
    let mut server = server();
    let one = first(&server);
    let two = create(&mut server);
    server.admin().run(&["issuer", "retire", &one]);
    let refused = held(&mut server, "revoke", &two);
    assert!(refused.code == 1 && refused.stderr.contains("is the only issuing CA that is active"), "{refused:?}");
    assert_eq!(use_of(&server, &two)["standing"], "active");
    held(&mut server, "revoke", &one).succeeded();
}

#[test]
fn fleets_that_a_revoked_issuing_ca_leaves_without_any_are_named_and_explained_until_they_name_others() {
    let mut server = server();
    let two = create(&mut server);
    let admin = server.admin();
    admin.create_fleet("pumps");
    admin.run(&["fleet", "create", "doors", "--issuers", &two]);
    let device = Device::enroll(&server, "doors", "door-1");
    assert_eq!(issuer_of(&server, &device), two);
    let revoked: Value = serde_json::from_str(&held(&mut server, "revoke", &two).succeeded()).expect("JSON");
    assert_eq!((&revoked["live"], &revoked["fleets_without_issuer"]), (&json!(1), &json!(["doors"])));
    let none = "NO_ISSUER";
    let why = explained(&server, "doors", "door-1");
    assert_eq!(why, ["ALREADY_ENROLLED", none, "ISSUER_REVOKED", none].map(Value::from));
    let refused = run(device.command("renew").arg("--force"));
    assert!(refused.code != 0 && refused.stderr.contains("was revoked"), "{refused:?}");
    admin.run(&["fleet", "set", "doors", "--issuers", "all"]);
    let now = ["ALREADY_ENROLLED".into(), Value::Null, "ISSUER_REVOKED".into(), Value::Null];
    assert_eq!(explained(&server, "doors", "door-1"), now);
}

#[test]
fn no_ceremony_goes_on_from_a_roots_crl_that_a_wrong_clock_has_dated_ahead() {
    let mut server = server();
    server.admin().create_fleet("pumps");
    let one = first(&server);
    held(&mut server, "rotate", &one).succeeded();
    let roots = server.dir().join("offline");
    let good = fs::read(roots.join("device-root.crl")).expect("a file");
    let (root, key) = device_root(&roots);
    let ahead = SystemClock.now() + Duration::from_secs(365 * 24 * 3600);
    let before = ParsedCrl::parse(good.clone().into()).expect("a CRL");
    let (der, _) = root_crl(&root, &key, Some(&before), None, ahead).expect("a CRL");
    fs::write(roots.join("device-root.crl"), der).expect("it is written");
    let signing = run(Command::new(binaries::ca_server()).args(["root", "sign-crl", "--root-dir", path(&roots)]));
    let revoking = held(&mut server, "revoke", &one);
    for refused in [signing, revoking] {
        assert!(refused.code == 1 && refused.stderr.contains("dated ahead"), "{refused:?}");
    }
    fs::write(roots.join("device-root.crl"), good).expect("it is written");
    held(&mut server, "revoke", &one).succeeded();
}

/// The device root and its key.
fn device_root(roots: &Path) -> (IssuerCertificate, SoftwareSigner) {
    let pem = fs::read_to_string(roots.join("device-root.pem")).expect("a certificate");
    let der = from_pem(PemLabel::Certificate, &pem).expect("PEM").remove(0);
    let key = SoftwareSigner::load(&roots.join("device-root.key.pem"), None).expect("its key");
    (IssuerCertificate::parse(&der).expect("a certificate"), key)
}
