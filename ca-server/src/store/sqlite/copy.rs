//! A copy of the database as it is at one moment, made beside whoever writes it.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
};

use super::{file, issuers};
use crate::store::{Copied, StoreError};

/// How often a step is tried that finds the database busy, and how long it waits in between.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// Copies the whole in one step, under one snapshot: readers keep nobody waiting. The copy is one file, without a log.
pub(super) fn copy(from: &Path, to: &Path) -> Result<Copied, StoreError> {
    let unusable = |error| StoreError::Unusable(format!("{} can't be written: {error}", to.display()));
    file::check_copyable(from)?;
    let source = file::connect_to_read(from)?;
    drop(OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(unusable)?);
    let mut target = Connection::open(to)?;
    copy_pages(&source, &mut target)?;
    target.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    let found: String = target.query_row("-- integrity_check()\nPRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(StoreError::Unusable(format!("{} is damaged ({found}): there is no backup of it", from.display())));
    }
    let copied = Copied { domain: issuers::domain(&target)?, issuers: issuers::list(&target)? };
    target.close().map_err(|(_, error)| error)?;
    File::open(to).and_then(|file| file.sync_all()).map_err(unusable)?;
    Ok(copied)
}

fn copy_pages(source: &Connection, target: &mut Connection) -> Result<(), StoreError> {
    let backup = Backup::new(source, target)?;
    for _ in 0..TRIES {
        match backup.step(-1)? {
            StepResult::Done => return Ok(()),
            _ => std::thread::sleep(PAUSE),
        }
    }
    Err(StoreError::Unusable("another process holds the database: wait for it to finish, and try again".into()))
}
