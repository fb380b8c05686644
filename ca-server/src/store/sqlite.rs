//! The embedded store: one SQLite file in the CA's folder, nothing to run beside the server.
//!
//! One writer thread commits whatever has queued as one transaction ([`writer`]); readers work beside it and wait for
//! nobody ([`readers`]). Write-ahead log, `synchronous=FULL`: what was answered is on disk. The file may be written by
//! another process at the same time (`ca-server operator recover`), so nothing that counts is kept in memory.
//!
//! Each of the other files knows the tables of one notion. The schema is in `migrations/sqlite`.

mod audit;
mod bulk;
mod certificates;
mod changes_left;
mod checkpoint;
mod copy;
mod cutoff;
mod devices;
mod events;
mod file;
mod fleets;
mod holders;
mod issuance;
mod issuers;
mod newcomers;
mod partitions;
mod past;
mod proof;
mod query;
mod quotas;
mod read;
mod readers;
mod registrations;
mod reserve;
mod taken;
mod tokens;
mod types;
mod write;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use self::{checkpoint::Checkpointer, readers::Readers, reserve::Reserve, writer::Writer};
use super::{Copied, StoreError};

/// How many longer reads go on at once, each with a connection and a cache of its own. More wait.
const SCANS: usize = 8;
/// How many reads that publication needs go on at once, beside the others: the publisher asks for one at a time.
const NEEDED: usize = 2;

/// The store in one SQLite file. Dropping it finishes what has queued and closes the file.
pub struct SqliteStore {
    scans: Arc<Semaphore>,
    needed: Arc<Semaphore>,
    // Dropped in this order: the writer closes the file last and moves the log into it.
    readers: Arc<Readers>,
    _checkpointer: Checkpointer,
    writer: Writer,
}

impl SqliteStore {
    /// Opens the database, or makes it (readable by its owner only) where there is none.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        file::create(path)?;
        Self::start(path)
    }

    /// Opens a database that must be there already. `Unusable` says what is wrong with it and what to do.
    pub fn open_existing(path: &Path) -> Result<Self, StoreError> {
        let open = || {
            file::open(path)?;
            Self::start(path)
        };
        let mut opened = open();
        let mut reserve = None;
        // Files that were taken away at the last stop are made anew, and a full disk has no room for them but the reserve.
        while matches!(opened, Err(StoreError::Full)) && reserve.get_or_insert_with(|| Reserve::beside(path)).spend() {
            opened = open();
        }
        opened
    }

    /// Copies a database as it is at this moment, whoever writes it meanwhile, into a file that must not be there yet, and
    /// checks the copy from end to end. Changes nothing in the database that is copied.
    pub fn copy(from: &Path, to: &Path) -> Result<Copied, StoreError> {
        copy::copy(from, to)
    }

    fn start(path: &Path) -> Result<Self, StoreError> {
        let written = Arc::new(AtomicU64::new(0));
        let readers = Arc::new(Readers::new(path));
        let checkpointer = Checkpointer::start(path, written.clone())?;
        let (scans, needed) = (Arc::new(Semaphore::new(SCANS)), Arc::new(Semaphore::new(NEEDED)));
        Ok(Self { scans, needed, readers, _checkpointer: checkpointer, writer: Writer::start(path, written)? })
    }

    /// Reads on the caller's own thread: for what takes microseconds.
    fn look<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.readers.read(work)
    }

    /// Reads on a thread of its own: for what may take longer. Whoever lists much waits for himself.
    async fn scan<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.in_turn(&self.scans, work).await
    }

    /// The same for what a publication needs, which no list of anybody's holds up.
    async fn scan_to_publish<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.in_turn(&self.needed, work).await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        turns: &Arc<Semaphore>,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        // It is never closed.
        let turn = turns.clone().acquire_owned().await;
        let readers = self.readers.clone();
        let scanned = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            readers.read(work)
        })
        .await;
        scanned.unwrap_or_else(|_| Err(StoreError::Database("a query panicked".into())))
    }
}
