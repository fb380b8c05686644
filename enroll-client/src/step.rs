//! Durable steps: the moments at which a file has come to be or has gone, told to whoever watches. A client that dies at any
//! of them goes on with the next run; `tests/tests/sync_crash.rs` kills it at each.

use std::sync::OnceLock;

/// A moment at which a process may die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A file's successor is on disk beside it.
    Drafted,
    /// It has the file's name, which the folder may not have on disk.
    Placed,
    /// The folder has it, too.
    Replaced,
    /// A file is gone.
    Removed,
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
