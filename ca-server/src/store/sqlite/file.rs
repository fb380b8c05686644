//! The database's file: made, recognised, brought to the present schema, and connected to.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, config::DbConfig};

use crate::store::StoreError;

/// Step n brings a database from version n to n + 1. Steps are only ever added.
pub(super) const MIGRATIONS: [&str; 12] = [
    include_str!("../../../migrations/sqlite/0001_initial.sql"),
    include_str!("../../../migrations/sqlite/0002_restored_past.sql"),
    include_str!("../../../migrations/sqlite/0003_attestation.sql"),
    include_str!("../../../migrations/sqlite/0004_unknown_devices.sql"),
    include_str!("../../../migrations/sqlite/0005_quotas.sql"),
    include_str!("../../../migrations/sqlite/0006_restored_past_and_way_back.sql"),
    include_str!("../../../migrations/sqlite/0007_hardware.sql"),
    include_str!("../../../migrations/sqlite/0008_expiries.sql"),
    include_str!("../../../migrations/sqlite/0009_proof.sql"),
    include_str!("../../../migrations/sqlite/0010_partitions.sql"),
    include_str!("../../../migrations/sqlite/0011_published_dates.sql"),
    include_str!("../../../migrations/sqlite/0012_fleets_revision.sql"),
];

/// `FLCA`: how a database of ours is told from others.
const APPLICATION_ID: i32 = 0x464c_4341;

/// Up to this size (64 MiB) a database is checked as a whole when it is opened.
const SMALL_PAGES: i64 = 16 * 1024;

/// How long a connection waits for another process, such as `operator recover`.
const BUSY: Duration = Duration::from_secs(10);

/// The writer's cache in KiB: the inner pages of every index stay in it.
const WRITER_CACHE_KIB: i64 = 256 * 1024;

/// A reader's cache in KiB.
const READER_CACHE_KIB: i64 = 8 * 1024;

/// WAL pages after which a commit checkpoints by itself; `checkpoint` comes earlier, beside the commits.
const AUTOCHECKPOINT_PAGES: i64 = 100_000;

/// Makes the file, readable by its owner only, where there is none; and brings it to the present schema.
pub(super) fn create(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    // The folder too: a crash must not lose the file's name.
    made.and_then(|_| fs::set_permissions(path, Permissions::from_mode(0o600)))
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(|error| unusable(path, &format!("can't be opened for writing: {error}")))?;
    prepare(path)
}

/// Checks that a file is there and ours, and brings it to the present schema.
pub(super) fn open(path: &Path) -> Result<(), StoreError> {
    match fs::metadata(path) {
        Ok(found) if found.len() > 0 => prepare(path),
        Ok(_) => Err(unusable(path, "is empty: restore the last backup, or run ca-server init in another folder")),
        Err(_) => Err(unusable(path, "does not exist: run ca-server init, or check --dir")),
    }
}

/// Checks that a file is there and ours, and changes nothing in it.
pub(super) fn check_copyable(path: &Path) -> Result<(), StoreError> {
    if !fs::metadata(path).is_ok_and(|found| found.len() > 0) {
        return Err(unusable(path, "does not exist, or is empty: check --dir"));
    }
    check_ours(path, &connect_to_read(path)?)
}

/// Recognises the file and migrates it.
fn prepare(path: &Path) -> Result<(), StoreError> {
    let explain = |error| explain(path, error);
    // Before anything is set: the file of another program stays as it is.
    check_ours(path, &open_to_write(path)?)?;
    let mut db = connect_to_write(path)?;
    migrate(path, &mut db)?;
    match check(&db).map_err(explain)? {
        None => Ok(()),
        Some(what) => Err(unusable(path, &format!("is damaged ({what}): {DAMAGED}"))),
    }
}

/// Looks for damage: everywhere in a small database, at the ends of every table in a large one.
fn check(db: &Connection) -> rusqlite::Result<Option<String>> {
    let pages: i64 = db.pragma_query_value(None, "page_count", |row| row.get(0))?;
    if pages <= SMALL_PAGES {
        let found: String = db.query_row("-- quick_check()\nPRAGMA quick_check(1)", [], |row| row.get(0))?;
        // Told on one line, as every error is.
        return Ok((found != "ok").then(|| found.replace('\n', ": ")));
    }
    let tables = "-- tables()\nSELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table'";
    let mut tables = db.prepare(tables)?;
    let mut rows = tables.query([])?;
    while let Some(row) = rows.next()? {
        let (table, without_rowid): (String, bool) = (row.get(0)?, row.get(1)?);
        let ends = if without_rowid { "count(*) FROM (SELECT 1" } else { "min(rowid) + max(rowid) FROM (SELECT rowid" };
        let limit = if without_rowid { "LIMIT 1" } else { "" };
        db.query_row(&format!("-- ends()\nSELECT {ends} FROM \"{table}\" {limit})"), [], |_| Ok(()))?;
    }
    Ok(None)
}

/// What to do about a damaged file.
const DAMAGED: &str = "stop every process that uses it, keep a copy of its folder, and restore the last backup";

fn check_ours(path: &Path, db: &Connection) -> Result<(), StoreError> {
    let explain = |error| explain(path, error);
    let tables: i64 =
        db.query_row("-- tables()\nSELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(explain)?;
    let application: i32 = db.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(explain)?;
    match application {
        APPLICATION_ID => Ok(()),
        0 if tables == 0 => Ok(()),
        _ => Err(unusable(path, "is the database of another program: check --dir")),
    }
}

/// Carries out the steps that the file has not seen yet, each in a transaction of its own.
fn migrate(path: &Path, db: &mut Connection) -> Result<(), StoreError> {
    loop {
        let step = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: usize = step.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))?.max(0) as usize;
        if version > MIGRATIONS.len() {
            let text = format!(
                "was written by a newer ca-server (schema {version}, this one knows {}): use that version, or restore \
                 the backup made before the upgrade",
                MIGRATIONS.len()
            );
            return Err(unusable(path, &text));
        }
        let Some(sql) = MIGRATIONS.get(version) else { return Ok(()) };
        step.execute_batch(sql)?;
        step.pragma_update(None, "application_id", APPLICATION_ID)?;
        step.pragma_update(None, "user_version", version as i64 + 1)?;
        step.commit()?;
    }
}

/// A connection that writes: the writer's, and the checkpointer's.
pub(super) fn connect_to_write(path: &Path) -> Result<Connection, StoreError> {
    let explain = |error| explain(path, error);
    let db = open_to_write(path)?;
    let set = |name: &str, value: &dyn rusqlite::ToSql| db.pragma_update(None, name, value).map_err(explain);
    set("page_size", &4096)?;
    let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(explain)?;
    if mode != "wal" {
        return Err(unusable(
            path,
            "can't have a write-ahead log: keep it on a local file system, not a network share",
        ));
    }
    set("synchronous", &"FULL")?;
    set("foreign_keys", &true)?;
    set("trusted_schema", &false)?;
    set("temp_store", &"MEMORY")?;
    set("cache_size", &-WRITER_CACHE_KIB)?;
    set("wal_autocheckpoint", &AUTOCHECKPOINT_PAGES)?;
    set("journal_size_limit", &(64 << 20))?;
    Ok(db)
}

/// The same, with nothing set that the file keeps.
fn open_to_write(path: &Path) -> Result<Connection, StoreError> {
    let explain = |error| explain(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(explain)?;
    keep_plans(&db).map_err(explain)?;
    if db.is_readonly("main").map_err(explain)? {
        return Err(unusable(path, "can't be written: check the owner and mode of it and its folder"));
    }
    Ok(db)
}

/// A connection that only reads.
pub(super) fn connect_to_read(path: &Path) -> Result<Connection, StoreError> {
    let explain = |error| explain(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(explain)?;
    keep_plans(&db).map_err(explain)?;
    db.pragma_update(None, "cache_size", -READER_CACHE_KIB).map_err(explain)?;
    db.pragma_update(None, "trusted_schema", false).map_err(explain)?;
    Ok(db)
}

/// Moves the whole log into the database and cuts it short, unless readers stand in the way for long.
pub(super) fn fold_log(db: &Connection) {
    let fold = || {
        db.busy_timeout(BUSY / 20)?;
        db.query_row("-- fold_log()\nPRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        db.busy_timeout(BUSY)
    };
    if let Err(error) = fold() {
        tracing::warn!(%error, "the write-ahead log could not be moved into the database");
    }
}

/// Ends a bound on the number of pages, should this connection have one.
pub(super) fn lift_bound(db: &Connection) {
    // Where it does not end, the next commit says so.
    let _ = db.pragma_update(None, "max_page_count", i64::from(u32::MAX - 1));
}

/// What every connection has: patience, and statements that stay prepared. Without the stability guarantee each new
/// value of a parameter has the planner look again, which costs ten times the query.
fn keep_plans(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(BUSY)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    db.set_prepared_statement_cache_capacity(128);
    Ok(())
}

fn unusable(path: &Path, text: &str) -> StoreError {
    StoreError::Unusable(format!("{} {text}", path.display()))
}

/// An error met while opening, with the file's name and what to do.
fn explain(path: &Path, error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            unusable(path, &format!("is damaged, or no database: {DAMAGED}"))
        }
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            unusable(path, &format!("can't be written: check the owner and mode of it and its folder ({error})"))
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            unusable(path, "is held by another process: wait for it to finish, or stop it, and try again")
        }
        _ => error.into(),
    }
}
