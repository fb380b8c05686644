//! Python: the virtual environment that `tests/run` makes under the target folder, and the scripts in `tests/python`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{binaries, require};

/// A program of the virtual environment, or `None` where there is none (a failure under `CI=true`).
pub fn program(name: &str) -> Option<PathBuf> {
    let path = binaries::target().join("python/bin").join(name);
    require::file(&path, "tests/run makes the virtual environment that it belongs to")
}

/// A command that runs one of the scripts in `tests/python`, or `None` as in [`program`].
pub fn script(name: &str) -> Option<Command> {
    let mut command = Command::new(program("python")?);
    command.arg("-B").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(name));
    Some(command)
}
