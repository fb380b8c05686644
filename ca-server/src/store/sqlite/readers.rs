//! Connections that only read, beside the writer.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rusqlite::Connection;

use super::file;
use crate::store::StoreError;

/// How many connections are kept for the next reader.
const KEPT: usize = 8;

/// Readers wait for nobody: each sees what was committed last when it began.
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub fn new(path: &Path) -> Self {
        Self { path: path.into(), idle: Mutex::default() }
    }

    /// Reads, in one state of the database from the first query to the last.
    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match kept {
            Some(connection) => connection,
            None => file::connect_to_read(&self.path)?,
        };
        connection.prepare_cached("-- begin()\nBEGIN")?.execute([])?;
        let result = work(&connection);
        // A connection that can't end its transaction is not kept: closing it does.
        connection.prepare_cached("-- end()\nCOMMIT")?.execute([])?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(connection);
        }
        result
    }
}
