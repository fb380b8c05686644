//! Why a policy can't be set: each says what to do.

use crate::{attestation::chain::ChainError, inventory::unknown::UnknownError};

/// Why a policy can't be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// No method at all.
    #[error("a fleet accepts at least one attestation method; try --attest token")]
    NoMethod,
    /// A method that this CA does not have.
    #[error("unknown attestation method; there are: token, factory, registered-key, tpm")]
    Method,
    /// Outside 5 minutes to 7 days.
    #[error("validity must be from 5 minutes to 7 days")]
    Validity,
    /// A method that needs roots, and none.
    #[error("factory needs the roots of makers that are trusted: --factory-roots FILE")]
    NoFactoryRoots,
    /// A root that is none, or can't be one.
    #[error("certificate {at} of the {method} roots: {}", root(*.why))]
    Root {
        /// Of which list.
        method: &'static str,
        /// Which of them, from 1 on.
        at: usize,
        /// Why not.
        why: ChainError,
    },
    /// Too many roots.
    #[error("roots are at most 16 certificates a list, of at most 24 KiB in all")]
    Roots,
    /// Too many keys banned.
    #[error("at most 100 keys can be banned")]
    Banned,
    /// Nothing that is accepted proves as much as is demanded.
    #[error("no method accepted proves the least tier; accept one that does, or demand less")]
    LeastTier,
    /// A method or a kind of keys twice.
    #[error("{0} is named twice")]
    Twice(&'static str),
    /// Keys that live in TPMs, of no kind that TPMs make.
    #[error(
        "a TPM makes no Ed25519 keys: add p256 (what enroll-client makes), p384 or rsa to --key-types, or take tpm out of \
         --attest"
    )]
    TpmKeys,
    /// Roots of a method that is not accepted.
    #[error("{0} roots are given, and the fleet does not accept {0}: name it in --attest, too")]
    RootsOfOther(&'static str),
    /// Longer than a year.
    #[error("grace must be at most 365 days")]
    Grace,
    /// No key type at all.
    #[error("a fleet accepts at least one key type")]
    NoKeyKind,
    /// Too many issuing CAs, or one twice.
    #[error("at most 64 issuing CAs can be named, each once")]
    Issuers,
    /// About devices that nobody registered.
    #[error(transparent)]
    Unknown(#[from] UnknownError),
}

/// What is wrong with a root.
fn root(why: ChainError) -> String {
    match why {
        ChainError::Size => "it has more than 8 KiB".into(),
        why => why.to_string(),
    }
}
