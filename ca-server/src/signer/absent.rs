//! A key that is not at hand: for whoever has to know an issuer, and not to sign as it.

use super::{Signer, SignerError};
use crate::pki::PublicKey;

/// The public half, and nothing behind it.
#[derive(Debug)]
pub struct AbsentSigner(pub PublicKey);

impl Signer for AbsentSigner {
    fn public_key(&self) -> &PublicKey {
        &self.0
    }

    /// Always [`SignerError::Failed`].
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SignerError> {
        Err(SignerError::Failed)
    }
}
