//! Devices that are registered ahead, one by one and by the thousand, with what they will prove.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    time::Instant,
};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use enroll_client::attester::evidence_key::EvidenceKey;
use fleetca_tests::{
    device::Device,
    maker::{self, CA, Maker, Wish},
    newcomers::World,
    openssl,
    process::{Finished, run},
    server::Server,
};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Value, json};

/// How many at once: with debug assertions, where each takes twenty times as long, fewer.
const MANY: u32 = if cfg!(debug_assertions) { 5_000 } else { 100_000 };

fn server() -> Server {
    let server = Server::start();
    server.admin().run(&["fleet", "create", "pumps", "--attest", "token,tpm,registered-key"]);
    server
}

fn ek(number: u32) -> String {
    format!("{number:064x}")
}

fn count(server: &Server) -> usize {
    server.admin().run(&["device", "list", "--limit", "1000"]).as_array().map_or(0, Vec::len)
}

fn file(server: &Server, name: &str, content: &str) -> String {
    let path = server.scratch().join(name);
    std::fs::write(&path, content).expect("it is written");
    path.to_str().expect("temporary folders have names in UTF-8").to_owned()
}

/// The public half of a key in a file, in a file.
fn public(key: &Path) -> String {
    let out = key.with_extension("pub");
    run(openssl::command().expect("openssl").args(["pkey", "-pubout", "-in"]).arg(key).arg("-out").arg(&out))
        .succeeded();
    out.to_str().expect("a name").to_owned()
}

#[test]
fn many_devices_are_registered_at_once_or_not_at_all() {
    let server = server();
    let mut csv = "id,ek_sha256\n".to_owned();
    for number in 0..MANY {
        writeln!(csv, "pump-{number},{}", ek(number)).expect("it is written");
    }
    // The last row has the first one's TPM.
    let wrong = file(&server, "wrong.csv", &format!("{csv}pump-x,{}\n", ek(0)));
    let admin = server.admin();
    let refused = admin.refused(&["device", "register", "--fleet", "pumps", "--from", &wrong]);
    let says = format!("{wrong}: line {}: ek:{}, of pump-x, is in the same file, on line 2", MANY + 2, ek(0));
    assert!(refused.contains(&says), "{refused}");
    assert_eq!(count(&server), 0, "all or nothing");

    let right = file(&server, "right.csv", &csv);
    let begun = Instant::now();
    let registered = admin.run(&["device", "register", "--fleet", "pumps", "--from", &right]);
    println!("{MANY} devices took {:?}", begun.elapsed());
    assert_eq!(registered["registered"], MANY);
    let shown = admin.run(&["device", "show", &format!("pump-{}", MANY - 1)]);
    assert_eq!(
        (&shown["status"], &shown["hardware"][0]),
        (&"registered".into(), &format!("ek:{}", ek(MANY - 1)).into())
    );
    let records = admin.run(&["audit", "list", "--action", "device.registered"]);
    assert_eq!(records[0]["detail"]["devices"], MANY);
    assert_eq!(records.as_array().map(Vec::len), Some(1));
}

#[test]
fn what_is_wrong_with_a_row_is_told_with_its_line_and_nothing_is_registered() {
    let server = server();
    let admin = server.admin();
    admin.run(&["device", "register", "pump-0", "--fleet", "pumps", "--ek-hash", &ek(1)]);
    let (own, other) = (ek(1), ek(2));
    for (content, says) in [
        ("id\npump-1\nPUMP-0\n", "line 3: device PUMP-0 exists already, as pump-0"),
        ("id\npump-1\n\npump 2\n", "line 4: id: may have only"),
        ("id\npump-1\npump-0\n", "line 3: device pump-0 exists already"),
        ("id\npump-1\npump-1\n", "line 3: device pump-1 is in the same file, on line 2"),
        ("id\npump-1\nPump-1\n", "line 3: device Pump-1 is in the same file, on line 2, in another case"),
        (&format!("id;ek_sha256\npump-1;{own}\n"), "line 2: ek:{own}, of pump-1, is device pump-0's already"),
        (
            &format!("id,ek_sha256\npump-1,{other}\npump-2,{other}\n"),
            "line 3: ek:{other}, of pump-2, is in the same file, on line 2",
        ),
        ("id,fleet\npump-1,pumps\npump-2,valves\n", "line 3: no such fleet"),
        ("id,ek_sha256\npump-1,00\n", "line 2: ek_sha256: must be a SHA-256"),
        ("id,idevid\npump-1,maker:1\n", "line 2: idevid: must be"),
        ("{\"id\":\"pump-1\"}\n{\"id\":\"pump-2\",\"cn\":1}\n", "line 2: character 19: unknown field"),
        ("id,name\n", "line 1: no column is called"),
        ("id\n", "line 1: there is nothing below the head"),
    ] {
        let path = file(&server, "rows", content);
        let refused = admin.refused(&["device", "register", "--fleet", "pumps", "--from", &path]);
        let says = says.replace("{own}", &own).replace("{other}", &other);
        assert!(refused.contains(&says), "{says}: {refused}");
        assert!(refused.contains(&format!("{path}: line ")), "{says}: {refused}");
        assert_eq!(count(&server), 1, "{says}");
    }
    let rows = file(&server, "sheet.csv", &format!("\u{feff}ID;EK_SHA256\r\npump-1;{other}\r\n;\r\n"));
    assert_eq!(admin.run(&["device", "register", "--fleet", "pumps", "--from", &rows])["registered"], 1);
    let refused = admin.refused(&["device", "register", "pump-2", "--fleet", "pumps", "--ek-hash", &other]);
    assert!(refused.contains(&format!("ek:{other}, of pump-2, is device pump-1's already")), "{refused}");
}

/// A device's key: in a file for the device, and as files for operators have it.
struct OwnKey {
    pem: PathBuf,
    thumbprint: String,
    spki: String,
    jwk: Value,
}

impl OwnKey {
    fn generate(server: &Server, name: &str) -> OwnKey {
        let key = KeyPair::generate().expect("a key");
        let pem = server.scratch().join(format!("{name}.pem"));
        std::fs::write(&pem, key.serialize_pem()).expect("it is written");
        let (x, y) = key.public_key_raw()[1..].split_at(32);
        let [x, y] = [x, y].map(|number| BASE64_URL_SAFE_NO_PAD.encode(number));
        OwnKey {
            thumbprint: EvidenceKey::from_pem(key.serialize_pem().as_bytes()).expect("a key").thumbprint(),
            spki: BASE64_STANDARD.encode(key.subject_public_key_info()),
            jwk: json!({"kty": "EC", "crv": "P-256", "x": x, "y": y}),
            pem,
        }
    }

    fn enroll(&self, server: &Server, id: &str) -> Finished {
        let mut command = Device::new(server.scratch().join(id)).command("enroll");
        command.args(["--server", &server.url(), "--device-id", id, "--root"]).arg(server.control_root());
        run(command.arg("--attest").arg(format!("registered-key:{}", self.pem.display())))
    }
}

#[test]
fn keys_come_in_a_file_in_either_form_each_with_its_times_and_enroll() {
    let server = server();
    let admin = server.admin();
    let [one, two, three, four, early] =
        ["one", "two", "three", "four", "early"].map(|name| OwnKey::generate(&server, name));
    let (end, begin) = ("2099-01-01T00:00:00Z", "2098-01-01T00:00:00Z");
    let csv = format!(
        "id,spki,active_from,retires_at\npump-1,{},,{end}\npump-2,{},,\npump-5,{},{begin},{end}\n",
        one.spki, two.spki, early.spki
    );
    let json = json!({"id": "pump-3", "jwk": {"keys": [three.jwk, four.jwk]}, "retires_at": end});
    for (name, content, count) in [("keys.csv", csv, 3), ("keys.json", format!("\n{json}\n"), 1)] {
        let path = file(&server, name, &content);
        assert_eq!(admin.run(&["device", "register", "--fleet", "pumps", "--from", &path])["registered"], count);
    }
    let expected: [(&str, &[&OwnKey], Value); 4] = [
        ("pump-1", &[&one], end.into()),
        ("pump-2", &[&two], Value::Null),
        ("pump-3", &[&three, &four], end.into()),
        ("pump-5", &[&early], end.into()),
    ];
    for (id, keys, retires_at) in expected {
        let shown = admin.run(&["device", "show", id]);
        let found = shown["keys"].as_array().expect("keys");
        let mut thumbprints: Vec<_> = found.iter().map(|key| key["thumbprint"].as_str().expect("text")).collect();
        let mut own: Vec<_> = keys.iter().map(|key| key.thumbprint.as_str()).collect();
        thumbprints.sort_unstable();
        own.sort_unstable();
        assert_eq!(thumbprints, own, "{shown}");
        assert!(found.iter().all(|key| key["retires_at"] == retires_at), "{shown}");
    }
    assert_eq!(admin.run(&["device", "show", "pump-5"])["keys"][0]["active_from"], begin);
    for (id, key) in [("pump-1", &one), ("pump-2", &two), ("pump-3", &four)] {
        key.enroll(&server, id).succeeded();
    }
    let refused = early.enroll(&server, "pump-5");
    assert!(refused.code == 1 && refused.stderr.contains("ATTESTATION_FAILED"), "its time has not come: {refused:?}");
}

/// What only the server can tell; lines without anything count.
#[test]
fn what_the_server_refuses_of_json_lines_is_told_with_its_line_and_nothing_is_registered() {
    let server = server();
    let admin = server.admin();
    let [own, taken] = ["own", "taken"].map(|name| OwnKey::generate(&server, name));
    let first = json!({"id": "pump-0", "ek_sha256": ek(1), "jwk": taken.jwk});
    let path = file(&server, "first.json", &first.to_string());
    admin.run(&["device", "register", "--fleet", "pumps", "--from", &path]);
    for (rows, says) in [
        (
            [json!({"id": "pump-1", "ek_sha256": ek(2)}), json!({"id": "pump-2", "ek_sha256": ek(1)})],
            format!("line 4: ek:{}, of pump-2, is device pump-0's already", ek(1)),
        ),
        (
            [json!({"id": "pump-1", "ek_sha256": ek(2)}), json!({"id": "pump-2", "ek_sha256": ek(2)})],
            format!("line 4: ek:{}, of pump-2, is in the same file, on line 2", ek(2)),
        ),
        (
            [json!({"id": "pump-1"}), json!({"id": "pump-1"})],
            "line 4: device pump-1 is in the same file, on line 2".to_owned(),
        ),
        ([json!({"id": "pump-1"}), json!({"id": "Pump-0"})], "line 4: device Pump-0 exists already, as pump-0".into()),
        (
            [json!({"id": "pump-1", "spki": own.spki}), json!({"id": "pump-2", "jwk": taken.jwk})],
            format!("line 4: the key {}, of pump-2, is device pump-0's already", taken.thumbprint),
        ),
        (
            [json!({"id": "pump-1", "spki": own.spki}), json!({"id": "pump-2", "jwk": {"keys": [own.jwk]}})],
            format!("line 4: the key {}, of pump-2, is in the same file, on line 2", own.thumbprint),
        ),
        (
            [json!({"id": "pump-1"}), json!({"id": "pump-2", "jwk": own.jwk, "retires_at": "2020-01-01T00:00:00Z"})],
            "line 4: retires_at: 2020-01-01T00:00:00Z has passed".to_owned(),
        ),
        ([json!({"id": "pump-1"}), json!({"id": "pump-2", "fleet": "valves"})], "line 4: no such fleet".to_owned()),
    ] {
        let path = file(&server, "rows.json", &format!("\n{}\n\n{}\n", rows[0], rows[1]));
        let refused = admin.refused(&["device", "register", "--fleet", "pumps", "--from", &path]);
        assert!(refused.contains(&format!("{path}: {says}")), "{says}: {refused}");
        assert_eq!(count(&server), 1, "{says}");
    }
}

#[test]
fn a_hardware_identity_and_a_key_are_one_devices_for_ever() {
    let server = server();
    let admin = server.admin();
    let idevid = format!("idevid:{}:SN 1", ek(7));
    let Some(maker) = Maker::new(server.scratch().join("maker")) else { return };
    let root = maker.make("root", &Wish { subject: "/O=Maker/CN=Root", ..CA }, None);
    let accept = ["--attest", "tpm,registered-key,factory", "--factory-roots", maker::text(&root.certificate)];
    admin.run(&[&["fleet", "set", "pumps"], &accept[..]].concat());
    let key = server.scratch().join("device.key");
    let options = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"];
    let Some(mut command) = openssl::command() else { return };
    run(command.args(options).arg(&key)).succeeded();
    let public = public(&key);
    let what = [["--ek-hash", &ek(1)], ["--idevid", &idevid], ["--key", &public]];
    let mut arguments = vec!["device", "register", "pump-1", "--fleet", "pumps"];
    arguments.extend(what.iter().flatten());
    let shown = admin.run(&arguments);
    assert_eq!(shown["keys"].as_array().map(Vec::len), Some(1));
    assert_eq!(shown["hardware"].as_array().map(Vec::len), Some(2));
    for [option, value] in what {
        let again = ["device", "register", "pump-2", "--fleet", "pumps", option, value];
        assert_eq!(admin.reason(&again), "ALREADY_EXISTS", "{option}");
    }
    assert_eq!(count(&server), 1);
    let private = key.to_str().expect("a name");
    let refused = admin.refused(&["device", "register", "pump-2", "--fleet", "pumps", "--key", private]);
    assert!(refused.contains("this is a private key"), "{refused}");

    let thumbprint = shown["keys"][0]["thumbprint"].as_str().expect("a thumbprint");
    assert_eq!(admin.reason(&["device", "key", "retire", "pump-1", &"A".repeat(43)]), "NOT_FOUND");
    let retired = admin.run(&["device", "key", "retire", "pump-1", thumbprint]);
    assert!(retired["keys"][0]["retires_at"].is_string(), "{retired}");
    assert_eq!(admin.reason(&["device", "key", "add", "pump-1", "--key", &public]), "ALREADY_EXISTS");
}

#[test]
fn what_a_device_could_never_prove_is_not_registered_and_said_why() {
    let server = Server::start();
    let admin = server.admin();
    let Some(maker) = Maker::new(server.scratch().join("maker")) else { return };
    let root = maker.make("root", &Wish { subject: "/O=Maker/CN=Root", ..CA }, None);
    let roots = maker::text(&root.certificate);
    admin.run(&["fleet", "create", "boards", "--attest", "factory,tpm", "--factory-roots", roots]);
    admin.run(&["fleet", "create", "pumps", "--attest", "token,registered-key,tpm", "--least-tier", "hardware"]);
    let key = server.scratch().join("device.key");
    run(openssl::command().expect("openssl").args(["genpkey", "-algorithm", "ED25519", "-out"]).arg(&key)).succeeded();
    let (public, hash, out) = (public(&key), ek(1), server.scratch().join("token"));
    let out = out.to_str().expect("a name");
    let rows = file(&server, "rows.csv", "id\nboard-1\n");
    let device = |id, fleet| ["device", "register", id, "--fleet", fleet];
    for (arguments, says) in [
        ([&device("b", "boards")[..], &["--key", &public]].concat(), "the fleet boards does not accept registered-key"),
        (device("b", "boards").to_vec(), "nothing to prove itself by"),
        (vec!["device", "register", "--fleet", "boards", "--from", &rows], "rows.csv: line 2: it has nothing to prove"),
        ([&device("p", "pumps")[..], &["--idevid", &format!("{hash}:1")]].concat(), "does not accept factory"),
        ([&device("p", "pumps")[..], &["--key", &public]].concat(), "registered-key proves less than the fleet pumps"),
        (device("p", "pumps").to_vec(), "nothing to prove itself by"),
        (vec!["token", "create", "--fleet", "boards", "--device-id", "b", "--out", out], "does not accept token"),
        (
            vec!["token", "create", "--fleet", "pumps", "--pattern", "*", "--uses", "1", "--out", out],
            "token proves less than",
        ),
        (vec!["fleet", "set", "pumps", "--key-types", "ed25519"], "a TPM makes no Ed25519 keys"),
        (vec!["fleet", "set", "pumps", "--attest", "tpm,tpm"], "tpm is named twice"),
        (vec!["fleet", "set", "pumps", "--factory-roots", roots], "does not accept factory"),
        (vec!["fleet", "set", "boards", "--factory-roots", "none"], "--factory-roots FILE"),
        (vec!["fleet", "set", "boards", "--max-devices", "-1"], "must be a number above 0, or none"),
    ] {
        let finished = admin.try_run(&arguments);
        assert!(finished.code != 0 && finished.stderr.contains(says), "{says}: {finished:?}");
    }
    admin.run(&[&device("p", "pumps")[..], &["--ek-hash", &format!("ek:{hash}")]].concat());
    let add = ["device", "key", "add", "p", "--key", &public];
    assert!(admin.refused(&add).contains("registered-key proves less"));
    admin.run(&["fleet", "set", "pumps", "--least-tier", "token"]);
    let past = [&add[..], &["--active-from", "2020-01-01T00:00:00Z", "--retires-at", "2021-01-01T00:00:00Z"]].concat();
    assert!(admin.refused(&past).contains("has passed: the key would never count"));
    assert_eq!(count(&server), 1);
}

#[test]
fn an_idevid_is_registered_by_its_certificate_and_lists_are_emptied() {
    let Some(world) = World::new() else { return };
    let admin = world.server.admin();
    let issuer = world.root.spki_sha256();
    world.fleet("boards", &world.root, &["--banned-keys", &ek(5)]);
    let [one, two, other] =
        [("one", "SN-1", &world.root), ("two", "SN-2", &world.root), ("third", "SN-3", &world.other)]
            .map(|(name, serial, root)| world.board(name, serial, root));
    let path = |made: &maker::Made| maker::text(&made.certificate).to_owned();
    let register =
        |id, file: &str| ["device", "register", id, "--fleet", "boards", "--idevid", file].map(str::to_owned);
    let run = |arguments: [String; 7]| admin.run(&arguments.each_ref().map(String::as_str));
    assert_eq!(run(register("board-1", &path(&one)))["hardware"][0], format!("idevid:{issuer}:SN-1"));
    let added = admin.run(&["device", "hardware", "add", "board-1", "--idevid", &path(&two)]);
    assert_eq!(added["hardware"][1], format!("idevid:{issuer}:SN-2"));
    // Its identity without its kind, too.
    admin.run(&["device", "hardware", "retire", "board-1", &format!("{issuer}:SN-2")]);
    let refused = admin.refused(&register("board-3", &path(&other)).each_ref().map(String::as_str));
    assert!(refused.contains("does not lead to a root of this fleet"), "{refused}");
    world.enroll("one", &one, Some("board-1")).succeeded();
    let shown = admin.run(&["device", "show", "board-1"]);
    let certificate = admin.run(&["certificate", "show", shown["head_serial"].as_str().expect("a serial")]);
    assert_eq!((&certificate["method"], &certificate["tier"]), (&"factory".into(), &"factory".into()));

    let set = |option: &str, value: &str| admin.run(&["fleet", "set", "boards", option, value]);
    assert_eq!(set("--banned-keys", &ek(6))["banned_keys"], serde_json::json!([ek(6)]), "these and no others");
    assert_eq!(set("--validity", "12h")["banned_keys"], serde_json::json!([ek(6)]));
    assert_eq!(set("--banned-keys", "none")["banned_keys"], serde_json::json!([]));
    assert_eq!(set("--tpm-roots", "none")["tpm_roots"], serde_json::json!([]));
    set("--attest", "token");
    assert_eq!(set("--factory-roots", "none")["factory_roots"], serde_json::json!([]));
}

#[test]
fn a_root_that_is_none_is_named_and_one_given_twice_counts_once() {
    let Some(world) = World::new() else { return };
    let admin = world.server.admin();
    let leaf = world.board("leaf", "SN-1", &world.root);
    let large = Wish { key: &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4104"], ..CA };
    let large = world.maker.make("large", &large, None);
    let file = |name: &str, roots: &[&maker::Made]| maker::text(&world.maker.chain(name, roots)).to_owned();
    let create = |roots: &str| {
        let create = ["fleet", "create", "boards", "--attest", "factory,tpm"];
        admin.try_run(&[&create[..], &["--factory-roots", roots, "--tpm-roots", roots]].concat())
    };
    for (roots, says) in [
        (&[&world.root, &leaf][..], "certificate 2 of the factory roots: the certificate is no CA's"),
        (&[&large], "certificate 1 of the factory roots: a certificate has an RSA key of more than 4096 bits"),
    ] {
        let finished = create(&file("wrong", roots));
        assert!(finished.code != 0 && finished.stderr.contains(says), "{says}: {finished:?}");
    }
    let der = world.server.scratch().join("root.der");
    let mut command = openssl::command().expect("openssl");
    run(command.args(["x509", "-outform", "DER", "-in"]).arg(&world.root.certificate).arg("-out").arg(&der))
        .succeeded();
    let finished = create(maker::text(&der));
    assert!(finished.code != 0 && finished.stderr.contains("not PEM; from DER, `openssl x509"), "{finished:?}");
    let created: Value = {
        let finished = create(&file("twice", &[&world.root, &world.other, &world.root]));
        serde_json::from_str(&finished.succeeded()).expect("JSON")
    };
    for list in ["factory_roots", "tpm_roots"] {
        assert_eq!(created[list].as_array().map(Vec::len), Some(2), "{created}");
    }
}

#[test]
fn many_devices_are_read_from_the_standard_input() {
    use std::{io::Write, process::Stdio};
    let server = server();
    let mut command = server.admin().command(&["device", "register", "--fleet", "pumps", "--from", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts");
    child.stdin.take().expect("its input").write_all(b"id\npump-1\npump-2\n").expect("it reads");
    assert!(child.wait().expect("it ends").success());
    assert_eq!(count(&server), 2);
}

#[test]
fn a_key_that_is_not_the_certificates_is_told_before_anybody_is_asked() {
    let Some(world) = World::new() else { return };
    let (one, two) = (world.board("one", "SN-1", &world.root), world.board("two", "SN-2", &world.root));
    let mixed = maker::Made { certificate: one.certificate, key: two.key };
    let mut command = world.enrollment("mixed", &mixed, Some("board-1"));
    // Exit code 2: it was found out here, and not by the server.
    let finished = run(&mut command);
    assert!(finished.code == 2 && finished.stderr.contains("the key is not the one"), "{finished:?}");
}
