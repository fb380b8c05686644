//! Method `factory`: the IDevID (IEEE 802.1AR) that the device's maker put in, as PEM files.

use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::evidence_key::{EvidenceKey, EvidenceKeyError};

/// An IDevID's chain and key.
#[derive(Debug)]
pub struct FactoryIdentity {
    chain: Vec<Vec<u8>>,
    key: EvidenceKey,
}

/// Why files hold no IDevID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FactoryError {
    /// No certificates.
    #[error("not 1 to 4 certificates in PEM: the IDevID, then its intermediates, without the root")]
    Chain,
    /// The key.
    #[error(transparent)]
    Key(#[from] EvidenceKeyError),
}

impl FactoryIdentity {
    /// Reads the chain (IDevID first, without the root) and the key, both PEM.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, FactoryError> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain: Vec<Vec<u8>> = read.map_err(|_| FactoryError::Chain)?.iter().map(|der| der.to_vec()).collect();
        if !(1..=4).contains(&chain.len()) {
            return Err(FactoryError::Chain);
        }
        Ok(Self { chain, key: EvidenceKey::from_pem(key)? })
    }

    /// DER, the IDevID first.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// By the IDevID's key.
    pub fn sign(&self, transcript: &[u8]) -> Result<Vec<u8>, EvidenceKeyError> {
        self.key.sign(transcript)
    }

    /// The JWK thumbprint of its key.
    pub fn thumbprint(&self) -> String {
        self.key.thumbprint()
    }
}
