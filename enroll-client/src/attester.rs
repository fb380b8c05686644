//! The device's side of each attestation method: what goes into `Start`, and what signs the evidence's transcript.

pub mod previous;
pub mod token;
pub mod tpm;

use fleetca_proto::{
    transcript::{Role, enrollment},
    v1::{PreviousEvidence, Proof, TokenEvidence, start::Evidence},
};
use previous::Previous;
use token::JoinToken;

use crate::keys::KeyError;

/// How this machine proves who it is. Each variant is one method of the wire.
#[derive(Debug)]
#[non_exhaustive]
pub enum Attester {
    /// A join token: a one-time private key.
    Token(JoinToken),
    /// The credential whose certificate has expired.
    Previous(Previous),
}

impl Attester {
    /// The method's name, as in the transcript: the name of its field in `Start.evidence`.
    pub fn method(&self) -> &'static str {
        match self {
            Attester::Token(_) => "token",
            Attester::Previous(_) => "previous",
        }
    }

    /// What goes into `Start`.
    pub fn evidence(&self) -> Evidence {
        match self {
            Attester::Token(token) => Evidence::Token(TokenEvidence { token_id: token.id().to_owned() }),
            Attester::Previous(previous) => {
                Evidence::Previous(PreviousEvidence { certificate: previous.certificate().to_vec() })
            }
        }
    }

    /// The evidence's part of the proof over these messages, as they travelled: all but the subject's signature.
    pub fn prove(&self, start: &[u8], challenge: &[u8]) -> Result<Proof, KeyError> {
        let transcript = enrollment(self.method(), Role::Evidence, start, challenge);
        let evidence_signature = match self {
            Attester::Token(token) => token.sign(&transcript),
            Attester::Previous(previous) => previous.sign(&transcript)?,
        };
        Ok(Proof { evidence_signature, ..Proof::default() })
    }

    /// Which evidence this is, in a form that tells no secret: the same text for the same evidence.
    pub fn label(&self) -> String {
        match self {
            Attester::Token(token) => format!("token {}", token.id()),
            Attester::Previous(previous) => format!("certificate {}", previous.fingerprint()),
        }
    }
}
