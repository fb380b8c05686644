//! `state.json` of a generation: what the agent has to remember across restarts.

use serde::{Deserialize, Serialize};

use crate::{
    connect::ServerUrl,
    identity::{Id, Kind, TrustDomain},
    renewal::Window,
    wall_time::WallTime,
};

/// What a credential folder knows beside keys and certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Where to renew.
    pub server: ServerUrl,
    /// The environment.
    pub trust_domain: TrustDomain,
    /// Whom the certificate is for.
    pub kind: Kind,
    /// Which one.
    pub id: Id,
    /// Sequence of the newest trust bundle taken.
    pub trust_sequence: u64,
    /// When the CA wants to be asked for the next certificate.
    pub renewal_window: Window,
    /// The instant drawn in that window, once.
    pub renew_at: WallTime,
    /// The certificate is not in force before `Renewal.Confirm`.
    pub confirm_required: bool,
    /// The programs that use the credential have been told of it (`--on-renew`).
    pub announced: bool,
    /// The generation before this one, kept to fall back on.
    pub previous: Option<String>,
    /// The newest failure of the agent, until something works again.
    #[serde(default)]
    pub last_error: Option<LastError>,
}

/// A failure to tell people of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// When it happened.
    pub at: WallTime,
    /// What it was.
    pub message: String,
}
