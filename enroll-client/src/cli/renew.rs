//! `enroll-client renew`: one renewal, now or when it is due.

use std::path::PathBuf;

use clap::Args;

use super::CliError;
use crate::{
    credential::{Credential, LockedFolder},
    flow::Observer,
    renew,
    wall_time::WallTime,
};

/// Renew once, if it is due
///
/// A renewal that was interrupted is finished first.
#[derive(Debug, Args)]
pub(super) struct Renew {
    /// The credential folder
    #[arg(long)]
    dir: PathBuf,
    /// Renew even if it is not due
    #[arg(long)]
    force: bool,
}

impl Renew {
    pub(super) async fn run(self) -> Result<(), CliError> {
        // A folder without credential is said to be so before anything is made in it.
        Credential::load(&self.dir)?;
        let folder = LockedFolder::open(&self.dir)?;
        if renew::settle(&folder, Observer::none()).await? {
            eprintln!("the renewal that was under way is confirmed");
            tell(&folder.load()?);
            return Ok(());
        }
        let due = folder.load()?.state().renew_at;
        if !self.force && WallTime::now() < due {
            eprintln!("not due before {due}; --force renews now");
            return Ok(());
        }
        tell(&renew::renew(&folder, Observer::none()).await?);
        Ok(())
    }
}

fn tell(credential: &Credential) {
    let (state, leaf) = (credential.state(), credential.leaf());
    eprintln!("renewed: {} {}, serial {}, valid until {}", state.kind, state.id, leaf.serial(), leaf.not_after());
    eprintln!("  next renewal: {}", state.renew_at);
}
