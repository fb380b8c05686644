//! `--accept-clock`, of every command on the CA's own folder that dates something.

use clap::Args;

use super::{CommandError, local};
use crate::{
    authority::check_clock,
    clock::{Clock, SystemClock},
    identity::Timestamp,
    store::Store,
};

/// What somebody says of the clock.
#[derive(Args, Clone, Copy, Debug)]
pub struct AcceptClock {
    /// The clock is right, although what the CA dated last is later, or more than 7 days earlier
    #[arg(long)]
    pub accept_clock: bool,
}

impl AcceptClock {
    /// What the clock says, if it can be right: by what is in the store, and by a date that was shown.
    pub async fn now(self, store: &dyn Store, shown: Option<Timestamp>) -> Result<Timestamp, CommandError> {
        let now = SystemClock.now();
        check_clock(store, shown, now, self.accept_clock).await.map_err(local)?;
        Ok(now)
    }
}
