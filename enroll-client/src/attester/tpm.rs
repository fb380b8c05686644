//! Method `tpm`: what a TPM says of itself and of the key that it holds.
//!
//! Keys are made before anything is asked ([`TpmAttester::prepare`]): a TPM may take longer for that than a stream lasts.

use fleetca_proto::transcript::binding;
use ring::hmac;

use crate::keys::tpm::{Certified, Chip, Credential, EndorsementKind, Saved, TpmError, TpmKey, Wrapped};

/// A TPM that is ready to prove which one it is, and that it holds a key.
#[derive(Debug)]
pub struct TpmAttester {
    key: TpmKey,
    endorsement: Saved,
    chain: Vec<Vec<u8>>,
    attestation: Wrapped,
}

/// What answers a challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmAnswer {
    /// HMAC-SHA256 under the unwrapped secret, over the SHA-256 of the transcript.
    pub mac: Vec<u8>,
    /// The certification of the key.
    pub certified: Certified,
}

impl TpmAttester {
    /// Makes ready the endorsement key and a new attestation key beside `key`.
    pub fn prepare(key: TpmKey, kind: Option<EndorsementKind>) -> Result<Self, TpmError> {
        let mut chip = Chip::open(key.location())?;
        let endorsement = chip.endorsement(kind)?;
        let chain = endorsement.chain;
        let endorsement = chip.save(endorsement.key)?;
        let root = chip.storage_root()?;
        let attestation = chip.create_attestation_key(&root)?;
        chip.close()?;
        Ok(Self { key, endorsement, chain, attestation })
    }

    /// The endorsement key's certificate and those above it (DER), as the TPM keeps them; empty where it keeps none.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// The endorsement key's TPMT_PUBLIC.
    pub fn endorsement_key(&self) -> &[u8] {
        self.endorsement.public()
    }

    /// The attestation key's TPMT_PUBLIC.
    pub fn attestation_key(&self) -> &[u8] {
        &self.attestation.public
    }

    /// The key that the certificate is for.
    pub fn key(&self) -> &TpmKey {
        &self.key
    }

    /// Unwraps the challenge's secret, and has the key certified for this transcript. `start` and `challenge` are the
    /// serialized messages as they travelled.
    pub fn answer(&self, start: &[u8], challenge: &[u8], credential: Credential<'_>) -> Result<TpmAnswer, TpmError> {
        let binding = binding("tpm", start, challenge);
        let mut chip = Chip::open(self.key.location())?;
        // Three objects fit into a TPM at a time.
        let root = chip.storage_root()?;
        let attestation = chip.load(&root, &self.attestation)?;
        chip.flush(root)?;
        let endorsement = chip.restore(&self.endorsement)?;
        let secret = zeroize::Zeroizing::new(chip.activate(&attestation, &endorsement, credential)?);
        chip.flush(endorsement)?;
        let root = chip.storage_root()?;
        let key = chip.load(&root, self.key.wrapped())?;
        chip.flush(root)?;
        let certified = chip.certify(&key, &attestation, &binding)?;
        chip.close()?;
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), &binding);
        Ok(TpmAnswer { mac: mac.as_ref().to_vec(), certified })
    }
}
