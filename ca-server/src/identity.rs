//! The names of things, each a type of its own: parse once, trust ever after.
//!
//! **Pure.** Every other room takes these types instead of strings and byte slices, so that a value which exists is a
//! value that was checked. What a peer sends becomes one of these, or is refused.

mod hardware;
mod key;
mod name;
mod reason;
mod serial;
mod subject;
mod timestamp;

pub use hardware::{HardwareId, Thumbprint};
pub use key::{CertificateHash, IssuerId, KeyFingerprint, hex};
pub use name::{DeviceId, FleetName, HostName, NameError, TokenId, TrustDomain};
pub use reason::{RevocationReason, UnknownReason};
pub use serial::{AuthoritySerial, SerialNumber};
pub use subject::{Kind, SpiffeError, Subject};
pub use timestamp::Timestamp;
