//! The passphrase of an encrypted key.

use std::{fmt, fs, path::Path};

use zeroize::Zeroizing;

use super::SignerError;

/// A passphrase: wiped from memory when dropped, never printed.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Takes these octets.
    pub fn new(octets: &[u8]) -> Self {
        Self(Zeroizing::new(octets.to_vec()))
    }

    /// Reads a file's first line, without its line end. The file may be a pipe.
    pub fn read(path: &Path) -> Result<Self, SignerError> {
        let content = fs::read(path).map(Zeroizing::new).map_err(|source| SignerError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        let line = content.split(|octet| *octet == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Err(SignerError::EmptyPassphrase { path: path.to_owned() });
        }
        Ok(Self::new(line))
    }

    /// The octets.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}
