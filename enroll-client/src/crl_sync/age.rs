//! How old what is held may be, and what is done where it is older.

use std::time::Duration;

use tracing::{error, warn};

use super::{CrlSync, Desk, Held, IssuerId, SyncError, alarm::number, state::State};
use crate::{hook, wall_time::WallTime};

/// Twice the time within which a CA publishes where nothing changes. Somebody may be keeping newer CRLs back.
const OLD: Duration = Duration::from_secs(3600);
/// When nextUpdate is near: at most gateways nobody gets in after it.
const NEAR: Duration = Duration::from_secs(24 * 3600);
/// The same of a root's CRL, which takes a ceremony: somebody has to fetch the key. At most a quarter of its time, where a
/// root signs once a month.
const NEAR_OF_ROOT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Says what somebody should know long before gateways refuse everybody.
pub(super) fn warn_of_age(state: &State) {
    let now = WallTime::now();
    for (issuer, crl) in state.crls.iter().filter(|(_, crl)| crl.in_file) {
        let (number, age) = (number(&crl.number), crl.this_update.until(now));
        if !crl.is_root && age > OLD {
            warn!(%issuer, %number, seconds = age.as_secs(), "the CRL is older than twice the CA's cadence: nothing newer comes");
        }
        let near = |next| if crl.is_root { NEAR_OF_ROOT.min(crl.this_update.until(next) / 4).max(NEAR) } else { NEAR };
        if crl.next_update.is_some_and(|next| now.until(next) < near(next)) {
            let whose = if crl.is_root { "root" } else { "issuing CA" };
            error!(%issuer, %number, whose, "the CRL's nextUpdate is near: after it gateways refuse everybody");
        }
    }
}

impl CrlSync {
    /// Fails where a CRL of an issuing CA is older than `max_age`. A root signs its own once a year.
    pub(super) fn check_age(&self, held: &[Held]) -> Result<(), SyncError> {
        let issuing = held.iter().filter(|crl| !crl.is_root).map(|crl| (&crl.issuer, crl.this_update));
        match self.too_old(issuing) {
            Some((issuer, age)) => Err(SyncError::TooOld { issuer, age }),
            None => Ok(()),
        }
    }

    /// A failure, and that the file's CRLs are older than `max_age` by now, where they are. Then the gateway is stopped.
    pub(super) async fn with_age<T>(&self, outcome: Result<T, SyncError>, desk: &mut Desk) -> Result<T, SyncError> {
        let failure = match outcome {
            Err(failure @ (SyncError::TooOld { .. } | SyncError::FailedAndTooOld { .. })) => failure,
            Err(failure) => match self.kept_too_long(&desk.state) {
                Some((issuer, age)) => SyncError::FailedAndTooOld { failure: Box::new(failure), issuer, age },
                None => return Err(failure),
            },
            outcome => return outcome,
        };
        if self.on_stale.is_some() {
            // Once the CRLs are young again, the gateway's program is told as of new ones. A disk that takes nothing, which may
            // be why they are old, keeps nobody from stopping it.
            if self.tells() && !desk.state.hook_pending {
                let pending = State { hook_pending: true, ..desk.state.clone() };
                if let Err(failed) = self.remember(desk, pending) {
                    error!(error = %failed, "that the gateway is to be told once the CRLs are young is not remembered");
                    desk.state.hook_pending = true;
                }
            }
            self.stop_gateway().await;
        }
        Err(failure)
    }

    /// A failure to begin at all, as where the disk can only be read. The gateway is stopped where what it holds is too old,
    /// or nobody can say how old it is; not where another process is at it.
    pub(super) async fn with_age_unopened(&self, failure: SyncError) -> SyncError {
        if matches!(failure, SyncError::Locked(_)) || self.max_age.is_none() {
            return failure;
        }
        let (is_known, old) = match State::load(&self.beside(".state.json")) {
            Ok(kept) => (true, self.kept_too_long(&kept)),
            Err(_) => (false, None),
        };
        if !is_known || old.is_some() {
            self.stop_gateway().await;
        }
        match old {
            Some((issuer, age)) => SyncError::FailedAndTooOld { failure: Box::new(failure), issuer, age },
            None => failure,
        }
    }

    async fn stop_gateway(&self) {
        let Some(command) = &self.on_stale else { return };
        if let Err(failed) = hook::run(command, &self.out).await {
            error!(error = %failed, "--on-stale: the gateway may still let devices in");
        }
    }

    /// Whether what the file holds is that old, and the gateway is to let nobody in for it.
    pub(super) fn is_stopped(&self, kept: &State) -> bool {
        self.on_stale.is_some() && self.kept_too_long(kept).is_some()
    }

    pub(super) fn kept_too_long(&self, kept: &State) -> Option<(IssuerId, Duration)> {
        let in_file = kept.crls.iter().filter(|(_, crl)| crl.in_file && !crl.is_root);
        self.too_old(in_file.map(|(issuer, crl)| (issuer, crl.this_update)))
    }

    fn too_old<'a>(&self, mut crls: impl Iterator<Item = (&'a IssuerId, WallTime)>) -> Option<(IssuerId, Duration)> {
        let (max_age, now) = (self.max_age?, WallTime::now());
        let old = crls.find(|(_, this_update)| this_update.until(now) > max_age);
        old.map(|(issuer, this_update)| (issuer.clone(), this_update.until(now)))
    }
}
