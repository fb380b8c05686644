//! A copy of the database as it is at one moment, made beside whoever writes it.

use std::{
    fs::{File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
};

use super::{file, issuers};
use crate::{
    step::{Step, reached},
    store::{Copied, StoreError},
};

/// How often a step is tried that finds the database busy, and how long it waits in between.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// Copies the whole in one step, under one snapshot: readers keep nobody waiting. The copy is one file, without a log.
pub(super) fn copy(from: &Path, to: &Path) -> Result<Copied, StoreError> {
    let unusable = |error| StoreError::Unusable(format!("{} can't be written: {error}", to.display()));
    file::check_copyable(from).map_err(|error| explain(from, error))?;
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
    reached(Step::FileDrafted);
    File::open(to).and_then(|file| file.sync_all()).map_err(unusable)?;
    Ok(copied)
}

/// SQLite reads a database with a log only where it can write.
fn explain(from: &Path, error: StoreError) -> StoreError {
    match OpenOptions::new().read(true).write(true).open(from) {
        Err(refused) if matches!(refused.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied) => {
            StoreError::Unusable(format!(
                "{} can't be written ({refused}), which reading it needs: copy the folder, all of it, to where it can be \
                 written, and make the backup of the copy",
                from.display()
            ))
        }
        _ => error,
    }
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
