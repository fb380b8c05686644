//! Method `factory`: the IDevID (IEEE 802.1AR) that the device's maker put in: PEM files, or a token that has the key.

use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::evidence_key::{EvidenceKey, EvidenceKeyError};
use crate::{
    certificate::Certificate,
    keys::{
        KeyError,
        pkcs11::{Pkcs11Error, Pkcs11Key, Uri},
    },
};

/// An IDevID's chain and key.
#[derive(Debug)]
pub struct FactoryIdentity {
    chain: Vec<Vec<u8>>,
    key: Key,
}

#[derive(Debug)]
enum Key {
    File(EvidenceKey),
    Token(Pkcs11Key),
}

/// Why there is no IDevID.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FactoryError {
    /// No certificates.
    #[error("not 1 to 4 certificates in PEM: the IDevID, then its intermediates, without the root")]
    Chain,
    /// They do not belong together.
    #[error("the key is not the one of the first certificate, which must be the IDevID's")]
    OtherKey,
    /// The key's file.
    #[error(transparent)]
    Key(#[from] EvidenceKeyError),
    /// The key's token.
    #[error(transparent)]
    Token(#[from] Pkcs11Error),
}

impl FactoryIdentity {
    /// Reads the chain (IDevID first, without the root) and the key, both PEM.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, FactoryError> {
        let (chain, key) = (read(chain)?, EvidenceKey::from_pem(key)?);
        let idevid = Certificate::parse(&chain[0]).map_err(|_| FactoryError::Chain)?;
        // Told here, before anybody else is asked: the server says of a signature only that it does not hold.
        if !idevid.spki().ends_with(key.public_key()) {
            return Err(FactoryError::OtherKey);
        }
        Ok(Self { chain, key: Key::File(key) })
    }

    /// Reads the chain, as [`FactoryIdentity::from_pem`] does, and finds the key in its token.
    pub fn in_token(chain: &[u8], key: &Uri) -> Result<Self, FactoryError> {
        let chain = read(chain)?;
        let idevid = Certificate::parse(&chain[0]).map_err(|_| FactoryError::Chain)?;
        Ok(Self { key: Key::Token(Pkcs11Key::open(key, &idevid)?), chain })
    }

    /// DER, the IDevID first.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// By the IDevID's key. A token takes its time.
    pub fn sign(&self, transcript: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.key {
            Key::File(key) => key.sign(transcript).map_err(|_| KeyError::Unusable),
            Key::Token(key) => Ok(key.sign(transcript)?),
        }
    }

    /// A text that only its key has.
    pub fn thumbprint(&self) -> String {
        match &self.key {
            Key::File(key) => key.thumbprint(),
            Key::Token(key) => key.fingerprint().to_owned(),
        }
    }
}

/// One to four certificates.
fn read(chain: &[u8]) -> Result<Vec<Vec<u8>>, FactoryError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let chain: Vec<Vec<u8>> = read.map_err(|_| FactoryError::Chain)?.iter().map(|der| der.to_vec()).collect();
    if (1..=4).contains(&chain.len()) { Ok(chain) } else { Err(FactoryError::Chain) }
}
