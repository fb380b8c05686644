//! The device's side of each attestation method: what goes into `Start`, and what signs the evidence's transcript.

pub mod evidence_key;
pub mod factory;
pub mod previous;
mod registered_key;
pub mod token;
pub mod tpm;

use evidence_key::EvidenceKey;
use factory::FactoryIdentity;
use fleetca_proto::{
    transcript::{Role, enrollment},
    v1::{FactoryEvidence, PreviousEvidence, Proof, RegisteredKeyEvidence, TokenEvidence, start::Evidence},
};
use previous::Previous;
use token::JoinToken;
use tpm::TpmMethod;

use crate::{
    keys::{Key, KeyError},
    wall_time::WallTime,
};

/// How this machine proves who it is. Each variant is one method of the wire.
#[derive(Debug)]
#[non_exhaustive]
pub enum Attester {
    /// A join token: a one-time private key.
    Token(JoinToken),
    /// The IDevID that its maker put in.
    Factory(FactoryIdentity),
    /// A key that an operator has registered for this device.
    RegisteredKey(EvidenceKey),
    /// A TPM.
    Tpm(Box<TpmMethod>),
    /// The credential whose certificate has expired.
    Previous(Previous),
}

impl Attester {
    /// The method's name, as in the transcript: the name of its field in `Start.evidence`.
    pub fn method(&self) -> &'static str {
        match self {
            Attester::Token(_) => "token",
            Attester::Factory(_) => "factory",
            Attester::RegisteredKey(_) => "registered-key",
            Attester::Tpm(_) => "tpm",
            Attester::Previous(_) => "previous",
        }
    }

    /// A key for the certificate, where the method wants it.
    pub fn new_key(&self) -> Result<Key, KeyError> {
        match self {
            Attester::Token(_) | Attester::Factory(_) | Attester::RegisteredKey(_) => Key::generate(),
            Attester::Tpm(tpm) => tpm.new_key(),
            Attester::Previous(previous) => previous.new_key(),
        }
    }

    /// Does what takes long, before anything is asked. `key` is the one that the certificate is for.
    pub fn make_ready(&self, key: &Key) -> Result<(), KeyError> {
        match self {
            Attester::Tpm(tpm) => tpm.make_ready(key),
            Attester::Token(_) | Attester::Factory(_) | Attester::RegisteredKey(_) | Attester::Previous(_) => Ok(()),
        }
    }

    /// Whether that, or making the key, may take minutes.
    pub fn may_take_long(&self) -> bool {
        matches!(self, Attester::Tpm(_))
    }

    /// What goes into `Start`.
    pub fn evidence(&self) -> Evidence {
        match self {
            Attester::Token(token) => Evidence::Token(TokenEvidence { token_id: token.id().to_owned() }),
            Attester::Factory(identity) => Evidence::Factory(FactoryEvidence { chain: identity.chain().to_vec() }),
            Attester::RegisteredKey(key) => Evidence::RegisteredKey(RegisteredKeyEvidence { key_id: key.thumbprint() }),
            Attester::Tpm(tpm) => Evidence::Tpm(tpm.evidence()),
            Attester::Previous(previous) => {
                Evidence::Previous(PreviousEvidence { certificate: previous.certificate().to_vec() })
            }
        }
    }

    /// Whether its proof says what time it is, by the server's clock.
    pub fn tells_time(&self) -> bool {
        matches!(self, Attester::RegisteredKey(_))
    }

    /// The evidence's part of the proof over these messages, as they travelled: all but the subject's signature. `now`
    /// is the server's clock.
    pub fn prove(&self, start: &[u8], challenge: &[u8], now: WallTime) -> Result<Proof, KeyError> {
        let transcript = enrollment(self.method(), Role::Evidence, start, challenge);
        let mut proof = Proof::default();
        match self {
            Attester::Token(token) => proof.evidence_signature = token.sign(&transcript),
            Attester::Factory(identity) => proof.evidence_signature = identity.sign(&transcript)?,
            Attester::RegisteredKey(key) => {
                let assertion = registered_key::assertion(key, start, challenge, now);
                proof.assertion = assertion.map_err(|_| KeyError::Unusable)?;
            }
            Attester::Tpm(tpm) => proof.tpm = Some(tpm.prove(start, challenge)?),
            Attester::Previous(previous) => proof.evidence_signature = previous.sign(&transcript)?,
        }
        Ok(proof)
    }

    /// Which evidence this is, in a form that tells no secret: the same text for the same evidence.
    pub fn label(&self) -> String {
        match self {
            Attester::Token(token) => format!("token {}", token.id()),
            Attester::Factory(identity) => format!("factory {}", identity.thumbprint()),
            Attester::RegisteredKey(key) => format!("registered-key {}", key.thumbprint()),
            Attester::Tpm(tpm) => format!("tpm {}", tpm.location()),
            Attester::Previous(previous) => format!("certificate {}", previous.fingerprint()),
        }
    }
}
