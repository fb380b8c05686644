//! The tours of the README, run as they are written there: all shell blocks, one after the other, in an empty folder.

use std::{
    env, fs,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::Command,
};

use fleetca_tests::{
    binaries,
    process::{Finished, run},
    require,
};
use tempfile::TempDir;

/// Ports in the text, which may be taken on the machine that tests.
const WRITTEN_PORTS: [u16; 5] = [7443, 7444, 7080, 7081, 8443];

/// Other tests take free ports too, and may be faster: then the tours begin again.
const ATTEMPTS: usize = 3;

/// What the shell does around the blocks: stop at the first failure, and leave no process behind.
const PROLOGUE: &str = "\
set -euo pipefail
trap 'for job in $(jobs -p) $(cat gateway/nginx.pid 2>/dev/null || true); do kill \"$job\" 2>/dev/null || true; done' EXIT
";

/// A loop that waits in vain ends here, instead of never.
const LIMIT_SECONDS: &str = "300";

#[test]
fn the_tours_do_what_they_say() {
    for program in ["bash", "curl", "nginx", "openssl", "timeout"] {
        if require::program(program).is_none() {
            return;
        }
    }
    let blocks = shell_blocks(&readme());
    assert!(blocks.len() >= 10, "the README has lost its tours: {blocks:?}");
    let mut attempt = 1;
    let finished = loop {
        let finished = tour(&blocks);
        if attempt == ATTEMPTS || finished.code == 0 || !all(&finished).contains("in use") {
            break finished;
        }
        attempt += 1;
    };
    let told = all(&finished);
    assert_eq!(finished.code, 0, "the tours stopped:\n{told}");
    for (what, times) in [
        ("refused, with exit code 1\n", 4),
        ("refused, with exit code 3\n", 1),
        ("refused, with exit code 22\n", 2),
        ("bench-1 is refused\n", 1),
        ("URI:spiffe://fleet.example/device/pump-7\n", 1),
        ("generations/000002\n", 1),
        ("welcome, CN=pump-7,O=pumps\n", 2),
        ("ready\n", 1),
    ] {
        assert_eq!(finished.stdout.matches(what).count(), times, "{what:?} is told another number of times:\n{told}");
    }
}

#[test]
fn every_command_of_the_readme_is_run_or_named_here() {
    let blocks = shell_blocks(&readme()).concat();
    for line in readme().lines().filter(|line| line.starts_with("    ")) {
        let outside = [
            "cargo run --release -- quickstart",
            "tests/run",
            "cargo build --release -p ca-server -p enroll-client && ",
        ];
        let known = outside.iter().any(|command| line.trim().starts_with(command)) || blocks.contains(line);
        assert!(known, "not run by any test: {line}");
    }
}

/// Runs the blocks in one shell, on ports that were free a moment ago.
fn tour(blocks: &[String]) -> Finished {
    let folder = TempDir::new().expect("a temporary folder");
    let mut script = PROLOGUE.to_owned();
    script.extend(blocks.iter().map(String::as_str));
    for (written, free) in WRITTEN_PORTS.into_iter().zip(free_ports()) {
        script = script.replace(&written.to_string(), &free.to_string());
    }
    let file = folder.path().join("tours.sh");
    fs::write(&file, script).expect("the script is written");
    let work = folder.path().join("work");
    fs::create_dir(&work).expect("a folder to work in");
    let mut command = Command::new("timeout");
    command.args([LIMIT_SECONDS, "bash"]).arg(&file).current_dir(&work).env("PATH", path());
    command.env_remove("FLEETCA_SERVER").env_remove("FLEETCA_CREDENTIAL");
    let mut finished = run(&mut command);
    // What ran in the background tells its troubles here.
    for log in ["ca.log", "agent.log", "gateway/error.log"] {
        finished.stderr += &format!("---- {log}\n{}", fs::read_to_string(work.join(log)).unwrap_or_default());
    }
    finished
}

fn all(finished: &Finished) -> String {
    format!("{}\n---- error output\n{}", finished.stdout, finished.stderr)
}

fn readme() -> String {
    fs::read_to_string(binaries::workspace().join("README.md")).expect("there is a README")
}

/// The contents of all fenced blocks in `sh`.
fn shell_blocks(markdown: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut current: Option<String> = None;
    for line in markdown.lines() {
        match (&mut current, line) {
            (None, "```sh") => current = Some(String::new()),
            (None, _) => {}
            (Some(_), "```") => blocks.extend(current.take()),
            (Some(block), line) => {
                block.push_str(line);
                block.push('\n');
            }
        }
    }
    assert!(current.is_none(), "a block of the README has no end");
    blocks
}

/// Five ports that are free now, all different: none is let go before the last is found.
fn free_ports() -> Vec<u16> {
    let listeners: Vec<TcpListener> = WRITTEN_PORTS
        .iter()
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback interface has a free port"))
        .collect();
    listeners.iter().map(|listener| listener.local_addr().expect("a listener knows its address").port()).collect()
}

/// The programs under test first, and servers where Debian keeps them.
fn path() -> std::ffi::OsString {
    let built = binaries::ca_server();
    let built = built.parent().expect("programs lie in a folder").to_path_buf();
    let inherited = env::var_os("PATH").unwrap_or_default();
    let folders =
        [built].into_iter().chain(env::split_paths(&inherited)).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    env::join_paths(folders).expect("no folder's name has a colon")
}
