//! The commands of `docs/attestation.md`, run as they are written there: all shell blocks, one after the other, in one
//! folder, against a real server and a real TPM.

use std::{env, fs, path::PathBuf, process::Command};

use fleetca_tests::{
    binaries,
    process::{Finished, run},
    require,
    server::Server,
    tpm::Tpm,
};

/// A command that waits in vain ends here, instead of never.
const LIMIT_SECONDS: &str = "120";

/// Commands in indented blocks, which other tests run with these options, or settings switch on: files below `tests`.
const OUTSIDE: [(&str, &str); 11] = [
    ("ca-server fleet create boards --attest factory --factory-roots maker.pem \\", "tests/unknown_devices.rs"),
    ("ca-server fleet create plant  --attest factory --factory-roots own.pem \\", "tests/unknown_devices.rs"),
    (
        "--unknown-devices register --accept-any-holder --id-template 'board-{issuer}-{serial}'",
        "tests/unknown_devices.rs",
    ),
    (
        "ca-server fleet create hosts  --attest tpm --tpm-roots chips.pem --unknown-devices pending --ek-kind rsa-2048",
        "tests/approval.rs",
    ),
    (
        "ca-server fleet create boards --attest factory --factory-roots maker.pem --unknown-devices pending",
        "tests/approval.rs",
    ),
    ("ca-server device list --status pending", "tests/approval.rs"),
    ("ca-server device approve board-7", "tests/approval.rs"),
    ("ca-server device reject board-7 --fleet boards", "tests/approval.rs"),
    ("cargo build --release -p enroll-client --features pkcs11", "Cargo.toml"),
    (
        "enroll-client enroll --server URL --root control-root.pem --dir DIR --device-id board-1 --attest \\",
        "tests/pkcs11.rs",
    ),
    ("'factory:idevid.pem,pkcs11:", "tests/pkcs11.rs"),
];

/// What some of these tests have in common: fleets of boards, the device's commands.
const SHARED: [&str; 2] = ["src/newcomers.rs", "src/device.rs"];

/// Options of cargo's, which are written otherwise in its files.
const CARGO: [&str; 2] = ["release", "features"];

fn page() -> String {
    fs::read_to_string(binaries::workspace().join("docs/attestation.md")).expect("there is such a page")
}

/// The contents of each fenced block in `sh`.
fn shell_blocks() -> Vec<String> {
    let page = page();
    let blocks = page.split("```sh\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// What only the block has that is run on the device's next board: a TPM is added.
const NEXT_BOARD: &str = "device hardware add valve-7 --ek-hash";

/// Runs the blocks in one shell, with this server and these TPMs in the place of those that are written: that of the first
/// board, and that of the next.
fn walk(server: &Server, tpms: &[Tpm; 2]) -> Finished {
    let folder = server.scratch().join("walk");
    fs::create_dir(&folder).expect("a folder");
    fs::copy(server.control_root(), folder.join("control-root.pem")).expect("the root is copied");
    let [first, next] = tpms.each_ref().map(Tpm::socket);
    let on_its_board = |block: String| {
        let tpm = if block.contains(NEXT_BOARD) { &next } else { &first };
        block.replace("/dev/tpmrm0", tpm)
    };
    let script: String = shell_blocks().into_iter().map(on_its_board).collect();
    let script = format!("set -euo pipefail\n{script}").replace("https://ca.example:7443", &server.url());
    let file = server.scratch().join("walk.sh");
    fs::write(&file, script).expect("the script is written");
    let mut command = Command::new("timeout");
    command.args([LIMIT_SECONDS, "bash"]).arg(&file).current_dir(&folder).env("PATH", path());
    command.env("FLEETCA_SERVER", server.operator_url()).env("FLEETCA_CREDENTIAL", server.admin().credential());
    run(&mut command)
}

/// The programs under test first.
fn path() -> std::ffi::OsString {
    let built = binaries::ca_server().parent().map(PathBuf::from).expect("programs lie in a folder");
    let inherited = env::var_os("PATH").unwrap_or_default();
    env::join_paths([built].into_iter().chain(env::split_paths(&inherited))).expect("no folder's name has a colon")
}

#[test]
fn every_method_and_every_recovery_works_as_it_is_written() {
    for program in ["bash", "openssl", "timeout"] {
        if require::program(program).is_none() {
            return;
        }
    }
    let (Some(first), Some(next)) = (Tpm::start(), Tpm::start()) else { return };
    let server = Server::start();
    let finished = walk(&server, &[first, next]);
    assert_eq!(finished.code, 0, "the walk stopped:\n{}\n---- error output\n{}", finished.stdout, finished.stderr);
    let admin = server.admin();
    for (id, status, tier, generation) in [
        ("sensor-1", "decommissioned", "token", 3),
        ("pump-7", "decommissioned", "registered", 3),
        ("board-1", "decommissioned", "factory", 3),
        ("valve-7", "decommissioned", "hardware", 4),
    ] {
        let shown = admin.run(&["device", "show", id]);
        let told = (&shown["status"], &shown["tier"], &shown["generation"]);
        assert_eq!(told, (&status.into(), &tier.into(), &generation.into()), "{id}: {shown}");
    }
    let valve = admin.run(&["device", "show", "valve-7"]);
    let [now, before] = ["hardware", "retired_hardware"].map(|list| valve[list].as_array().map(Vec::len));
    assert_eq!((now, before), (Some(1), Some(1)), "{valve}");
    let pump = admin.run(&["device", "show", "pump-7"]);
    let keys = pump["keys"].as_array().expect("keys");
    assert!(keys.len() == 3 && keys[2]["active_from"].as_str() < keys[2]["retires_at"].as_str(), "{pump}");
}

#[test]
fn every_command_of_the_page_is_run_here_or_by_a_test_that_is_named() {
    let blocks = shell_blocks().concat();
    for line in page().lines().filter(|line| line.starts_with("    ") && !blocks.contains(line)) {
        let known = OUTSIDE.iter().find(|(command, _)| line.trim().starts_with(command));
        let (_, file) = known.unwrap_or_else(|| panic!("not run by any test: {line}"));
        let read = |file: &str| {
            fs::read_to_string(binaries::workspace().join("tests").join(file)).expect("there is such a file")
        };
        let text = [file, SHARED[0], SHARED[1]].map(read).concat();
        let options = line.split_whitespace().filter_map(|word| word.strip_prefix("--"));
        for option in options.filter(|option| !CARGO.contains(option)) {
            assert!(text.contains(&format!("--{option}")), "{file} has nothing of --{option}: {line}");
        }
    }
}
