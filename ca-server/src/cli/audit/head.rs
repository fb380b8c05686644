//! A head seen before, kept in a file on the operator's side: whoever changes the log can't reach it.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::cli::CommandError;

/// The head of the log as it was when it was verified last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownHead {
    /// The last record.
    pub sequence: u64,
    /// The chain's head after it, in hexadecimal.
    pub head: String,
    /// When it was verified.
    pub at: String,
}

impl KnownHead {
    /// Reads the file; none where there is none yet.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, CommandError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(CommandError::file(path)(error)),
        };
        Self::parse(&text).map(Some).map_err(|reason| CommandError::Content { path: path.into(), reason })
    }

    /// Reads the file's text, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let known: Self = serde_json::from_str(text).map_err(|error| format!("no head of an audit log: {error}"))?;
        let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if known.head.len() != 64 || !known.head.bytes().all(hexadecimal) {
            return Err("its head is not 64 lower-case hexadecimal digits".into());
        }
        Ok(known)
    }

    /// Replaces the file in one step.
    pub(super) fn write(&self, path: &Path) -> Result<(), CommandError> {
        let json = serde_json::to_string(self).map_err(io::Error::other)?;
        self.replace(path, &json).map_err(CommandError::file(path))
    }

    fn replace(&self, path: &Path, json: &str) -> io::Result<()> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let beside: PathBuf = path.with_file_name(name);
        let mut file = File::create(&beside)?;
        let written = writeln!(file, "{json}").and_then(|()| file.sync_all()).and_then(|()| fs::rename(&beside, path));
        if written.is_err() {
            fs::remove_file(&beside)?;
        }
        written?;
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_back_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head.json");
        assert_eq!(KnownHead::read(&path).unwrap(), None);
        for sequence in [1, 2] {
            let known = KnownHead { sequence, head: "ab".repeat(32), at: "2026-11-22T02:18:52Z".into() };
            known.write(&path).unwrap();
            assert_eq!(KnownHead::read(&path).unwrap(), Some(known));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_file_is_no_fresh_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head.json");
        for text in ["", "{}", r#"{"sequence":1,"head":"ab","at":""}"#] {
            fs::write(&path, text).unwrap();
            assert!(matches!(KnownHead::read(&path), Err(CommandError::Content { .. })), "{text}");
        }
    }
}
