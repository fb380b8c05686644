//! Both programs at the command line: their exit codes, and that no secret is ever told.

use std::{fs, path::Path, process::Command};

use fleetca_tests::{
    binaries,
    device::Device,
    operator::Operator,
    process::{Finished, run},
    require,
    server::Server,
};
use serde_json::Value;

/// Nobody listens there: the port is for multiplexing services over TCP, which nobody does.
const NOBODY: &str = "https://127.0.0.1:1";

#[test]
fn exit_codes_of_ca_server_tell_refused_from_usage_and_from_out_of_reach() {
    let server = Server::start();
    let admin = server.admin();
    let code = |arguments: &[&str]| admin.try_run(arguments).code;
    assert_eq!(code(&["fleet", "create", "sensors"]), 0);
    assert_eq!(code(&["device", "show", "nobody"]), 1);
    assert_eq!(code(&["fleet", "create"]), 2);
    assert_eq!(code(&["frobnicate"]), 2);
    let far = Operator::new(NOBODY.to_owned(), admin.credential().to_path_buf());
    assert_eq!(far.try_run(&["fleet", "list"]).code, 3);
}

#[test]
fn an_error_is_json_for_programs_with_the_reason_of_the_wire() {
    let server = Server::start();
    let refused = server.admin().refused(&["device", "show", "nobody"]);
    let error: Value = serde_json::from_str(refused.trim()).expect("an error in JSON");
    assert_eq!(error["error"]["exit_code"], 1);
    assert_eq!(error["error"]["reason"], "NOT_FOUND");
    assert!(error["error"]["message"].is_string());
}

#[test]
fn exit_codes_of_enroll_client_tell_an_agent_what_to_do() {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    let renew = |device: &Device| run(device.command("renew").arg("--force")).code;
    let device = Device::enroll(&server, "sensors", "pump-7");
    assert_eq!(renew(&device), 0);
    server.admin().run(&["device", "hold", "pump-7"]);
    assert_eq!(renew(&device), 3, "held: try again later");
    server.admin().run(&["device", "revoke", "pump-7", "--reason", "keyCompromise"]);
    assert_eq!(renew(&device), 1, "revoked: for good");
    assert_eq!(run(&mut device.command("frobnicate")).code, 2);
    assert_eq!(renew(&Device::new(server.scratch().join("nobody"))), 4, "no credential: enroll first");

    let far = Device::new(server.scratch().join("far"));
    let token = server.admin().device_token("sensors", "far", server.scratch());
    let enroll = |url: &str, root: &Path| {
        let mut command = far.command("enroll");
        command.args(["--server", url, "--device-id", "far"]).arg("--root").arg(root);
        run(command.arg("--attest").arg(format!("token:{}", token.display()))).code
    };
    // Where no TPM is, none will be: whoever asks.
    let nowhere = far.folder().with_extension("tpm").display().to_string();
    let mut by_tpm = far.command("enroll");
    by_tpm.args(["--server", &server.url(), "--device-id", "far", "--attest", &format!("tpm:{nowhere}"), "--root"]);
    let mut show = Command::new(binaries::enroll_client());
    for command in [by_tpm.arg(server.control_root()), show.args(["show-tpm", &nowhere])] {
        let finished = run(command);
        assert!(finished.code == 1 && finished.stderr.contains("there is no TPM at this place"), "{finished:?}");
    }
    assert_eq!(enroll(NOBODY, &server.control_root()), 3);
    assert_eq!(enroll(&server.url(), &server.device_root()), 1, "a server under another root is refused for good");
    assert_eq!(enroll(&server.url(), &server.control_root()), 0);
}

#[test]
fn no_log_tells_a_secret() {
    let mut server = Server::start_logging("trace");
    server.admin().create_fleet("sensors");
    let token = server.admin().device_token("sensors", "pump-7", server.scratch());
    let device = Device::new(server.scratch().join("pump-7"));
    let mut command = device.command("enroll");
    command.args(["--server", &server.url(), "--device-id", "pump-7", "--root"]).arg(server.control_root());
    command.arg("--attest").arg(format!("token:{}", token.display())).env("RUST_LOG", "trace");
    let Finished { code, stdout, stderr } = run(&mut command);
    assert_eq!(code, 0, "{stderr}");

    let token = fs::read_to_string(token).expect("the token");
    let secret = token.split('.').nth(1).expect("the seed");
    let key = fs::read_to_string(device.presented().key).expect("the key");
    let key = key.lines().nth(1).expect("its first line");
    let told = [stdout, stderr, server.process().stdout(), server.process().stderr()].concat();
    assert!(told.contains("TRACE"), "nothing was traced");
    for secret in [secret, key] {
        assert!(!told.contains(secret), "a secret was told");
    }
}

#[test]
fn a_url_with_the_wrong_port_says_so() {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    let ports = server.addresses();
    let at = |port: u16| Operator::new(format!("https://localhost:{port}"), server.admin().credential().to_path_buf());
    let said = |port: u16| at(port).refused(&["fleet", "list"]);
    assert!(said(ports.devices.port()).contains("is --server the operators' port"), "{}", said(ports.devices.port()));
    assert!(said(ports.http.port()).contains("does not speak TLS"), "{}", said(ports.http.port()));

    let token = server.admin().device_token("sensors", "pump-7", server.scratch());
    let enroll = |port: u16| {
        let mut command = Device::new(server.scratch().join("pump-7")).command("enroll");
        command.args(["--server", &format!("https://localhost:{port}"), "--device-id", "pump-7"]);
        command.arg("--root").arg(server.control_root()).arg("--attest").arg(format!("token:{}", token.display()));
        run(&mut command)
    };
    let refused = enroll(ports.operators.port());
    assert!(refused.code == 3 && refused.stderr.contains("is this the devices' port"), "{refused:?}");
    let refused = enroll(ports.metrics.port());
    assert!(refused.code == 3 && refused.stderr.contains("does not speak TLS"), "{refused:?}");

    let mut sync = Command::new(binaries::enroll_client());
    sync.args(["sync-crls", "--http-url", &format!("http://localhost:{}", ports.devices.port()), "--trust"]);
    let refused = run(sync.arg(server.device_root()).arg("--out").arg(server.scratch().join("crls.pem")));
    assert!(refused.code == 3 && refused.stderr.contains("not HTTP; CRLs have a port of their own"), "{refused:?}");
    assert_eq!(enroll(ports.devices.port()).code, 0);
}

#[test]
fn a_mistake_in_usage_is_json_for_programs_too() {
    let said = |line: &str| {
        let finished = run(Command::new(binaries::ca_server()).args(line.split(' ')));
        assert_eq!((finished.code, &*finished.stdout), (2, ""), "{finished:?}");
        finished.stderr
    };
    for (line, part) in [
        ("--output json frobnicate", "'frobnicate'"),
        ("fleet create --output=json", "<NAME>"),
        ("device list --status asleep --output json", "'asleep'"),
        ("--output json", "subcommand"),
        ("fleet list --output json", "--server"),
    ] {
        let report: Value = serde_json::from_str(&said(line)).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!((&report["error"]["exit_code"], &report["error"]["reason"]), (&2.into(), &Value::Null), "{line}");
        let message = report["error"]["message"].as_str().expect("a message");
        assert!(message.contains(part) && !message.contains('\n'), "{line}: {message}");
    }
    assert!(said("frobnicate").starts_with("error: "), "people get words");
    assert!(
        run(Command::new(binaries::ca_server()).args(["--output", "json", "--help"])).succeeded().contains("Usage")
    );
}

/// Features only add: what links nothing more with all of them on, as here, links nothing more with the default ones.
#[test]
fn the_programs_link_no_library_of_the_system_but_cs_own() {
    const KNOWN: [&str; 5] = ["linux-vdso.so.1", "libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux"];
    let Some(ldd) = require::program("ldd") else { return };
    for program in [binaries::ca_server(), binaries::enroll_client()] {
        let told = run(Command::new(&ldd).arg(&program)).succeeded();
        assert!(told.contains("libc.so.6"), "{told}");
        for line in told.lines() {
            let path = line.split_whitespace().next().unwrap_or_default();
            let name = path.rsplit('/').next().unwrap_or_default();
            assert!(KNOWN.iter().any(|known| name.starts_with(known)), "{} needs {line}", program.display());
        }
    }
}
