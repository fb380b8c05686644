//! A CRL as it is served, from memory.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    identity::{IssuerId, Timestamp},
    pki::{CaRole, EntryList},
};

/// A CRL as it is served.
#[derive(Clone, Debug)]
pub struct Published {
    /// Whose.
    pub issuer: IssuerId,
    /// The place of the issuer.
    pub role: CaRole,
    /// CRL number.
    pub number: u64,
    /// thisUpdate.
    pub this_update: Timestamp,
    /// thisUpdate is later than that of the CRL before it, so that the date alone tells the two apart. Unknown, and so
    /// `false`, after a restart.
    pub dated_apart: bool,
    /// nextUpdate.
    pub next_update: Timestamp,
    /// How many entries it has.
    pub entries: u64,
    /// The last change that it holds.
    pub watermark: u64,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// The control CA's signature over its head; empty for a root's CRL and for a device's list.
    pub head_signature: Bytes,
    /// DER.
    pub der: Bytes,
    /// Its entries; none of a device's own list.
    pub listed: Arc<EntryList>,
}
