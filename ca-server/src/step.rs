//! Durable steps: the moments between which something is put on disk, told to whoever watches. A crash at any of them
//! loses nothing that was answered; `tests/tests/crash.rs` kills the server at each.

use std::sync::OnceLock;

/// A moment at which a process may die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A transaction holds all its changes, and is not committed.
    Committing,
    /// It is on disk, and nobody has heard of it.
    Committed,
    /// The write-ahead log was moved into the database.
    Checkpointed,
    /// A CRL is signed, and recorded nowhere.
    CrlSigned,
    /// Its head is recorded, and it is not served.
    CrlRecorded,
    /// It is served, and who waits for it has not been told.
    CrlServed,
    /// A seal of the audit log is signed, and not recorded.
    SealSigned,
    /// A file is on disk under the name of its draft.
    FileDrafted,
    /// It has its name, which its folder may not have on disk.
    FilePlaced,
    /// `init` or `restore` has moved a part of a CA into place, or `backup` the whole of its copy.
    PartMoved,
}

impl Step {
    /// Every step.
    pub const ALL: [Step; 10] = [
        Step::Committing,
        Step::Committed,
        Step::Checkpointed,
        Step::CrlSigned,
        Step::CrlRecorded,
        Step::CrlServed,
        Step::SealSigned,
        Step::FileDrafted,
        Step::FilePlaced,
        Step::PartMoved,
    ];
}

type Watcher = Box<dyn Fn(Step) + Send + Sync>;

static WATCHER: OnceLock<Watcher> = OnceLock::new();

/// Has a function called at every step, on the thread that takes it. Once a process; for tests that kill it.
pub fn watch(watcher: impl Fn(Step) + Send + Sync + 'static) {
    let _ = WATCHER.set(Box::new(watcher));
}

/// This step is reached.
pub(crate) fn reached(step: Step) {
    if let Some(watcher) = WATCHER.get() {
        watcher(step);
    }
}
