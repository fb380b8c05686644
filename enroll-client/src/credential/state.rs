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
    /// The server has seen another holder of this identity when this certificate was confirmed. It is confirmed again
    /// only once the server says that this is still to be done.
    #[serde(default)]
    pub forked: bool,
    /// The request that it answers, as [`LockedFolder::next_key`](super::LockedFolder::next_key) knows it.
    #[serde(default)]
    pub obtained_by: String,
    /// The generation before this one, kept to fall back on.
    pub previous: Option<String>,
    /// The newest failure of the agent, until something works again.
    #[serde(default)]
    pub last_error: Option<LastError>,
    /// Why `--on-renew` failed, until it succeeds.
    #[serde(default)]
    pub on_renew_error: Option<LastError>,
}

/// Whose credential it is, and where it renews.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Where to renew.
    pub server: ServerUrl,
    /// The environment.
    pub trust_domain: TrustDomain,
    /// Whom the certificate is for.
    pub kind: Kind,
    /// Which one.
    pub id: Id,
}

impl State {
    /// The state of a certificate that is in force already: its instant of renewal is drawn here, by `random`, which
    /// is 64 uniformly random bits.
    pub fn new(holder: Holder, trust_sequence: u64, renewal_window: Window, random: u64) -> Self {
        Self {
            server: holder.server,
            trust_domain: holder.trust_domain,
            kind: holder.kind,
            id: holder.id,
            trust_sequence,
            renewal_window,
            renew_at: renewal_window.draw(random),
            confirm_required: false,
            announced: true,
            forked: false,
            obtained_by: String::new(),
            previous: None,
            last_error: None,
            on_renew_error: None,
        }
    }
}

/// A failure to tell people of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// When it happened.
    pub at: WallTime,
    /// What it was.
    pub message: String,
}
