//! The device's side of each attestation method: what goes into `Start`, and what signs the evidence's transcript.

pub mod token;

use fleetca_proto::v1::{TokenEvidence, start::Evidence};
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

    /// The evidence's signature over `transcript`.
    pub fn sign(&self, transcript: &[u8]) -> Vec<u8> {
        match self {
            Attester::Token(token) => token.sign(transcript),
        }
    }

    /// Which evidence this is, in a form that tells no secret: the same text for the same evidence.
    pub fn label(&self) -> String {
        match self {
            Attester::Token(token) => format!("token {}", token.id()),
        }
    }
}
