//! Real parts that a test needs: a missing one is a failure under `CI=true`, and a visible skip elsewhere.

use std::{
    env,
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

/// Where Debian keeps servers, which is not on every user's path.
const MORE_FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Debian's releases of PostgreSQL, each with a folder `bin`, which is on nobody's path.
const POSTGRESQL: &str = "/usr/lib/postgresql";

/// The path of a program, or `None` where it is missing: then the test says nothing and returns at once.
///
/// # Panics
///
/// When it is missing and `CI` is `true`.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .chain(MORE_FOLDERS.iter().map(PathBuf::from))
        .chain(fs::read_dir(POSTGRESQL).into_iter().flatten().flatten().map(|release| release.path().join("bin")))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file());
    found.or_else(|| missing(&format!("{name} is not installed")))
}

/// The file, or `None` where it is missing, as [`program`] does it; `advice` says where it would come from.
pub fn file(path: &Path, advice: &str) -> Option<PathBuf> {
    if path.is_file() {
        return Some(path.to_path_buf());
    }
    missing(&format!("{} is missing: {advice}", path.display()))
}

/// Reports a part that is missing.
fn missing<T>(reason: &str) -> Option<T> {
    assert!(env::var("CI").as_deref() != Ok("true"), "a real part is missing: {reason}");
    skip(reason)
}

/// Reports what this machine does not let us do, whoever installs what: a visible skip everywhere.
pub fn skip<T>(reason: &str) -> Option<T> {
    let current = std::thread::current();
    let line = format!("skipped: {}: {reason}\n", current.name().unwrap_or("a test"));
    // Written past the test runner, which keeps the output of tests that pass to itself.
    std::io::stderr().write_all(line.as_bytes()).expect("stderr takes a line");
    if let Some(list) = env::var_os("FLEETCA_SKIPPED") {
        let mut list = OpenOptions::new().append(true).create(true).open(list).expect("the list of skips opens");
        list.write_all(line.as_bytes()).expect("the list of skips takes a line");
    }
    None
}
