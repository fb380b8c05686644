//! `ca-server init`: what it makes, with which rights, and that it never makes it twice.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use fleetca_tests::{
    binaries,
    process::{Finished, run},
    server::{PUBLIC_URL, TRUST_DOMAIN, init},
};
use tempfile::TempDir;

/// Every file below a folder, with its bytes; links by where they lead.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match fs::symlink_metadata(&path).expect("it is there") {
                kind if kind.is_symlink() => {
                    let target = fs::read_link(&path).expect("a link");
                    found.insert(path, target.into_os_string().into_encoded_bytes());
                }
                kind if kind.is_dir() => folders.push(path),
                _ => {
                    found.insert(path.clone(), fs::read(&path).expect("a file"));
                }
            }
        }
    }
    found
}

fn init_with(dir: &Path, options: &[&str]) -> Finished {
    let mut command = Command::new(binaries::ca_server());
    command.args(["init", "--trust-domain", TRUST_DOMAIN, "--public-url", PUBLIC_URL, "--name", "localhost"]);
    run(command.arg("--dir").arg(dir).args(options))
}

fn holds_private_key(bytes: &[u8]) -> bool {
    bytes.windows(12).any(|window| window == b"PRIVATE KEY-")
}

#[test]
fn a_second_init_refuses_and_changes_nothing() {
    let folder = TempDir::new().expect("a temporary folder");
    let dir = folder.path().join("ca");
    init(&dir);
    let before = files(&dir);
    let again = init_with(&dir, &[]);
    assert_eq!(again.code, 1, "{again:?}");
    assert_eq!(files(&dir), before);
}

#[test]
fn private_keys_can_be_read_by_their_owner_only() {
    let folder = TempDir::new().expect("a temporary folder");
    let dir = folder.path().join("ca");
    init(&dir);
    let keys: Vec<_> = files(&dir).into_iter().filter(|(_, bytes)| holds_private_key(bytes)).collect();
    assert!(keys.len() >= 5, "two roots, two CAs, the server, an operator: {:?}", keys.len());
    for (path, _) in keys {
        let mode = fs::metadata(&path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
}

#[test]
fn root_keys_are_kept_apart_and_encrypted_with_a_passphrase() {
    let folder = TempDir::new().expect("a temporary folder");
    let (dir, roots) = (folder.path().join("ca"), folder.path().join("roots"));
    let passphrase = folder.path().join("passphrase");
    fs::write(&passphrase, "correct horse battery staple\n").expect("a file");
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    init_with(&dir, &["--root-dir", &path(&roots), "--root-passphrase-file", &path(&passphrase)]).succeeded();
    let encrypted = b"BEGIN ENCRYPTED PRIVATE KEY";
    let keys: Vec<_> = files(&roots).into_iter().filter(|(_, bytes)| holds_private_key(bytes)).collect();
    assert_eq!(keys.len(), 2);
    for (path, bytes) in keys {
        assert!(bytes.windows(encrypted.len()).any(|window| window == encrypted), "{}", path.display());
    }
}
