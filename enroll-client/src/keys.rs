//! Where a credential's private key lives. So far: in a file.

pub mod file;

pub use file::{FileKey, KeyError};
