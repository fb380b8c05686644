//! Method `previous`: the certificate that has expired in a credential folder, and its key.

use std::fmt;

use crate::{
    certificate::Certificate,
    credential::Credential,
    keys::{Key, KeyError},
};

/// An expired certificate and its key.
pub struct Previous {
    certificate: Vec<u8>,
    fingerprint: String,
    key: Key,
}

impl Previous {
    /// What this credential holds.
    pub fn of(credential: &Credential) -> Result<Self, KeyError> {
        Ok(Self::new(credential.leaf(), credential.key().copy()?))
    }

    /// This certificate, and the key that it is for.
    pub fn new(leaf: &Certificate, key: Key) -> Self {
        Self { certificate: leaf.der().to_vec(), fingerprint: crate::certificate::hex(&leaf.fingerprint()), key }
    }

    /// The certificate (DER).
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// SHA-256 of the certificate, in hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The key to come back with: a new one, and the same one where it is in a TPM.
    pub fn new_key(&self) -> Result<Key, KeyError> {
        match &self.key {
            Key::File(_) => Key::generate(),
            Key::Tpm(_) => self.key.copy(),
        }
    }

    /// By its key.
    pub fn sign(&self, transcript: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.key.sign(transcript)
    }
}

impl fmt::Debug for Previous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Previous").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}
