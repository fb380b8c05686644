//! `ca-server init`, and the settings that `serve` finds: what is made with which rights, and what is refused.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use fleetca_tests::{
    binaries, openssl,
    process::{Finished, Running, run},
    server::{PUBLIC_URL, Server, TRUST_DOMAIN, init},
};
use serde_json::Value;
use tempfile::TempDir;

/// Every file below a folder, with its bytes; links by where they lead.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let kind = fs::symlink_metadata(&path).expect("it is there");
            if kind.is_symlink() {
                let target = fs::read_link(&path).expect("a link");
                found.push((path, target.into_os_string().into_encoded_bytes()));
            } else if kind.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).expect("a file");
                found.push((path, bytes));
            }
        }
    }
    found.sort();
    found
}

fn holds_private_key(bytes: &[u8]) -> bool {
    bytes.windows(12).any(|window| window == b"PRIVATE KEY-")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary folders have names in UTF-8")
}

fn ca_server(command: &str, dir: &Path, options: &[&str]) -> Finished {
    run(Command::new(binaries::ca_server()).arg(command).arg("--dir").arg(dir).args(options))
}

fn try_init(dir: &Path, options: &[&str]) -> Finished {
    let fixed = ["--trust-domain", TRUST_DOMAIN, "--public-url", PUBLIC_URL, "--name", "localhost"];
    ca_server("init", dir, &[&fixed, options].concat())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn a_second_init_refuses_and_changes_nothing() {
    let folder = TempDir::new().expect("a temporary folder");
    let (dir, roots) = (folder.path().join("ca"), folder.path().join("roots"));
    try_init(&dir, &["--root-dir", path(&roots)]).succeeded();
    let before = files(folder.path());
    let elsewhere = folder.path().join("other");
    for (dir, roots) in [(&dir, &roots), (&dir, &elsewhere), (&elsewhere, &roots)] {
        let again = try_init(dir, &["--root-dir", path(roots)]);
        assert_eq!(again.code, 1, "{again:?}");
        assert!(again.stderr.contains("there is something already; `init` changes nothing that exists"), "{again:?}");
        assert_eq!(again.stderr.lines().count(), 1, "{again:?}");
        assert_eq!(files(folder.path()), before);
    }
}

#[test]
fn what_makes_no_sense_leaves_nothing_behind() {
    let folder = TempDir::new().expect("a temporary folder");
    let dir = folder.path().join("ca");
    let none = folder.path().join("none");
    for (code, options) in [
        (2, &["--trust-domain", "Fleet.Test"][..]),
        (2, &["--trust-domain", "fleet.test", "--name", "no name"]),
        (2, &["--trust-domain", "fleet.test", "--public-url", "https://ca.fleet.test"]),
        (1, &["--trust-domain", "fleet.test", "--root-passphrase-file", path(&none)]),
    ] {
        let refused = ca_server("init", &dir, options);
        assert_eq!(refused.code, code, "{refused:?}");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0, "{options:?}");
    }
}

#[test]
fn private_keys_can_be_read_by_their_owner_only() {
    let folder = TempDir::new().expect("a temporary folder");
    let dir = folder.path().join("ca");
    init(&dir);
    let keys: Vec<_> = files(&dir).into_iter().filter(|(_, bytes)| holds_private_key(bytes)).collect();
    assert_eq!(keys.len(), 6, "two roots, two CAs, the server, an operator: {keys:?}");
    for (file, _) in keys {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    for private in ["", "keys", "offline"] {
        assert_eq!(mode(&dir.join(private)), 0o700, "{private}");
    }
    assert_eq!(mode(&dir.join("ca.db")), 0o600);
}

#[test]
fn root_keys_lie_apart_and_open_with_their_passphrase_only() {
    let folder = TempDir::new().expect("a temporary folder");
    let (dir, roots) = (folder.path().join("ca"), folder.path().join("roots"));
    let (passphrase, wrong) = (folder.path().join("passphrase"), folder.path().join("wrong"));
    for (file, text) in [(&passphrase, "correct horse battery staple\n"), (&wrong, "incorrect horse\n")] {
        fs::write(file, text).expect("a file");
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("a file of ours");
    }
    try_init(&dir, &["--root-dir", path(&roots), "--root-passphrase-file", path(&passphrase)]).succeeded();
    assert!(!dir.join("offline").exists());
    let keys: Vec<_> = files(&roots).into_iter().filter(|(_, bytes)| holds_private_key(bytes)).collect();
    assert_eq!(keys.len(), 2);
    for (file, bytes) in &keys {
        let text = String::from_utf8_lossy(bytes);
        assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"), "{}", file.display());
        assert_eq!(mode(file), 0o600, "{}", file.display());
        let open = |passphrase: &Path| {
            let mut command = openssl::command()?;
            command.args(["pkcs8", "-in", path(file), "-passin", &format!("file:{}", path(passphrase))]);
            Some(run(&mut command))
        };
        let Some(opened) = open(&passphrase) else { return };
        assert!(opened.succeeded().starts_with("-----BEGIN PRIVATE KEY-----"));
        assert_eq!(open(&wrong).expect("openssl is there").code, 1);
    }
    let sign = |options: &[&str]| {
        let mut command = Command::new(binaries::ca_server());
        run(command.args(["root", "sign-crl", "--root-dir", path(&roots)]).args(options))
    };
    let before = files(&roots);
    for options in [&[][..], &["--root-passphrase-file", path(&wrong)]] {
        let refused = sign(options);
        assert_eq!((refused.code, refused.stderr.lines().count()), (1, 1), "{refused:?}");
        assert_eq!(files(&roots), before);
    }
    sign(&["--root-passphrase-file", path(&passphrase)]).succeeded();
    assert_ne!(files(&roots), before);
}

#[test]
fn json_says_where_everything_is() {
    let folder = TempDir::new().expect("a temporary folder");
    let dir = folder.path().join("ca");
    let made: Value = serde_json::from_str(&try_init(&dir, &["--output", "json"]).succeeded()).expect("JSON");
    for (name, file) in [
        ("dir", ""),
        ("root_dir", "offline"),
        ("control_root", "control-root.pem"),
        ("device_root", "device-root.pem"),
        ("operator_credential", "operator"),
    ] {
        let there = PathBuf::from(made[name].as_str().unwrap_or_else(|| panic!("no {name} in {made}")));
        assert_eq!(there, dir.join(file), "{name}");
        assert!(there.exists(), "{name}");
    }
    assert_eq!((&made["trust_domain"], &made["public_url"]), (&TRUST_DOMAIN.into(), &PUBLIC_URL.into()));
    let fingerprint = made["control_root_sha256"].as_str().expect("a fingerprint");
    let Some(mut command) = openssl::command() else { return };
    let root = dir.join("control-root.pem");
    let told = run(command.args(["x509", "-noout", "-fingerprint", "-sha256", "-in", path(&root)])).succeeded();
    let (_, told) = told.trim_end().split_once('=').expect("a fingerprint");
    assert_eq!(told.replace(':', "").to_lowercase(), fingerprint.replace(':', "").to_lowercase());
}

#[test]
fn settings_are_checked_whole_before_anything_starts() {
    let folder = TempDir::new().expect("a temporary folder");
    let dir = folder.path().join("ca");
    init(&dir);
    let file = dir.join("config.toml");
    let settings = fs::read_to_string(&file).expect("init writes them");
    for (text, named) in [
        (format!("lisen = \"127.0.0.1:1\"\n{settings}"), "lisen"),
        (format!("{settings}\nconections = 3\n"), "conections"),
        (settings.replace("backdate_seconds = 300", "backdate_seconds = 4000"), "backdate_seconds"),
        (settings.replace("backdate_seconds = 300", "backdate_seconds = \"long\""), "backdate_seconds"),
        ("names = []\n".into(), "names"),
        ("names = [\n".into(), "config.toml"),
    ] {
        fs::write(&file, &text).expect("a file");
        for command in ["serve", "show-config"] {
            let refused = ca_server(command, &dir, &[]);
            assert_eq!(refused.code, 1, "{text}: {refused:?}");
            assert!(refused.stderr.contains(named), "{text}: {refused:?}");
            assert_eq!(refused.stdout, "");
        }
    }
    fs::remove_file(&file).expect("it was there");
    let refused = ca_server("serve", &dir, &[]);
    assert!(refused.code == 1 && refused.stderr.contains("config.toml"), "{refused:?}");
    let nowhere = ca_server("serve", &folder.path().join("none"), &[]);
    assert!(nowhere.code == 1 && nowhere.stderr.contains("none/config.toml"), "{nowhere:?}");
}

#[test]
fn show_config_prints_what_is_in_force_as_a_file_would_say_it() {
    let folder = TempDir::new().expect("a temporary folder");
    let dir = folder.path().join("ca");
    init(&dir);
    let settings = fs::read_to_string(dir.join("config.toml")).expect("init writes them");
    assert_eq!(ca_server("show-config", &dir, &[]).succeeded(), settings);
    let json: Value =
        serde_json::from_str(&ca_server("show-config", &dir, &["--output", "json"]).succeeded()).expect("JSON");
    assert_eq!(json["listen"], "127.0.0.1:7443");
    let shown = ca_server("show-config", &dir, &["--listen", "127.0.0.1:9443"]).succeeded();
    assert_eq!(shown, settings.replace("127.0.0.1:7443", "127.0.0.1:9443"));
    let other = folder.path().join("other.toml");
    fs::write(&other, &shown).expect("a file");
    assert_eq!(ca_server("show-config", &dir, &["--config", path(&other)]).succeeded(), shown);
}

#[test]
fn a_folder_has_one_server_at_a_time() {
    let server = Server::start();
    let ports = ["--listen", "--operator-listen", "--http-listen", "--metrics-listen"];
    let free: Vec<&str> = ports.into_iter().flat_map(|option| [option, "127.0.0.1:0"]).collect();
    let refused = ca_server("serve", &server.dir(), &free);
    assert_eq!((refused.code, &*refused.stdout), (1, ""), "{refused:?}");
    let error = refused.stderr.lines().last().expect("an error");
    assert_eq!(error, format!("error: another server is running on {}; end that one first", path(&server.dir())));
    server.admin().create_fleet("sensors");
}

#[test]
fn a_port_that_is_taken_is_named_with_the_option_that_chooses_another() {
    let folder = TempDir::new().expect("a temporary folder");
    let dir = folder.path().join("ca");
    init(&dir);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("its address").to_string();
    let options = ["--listen", "--operator-listen", "--http-listen", "--metrics-listen"];
    for option in options {
        let others = options.into_iter().filter(|other| *other != option).flat_map(|other| [other, "127.0.0.1:0"]);
        let refused = ca_server("serve", &dir, &others.chain([option, &*address]).collect::<Vec<_>>());
        assert_eq!(refused.code, 1, "{refused:?}");
        let error = refused.stderr.lines().last().expect("an error");
        assert!(error.starts_with(&format!("error: cannot listen on {address} for ")), "{error}");
        assert!(error.ends_with(&format!("choose another with {option}")), "{error}");
    }
}

#[test]
fn a_ca_is_made_in_a_folder_that_is_there_already_and_whose_parent_is_not_ours() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (parent, roots) = (dir.path().join("parent"), dir.path().join("roots"));
    let folder = parent.join("ca");
    fs::create_dir_all(&folder).expect("made");
    fs::create_dir_all(&roots).expect("made");
    // What an attempt left that was cut short is in nobody's way.
    fs::create_dir_all(folder.join(".init/keys")).expect("made");
    let run = |folder: &std::path::Path| {
        let mut command = std::process::Command::new(fleetca_tests::binaries::ca_server());
        command.arg("init").arg("--dir").arg(folder).arg("--root-dir").arg(&roots);
        command.args(["--trust-domain", "fleet.test"]).output().expect("it starts")
    };
    let output = run(&folder);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = |path: &std::path::Path| {
        let mut names: Vec<_> =
            fs::read_dir(path).expect("a folder").map(|entry| entry.expect("read").file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&parent), ["ca"], "nothing lies beside it");
    assert!(folder.join("config.toml").exists() && !folder.join(".init").exists());
    assert!(roots.join("device-root.key.pem").exists() && !roots.join(".init").exists());

    let other = dir.path().join("other");
    assert!(!run(&other).status.success(), "the root folder is taken");
    assert_eq!(names(dir.path()), ["parent", "roots"], "no draft is left behind");
}

/// Serves a folder on free ports until it says that it is ready, and ends it: its output and its log.
fn served(dir: &Path, options: &[&str]) -> (String, String) {
    let mut command = Command::new(binaries::ca_server());
    command.arg("serve").arg("--dir").arg(dir).args(options);
    for port in ["--listen", "--operator-listen", "--http-listen", "--metrics-listen"] {
        command.args([port, "127.0.0.1:0"]);
    }
    let mut process = Running::start("serve", command, dir);
    process.until("it is ready", |process| process.stdout().ends_with('\n').then_some(()));
    assert!(process.stop().success());
    (process.stdout(), process.stderr())
}

#[test]
fn a_server_that_can_read_the_root_keys_warns_wherever_they_are() {
    const WARNING: &str = "this server can read the root keys";
    let folder = TempDir::new().expect("a temporary folder");
    let (inside, beside, roots) = (folder.path().join("a"), folder.path().join("b"), folder.path().join("roots"));
    try_init(&inside, &[]).succeeded();
    try_init(&beside, &["--root-dir", path(&roots)]).succeeded();
    for (dir, keys) in [(&inside, &inside.join("offline")), (&beside, &roots)] {
        let (_, log) = served(dir, &[]);
        assert!(log.contains(WARNING) && log.contains(path(keys)), "{log}");
        fs::rename(keys, folder.path().join("safe")).expect("they are taken away");
        let (_, log) = served(dir, &[]);
        assert!(!log.contains(WARNING), "{log}");
        fs::remove_dir_all(folder.path().join("safe")).expect("they were there");
    }
}

#[test]
fn a_program_can_read_where_the_server_listens() {
    let folder = TempDir::new().expect("a temporary folder");
    let dir = folder.path().join("ca");
    init(&dir);
    let (output, _) = served(&dir, &["--output", "json"]);
    let addresses: Value = serde_json::from_str(&output).expect("one line of JSON");
    for port in ["devices", "operators", "http", "metrics"] {
        assert!(addresses[port].as_str().is_some_and(|address| address.starts_with("127.0.0.1:")), "{output}");
    }
}
