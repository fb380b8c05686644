//! Moves what was committed from the write-ahead log into the database, beside the commits instead of in them.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::Duration,
};

use rusqlite::Connection;

use super::file;
use crate::{
    step::{Step, reached},
    store::StoreError,
};

/// How often it looks.
const LOOK: Duration = Duration::from_secs(1);

/// Jobs after which it does not wait for a quiet second: few enough to stay under the automatic checkpoint.
const JOBS: u64 = 10_000;

/// The checkpointer's thread; it ends when this is dropped.
pub(super) struct Checkpointer {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread. `written` counts the jobs committed.
    pub fn start(path: &Path, written: Arc<AtomicU64>) -> Result<Self, StoreError> {
        let db = file::connect_to_write(path)?;
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || run(&db, &written, &stopped))
            .map_err(|error| StoreError::Unusable(format!("can't start the store's checkpointer: {error}")))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Checkpoints in the first quiet second after a commit, or after many commits.
fn run(db: &Connection, written: &AtomicU64, stopped: &mpsc::Receiver<()>) {
    let (mut before, mut moved) = (0, 0);
    while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        let now = written.load(Ordering::Relaxed);
        let quiet = now == before;
        before = now;
        if now == moved || !(quiet || now - moved >= JOBS) {
            continue;
        }
        moved = now;
        // PASSIVE waits for nobody and moves what it can; the rest is moved next time.
        let checkpoint = "-- checkpoint()\nPRAGMA wal_checkpoint(PASSIVE)";
        if let Err(error) = db.query_row(checkpoint, [], |_| Ok(())) {
            tracing::warn!(%error, "the write-ahead log could not be moved into the database");
        }
        reached(Step::Checkpointed);
    }
}
