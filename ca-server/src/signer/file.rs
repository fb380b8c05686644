//! Files that hold secrets: readable by their owner only, written whole or not at all, never written over.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::SignerError;
use crate::step::{Step, reached};

/// No key file is longer.
const LONGEST: u64 = 64 * 1024;

/// Reads a secret; refuses a file that others can read or change.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<String>, SignerError> {
    let failed = |source| SignerError::Io { action: "read", path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SignerError::Permissions { path: path.to_owned(), mode });
    }
    // All the room at once: a buffer that grows would leave pieces of the secret behind.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST as usize));
    file.take(LONGEST).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Writes a secret to a new file: whole and on disk when this returns, or not there. An existing file stays as it is.
pub(super) fn write_new(path: &Path, content: &[u8]) -> Result<(), SignerError> {
    let failed = |source| SignerError::Io { action: "write", path: path.to_owned(), source };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let draft = draft_path(folder)?;
    let written = write_draft(&draft, content).and_then(|()| {
        reached(Step::FileDrafted);
        fs::hard_link(&draft, path)
    });
    reached(Step::FilePlaced);
    // A rename would silently replace what is there; a link does not.
    let removed = fs::remove_file(&draft);
    match written {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(SignerError::Exists { path: path.to_owned() });
        }
        written => written.map_err(failed)?,
    }
    removed.map_err(failed)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn draft_path(folder: &Path) -> Result<PathBuf, SignerError> {
    let mut random = [0; 8];
    SystemRandom::new().fill(&mut random).map_err(|_| SignerError::Failed)?;
    Ok(folder.join(format!(".{:016x}.new", u64::from_be_bytes(random))))
}

fn write_draft(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}
