//! Where a private key lives: a credential's in a file or in a TPM, a maker's also in a token behind PKCS#11.

mod ecdsa;
pub mod file;
pub mod pkcs11;
pub mod tpm;

use std::sync::Arc;

pub use file::{FileKey, KeyError};
use rcgen::{PublicKeyData, SignatureAlgorithm};
use rustls::{
    crypto::CryptoProvider,
    pki_types::CertificateDer,
    sign::{CertifiedKey, SingleCertAndKey},
};
use tpm::TpmKey;

/// The private key of a credential.
#[derive(Debug)]
#[non_exhaustive]
pub enum Key {
    /// In memory, and on disk.
    File(FileKey),
    /// In a TPM.
    Tpm(TpmKey),
}

impl Key {
    /// A new key for a file.
    pub fn generate() -> Result<Self, KeyError> {
        Ok(Key::File(FileKey::generate()?))
    }

    /// The same key once more.
    pub fn copy(&self) -> Result<Self, KeyError> {
        match self {
            Key::File(key) => Ok(Key::File(FileKey::from_pem(key.to_pem().as_bytes())?)),
            Key::Tpm(key) => Ok(Key::Tpm(key.clone())),
        }
    }

    /// Its file, where it has one.
    pub fn file(&self) -> Option<&FileKey> {
        match self {
            Key::File(key) => Some(key),
            Key::Tpm(_) => None,
        }
    }

    /// The public half: a SubjectPublicKeyInfo in DER.
    pub fn spki(&self) -> Vec<u8> {
        self.subject_public_key_info()
    }

    /// A PKCS#10 request in DER. It names nothing: the CA takes the public key only.
    pub fn csr(&self) -> Result<Vec<u8>, KeyError> {
        match self {
            Key::File(key) => key.csr(),
            Key::Tpm(key) => Ok(key.csr()?),
        }
    }

    /// ECDSA with SHA-256 over `message`, in ASN.1 DER. A TPM takes its time.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match self {
            Key::File(key) => key.sign(message),
            Key::Tpm(key) => Ok(key.sign(message)?),
        }
    }

    /// What TLS presents `chain` with.
    pub fn for_tls(
        &self,
        chain: Vec<CertificateDer<'static>>,
        provider: &CryptoProvider,
    ) -> Result<Arc<SingleCertAndKey>, rustls::Error> {
        let certified = match self {
            Key::File(key) => CertifiedKey::from_der(chain, key.to_der(), provider)?,
            Key::Tpm(key) => CertifiedKey::new(chain, Arc::new(key.clone())),
        };
        certified.keys_match()?;
        Ok(Arc::new(certified.into()))
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        match self {
            Key::File(key) => key.der_bytes(),
            Key::Tpm(key) => key.der_bytes(),
        }
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self {
            Key::File(key) => key.algorithm(),
            Key::Tpm(key) => key.algorithm(),
        }
    }
}
