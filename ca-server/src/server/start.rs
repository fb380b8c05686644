//! What one start of the server is told besides its settings, and what to do where it can't listen.

use std::io::{self, ErrorKind};

use crate::signer::Passphrase;

/// For one start.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Of the keys, where they are encrypted.
    pub passphrase: Option<Passphrase>,
    /// The clock is right, whatever the store says.
    pub accept_clock: bool,
}

/// What to do about an address that can't be listened on.
pub(super) fn other_address(error: &io::Error, option: &str) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => format!("is another server running? choose another with --{option}"),
        ErrorKind::AddrNotAvailable => format!(
            "this machine has no such address: choose one that it has (`ip address` tells), or 0.0.0.0 for all of them, with \
             --{option}"
        ),
        ErrorKind::PermissionDenied => format!(
            "a port below 1024 needs a privilege (AmbientCapabilities=CAP_NET_BIND_SERVICE): choose another with --{option}"
        ),
        _ => format!("choose another with --{option}"),
    }
}
