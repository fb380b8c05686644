//! What a backup holds, and the SHA-256 of each of its files.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Component, Path},
};

use serde::{Deserialize, Serialize};

use super::{BackupError, hash};
use crate::{folder, identity::Timestamp};

const FILE: &str = "manifest.json";
const FORMAT: u32 = 1;

/// Whether the issuing CAs' keys are in a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keys {
    /// They are, each encrypted.
    Encrypted,
    /// At least one is not.
    Absent,
}

/// `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Of the backup: 1.
    pub format: u32,
    /// When the copy began, in Unix milliseconds: what was recorded before is in it.
    pub made_at_millis: i64,
    /// The environment.
    pub trust_domain: String,
    /// Whether the issuing CAs' keys are in it.
    pub keys: Keys,
    /// Paths within the backup, and the SHA-256 of each file.
    pub files: BTreeMap<String, String>,
}

impl Manifest {
    pub(super) fn new(now: Timestamp, trust_domain: &str) -> Self {
        Self {
            format: FORMAT,
            made_at_millis: now.millis(),
            trust_domain: trust_domain.into(),
            keys: Keys::Encrypted,
            files: BTreeMap::new(),
        }
    }

    /// When the copy began.
    pub fn made_at(&self) -> Timestamp {
        Timestamp::from_millis(self.made_at_millis)
    }

    pub(super) fn insert(&mut self, backup: &Path, file: &Path) -> Result<(), BackupError> {
        let mut source = File::open(file).map_err(BackupError::file(file))?;
        let hash = hash(&mut source, |_| Ok(())).map_err(BackupError::file(file))?;
        let name = file.strip_prefix(backup).unwrap_or(file).to_string_lossy().into_owned();
        self.files.insert(name, hash);
        Ok(())
    }

    pub(super) fn write(&self, backup: &Path) -> Result<(), BackupError> {
        let path = backup.join(FILE);
        // Plain values only: this serializes.
        let text = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        folder::write(&path, text.as_bytes(), 0o644).map_err(BackupError::file(&path))
    }

    /// Reads the manifest of a backup. Not checked: its files.
    pub fn read(backup: &Path) -> Result<Self, BackupError> {
        let path = backup.join(FILE);
        let text = fs::read_to_string(&path).map_err(BackupError::file(&path))?;
        let wrong = |why: String| BackupError::Manifest { path: path.clone(), why };
        let manifest: Self = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(BackupError::Format(manifest.format));
        }
        let plain = |name: &String| Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        match manifest.files.keys().find(|name| name.is_empty() || !plain(name)) {
            Some(name) => Err(wrong(format!("{name:?} does not lie within it"))),
            None if !manifest.files.contains_key("ca.db") => Err(wrong("it names no ca.db".into())),
            None => Ok(manifest),
        }
    }
}
