//! `FILE.state.json`, beside the CRL file: the numbers that no later CRL may fall below.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use super::{IssuerId, SyncError};
use crate::{durable, wall_time::WallTime};

/// What is remembered of earlier synchronisations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// `--form`, as written.
    pub(super) form: String,
    /// `grpc`, or the URL.
    pub(super) source: String,
    /// SHA-256 of the file, hexadecimal.
    pub(super) file_sha256: String,
    /// What the HTTP server called that content.
    pub(super) etag: Option<String>,
    /// The file has changed, and the hook command has not succeeded since.
    pub(super) hook_pending: bool,
    /// SHA-256 of a file with which the gateway did not live, hexadecimal; empty where the last one was no such.
    #[serde(default)]
    pub(super) refused: String,
    /// By issuer.
    pub(super) crls: BTreeMap<IssuerId, Kept>,
}

/// What is remembered of one issuer's CRL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The highest number that was in the file, hexadecimal.
    pub(super) number: String,
    /// A higher one, of a CRL that was taken off the file again, hexadecimal.
    #[serde(default)]
    pub(super) seen: Option<String>,
    /// SHA-256 of the CRL with that number.
    pub(super) sha256: String,
    /// When that CRL was made.
    pub(super) this_update: WallTime,
    /// Until when it is good; unknown in files of earlier versions.
    #[serde(default)]
    pub(super) next_update: Option<WallTime>,
    /// The issuer's serial number, under which its root would revoke it.
    pub(super) issuer_serial: String,
    /// When the issuer's certificate ends, and with it the need for its CRL.
    pub(super) issuer_not_after: WallTime,
    /// The file holds it.
    pub(super) in_file: bool,
    /// It is a root's, which signs once a year. A file that does not say so names no CRL whose age counts.
    #[serde(default = "unknown")]
    pub(super) is_root: bool,
    /// The CA's signature over its head, hexadecimal: by it the CA knows again what it gave out. Empty where none came.
    #[serde(default)]
    pub(super) head_signature: String,
}

fn unknown() -> bool {
    true
}

impl Kept {
    /// The CA's signature over its head; none where what is kept is damaged.
    pub(super) fn head_signature_octets(&self) -> Option<Vec<u8>> {
        octets(&self.head_signature)
    }
}

/// Reads hexadecimal digits.
pub(super) fn octets(text: &str) -> Option<Vec<u8>> {
    let octet = |at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map(octet).collect()
}

impl State {
    pub(super) fn load(path: &Path) -> Result<Self, SyncError> {
        let bytes = durable::read_if_there(path);
        match bytes.map_err(|source| SyncError::Io { path: path.to_owned(), source })? {
            None => Ok(Self::default()),
            Some(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| SyncError::State { path: path.to_owned(), source })
            }
        }
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        // Unwrap safety: strings, booleans, options and a map with string keys always serialize.
        let mut json = serde_json::to_vec_pretty(self).unwrap();
        json.push(b'\n');
        json
    }
}
