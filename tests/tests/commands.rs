//! The operators' commands as programs and people meet them: JSON, exit codes, errors, and where tokens go.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, path::Path, process::Command};

use fleetca_tests::{
    admin::read_token,
    binaries,
    device::Device,
    process::{Finished, run},
    server::{self, Server},
    stranger::{self, SubjectKey},
    wait::{SOON, until},
};
use insta::assert_snapshot;
use serde_json::Value;

fn ca_server(arguments: &[&str]) -> Finished {
    // Nothing that the tests' own environment says may reach it.
    run(Command::new(binaries::ca_server())
        .args(arguments)
        .env_remove("FLEETCA_SERVER")
        .env_remove("FLEETCA_CREDENTIAL"))
}

/// A command for people: a table, and the server from the environment.
fn human(server: &str, credential: &Path, arguments: &[&str]) -> Finished {
    let mut command = Command::new(binaries::ca_server());
    run(command.args(arguments).env("FLEETCA_SERVER", server).env("FLEETCA_CREDENTIAL", credential))
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary folders have names in UTF-8")
}

/// A command and the names of the fields that it prints, of the first row where it prints a list.
fn fields(words: &str, json: &Value) -> String {
    let (shape, first) = match json {
        Value::Array(rows) => ("list", rows.first().unwrap_or_else(|| panic!("{words}: no rows"))),
        other => ("one", other),
    };
    let names: Vec<_> = first.as_object().unwrap_or_else(|| panic!("{words}: {json}")).keys().cloned().collect();
    format!("{words} ({shape}): {}\n", names.join(" "))
}

#[tokio::test]
async fn json_has_stable_field_names_everywhere() {
    let server = Server::start();
    let admin = server.admin();
    let out = |name: &str| server.scratch().join(name);
    let mut told = String::new();
    let mut say = |words: &str, options: &[&str]| {
        let command: Vec<&str> = words.split(' ').chain(options.iter().copied()).collect();
        let json = admin.run(&command);
        told += &fields(words, &json);
        json
    };
    say("fleet create", &["sensors"]);
    say("fleet set", &["sensors", "--validity", "2h"]);
    say("fleet list", &[]);
    say("fleet show", &["sensors"]);
    say("device register", &["new-1", "--fleet", "sensors"]);
    let explained = say("fleet explain", &["sensors", "new-1"]);
    let device = Device::enroll(&server, "sensors", "pump-7");
    say("certificate show", &[&device.serial()]);
    let listed = out("listed.txt");
    fs::write(&listed, "pump-7\n").expect("a file");
    let held = say("device hold", &["--from", path(&listed), "--yes"]);
    say("device revoke", &["pump-7"]);
    say("device list", &[]);
    let shown = say("device show", &["pump-7"]);
    let token =
        say("token create", &["--fleet", "sensors", "--device-id", "new-1", "--out", path(&out("new-1.token"))]);
    say("token list", &[]);
    say("token revoke", &[token["id"].as_str().expect("an ID")]);
    say("crl status", &[]);
    say("crl publish", &[]);
    say("issuer list", &[]);
    say("gateway create", &["eu-7", "--out", path(&out("eu-7.token"))]);
    say("gateway list", &[]);
    say("operator create", &["ana", "--role", "viewer", "--out", path(&out("ana.token"))]);
    say("operator list", &[]);
    say("audit list", &[]);
    say("audit verify", &[]);
    let strangers = stranger::connect(&server).await;
    let revoked = read_token(&out("new-1.token"));
    stranger::enroll(&strangers, "new-1", &revoked, &SubjectKey::generate()).await.expect_err("its token is revoked");
    let events = until(SOON, "the refusal is written down", || {
        let events = admin.run(&["audit", "list", "--security"]);
        (events != Value::Array(Vec::new())).then_some(events)
    });
    told += &fields("audit list --security", &events);
    told += &fields("device hold --from, fleets", &held["fleets"]);
    told += &fields("fleet explain, ways", &explained["ways"]);
    told += &fields("device show, certificates", &shown["certificates"]);
    told += &fields("device show, crls", &shown["crls"]);
    told += &fields("device show, loaded", &shown["crls"][0]["loaded"]);
    told += &fields("enroll-client status", &device.status());
    assert_snapshot!(told, @r"
    fleet create (one): accept_any_holder attest banned_keys created_at crl_scope device_count devices_in_use ek_kind factory_roots factory_validity grace_seconds id_template issuers key_types least_tier leaving_issuers max_devices max_enrollments_per_hour most_pending name named_issuers on_fork reenroll signing_issuers tpm_roots unknown_devices validity_seconds
    fleet set (one): accept_any_holder attest banned_keys created_at crl_scope device_count devices_in_use ek_kind factory_roots factory_validity grace_seconds id_template issuers key_types least_tier leaving_issuers max_devices max_enrollments_per_hour most_pending name named_issuers on_fork reenroll signing_issuers tpm_roots unknown_devices validity_seconds
    fleet list (list): accept_any_holder attest banned_keys created_at crl_scope device_count devices_in_use ek_kind factory_roots factory_validity grace_seconds id_template issuers key_types least_tier leaving_issuers max_devices max_enrollments_per_hour most_pending name named_issuers on_fork reenroll signing_issuers tpm_roots unknown_devices validity_seconds
    fleet show (one): accept_any_holder attest banned_keys created_at crl_scope device_count devices_in_use ek_kind factory_roots factory_validity grace_seconds id_template issuers key_types least_tier leaving_issuers max_devices max_enrollments_per_hour most_pending name named_issuers on_fork reenroll signing_issuers tpm_roots unknown_devices validity_seconds
    device register (one): certificates created_at crls expires_at fleet generation hardware head_serial id keys lapsed last_seen_at method must_reattest pending_serial reenroll_allowed reenroll_until retired_hardware status status_reason tier
    fleet explain (one): device fleet status tier ways
    certificate show (one): issuer method not_after not_before pem position revocation_reason revoked revoked_at serial sha256 spki_sha256 subject tier
    device hold (one): action certificates crls devices done fleets gateways pattern_tokens plan reason tokens unchanged undecided unreadable
    device revoke (one): certificates crls gateways status subject tokens unreadable
    device list (list): created_at expires_at fleet generation head_serial id lapsed last_seen_at method pending_serial reenroll_allowed reenroll_until status status_reason tier
    device show (one): certificates created_at crls expires_at fleet generation hardware head_serial id keys lapsed last_seen_at method must_reattest pending_serial reenroll_allowed reenroll_until retired_hardware status status_reason tier
    token create (one): created_at created_by expires_at file fleet id id_pattern kind reenroll role state subject_id uses uses_left
    token list (list): created_at created_by expires_at fleet id id_pattern kind reenroll role state subject_id uses uses_left
    token revoke (one): created_at created_by expires_at fleet id id_pattern kind reenroll role state subject_id uses uses_left
    crl status (list): entries hierarchy issuer issuer_name loaded next_update number sha256 size this_update url
    crl publish (list): entries hierarchy issuer issuer_name loaded next_update number sha256 size this_update url
    issuer list (list): hierarchy id name not_after not_before pem published_at ready_at replaces standing
    gateway create (one): created_at created_by expires_at file fleet id id_pattern kind reenroll role state subject_id uses uses_left
    gateway list (list): created_at expires_at head_serial heard_at id last_seen_at loaded status watches
    operator create (one): created_at created_by expires_at file fleet id id_pattern kind reenroll role state subject_id uses uses_left
    operator list (list): created_at expires_at head_serial id last_seen_at role status
    audit list (list): action actor at at_millis detail hash outcome sequence serial subject
    audit verify (one): grown_since head records sealed sealed_at
    audit list --security (list): count detail first_at kind last_at subject
    device hold --from, fleets (list): certificates devices fleet unchanged undecided unreadable
    fleet explain, ways (list): admitted because confirm_required identity provided reason waits way
    device show, certificates (list): issuer method not_after not_before position revocation_reason revoked revoked_at serial sha256 spki_sha256 subject tier
    device show, crls (list): issuer loaded number
    device show, loaded (one): behind gateways loaded not_heard
    enroll-client status (one): confirm_required expired generation id kind last_error not_after not_before on_renew_error renew_at renewal_window serial server trust_domain
    ");
}

#[test]
fn exit_codes_tell_refusals_mistakes_and_a_server_out_of_reach_apart() {
    let server = Server::start();
    let credential = server.dir().join("operator");
    let at = |url: &str, arguments: &[&str]| human(url, &credential, arguments);
    let url = server.operator_url();
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let closed = format!("https://localhost:{}", nobody.local_addr().expect("its address").port());
    drop(nobody);
    let other = server.scratch().join("other");
    server::init(&other);

    let cases = [
        (0, at(&url, &["fleet", "list"])),
        (1, at(&url, &["device", "show", "nobody"])),
        (1, at(&url, &["device", "register", "a b", "--fleet", "sensors"])),
        (1, human(&url, &server.scratch().join("none"), &["fleet", "list"])),
        (1, human(&url, &other.join("operator"), &["fleet", "list"])),
        (2, at("localhost", &["fleet", "list"])),
        (2, at(&url, &["device", "list", "--expiring-within", "soon"])),
        (2, at(&url, &["device", "list", "--nonsense"])),
        (2, at(&url, &["fleet", "set", "sensors"])),
        (2, ca_server(&["fleet", "list"])),
        (2, ca_server(&[])),
        (3, at(&closed, &["fleet", "list"])),
    ];
    for (expected, finished) in &cases {
        assert_eq!(finished.code, *expected, "{finished:?}");
        assert!(*expected == 0 || finished.stdout.is_empty(), "errors go to stderr: {finished:?}");
        if *expected == 1 || *expected == 3 {
            assert_eq!(finished.stderr.lines().count(), 1, "one line: {finished:?}");
        }
    }
    let mut lines: String = cases.iter().filter(|(code, _)| [1, 3].contains(code)).map(|(_, f)| &*f.stderr).collect();
    lines += &ca_server(&["fleet", "list"]).stderr;
    lines += &at("localhost", &["fleet", "list"]).stderr;
    for (found, word) in [(&*url, "[server]"), (&*closed, "[nobody]"), (path(server.scratch()), "[scratch]")] {
        lines = lines.replace(found, word);
    }
    assert_snapshot!(lines, @r"
    error: no such device (NOT_FOUND); `device list` shows what there is
    error: id: may have only the characters A-Z a-z 0-9 . _ - and must begin with a letter or digit (INVALID_ARGUMENT)
    error: [scratch]/none holds no credential: enroll first; --credential takes a credential folder, such as DIR/operator of `ca-server init`
    error: [server] is not trusted: its certificate does not come from the control root that is trusted here (UnknownIssuer)
    error: [nobody] cannot be reached: Connection refused (os error 111); is the server running, and is --server its operators' port (7444 by default)?
    error: --server URL (or FLEETCA_SERVER) is missing
    error: --server takes a URL of the form https://HOST:PORT
    ");

    let json = server.admin().try_run(&["device", "show", "nobody"]);
    let report: Value = serde_json::from_str(&json.stderr).expect("JSON");
    let expected = serde_json::json!({ "error": {
        "message": "no such device",
        "reason": "NOT_FOUND",
        "next": "`device list` shows what there is",
        "exit_code": 1,
    } });
    assert_eq!(report, expected);
}

#[test]
fn a_token_goes_into_a_new_file_for_its_owner_and_nowhere_else() {
    let server = Server::start();
    let admin = server.admin();
    admin.create_fleet("sensors");
    let out = server.scratch().join("pump-7.token");
    let create = ["token", "create", "--fleet", "sensors", "--device-id", "pump-7", "--out", path(&out)];
    let shown = human(&server.operator_url(), admin.credential(), &create).succeeded();
    let text = fs::read_to_string(&out).expect("the token");
    assert_eq!(fs::metadata(&out).expect("the token").permissions().mode() & 0o777, 0o600);
    let secret = text.trim_end().rsplit('.').nth(1).expect("three parts").to_owned();
    assert!(text.starts_with("fleetca-join-") && text.ends_with('\n') && text.lines().count() == 1);
    assert!(!shown.contains(&secret));

    let again = admin.refused(&create);
    assert!(again.contains("is not overwritten"), "{again}");
    assert_eq!(fs::read_to_string(&out).expect("the token"), text);
    let nowhere = server.scratch().join("none/pump-7.token");
    admin.refused(&["token", "create", "--fleet", "sensors", "--device-id", "pump-7", "--out", path(&nowhere)]);
    let refused = server.scratch().join("refused.token");
    let fleet = ["token", "create", "--fleet", "none", "--device-id", "a", "--out", path(&refused)];
    assert_eq!(admin.reason(&fleet), "NOT_FOUND");
    assert!(!refused.exists(), "a token that nobody knows is not left behind");
    assert_eq!(admin.run(&["token", "list"]).as_array().expect("a list").len(), 1);

    // What the CA keeps is no secret: neither the token's text nor its key is in its folder.
    let seed = read_token(&out);
    for entry in fs::read_dir(server.dir()).expect("the CA's folder") {
        let file = entry.expect("an entry").path();
        let Ok(bytes) = fs::read(&file) else { continue };
        let has = |wanted: &[u8]| bytes.windows(wanted.len()).any(|window| window == wanted);
        assert!(!has(secret.as_bytes()), "{}", file.display());
        if file.ends_with("ca.db") || file.ends_with("ca.db-wal") {
            assert!(has(&seed.public_key()) || file.ends_with("ca.db"), "its public half is there");
        }
    }
}
