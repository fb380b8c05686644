//! The kinds of endorsement keys that are taken.

use serde::{Deserialize, Serialize};

/// A kind of endorsement key. A TPM makes one of each, and its maker may have certified each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndorsementKind {
    /// RSA of 2048 bits.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    /// ECC on P-256.
    #[serde(rename = "p-256")]
    P256,
    /// ECC on P-384.
    #[serde(rename = "p-384")]
    P384,
}

impl EndorsementKind {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Rsa2048, Self::P256, Self::P384];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            EndorsementKind::Rsa2048 => "rsa-2048",
            EndorsementKind::P256 => "p-256",
            EndorsementKind::P384 => "p-384",
        }
    }
}
