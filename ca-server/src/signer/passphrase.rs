//! The passphrase of an encrypted key.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{fmt, io::Read};

use zeroize::Zeroizing;

use super::SignerError;

/// No passphrase file is longer.
const LONGEST: u64 = 64 * 1024;

/// A passphrase: wiped from memory when dropped, never printed.
#[derive(Clone)]
pub struct Passphrase {
    octets: Zeroizing<Vec<u8>>,
    /// The file that it was read from, for errors.
    path: Option<PathBuf>,
}

impl Passphrase {
    /// Takes these octets.
    pub fn new(octets: &[u8]) -> Self {
        Self { octets: Zeroizing::new(octets.to_vec()), path: None }
    }

    /// Reads a file's first line, without its line end. The file may be a pipe; one that everybody can read is refused.
    pub fn read(path: &Path) -> Result<Self, SignerError> {
        let failed = |source| SignerError::PassphraseFile { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        check(&file.metadata().map_err(failed)?, path)?;
        // All the room at once: a buffer that grows would leave pieces of the secret behind.
        let mut content = Zeroizing::new(Vec::with_capacity(LONGEST as usize));
        file.take(LONGEST).read_to_end(&mut content).map_err(failed)?;
        let line = content.split(|octet| *octet == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Err(SignerError::EmptyPassphrase { path: path.to_owned() });
        }
        Ok(Self { path: Some(path.to_owned()), ..Self::new(line) })
    }

    /// The octets.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.octets
    }

    /// Where it is from, as errors tell it.
    pub(super) fn origin(&self) -> String {
        self.path.as_ref().map_or_else(|| "that was given".into(), |path| format!("in {}", path.display()))
    }
}

/// A group may read it: service managers hand credentials over that way.
fn check(found: &fs::Metadata, path: &Path) -> Result<(), SignerError> {
    let mode = found.permissions().mode() & 0o7777;
    if found.is_file() && mode & 0o007 != 0 {
        return Err(SignerError::Permissions { path: path.to_owned(), mode });
    }
    Ok(())
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_passphrase_is_the_first_line_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passphrase");
        write(&path, "correct horse\r\nbattery\n", 0o600);
        assert_eq!(Passphrase::read(&path).unwrap().as_bytes(), b"correct horse");
        write(&path, "\n", 0o600);
        assert!(matches!(Passphrase::read(&path), Err(SignerError::EmptyPassphrase { .. })));
    }

    #[test]
    fn a_passphrase_that_everybody_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passphrase");
        write(&path, "correct horse\n", 0o440);
        assert!(Passphrase::read(&path).is_ok(), "a group's, as a service manager hands it over");
        for mode in [0o604, 0o644, 0o606] {
            write(&path, "correct horse\n", mode);
            let refused = Passphrase::read(&path);
            assert!(matches!(refused, Err(SignerError::Permissions { mode: found, .. }) if found == mode));
        }
    }
}
