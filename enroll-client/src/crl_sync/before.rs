//! The file from before, with which the gateway's program lived: kept while it is asked whether it lives with a new one.

use std::path::PathBuf;

use super::{CrlSync, Desk, SyncError, state::State};
use crate::{
    certificate::{hex, sha256},
    durable::{self, PUBLIC},
    hook,
    wall_time::WallTime,
};

/// What is remembered of the file from before, and its content.
struct Before {
    state: State,
    file: Vec<u8>,
}

impl CrlSync {
    /// Keeps what is there, if it is ours and was taken in. What is there while a new one waits to be taken in is not: then
    /// the one before that stays what is kept.
    pub(super) fn keep_before(&self, desk: &Desk) -> Result<(), SyncError> {
        let [file, state] = self.before_paths();
        match desk.known() {
            Some(good) if self.probe.is_some() && !desk.state.hook_pending => {
                durable::replace(&file, good, PUBLIC).map_err(self.io(&file))?;
                durable::replace(&state, &desk.state.to_json(), PUBLIC).map_err(self.io(&state))
            }
            Some(_) if self.probe.is_some() => Ok(()),
            // Cut short between the state and the file: what is there is what was kept.
            None if self.probe.is_some() && self.is_still_there(desk) => Ok(()),
            _ => self.forget_before(),
        }
    }

    fn is_still_there(&self, desk: &Desk) -> bool {
        matches!(self.before(), Ok(Some(before)) if Some(&before.file) == desk.file.as_ref())
    }

    /// There is nothing to come back to.
    pub(super) fn forget_before(&self) -> Result<(), SyncError> {
        self.before_paths().iter().try_for_each(|path| durable::remove_file(path).map_err(self.io(path)))
    }

    /// Puts the file back that was there before, and tells the gateway's program, if there is one that is good still.
    /// The numbers seen stay the least that is taken, and what failed is not tried again.
    pub(super) async fn bring_back(&self, desk: &mut Desk) -> Result<bool, SyncError> {
        let Some(Before { mut state, file }) = self.before()? else { return Ok(false) };
        let now = WallTime::now();
        let in_file = state.crls.values().filter(|crl| crl.in_file);
        if in_file.into_iter().any(|crl| crl.next_update.is_none_or(|until| until <= now)) {
            return Ok(false);
        }
        for (issuer, newer) in &desk.state.crls {
            let seen = newer.seen.clone().unwrap_or_else(|| newer.number.clone());
            let mut kept = newer.clone();
            kept.in_file = false;
            state.crls.entry(issuer.clone()).or_insert(kept).seen = Some(seen);
        }
        // Where it is back already, and failed as well, the one that was refused before it stays what is not tried again.
        let failed = &desk.state.file_sha256;
        state.refused = if *failed == state.file_sha256 { &desk.state.refused } else { failed }.clone();
        state.hook_pending = true;
        self.remember(desk, state)?;
        durable::replace(&self.out, &file, PUBLIC).map_err(self.io(&self.out))?;
        desk.file = Some(file);
        if let Some(command) = &self.on_change {
            hook::run(command, &self.out).await?;
        }
        self.remember(desk, State { hook_pending: false, ..desk.state.clone() })?;
        Ok(true)
    }

    fn before(&self) -> Result<Option<Before>, SyncError> {
        let [file, state] = self.before_paths();
        let Some(content) = durable::read_if_there(&file).map_err(self.io(&file))? else { return Ok(None) };
        let state = State::load(&state)?;
        // Both were written, and belong together.
        let is_whole = state.file_sha256 == hex(&sha256(&content));
        Ok(is_whole.then_some(Before { state, file: content }))
    }

    fn before_paths(&self) -> [PathBuf; 2] {
        [self.beside(".before"), self.beside(".before.state.json")]
    }
}
