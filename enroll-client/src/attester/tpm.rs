//! Method `tpm`: what a TPM says of itself and of the key that it holds.
//!
//! Keys are made before anything is asked ([`TpmAttester::prepare`]): a TPM may take longer for that than a stream lasts.

use std::sync::{Mutex, MutexGuard, PoisonError};

use fleetca_proto::{
    transcript::binding,
    v1::{self, TpmEvidence, TpmProof},
};
use prost::Message;
use ring::hmac;

use crate::keys::{
    Key, KeyError,
    tpm::{Certified, Chip, Credential, EndorsementKind, Location, Saved, TpmError, TpmKey, Wrapped},
};

/// A TPM, by which a device proves who it is.
#[derive(Debug)]
pub struct TpmMethod {
    location: Location,
    kind: Option<EndorsementKind>,
    ready: Mutex<Option<TpmAttester>>,
}

impl TpmMethod {
    /// The TPM at this place, by its endorsement key of this kind or by the one that suits it.
    pub fn new(location: Location, kind: Option<EndorsementKind>) -> Self {
        Self { location, kind, ready: Mutex::default() }
    }

    /// Where the TPM is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    pub(super) fn new_key(&self) -> Result<Key, KeyError> {
        Ok(Key::Tpm(TpmKey::generate(&self.location)?))
    }

    pub(super) fn make_ready(&self, key: &Key) -> Result<(), KeyError> {
        let Key::Tpm(key) = key else { return Err(KeyError::Unusable) };
        let mut ready = self.ready();
        if ready.as_ref().is_none_or(|ready| ready.key().spki() != key.spki()) {
            *ready = Some(TpmAttester::prepare(key.clone(), self.kind)?);
        }
        Ok(())
    }

    fn ready(&self) -> MutexGuard<'_, Option<TpmAttester>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What goes into `Start`: nothing before it is ready.
    pub(super) fn evidence(&self) -> TpmEvidence {
        let evidence = self.ready().as_ref().map(|ready| TpmEvidence {
            ek_chain: ready.chain().to_vec(),
            ek_public: ready.endorsement_key().to_vec(),
            ak_public: ready.attestation_key().to_vec(),
            key_public: ready.key().wrapped().public.clone(),
        });
        evidence.unwrap_or_default()
    }

    pub(super) fn prove(&self, start: &[u8], challenge: &[u8]) -> Result<TpmProof, KeyError> {
        let ready = self.ready();
        let ready = ready.as_ref().ok_or(KeyError::Unusable)?;
        let part = v1::Challenge::decode(challenge).ok().and_then(|challenge| challenge.tpm);
        let part = part.ok_or(TpmError::Challenge)?;
        let credential = Credential { blob: &part.credential_blob, encrypted_secret: &part.encrypted_secret };
        let TpmAnswer { mac, certified } = ready.answer(start, challenge, credential)?;
        Ok(TpmProof { mac, attest: certified.attest, signature: certified.signature })
    }
}

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
