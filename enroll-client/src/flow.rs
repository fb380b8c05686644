//! What enrollment and renewal have in common: their durable steps, and the ways in which they fail.

use std::time::Duration;

use crate::{
    connect::ConnectError,
    credential::CredentialError,
    identity::{Id, Kind, TrustDomain},
    issued::IssuedError,
    keys::{KeyError, pkcs11::Pkcs11Error, tpm::TpmError},
    refusal::Refusal,
    renewal::Action,
};

/// The durable steps of an enrollment or renewal, in order. After a kill at any of them the next run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// The next key is on disk; nothing has been asked yet.
    NextKeyDurable,
    /// The server has answered; nothing of the answer is on disk.
    Answered,
    /// The new generation is on disk, and not yet current.
    GenerationWritten,
    /// It has been read back: key, name and chain belong together.
    Checked,
    /// `current` leads to it.
    Swapped,
    /// The server has put it in force, and the folder knows.
    Confirmed,
    /// The next key and old generations are gone.
    Done,
}

impl Step {
    /// All steps, in order.
    pub const ALL: [Step; 7] = [
        Step::NextKeyDurable,
        Step::Answered,
        Step::GenerationWritten,
        Step::Checked,
        Step::Swapped,
        Step::Confirmed,
        Step::Done,
    ];
}

/// Who is told of each step as it is reached.
///
/// ```
/// use enroll_client::flow::{Observer, Step};
/// let abort_when_swapped = |step| if step == Step::Swapped { std::process::abort() };
/// let observer = Observer::new(&abort_when_swapped);
/// # let _ = observer;
/// ```
#[derive(Clone, Copy)]
pub struct Observer<'a>(Option<&'a (dyn Fn(Step) + Send + Sync)>);

impl<'a> Observer<'a> {
    /// Calls `tell` after each step.
    pub fn new(tell: &'a (dyn Fn(Step) + Send + Sync)) -> Self {
        Self(Some(tell))
    }

    /// Nobody is told.
    pub fn none() -> Self {
        Self(None)
    }

    pub(crate) fn reached(&self, step: Step) {
        tracing::debug!(?step, "reached");
        if let Some(tell) = self.0 {
            tell(step);
        }
    }
}

/// How an enrollment or renewal fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlowError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The credential folder.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The server said no, or the call broke.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The server said yes, and its answer is not taken.
    #[error("the server's answer is not taken: {0}")]
    NotTaken(#[from] IssuedError),
    /// An operator has to approve first.
    #[error("an operator has to approve this enrollment first: {waits}; the same command again asks for its result")]
    PendingApproval {
        /// What the operator has to see.
        waits: String,
        /// When to ask again.
        retry_after: Duration,
    },
    /// The server did not keep to the protocol.
    #[error("the server did not keep to the protocol: {0}")]
    OutOfOrder(&'static str),
    /// The server took too long.
    #[error("the server took too long to answer")]
    TimedOut,
    /// The folder belongs to somebody else.
    #[error("this folder holds the credential of {kind} {id}: use another folder")]
    OtherIdentity {
        /// What it holds.
        kind: Kind,
        /// Whose.
        id: Id,
    },
    /// The folder belongs to another environment.
    #[error("this folder belongs to trust domain {kept}, and the server serves {found}: use another folder")]
    OtherTrustDomain {
        /// The folder's.
        kept: TrustDomain,
        /// The server's.
        found: TrustDomain,
    },
    /// The new certificate could not be put in force, and the one before it is used again.
    #[error("the new certificate was not confirmed ({0}); the one before it works and is in use again")]
    FellBack(Refusal),
}

impl FlowError {
    /// What a command that runs once should tell its caller.
    pub fn action(&self) -> Action {
        match self {
            FlowError::Connect(error) => error.action(),
            FlowError::Credential(CredentialError::Absent(_)) => Action::Reattest,
            FlowError::Credential(CredentialError::Locked(_)) => Action::Retry { after: None },
            FlowError::Refused(refusal) => refusal.action,
            FlowError::PendingApproval { retry_after, .. } => Action::Retry { after: Some(*retry_after) },
            // Another program may have it for now.
            FlowError::Key(error) | FlowError::Credential(CredentialError::Key(error)) if is_busy(error) => {
                Action::Retry { after: None }
            }
            FlowError::TimedOut | FlowError::FellBack(_) => Action::Retry { after: None },
            FlowError::Credential(_)
            | FlowError::Key(_)
            | FlowError::NotTaken(_)
            | FlowError::OutOfOrder(_)
            | FlowError::OtherIdentity { .. }
            | FlowError::OtherTrustDomain { .. } => Action::Stop,
        }
    }

    /// Whether a TPM was asked for where there is none.
    pub fn lacks_tpm(&self) -> bool {
        match self {
            FlowError::Key(error) | FlowError::Credential(CredentialError::Key(error)) => is_absent(error),
            _ => false,
        }
    }

    /// What an agent does that is to live for years: only the CA's own word ends it, or a folder without credential.
    /// Networks, disks and answers that cannot be taken may all get better.
    pub fn agent_action(&self) -> Action {
        match self {
            FlowError::Refused(refusal) => refusal.action,
            FlowError::Credential(CredentialError::Absent(_)) => Action::Reattest,
            FlowError::PendingApproval { retry_after, .. } => Action::Retry { after: Some(*retry_after) },
            _ => Action::Retry { after: None },
        }
    }
}

/// Whether a key's hardware is there, and does not answer now.
fn is_busy(error: &KeyError) -> bool {
    let waits =
        matches!(error, KeyError::Tpm(TpmError::Unreachable { .. }) | KeyError::Pkcs11(Pkcs11Error::Refused(_)));
    waits && !is_absent(error)
}

fn is_absent(error: &KeyError) -> bool {
    matches!(error, KeyError::Tpm(TpmError::Unreachable { source, .. }) if source.kind() == std::io::ErrorKind::NotFound)
}
