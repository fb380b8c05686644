//! Method `tpm`: a key that was made in a TPM 2.0 and cannot leave it, in a TPM that somebody vouches for.
//!
//! Freshness: a secret that only this TPM can unwrap, and the transcript's hash in what it certifies. Key binding:
//! TPM2_Certify of the CSR's key by an attestation key in the same TPM. Three keys take part:
//!
//! - the **endorsement key** (EK) tells the TPM from all others. Its certificate leads to a maker's root
//!   ([`Evidence::verify_endorsement`]), or its fingerprint is registered, which is the caller's to look up;
//! - the **attestation key** (AK) signs only what the TPM itself writes. That it is in the TPM of the EK follows from
//!   the secret: it is wrapped for both ([`Evidence::challenge`]);
//! - the **device key** is the CSR's. That it is in the TPM of the AK follows from the certification.
//!
//! What is not proven: anything of the software beside the TPM.

mod attest;
mod credential;
mod hash;
mod kind;
mod public;
mod reader;
mod signature;

use attest::Certification;
pub use credential::{Credential, Secret};
use fleetca_proto::transcript::binding;
pub use kind::EndorsementKind;
pub use public::KeyRole;
use public::{Point, Public};
use ring::rand::SecureRandom;

use super::chain::{self, ChainError, Rules};
use crate::identity::{KeyFingerprint, Timestamp};
use crate::pki::{KeyError, PublicKey};

/// Why a TPM's evidence is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TpmError {
    /// Cut short, too long, or with something behind it.
    #[error("the {structure} is malformed")]
    Malformed {
        /// Which structure.
        structure: &'static str,
    },
    /// An algorithm that is not taken, SHA-1 among them.
    #[error("the TPM's structures name an algorithm that is not taken")]
    Algorithm,
    /// A key that no certificate could be for.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A key that was not made in this TPM, or that may leave it.
    #[error("the {role:?} key lacks fixedTPM, fixedParent or sensitiveDataOrigin")]
    NotBornHere {
        /// Which key.
        role: KeyRole,
    },
    /// A key whose attributes do not fit what it is there for.
    #[error("the attributes of the {role:?} key do not fit its purpose")]
    Attributes {
        /// Which key.
        role: KeyRole,
    },
    /// One key in two roles.
    #[error("endorsement, attestation and device key must differ")]
    SameKey,
    /// The endorsement key's certificate, or its way to a root.
    #[error("the endorsement certificate: {0}")]
    Chain(#[from] ChainError),
    /// The certificate is for another key than the one sent.
    #[error("the endorsement certificate is for another key")]
    EndorsementKey,
    /// No randomness for a challenge.
    #[error("there is no randomness")]
    Random,
    /// The TPM has not unwrapped the challenge's secret, or for another transcript.
    #[error("the credential was not activated for this transcript")]
    Activation,
    /// The attestation key's signature.
    #[error("the attestation key's signature does not hold")]
    Signature,
    /// The TPM has signed something else than a certification.
    #[error("what the TPM signed is no certification")]
    NotACertification,
    /// A certification made for another challenge.
    #[error("the certification is not for this transcript")]
    Stale,
    /// A certification of another key.
    #[error("the certification is for another key than the one sent")]
    CertifiedKey,
}

/// The three keys that a device sends: read, and fit for their roles by what they say of themselves. Nothing is proven.
pub struct Evidence {
    ek: Public,
    ak: Public,
    key: Public,
}

/// The answer to a challenge, as it travelled.
#[derive(Clone, Copy, Debug)]
pub struct Proof<'a> {
    /// HMAC-SHA256 under the unwrapped secret, over the SHA-256 of the transcript.
    pub mac: &'a [u8],
    /// TPMS_ATTEST.
    pub attest: &'a [u8],
    /// TPMT_SIGNATURE.
    pub signature: &'a [u8],
}

impl Evidence {
    /// Reads three TPMT_PUBLIC and checks the attributes of each.
    pub fn read(ek: &[u8], ak: &[u8], key: &[u8]) -> Result<Self, TpmError> {
        let evidence = Self { ek: Public::read(ek)?, ak: Public::read(ak)?, key: Public::read(key)? };
        evidence.ek.check(KeyRole::Endorsement)?;
        evidence.ak.check(KeyRole::Attestation)?;
        evidence.key.check(KeyRole::Device)?;
        let fingerprints = [&evidence.ek, &evidence.ak, &evidence.key].map(|public| public.key().fingerprint());
        if fingerprints[0] == fingerprints[1]
            || fingerprints[0] == fingerprints[2]
            || fingerprints[1] == fingerprints[2]
        {
            return Err(TpmError::SameKey);
        }
        Ok(evidence)
    }

    /// The identity that a proof is going to be for: SHA-256 of the endorsement key's SubjectPublicKeyInfo.
    pub fn endorsement_key(&self) -> KeyFingerprint {
        self.ek.key().fingerprint()
    }

    /// Of which kind that key is, by what its secret is wrapped with and not by what it is said to be.
    pub fn endorsement_kind(&self) -> Option<EndorsementKind> {
        match self.ek.point() {
            Point::Rsa { modulus, .. } => (modulus.len() == 2048 / 8).then_some(EndorsementKind::Rsa2048),
            Point::P256(_) => Some(EndorsementKind::P256),
            Point::P384(_) => Some(EndorsementKind::P384),
        }
    }

    /// Whether the endorsement key's certificate leads to a root of these rules. `chain` is DER, that certificate first.
    /// One for another key has no signature looked at.
    pub fn verify_endorsement(&self, chain: &[Vec<u8>], rules: &Rules<'_>, now: Timestamp) -> Result<(), TpmError> {
        self.check_certified(chain)?;
        chain::verify(chain, rules, now)?;
        Ok(())
    }

    /// Whether the chain begins with a certificate of the endorsement key. What it is worth is not looked at.
    pub fn check_certified(&self, chain: &[Vec<u8>]) -> Result<(), TpmError> {
        if chain::leaf_key(chain)? == self.endorsement_key() { Ok(()) } else { Err(TpmError::EndorsementKey) }
    }

    /// A fresh secret, wrapped for the TPM that holds both endorsement and attestation key.
    pub fn challenge(&self, random: &dyn SecureRandom) -> Result<(Credential, Secret), TpmError> {
        credential::make(&self.ek, self.ak.name(), random)
    }

    /// Verifies the answer to the challenge that `secret` was made for: that it was unwrapped, and that the device key is
    /// certified. `start` and `challenge` are the serialized messages as they travelled. Returns the key certified.
    ///
    /// Not checked here: whether the CSR is for that key, and whether somebody vouches for the endorsement key.
    pub fn verify(
        &self,
        start: &[u8],
        challenge: &[u8],
        secret: &Secret,
        proof: Proof<'_>,
    ) -> Result<&PublicKey, TpmError> {
        let binding = binding("tpm", start, challenge);
        if !secret.verifies(&binding, proof.mac) {
            return Err(TpmError::Activation);
        }
        signature::verify(self.ak.key(), proof.attest, proof.signature)?;
        let certification = Certification::read(proof.attest)?;
        if certification.extra_data != binding {
            return Err(TpmError::Stale);
        }
        if certification.name != self.key.name().as_bytes() {
            return Err(TpmError::CertifiedKey);
        }
        Ok(self.key.key())
    }
}

impl std::fmt::Debug for Evidence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Evidence({})", self.endorsement_key())
    }
}

#[cfg(test)]
mod tests;
