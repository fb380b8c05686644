//! A new file for a secret: for its owner only, never over another, and gone again unless it is kept.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::CommandError;

/// A file that was made here, and is removed when this is dropped without [`SecretFile::keep`].
#[derive(Debug)]
pub struct SecretFile {
    path: PathBuf,
    kept: bool,
}

impl SecretFile {
    /// Makes the file (0600) with this text, and syncs it.
    pub fn create(path: &Path, text: &str) -> Result<Self, CommandError> {
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => CommandError::Exists(path.into()),
            _ => CommandError::File { path: path.into(), source: error },
        })?;
        let secret = Self { path: path.into(), kept: false };
        writeln!(file, "{text}").and_then(|()| file.sync_all()).map_err(CommandError::file(path))?;
        Ok(secret)
    }

    /// Keeps it, durably.
    pub fn keep(mut self) -> Result<(), CommandError> {
        self.kept = true;
        let folder = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(CommandError::file(folder))
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        if !self.kept {
            // Nothing more can be done about a file that can't be removed; nobody but its owner can read it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_for_its_owner_only_and_stays_when_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.token");
        SecretFile::create(&path, "secret").unwrap().keep().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "secret\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn it_is_gone_when_it_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.token");
        drop(SecretFile::create(&path, "secret").unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn another_file_is_never_overwritten_nor_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.token");
        fs::write(&path, "other").unwrap();
        assert!(matches!(SecretFile::create(&path, "secret"), Err(CommandError::Exists(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "other");
    }
}
