//! The one writer: takes whatever has queued and commits it as one transaction.
//!
//! A job that fails takes back its own changes and nobody else's: where one has changed something before it failed, the
//! whole batch is taken back and done again with a savepoint for each. Savepoints cost as much as the work itself.
//!
//! While many are at it, the writer waits a moment for more jobs, and again while more come: a commit costs as much as
//! several jobs, and each makes every reader read its pages again. Whoever is alone does not wait. Nobody is answered before the commit is on disk; where
//! the commit fails, everybody hears of it. Where the disk is full, urgent jobs (revocations) get the space of
//! [`Reserve`].

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{file, reserve::Reserve};
use crate::{
    step::{Step, reached},
    store::StoreError,
};

/// How many jobs may wait; more wait to be queued.
const QUEUE: usize = 4096;

/// How many jobs one transaction holds at most.
const BATCH: usize = 512;

/// How long a batch waits for one more job, where the one before it had several.
const GATHERING: Duration = Duration::from_micros(500);

/// How often it waits so at most.
const PATIENCE: u32 = 12;

/// Whether a job may use the space kept in reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// It may not.
    Ordinary,
    /// It cuts somebody off, or publishes that.
    Urgent,
}

/// The writer's thread and the way to it.
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread on a database that is ready. `written` counts the jobs committed.
    pub fn start(path: &Path, written: Arc<AtomicU64>) -> Result<Self, StoreError> {
        let db = file::connect_to_write(path)?;
        let reserve = Reserve::beside(path);
        let (queue, jobs) = mpsc::channel(QUEUE);
        let run = move || Loop { db, reserve, written }.run(jobs);
        let thread = thread::Builder::new()
            .name("store-writer".into())
            .spawn(run)
            .map_err(|error| StoreError::Unusable(format!("can't start the store's writer: {error}")))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Has a job done; it is on disk when this returns. A caller that goes away meanwhile does not stop it.
    pub async fn write<T: Send + 'static>(
        &self,
        urgency: Urgency,
        work: impl Fn(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let stopped = || StoreError::Unusable("the store's writer has stopped: restart the server".into());
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Work { urgency, work, done: None, reply });
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        queue.send(job).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

impl Drop for Writer {
    /// Finishes what has queued and closes the database.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A job without its type. It may be run again, after everything it did was taken back.
trait Job: Send {
    fn urgency(&self) -> Urgency;
    /// Runs inside a savepoint; says whether to keep what was done.
    fn run(&mut self, db: &Connection) -> bool;
    /// Whether it failed for want of space.
    fn was_full(&self) -> bool;
    /// Answers: what the run gave, or why it can't be kept.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

struct Work<T, F> {
    urgency: Urgency,
    work: F,
    done: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, F: Fn(&Connection) -> Result<T, StoreError> + Send> Job for Work<T, F> {
    fn urgency(&self) -> Urgency {
        self.urgency
    }

    fn run(&mut self, db: &Connection) -> bool {
        let run = catch_unwind(AssertUnwindSafe(|| (self.work)(db)));
        let result =
            run.unwrap_or_else(|_| Err(StoreError::Database("a query panicked; its change was undone".into())));
        self.done.insert(result).is_ok()
    }

    fn was_full(&self) -> bool {
        matches!(self.done, Some(Err(StoreError::Full)))
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let Self { done, reply, .. } = *self;
        let never_run = || Err(StoreError::Database("not run".into()));
        // Nobody may be waiting any more, which changes nothing.
        let _ = reply.send(committed.and_then(|()| done.unwrap_or_else(never_run)));
    }
}

struct Loop {
    db: Connection,
    reserve: Reserve,
    written: Arc<AtomicU64>,
}

impl Loop {
    fn run(mut self, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
        let mut crowded = false;
        while let Some(job) = jobs.blocking_recv() {
            let mut batch = vec![job];
            for _ in 0..PATIENCE {
                if !crowded {
                    break;
                }
                thread::sleep(GATHERING);
                if !take_queued(&mut jobs, &mut batch) {
                    break;
                }
            }
            take_queued(&mut jobs, &mut batch);
            crowded = batch.len() > 1;
            self.serve(batch);
        }
    }

    /// Commits a batch and answers everybody in it.
    fn serve(&mut self, batch: Vec<Box<dyn Job>>) {
        self.reserve.restore();
        if !self.reserve.is_kept() {
            // So that the log never takes all of the little space there is.
            file::fold_log(&self.db);
        }
        let batch = self.admit(batch);
        let starved = self.attempt(batch);
        if starved.is_empty() {
            return;
        }
        // The log holds many versions of each page: moved into the database, within a piece of the reserve, it leaves
        // more room.
        self.reserve.spend();
        file::fold_log(&self.db);
        self.reserve.grow();
        let batch = self.admit(starved);
        let (mut urgent, ordinary) = by_urgency(self.attempt(batch));
        if !ordinary.is_empty() {
            self.reserve.starve();
            refuse(ordinary);
        }
        if urgent.is_empty() {
            return;
        }
        file::lift_bound(&self.db);
        while !urgent.is_empty() && self.reserve.spend() {
            urgent = self.attempt(urgent);
        }
        refuse(urgent);
        file::fold_log(&self.db);
        self.reserve.grow();
    }

    /// Refuses what is not urgent while there is no room: what little space there is belongs to revocations.
    fn admit(&self, batch: Vec<Box<dyn Job>>) -> Vec<Box<dyn Job>> {
        if self.reserve.has_room() {
            return batch;
        }
        let (urgent, ordinary) = by_urgency(batch);
        refuse(ordinary);
        urgent
    }

    /// Commits a batch and answers everybody in it, but for those who failed for want of space.
    fn attempt(&mut self, mut batch: Vec<Box<dyn Job>>) -> Vec<Box<dyn Job>> {
        if batch.is_empty() {
            return batch;
        }
        let committed = self.commit(&mut batch);
        if matches!(committed, Err(StoreError::Full)) {
            return batch;
        }
        let (starved, done): (Vec<_>, Vec<_>) = batch.into_iter().partition(|job| job.was_full());
        done.into_iter().for_each(|job| job.answer(repeat(&committed)));
        starved
    }

    /// One transaction, on disk when this returns.
    fn commit(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        if !self.commit_as_one(batch)? {
            self.commit_one_by_one(batch)?;
        }
        self.written.fetch_add(batch.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Without savepoints. `false`: a job failed and left changes; everything was taken back.
    fn commit_as_one(&mut self, batch: &mut [Box<dyn Job>]) -> Result<bool, StoreError> {
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for job in batch.iter_mut() {
            let changes = transaction.total_changes();
            if !job.run(&transaction) && (transaction.is_autocommit() || transaction.total_changes() != changes) {
                return Ok(false);
            }
        }
        commit(transaction)?;
        Ok(true)
    }

    /// With a savepoint for each job.
    fn commit_one_by_one(&mut self, batch: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for job in batch.iter_mut() {
            transaction.prepare_cached("SAVEPOINT job")?.execute([])?;
            let keep = job.run(&transaction);
            if transaction.is_autocommit() {
                // Some errors end the whole transaction: nobody's changes are left.
                return Err(if job.was_full() { StoreError::Full } else { ended() });
            }
            if !keep {
                transaction.prepare_cached("ROLLBACK TO job")?.execute([])?;
            }
            transaction.prepare_cached("RELEASE job")?.execute([])?;
        }
        commit(transaction)
    }
}

/// Takes what has queued, as far as the batch has room; whether there was something.
fn take_queued(jobs: &mut mpsc::Receiver<Box<dyn Job>>, batch: &mut Jobs) -> bool {
    let before = batch.len();
    while batch.len() < BATCH {
        let Ok(job) = jobs.try_recv() else { break };
        batch.push(job);
    }
    batch.len() > before
}

fn commit(transaction: Transaction<'_>) -> Result<(), StoreError> {
    reached(Step::Committing);
    transaction.commit()?;
    reached(Step::Committed);
    Ok(())
}

type Jobs = Vec<Box<dyn Job>>;

/// The urgent ones, and the others.
fn by_urgency(jobs: Jobs) -> (Jobs, Jobs) {
    jobs.into_iter().partition(|job| job.urgency() == Urgency::Urgent)
}

fn refuse(jobs: Jobs) {
    jobs.into_iter().for_each(|job| job.answer(Err(StoreError::Full)));
}

fn ended() -> StoreError {
    StoreError::Database("the database ended the transaction; nothing was changed".into())
}

/// The same outcome for everybody in the batch.
fn repeat(committed: &Result<(), StoreError>) -> Result<(), StoreError> {
    match committed {
        Ok(()) => Ok(()),
        Err(StoreError::Unusable(text)) => Err(StoreError::Unusable(text.clone())),
        Err(StoreError::Damaged(text)) => Err(StoreError::Damaged(text.clone())),
        Err(error) => Err(StoreError::Database(error.to_string())),
    }
}
