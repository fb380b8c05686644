//! Whether the clock can be right, by what the store has dated: asked before anything is dated by it. What is dated ahead
//! stays so, since neither audit times nor thisUpdate ever go back.

use std::time::Duration;

use crate::{
    audit::Draft,
    clock::TOLERANCE,
    identity::Timestamp,
    store::{Store, StoreError},
};

/// How far the clock may lie after the newest CRL: a server that runs publishes every half hour, and one that stood still
/// for longer than its CRLs are good is looked after by somebody.
const AHEAD: Duration = Duration::from_secs(7 * 24 * 3600);

/// Why nothing is dated by this clock.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClockError {
    /// It lies before what was recorded.
    #[error(
        "the clock says {now}, but {what} is of {last}: set the clock, and start again; if it is right, and was ahead \
         before, say --accept-clock"
    )]
    Behind {
        /// What the clock says.
        now: Timestamp,
        /// What it dated later than that.
        what: &'static str,
        /// What it said once, or was held at.
        last: Timestamp,
    },
    /// It lies far after what was published.
    #[error(
        "the clock says {now}, but the newest CRL here is of {last}, more than 7 days before: what is dated ahead stays so, \
         and gateways would refuse it; set the clock; or, if it is right, and nothing ran here since then, say --accept-clock"
    )]
    Ahead {
        /// What the clock says.
        now: Timestamp,
        /// The newest date.
        last: Timestamp,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Refuses a clock that lies well before the last audit record or a CRL that is shown, or far ahead of all that was
/// published, unless somebody says that it is right: then that is recorded, and times stand still where they were until
/// the clock has caught up.
pub async fn check_clock(
    store: &dyn Store,
    shown: Option<Timestamp>,
    now: Timestamp,
    accepted: bool,
) -> Result<(), ClockError> {
    let last_audit = store.last_audit().await?.map(|(_, at)| ("the last audit record", at));
    let later = [last_audit, shown.map(|at| ("a CRL that was given", at))].into_iter().flatten();
    let doubt = match later.max_by_key(|(_, at)| *at).filter(|(_, at)| *at > now + TOLERANCE) {
        Some((what, last)) => Some(ClockError::Behind { now, what, last }),
        None => ahead(store, shown, now).await?,
    };
    let Some(doubt) = doubt else { return Ok(()) };
    if !accepted {
        return Err(doubt);
    }
    tracing::warn!(%doubt, "the clock is accepted");
    let audit = Draft::done(now, "local", "clock.accepted", "clock".into()).fact("clock", now.to_string());
    Ok(store.record_audit(audit).await?)
}

async fn ahead(store: &dyn Store, shown: Option<Timestamp>, now: Timestamp) -> Result<Option<ClockError>, StoreError> {
    let last = newest_date(store).await?.max(shown);
    Ok(last.filter(|last| now > *last + AHEAD).map(|last| ClockError::Ahead { now, last }))
}

/// When the CA last dated what it published, or decided to go on. Audit records follow a clock that leaps while the
/// server runs, and CRLs don't: records count only where nothing was ever published.
async fn newest_date(store: &dyn Store) -> Result<Option<Timestamp>, StoreError> {
    let mut dates = Vec::new();
    for row in store.issuers().await?.iter().filter(|row| !row.role.is_root()) {
        dates.extend(store.crl_head(row.id).await?.map(|head| head.this_update));
    }
    if dates.is_empty() {
        return Ok(store.last_audit().await?.map(|(_, at)| at));
    }
    for restoration in store.restorations().await? {
        dates.push(restoration.noticed_at);
        dates.extend(restoration.resumption.map(|resumption| resumption.at));
    }
    Ok(dates.into_iter().max())
}
