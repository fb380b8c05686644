//! Who signs: the private keys of the CAs, behind one trait, so that a hardware token can take the place of a file.

mod absent;
mod file;
mod key_pem;
mod passphrase;
mod software;

use std::{fmt, io, path::PathBuf};

use crate::pki::PublicKey;

pub use absent::AbsentSigner;
pub(crate) use file::read as read_secret;
pub use key_pem::{decode as decode_key, encrypted_anew, is_encrypted};
pub use passphrase::Passphrase;
pub use software::SoftwareSigner;

/// Holds a private key and signs with it.
pub trait Signer: Send + Sync + fmt::Debug {
    /// The public half.
    fn public_key(&self) -> &PublicKey;

    /// Signs `message` whole, with the usual algorithm of its kind of key: ECDSA with SHA-256 in ASN.1 form on P-256.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError>;
}

/// Why a key is not to be had, or does not sign. Never holds key material.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignerError {
    /// A file cannot be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// A passphrase file cannot be read.
    #[error(
        "the passphrase file {path} cannot be read: {source}; check what names it: an option such as --key-passphrase-file, \
         or passphrase_file under [keys] in the settings"
    )]
    PassphraseFile {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is a key already: nothing is ever written over one.
    #[error("{path} exists already; a key is never overwritten")]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// Others may read the key.
    #[error("{path} can be read by others (mode {mode:04o}); make it yours alone: chmod 600 {path}")]
    Permissions {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Not a PEM file with one PKCS#8 key.
    #[error("{path} does not hold one PKCS#8 private key in PEM; convert others with openssl pkcs8 -topk8")]
    Format {
        /// Which file.
        path: PathBuf,
    },
    /// A key of another kind than ECDSA on P-256.
    #[error("{path} does not hold an ECDSA key on P-256 with its public half")]
    Kind {
        /// Which file.
        path: PathBuf,
    },
    /// The key is encrypted, and no passphrase was given.
    #[error(
        "{path} is encrypted, and no passphrase was given: name the file that holds it with --key-passphrase-file, or \
         passphrase_file under [keys] in the settings (for a root key, --root-passphrase-file)"
    )]
    PassphraseNeeded {
        /// Which file.
        path: PathBuf,
    },
    /// The key does not decrypt.
    #[error(
        "{path} does not decrypt with the passphrase {from}: give the one that it was encrypted with; if this is the one, \
         the file is damaged: put it back from a backup"
    )]
    WrongPassphrase {
        /// Which file.
        path: PathBuf,
        /// Where the passphrase is from.
        from: String,
    },
    /// The key is encrypted in a way that is not known here, or that takes too long to open.
    #[error(
        "{path} is encrypted in a way that ca-server does not open, or is damaged: write it anew with openssl pkcs8 -topk8 \
         -scrypt, or put it back from a backup"
    )]
    Cost {
        /// Which file.
        path: PathBuf,
    },
    /// A passphrase file without a passphrase.
    #[error("{path} holds no passphrase: it is the file's first line")]
    EmptyPassphrase {
        /// Which file.
        path: PathBuf,
    },
    /// The system's random source failed, or the key did.
    #[error("signing or making a key failed")]
    Failed,
}
