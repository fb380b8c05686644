//! Kills of the commands that work on the server's own folder: `init` makes a whole CA or none, and the others go on when
//! they are run again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ca_server::step::Step;
use fleetca_tests::{
    binaries, http,
    kill::{at_every_step, killed_at},
    operator::Operator,
    process::{Finished, run},
    server::{PUBLIC_URL, Server, TRUST_DOMAIN, issuer_in},
};
use tempfile::TempDir;

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary folders have names in UTF-8")
}

fn ca_server(arguments: &[&str]) -> Finished {
    run(Command::new(binaries::ca_server()).args(arguments))
}

/// `init` with its root keys elsewhere, in folders that are made by it, or that are there already.
fn init_killed_anywhere(folders_are_there: bool) {
    at_every_step(|step, times| {
        let folder = TempDir::new().expect("a temporary folder");
        let (dir, roots) = (folder.path().join("ca"), folder.path().join("roots"));
        if folders_are_there {
            [&dir, &roots].into_iter().for_each(|folder| fs::create_dir(folder).expect("a folder"));
        }
        let names = ["--trust-domain", TRUST_DOMAIN, "--public-url", PUBLIC_URL, "--name", "localhost"];
        let init = [&["init", "--dir", path(&dir), "--root-dir", path(&roots)][..], &names].concat();
        if killed_at(step, times, folder.path(), &init).is_none() {
            return false;
        }
        let again = ca_server(&init);
        if again.code != 0 {
            assert_eq!(again.code, 1, "{step:?} {times}: {again:?}");
            // A whole CA, or what says itself what to remove.
            let whole = is_whole(&dir, folder.path());
            let told = again.stderr.contains("was cut short");
            assert!(whole != told, "{step:?} {times}: whole: {whole}, but: {again:?}");
            if told {
                for left in [&dir, &roots, &dir.with_file_name("ca.init"), &roots.with_file_name("roots.init")] {
                    if left.exists() {
                        assert!(
                            again.stderr.contains(path(left)),
                            "{step:?} {times}: {left:?} is not named: {again:?}"
                        );
                        fs::remove_dir_all(left).expect("it is removed");
                    }
                }
                ca_server(&init).succeeded();
            }
        }
        assert!(is_whole(&dir, folder.path()), "{step:?} {times}");
        let sign = ["root", "sign-crl", "--root-dir", path(&roots)];
        ca_server(&sign).succeeded();
        for root in ["control-root", "device-root"] {
            let read = |path: PathBuf| fs::read(path).expect("a file");
            let name = format!("{root}.pem");
            assert_eq!(read(dir.join(&name)), read(roots.join(&name)), "{step:?} {times}: the roots are this CA's");
        }
        true
    });
}

/// Whether commands find a CA there whose store and keys open.
fn is_whole(dir: &Path, scratch: &Path) -> bool {
    let out = scratch.join("recovered");
    let recovered = ca_server(&["operator", "recover", "--dir", path(dir), "--name", "probe", "--out", path(&out)]);
    let _ = fs::remove_dir_all(out);
    recovered.code == 0
}

#[test]
fn an_init_killed_at_any_step_leaves_a_whole_ca_or_none() {
    init_killed_anywhere(false);
}

#[test]
fn an_init_killed_at_any_step_in_folders_that_are_there_leaves_a_whole_ca_or_none() {
    init_killed_anywhere(true);
}

#[test]
fn a_recovery_killed_at_any_step_recovers_with_the_same_command() {
    let server = Server::start();
    let (dir, out) = (server.dir(), server.scratch().join("ana"));
    let recover = ["operator", "recover", "--dir", path(&dir), "--name", "ana", "--out", path(&out)];
    for step in [Step::Committing, Step::Committed] {
        killed_at(step, 1, server.scratch(), &recover).expect("the step comes");
    }
    ca_server(&recover).succeeded();
    Operator::new(server.operator_url(), out).create_fleet("sensors");
    server.admin().run(&["audit", "verify"]);
}

/// A passphrase in a file that its owner alone can read.
fn passphrase(folder: &Path) -> PathBuf {
    let file = folder.join("phrase");
    fs::write(&file, "correct horse\n").expect("a file");
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("a file of ours");
    file
}

#[test]
fn a_backup_killed_at_any_step_is_made_by_the_same_command() {
    let server = Server::start();
    let (dir, out, phrase) = (server.dir(), server.scratch().join("backup"), passphrase(server.scratch()));
    let backup = ["backup", "--dir", path(&dir), "--out", path(&out), "--passphrase-file", path(&phrase)];
    at_every_step(|step, times| {
        let is_killed = killed_at(step, times, server.scratch(), &backup).is_some();
        // What has its name is whole.
        if is_killed && !out.exists() {
            ca_server(&backup).succeeded();
        }
        let restored = server.scratch().join("restored");
        ca_server(&["restore", "--from", path(&out), "--dir", path(&restored)]).succeeded();
        assert!(!server.scratch().join("backup.part").exists(), "{step:?} {times}");
        [&out, &restored].into_iter().for_each(|folder| fs::remove_dir_all(folder).expect("it is removed"));
        is_killed
    });
}

/// `restore` into a folder that is made by it, or that is there already.
fn restore_killed_anywhere(folder_is_there: bool) {
    let mut server = Server::start();
    let (copy, keys) = (server.scratch().join("backup"), server.dir().join("keys"));
    ca_server(&["backup", "--dir", path(&server.dir()), "--out", path(&copy)]).succeeded();
    server.stop();
    let lost = issuer_in(&copy);
    at_every_step(|step, times| {
        let folder = TempDir::new().expect("a temporary folder");
        let (dir, out) = (folder.path().join("ca"), folder.path().join("admin"));
        if folder_is_there {
            fs::create_dir(&dir).expect("a folder");
        }
        let from = ["--from", path(&copy), "--keys", path(&keys), "--resume", "--accept-loss", &lost];
        let restore = [&["restore", "--dir", path(&dir)], &from[..]].concat();
        if killed_at(step, times, folder.path(), &restore).is_none() {
            return false;
        }
        let again = ca_server(&restore);
        if again.stderr.contains("was cut short") {
            assert!(again.code == 1 && again.stderr.contains(path(&dir)), "{again:?}");
            fs::remove_dir_all(&dir).expect("it is removed");
            ca_server(&restore).succeeded();
        } else {
            let is_whole = again.code == 1 && again.stderr.contains("there is something already");
            assert!(again.code == 0 || is_whole, "{step:?} {times}: {again:?}");
        }
        ca_server(&["operator", "recover", "--dir", path(&dir), "--out", path(&out)]).succeeded();
        let decided = ca_server(&["restore", "--dir", path(&dir), "--resume", "--accept-loss", &lost]);
        assert!(decided.code == 1 && decided.stderr.contains("nothing to decide"), "{step:?} {times}: {decided:?}");
        true
    });
}

#[test]
fn a_restore_killed_at_any_step_leaves_a_whole_ca_or_none() {
    restore_killed_anywhere(false);
}

#[test]
fn a_restore_killed_at_any_step_in_a_folder_that_is_there_leaves_a_whole_ca_or_none() {
    restore_killed_anywhere(true);
}

#[test]
fn a_decision_killed_at_any_step_is_made_by_the_same_command() {
    let mut server = Server::start();
    let copy = server.scratch().join("backup");
    ca_server(&["backup", "--dir", path(&server.dir()), "--out", path(&copy)]).succeeded();
    server.admin().run(&["crl", "publish"]);
    let bundle = http::get(&server.http_url("/crl/bundle.pem")).ok();
    server.stop();
    let (crls, keys) = (server.scratch().join("crls.pem"), server.dir().join("keys"));
    fs::write(&crls, bundle).expect("a file");
    let lost = issuer_in(&copy);
    at_every_step(|step, times| {
        let folder = TempDir::new().expect("a temporary folder");
        let dir = folder.path().join("ca");
        ca_server(&["restore", "--from", path(&copy), "--dir", path(&dir), "--keys", path(&keys)]).succeeded();
        let decide = ["restore", "--dir", path(&dir), "--crl", path(&crls), "--resume", "--accept-loss", &lost];
        let is_killed = killed_at(step, times, folder.path(), &decide).is_some();
        let again = ca_server(&decide);
        let is_decided = again.code == 1 && again.stderr.contains("nothing to decide");
        assert!(is_decided || is_killed && again.code == 0, "{step:?} {times}: {again:?}");
        ca_server(&["operator", "recover", "--dir", path(&dir), "--out", path(&folder.path().join("admin"))])
            .succeeded();
        is_killed
    });
}

#[test]
fn keys_whose_encryption_is_killed_at_any_step_are_encrypted_by_the_same_command() {
    let mut server = Server::start();
    server.stop();
    let (dir, mut old) = (server.dir(), None::<PathBuf>);
    // Of three files, the second: one has the new passphrase by then, and one the old.
    for (step, times) in [(Step::FileDrafted, 2), (Step::FilePlaced, 2), (Step::Committing, 1)] {
        let new = server.scratch().join(format!("passphrase-{step:?}"));
        fs::write(&new, format!("correct horse {step:?}\n")).expect("a file");
        fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("a file of ours");
        let mut encrypt = vec!["key", "encrypt", "--dir", path(&dir), "--new-passphrase-file", path(&new)];
        if let Some(old) = &old {
            encrypt.extend(["--key-passphrase-file", path(old)]);
        }
        killed_at(step, times, server.scratch(), &encrypt).expect("the step comes");
        ca_server(&encrypt).succeeded();
        old = Some(new);
    }
    let last = old.expect("a passphrase");
    server.start_again_with(&["--key-passphrase-file", path(&last)]);
    server.admin().create_fleet("sensors");
}
