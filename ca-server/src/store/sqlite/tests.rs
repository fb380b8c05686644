//! The contract, and what only SQLite can get wrong: its file.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use rusqlite::Connection;
use tempfile::TempDir;

use super::SqliteStore;
use crate::store::{
    ReadStore, Store, StoreError,
    contract::{Place, World},
};

/// A temporary folder.
struct Folder(TempDir);

impl Folder {
    fn database(&self) -> PathBuf {
        self.0.path().join("ca.sqlite")
    }
}

impl Place for Folder {
    type Store = SqliteStore;

    fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.database()).unwrap()
    }

    /// The files as they lie there; the log's index is memory of the process that is gone.
    fn after_crash(&self) -> Self {
        let after = Self::new();
        for suffix in ["", "-wal"] {
            let name = format!("ca.sqlite{suffix}");
            fs::copy(self.0.path().join(&name), after.0.path().join(&name)).unwrap();
        }
        after
    }
}

mod contract {
    use super::*;
    crate::store::contract::store_contract!(Folder);
}

fn refusal(opened: Result<SqliteStore, StoreError>) -> String {
    match opened {
        Err(StoreError::Unusable(text)) => text,
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("opened"),
    }
}

#[test]
fn the_files_are_their_owners_only() {
    let folder = Folder::new();
    let _store = folder.open();
    for name in ["ca.sqlite", "ca.sqlite-wal", "ca.sqlite-shm"] {
        let mode = fs::metadata(folder.0.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_missing_empty_or_foreign_file_is_refused_with_what_to_do() {
    let folder = Folder::new();
    let path = folder.database();
    assert!(refusal(SqliteStore::open_existing(&path)).ends_with("does not exist: run ca-server init, or check --dir"));
    assert!(!path.exists());
    fs::write(&path, "").unwrap();
    assert!(refusal(SqliteStore::open_existing(&path)).contains("is empty"));
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    assert!(refusal(SqliteStore::open_existing(&path)).contains("the database of another program"));
    fs::write(&path, "not a database at all, but long enough to be one".repeat(100)).unwrap();
    let text = refusal(SqliteStore::open_existing(&path));
    assert!(text.starts_with(path.to_str().unwrap()) && text.contains("restore the last backup"), "{text}");
}

#[test]
fn a_database_of_a_newer_version_is_refused() {
    let folder = Folder::new();
    drop(folder.open());
    Connection::open(folder.database()).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let text = refusal(SqliteStore::open_existing(&folder.database()));
    assert!(text.contains("newer ca-server (schema 99"), "{text}");
}

#[tokio::test]
async fn a_damaged_database_is_refused() {
    let world = World::<Folder>::new().await;
    let place = world.place;
    drop(world.store);
    let whole = fs::read(place.database()).unwrap();
    assert!(SqliteStore::open_existing(&place.database()).is_ok());
    for damaged in [whole[..whole.len() / 2].to_vec(), [&whole[..4096], &vec![0x5a; whole.len() - 4096]].concat()] {
        fs::write(place.database(), damaged).unwrap();
        let text = refusal(SqliteStore::open_existing(&place.database()));
        assert!(text.contains("restore the last backup"), "{text}");
    }
}

#[tokio::test]
async fn two_processes_may_write() {
    let world = World::<Folder>::new().await;
    let other = SqliteStore::open_existing(&world.place.database()).unwrap();
    for n in 0..10 {
        world.enroll(&format!("a{n}"), n).await;
        other.record_enrollment(world.enrollment(&format!("b{n}"), n)).await.unwrap();
    }
    let sequences: Vec<_> = world.audit().await.into_iter().map(|kept| kept.record.sequence).collect();
    assert_eq!(sequences, (1..=23).collect::<Vec<_>>());
    assert_eq!(other.last_audit().await.unwrap().unwrap().0, 23);
}
