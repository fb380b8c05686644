//! What one start of the server is told besides its settings.

use crate::signer::Passphrase;

/// For one start.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Of the keys, where they are encrypted.
    pub passphrase: Option<Passphrase>,
    /// The clock is right, whatever the store says.
    pub accept_clock: bool,
}
