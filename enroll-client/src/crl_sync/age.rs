//! How old what is held may be, and what is done where it is older.

use std::time::Duration;

use tracing::error;

use super::{CrlSync, Desk, Held, IssuerId, SyncError, state::State};
use crate::{hook, wall_time::WallTime};

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
        if let Some(command) = &self.on_stale {
            // Once the CRLs are young again, the gateway's program is told as of new ones. A disk that takes nothing, which may
            // be why they are old, keeps nobody from stopping it.
            if self.tells() && !desk.state.hook_pending {
                let pending = State { hook_pending: true, ..desk.state.clone() };
                if let Err(failed) = self.remember(desk, pending) {
                    error!(error = %failed, "that the gateway is to be told once the CRLs are young is not remembered");
                    desk.state.hook_pending = true;
                }
            }
            if let Err(failed) = hook::run(command, &self.out).await {
                error!(error = %failed, "--on-stale: the gateway may still let devices in");
            }
        }
        Err(failure)
    }

    /// Whether what the file holds is that old, and the gateway is to let nobody in for it.
    pub(super) fn is_stopped(&self, kept: &State) -> bool {
        self.on_stale.is_some() && self.kept_too_long(kept).is_some()
    }

    fn kept_too_long(&self, kept: &State) -> Option<(IssuerId, Duration)> {
        let in_file = kept.crls.iter().filter(|(_, crl)| crl.in_file && !crl.is_root);
        self.too_old(in_file.map(|(issuer, crl)| (issuer, crl.this_update)))
    }

    fn too_old<'a>(&self, mut crls: impl Iterator<Item = (&'a IssuerId, WallTime)>) -> Option<(IssuerId, Duration)> {
        let (max_age, now) = (self.max_age?, WallTime::now());
        let old = crls.find(|(_, this_update)| this_update.until(now) > max_age);
        old.map(|(issuer, this_update)| (issuer.clone(), this_update.until(now)))
    }
}
