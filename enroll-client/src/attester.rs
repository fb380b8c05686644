//! The device's side of each attestation method: what goes into `Start`, and what signs the evidence's transcript.

pub mod token;
pub mod tpm;

use fleetca_proto::{
    transcript::{Role, enrollment},
    v1::{Proof, TokenEvidence, start::Evidence},
};
use token::JoinToken;

/// How this machine proves who it is. Each variant is one method of the wire.
#[derive(Debug)]
#[non_exhaustive]
pub enum Attester {
    /// A join token: a one-time private key.
    Token(JoinToken),
}

impl Attester {
    /// The method's name, as in the transcript: the name of its field in `Start.evidence`.
    pub fn method(&self) -> &'static str {
        match self {
            Attester::Token(_) => "token",
        }
    }

    /// What goes into `Start`.
    pub fn evidence(&self) -> Evidence {
        match self {
            Attester::Token(token) => Evidence::Token(TokenEvidence { token_id: token.id().to_owned() }),
        }
    }

    /// The evidence's part of the proof over these messages, as they travelled: all but the subject's signature.
    pub fn prove(&self, start: &[u8], challenge: &[u8]) -> Proof {
        let transcript = enrollment(self.method(), Role::Evidence, start, challenge);
        match self {
            Attester::Token(token) => Proof { evidence_signature: token.sign(&transcript), ..Proof::default() },
        }
    }

    /// Which evidence this is, in a form that tells no secret: the same text for the same evidence.
    pub fn label(&self) -> String {
        match self {
            Attester::Token(token) => format!("token {}", token.id()),
        }
    }
}
