//! `enroll-client run`: the agent.

use std::path::PathBuf;

use clap::Args;
use tracing::info;

use super::CliError;
use crate::{
    agent::Agent,
    credential::{Credential, LockedFolder},
};

/// Keep the credential alive, until told to stop
///
/// Ends by itself only when the CA refuses for good (1) or wants a new enrollment (4).
#[derive(Debug, Args)]
pub(super) struct Run {
    /// The credential folder
    #[arg(long)]
    dir: PathBuf,
    /// Run through `sh -c` after each renewal, with the path of credential.pem in FLEETCA_FILE
    #[arg(long, value_name = "CMD")]
    on_renew: Option<String>,
}

impl Run {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let stop = super::told_to_stop()?;
        let credential = Credential::load(&self.dir)?;
        let folder = LockedFolder::open(&self.dir)?;
        let state = credential.state();
        info!(kind = %state.kind, id = %state.id, renew_at = %state.renew_at, "keeps the credential alive");
        Agent { on_renew: self.on_renew }.run(&folder, stop).await?;
        info!("told to stop");
        Ok(())
    }
}
