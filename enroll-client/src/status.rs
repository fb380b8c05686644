//! What a credential folder holds, for people and programs. Reading needs no lock.

use std::{fmt, path::PathBuf};

use serde::Serialize;

use crate::{
    connect::ServerUrl,
    credential::{Credential, LastError},
    identity::{Id, Kind, TrustDomain},
    renewal::Window,
    wall_time::WallTime,
};

/// A credential's status; its JSON field names are stable.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Whose it is.
    pub id: Id,
    /// What its holder is.
    pub kind: Kind,
    /// The environment.
    pub trust_domain: TrustDomain,
    /// Where it renews.
    pub server: ServerUrl,
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// The folder that `current` leads to.
    pub generation: PathBuf,
    /// First instant of the certificate's validity.
    pub not_before: WallTime,
    /// Last instant of the certificate's validity.
    pub not_after: WallTime,
    /// The certificate is past its validity, by the clock of this machine.
    pub expired: bool,
    /// When the CA wants to be asked for the next certificate.
    pub renewal_window: Window,
    /// The instant drawn in it.
    pub renew_at: WallTime,
    /// The server has not put the certificate in force yet.
    pub confirm_required: bool,
    /// The agent's newest failure, until something works again.
    pub last_error: Option<LastError>,
    /// Why `--on-renew` failed, until it succeeds: programs may still use the certificate before this one.
    pub on_renew_error: Option<LastError>,
}

impl Status {
    /// The status of `credential` at `now`.
    pub fn of(credential: &Credential, now: WallTime) -> Self {
        let (leaf, state) = (credential.leaf(), credential.state().clone());
        Self {
            id: state.id,
            kind: state.kind,
            trust_domain: state.trust_domain,
            server: state.server,
            serial: leaf.serial(),
            generation: credential.folder().to_owned(),
            not_before: leaf.not_before(),
            not_after: leaf.not_after(),
            expired: leaf.not_after() < now,
            renewal_window: state.renewal_window,
            renew_at: state.renew_at,
            confirm_required: state.confirm_required,
            last_error: state.last_error,
            on_renew_error: state.on_renew_error,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expired = if self.expired { " (expired)" } else { "" };
        writeln!(f, "{:<13}{}", self.kind.as_str(), self.id)?;
        writeln!(f, "trust domain {}", self.trust_domain)?;
        writeln!(f, "server       {}", self.server)?;
        writeln!(f, "serial       {}", self.serial)?;
        writeln!(f, "valid until  {}{expired}", self.not_after)?;
        writeln!(f, "renews at    {}", self.renew_at)?;
        writeln!(f, "confirmed    {}", if self.confirm_required { "not yet" } else { "yes" })?;
        writeln!(f, "files        {}", self.generation.display())?;
        for (what, error) in [("last error", &self.last_error), ("on renew", &self.on_renew_error)] {
            if let Some(error) = error {
                writeln!(f, "{what:<13}{} ({})", error.message, error.at)?;
            }
        }
        Ok(())
    }
}
