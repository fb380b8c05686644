//! What one start of the server is told besides its settings, and whether its clock can be right.

use std::time::Duration;

use super::ServerError;
use crate::{audit::Draft, identity::Timestamp, signer::Passphrase, store::Store};

/// How far the clock may lie before the last audit record: less is a clock that was set right.
const BEHIND: Duration = Duration::from_secs(600);

/// For one start.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Of the keys, where they are encrypted.
    pub passphrase: Option<Passphrase>,
    /// The clock is right, whatever the last audit record says.
    pub accept_clock: bool,
}

/// Refuses a clock that lies well before the last audit record, unless somebody says that it is right: then that is
/// recorded, and times stand still where they were until the clock has caught up.
pub(super) async fn check_clock(store: &dyn Store, now: Timestamp, accepted: bool) -> Result<(), ServerError> {
    let Some((_, last)) = store.last_audit().await? else { return Ok(()) };
    if last <= now + BEHIND {
        return Ok(());
    }
    if !accepted {
        return Err(ServerError::Clock { now, last });
    }
    tracing::warn!(%now, %last, "the clock is behind the last audit record: times stand still until it has caught up");
    let audit = Draft::done(now, "local", "clock.accepted", "clock".into()).fact("clock", now.to_string());
    Ok(store.record_audit(audit).await?)
}
