//! Why a CRL is not published.

use crate::{
    identity::{AuthoritySerial, IssuerId, Timestamp},
    pki::{CrlError, SuccessorError},
    signer::SignerError,
    store::StoreError,
};

/// Why a CRL is not published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The signer.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// A CRL that can't be read, or is not its issuer's.
    #[error(transparent)]
    Crl(#[from] CrlError),
    /// A CRL that must not follow the one before it.
    #[error(transparent)]
    Successor(#[from] SuccessorError),
    /// The new CRL would lose an entry that has neither expired nor been released, or does not say of it what it should.
    #[error("the new CRL would lose the entry of {0}")]
    LosesEntry(AuthoritySerial),
    /// The delta CRL is not the one that was to be made.
    #[error("the delta CRL would lead from another CRL, or to another")]
    OtherDelta,
    /// The new CRL is not in the order of serials.
    #[error("the new CRL would not be in the order of serials")]
    Order,
    /// A CRL that every gateway would refuse today: with it in the bundle they would refuse everybody.
    #[error("the CRL is good from {this_update} to {next_update}, and not now: check the clock of whoever signed it")]
    NotNow {
        /// thisUpdate.
        this_update: Timestamp,
        /// nextUpdate.
        next_update: Timestamp,
    },
    /// A root's CRL that revokes an issuing CA which is to go on here.
    #[error(
        "the CRL revokes issuing CA {0}, which signs here: stop the server, and have `ca-server issuer revoke {0} --root-crl FILE` \
         take it in (or `issuer end`, where no device needs that CA)"
    )]
    RevokesIssuer(IssuerId),
    /// Nothing is published until an operator has decided.
    #[error("RESTORED: the past of this CA was restored, and nobody has decided yet; see `ca-server restore`")]
    Restored,
    /// Too many ask at the same time.
    #[error("too many ask for devices' own lists")]
    Busy,
    /// A publication was cut off.
    #[error("the publication was cut off")]
    CutOff,
    /// Not an issuer that is known here.
    #[error("no such issuer")]
    UnknownIssuer,
}
