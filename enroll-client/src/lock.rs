//! A lock on a file: one holder at a time, over all processes, until it is dropped or its process ends.

use std::{
    fs::{File, TryLockError},
    io,
    path::Path,
};

/// A lock that is held.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Takes the lock on `path`, which is made if it isn't there; `None` while somebody else holds it.
    pub(crate) fn take(path: &Path) -> io::Result<Option<Self>> {
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Drop for Lock {
    /// To close the file would not do: a child process that is just being started may have it open for a moment more.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}
