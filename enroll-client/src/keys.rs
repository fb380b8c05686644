//! Where a credential's private key lives. In a file, or in a TPM.

pub mod file;
pub mod tpm;

pub use file::{FileKey, KeyError};
