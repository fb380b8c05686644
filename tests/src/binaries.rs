//! The programs under test: built once a test process, with the profile that the tests themselves were built with.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The `ca-server` binary.
pub fn ca_server() -> PathBuf {
    built().join("ca-server")
}

/// The `enroll-client` binary.
pub fn enroll_client() -> PathBuf {
    built().join("enroll-client")
}

/// A program of this crate's own `src/bin`.
pub fn helper(name: &str) -> PathBuf {
    built().join(name)
}

/// The target folder: above `PROFILE/deps/`, where the running test lies.
pub fn target() -> PathBuf {
    profile_folder().parent().expect("the profile's folder lies in the target folder").to_path_buf()
}

/// The workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace")
}

fn profile_folder() -> PathBuf {
    let program = env::current_exe().expect("a program knows its own path");
    let folder = program.parent().expect("it lies in a folder");
    // A test lies in PROFILE/deps, a load tool in PROFILE.
    if folder.ends_with("deps") { folder.parent().expect("PROFILE").to_path_buf() } else { folder.to_path_buf() }
}

/// Builds the programs, so that plain `cargo test` of one file runs today's code. Cargo finds nothing to do where
/// `tests/run` has just built them.
fn built() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = profile_folder();
        let profile = match folder.file_name().and_then(|name| name.to_str()) {
            Some("debug") => "dev",
            Some(name) => name,
            None => panic!("{} names no profile", folder.display()),
        };
        let mut command = Command::new(env!("CARGO"));
        command.args(["build", "--quiet", "--workspace", "--bins", "--profile", profile]);
        command.current_dir(workspace()).env("CARGO_TARGET_DIR", target());
        // What cargo tells a test about its package, some build scripts watch: they would all run again.
        let told = env::vars_os().map(|(name, _)| name).filter(|name| is_told_by_cargo(&name.to_string_lossy()));
        told.for_each(|name| _ = command.env_remove(name));
        let output = command.output().expect("cargo starts");
        assert!(output.status.success(), "cargo build failed:\n{}", String::from_utf8_lossy(&output.stderr));
        folder
    })
}

fn is_told_by_cargo(variable: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_", "CARGO_TARGET_TMPDIR", "OUT_DIR"]
        .iter()
        .any(|prefix| variable.starts_with(prefix))
}
