//! Evidence in, claims out: what a device has proven about itself when it enrolls.
//!
//! **Pure.** Each method has its own file; none of them knows fleets or the store. Evidence never names its own device
//! ID with authority: the inventory turns the attested identity into one.

pub mod chain;
pub mod factory;
pub mod previous;
pub mod registered_key;
pub mod token;
pub mod tpm;

use crate::inventory::fleet::{Method, Tier};

/// Why evidence is refused. Which check failed is for the log; the peer only learns that one did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttestationError {
    /// Not what the method's evidence looks like.
    #[error("the evidence can't be read")]
    Malformed,
    /// The chain of a factory's certificate.
    #[error(transparent)]
    Chain(chain::ChainError),
    /// A factory's identity, or a TPM, that no device of ours has.
    #[error("no device was registered with this identity")]
    Unregistered,
    /// More than one fleet would take a device that nobody registered.
    #[error("more than one fleet takes unknown devices of this maker")]
    Ambiguous,
    /// An endorsement key of a TPM that nobody registered, of another kind than its fleet takes such TPMs by.
    #[error("an unknown TPM's endorsement key is of another kind than its fleet takes")]
    OtherKind,
    /// No such token, or its signature over the transcript does not hold.
    #[error("the evidence key's signature over the transcript does not hold")]
    Signature,
    /// An assertion that is signed by its key, and does not say what it must.
    #[error("the assertion is not as it must be: {0}")]
    Assertion(&'static str),
    /// An assertion that was used.
    #[error("the assertion was used already")]
    Replayed,
    /// A registered key before or after its time.
    #[error("the registered key does not count now")]
    NotInForce,
    /// What a TPM says of its keys.
    #[error(transparent)]
    Tpm(#[from] tpm::TpmError),
    /// The evidence key and the CSR's key are one.
    #[error("the evidence key and the CSR key must differ")]
    SameKey,
    /// The CSR's key is not the one that the evidence vouches for.
    #[error("the CSR's key is not the one that the evidence vouches for")]
    OtherKey,
}

/// What was proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// By which method.
    pub method: Method,
    /// How much that is.
    pub tier: Tier,
    /// The identity proven, in the method's own form.
    pub identity: String,
}
