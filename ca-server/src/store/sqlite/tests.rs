//! The contract, and what only SQLite can get wrong: its file.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use rusqlite::{Connection, TransactionBehavior};
use tempfile::TempDir;

use super::{SqliteStore, writer::Urgency};
use crate::{
    identity::RevocationReason::KeyCompromise,
    inventory::{device::Status, fleet::Policy},
    store::{
        NewHolder, ReadStore, Store, StoreError,
        contract::{Place, World, at, cutoff, device, draft},
    },
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
        Err(StoreError::Unusable(text) | StoreError::Damaged(text)) => text,
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

#[tokio::test]
async fn nothing_is_seen_or_answered_before_it_is_committed() {
    let world = World::<Folder>::new().await;
    let mut other = Connection::open(world.place.database()).unwrap();
    let held = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let (store, enrollment) = (world.store.clone(), world.enrollment("a", 1));
    let enrolling = tokio::spawn(async move { store.record_enrollment(enrollment).await });
    for _ in 0..100 {
        assert_eq!(world.store.holder(&device("a")).await.unwrap(), None);
        tokio::task::yield_now().await;
    }
    assert!(!enrolling.is_finished());
    held.commit().unwrap();
    enrolling.await.unwrap().unwrap();
    assert!(world.store.holder(&device("a")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_full_database_still_records_revocations() {
    let world = World::<Folder>::new().await;
    for n in 0..20 {
        world.enroll(&format!("d{n}"), 1).await;
    }
    let bound = |db: &Connection| {
        let pages: i64 = db.pragma_query_value(None, "page_count", |row| row.get(0))?;
        Ok(db.pragma_update(None, "max_page_count", pages)?)
    };
    world.store.writer.write(Urgency::Ordinary, bound).await.unwrap();
    let mut refused = None;
    for n in 0..1000 {
        refused = world.store.record_audit(draft(n, "key.exported")).await.err();
        if refused.is_some() {
            break;
        }
    }
    assert!(matches!(refused, Some(StoreError::Full)), "{refused:?}");
    for n in 0..20 {
        assert_eq!(world.cut_off(&format!("d{n}"), Status::Revoked, KeyCompromise, 2).await.certificates, 1);
    }
}

#[tokio::test]
async fn without_a_reserve_only_revocations_are_recorded() {
    let world = World::<Folder>::new().await;
    world.enroll("a", 1).await;
    let reserve = world.place.0.path().join("reserve");
    assert!(fs::metadata(&reserve).unwrap().len() > 0);
    let World { place, store, .. } = world;
    drop(store);
    fs::remove_file(&reserve).unwrap();
    // Nothing can be set aside where a folder is in the way.
    fs::create_dir(&reserve).unwrap();
    let store = place.open();
    let refused = store.record_audit(draft(2, "key.exported")).await;
    assert!(matches!(refused, Err(StoreError::Full)), "{refused:?}");
    assert!(matches!(store.check_writable().await, Err(StoreError::Full)));
    let receipt = store.record_cutoff(cutoff("a", Status::Revoked, KeyCompromise, 2)).await.unwrap();
    assert_eq!(receipt.certificates, 1);
    fs::remove_dir(&reserve).unwrap();
    store.check_writable().await.unwrap();
    store.record_audit(draft(2, "key.exported")).await.unwrap();
}

#[tokio::test]
async fn a_job_that_panics_is_undone_and_stops_nobody() {
    let world = World::<Folder>::new().await;
    let records = world.audit().await;
    let panics = |db: &Connection| -> Result<(), StoreError> {
        super::audit::append(db, &draft(1, "key.exported"))?;
        panic!("on purpose")
    };
    let undone = world.store.writer.write(Urgency::Ordinary, panics).await;
    assert!(matches!(undone, Err(StoreError::Database(_))), "{undone:?}");
    assert_eq!(world.audit().await, records);
    world.enroll("a", 1).await;
}

#[tokio::test]
async fn lists_under_way_keep_nothing_from_being_published() {
    let World { store, .. } = &World::<Folder>::new().await;
    let issuer = store.issuers().await.unwrap()[0].id;
    let _lists = store.scans.acquire_many(super::SCANS as u32).await.unwrap();
    let holder = device("pump-1");
    let needed = async {
        store.changes(issuer, 0, 10).await.unwrap();
        // Nobody of that name: an answer all the same.
        let _ = store.serials_of(&holder, issuer).await;
    };
    // Long enough to be no figure: what waits for a list waits for ever here.
    tokio::time::timeout(std::time::Duration::from_secs(60), needed).await.expect("waits for the lists");
}

/// What a statement searches, as SQLite plans it: its text is taken from where it is run.
fn plan(db: &Connection, source: &str, name: &str) -> Vec<String> {
    let begin = format!("\"-- {name}()\\n");
    let (_, text) = source.split_once(&begin).unwrap_or_else(|| panic!("no statement {name}"));
    let sql = text.split('"').next().unwrap().replace("\\\n", "");
    let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let nothing = vec![rusqlite::types::Null; statement.parameter_count()];
    let rows = statement.query_map(rusqlite::params_from_iter(nothing), |row| row.get::<_, String>(3)).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn what_a_publication_reads_does_not_grow_with_what_was() {
    let folder = Folder::new();
    drop(folder.open());
    let db = Connection::open(folder.database()).unwrap();
    let (issuers, past, proof) = (include_str!("issuers.rs"), include_str!("past.rs"), include_str!("proof.rs"));
    let certificates = include_str!("changes_left.rs");
    for (source, name, searched) in [
        (issuers, "changes", "(issuer=? AND sequence>?)"),
        (issuers, "expired", "(issuer=? AND not_after>? AND not_after<?)"),
        (issuers, "last_change", "(id=?)"),
        (issuers, "crl_head", "(rowid=?)"),
        (issuers, "published", "(rowid=?)"),
        (past, "forget_published", "(issuer=? AND next_update<?)"),
        (proof, "published_after", "(issuer=? AND number>?)"),
        (proof, "first_to_hold", "(issuer=? AND watermark>?)"),
        (certificates, "is_listed", "(serial=?)"),
    ] {
        let plan = plan(&db, source, name);
        assert!(plan.iter().any(|step| step.contains(searched)), "{name}: {plan:?}");
        let scans = |step: &&String| step.starts_with("SCAN") && *step != "SCAN CONSTANT ROW";
        assert_eq!(plan.iter().find(scans), None, "{name}: {plan:?}");
    }
}

/// A database of the version before quotas, with devices in every state.
#[tokio::test]
async fn devices_that_were_there_before_quotas_are_counted() {
    let folder = Folder::new();
    let db = Connection::open(folder.database()).unwrap();
    for step in &super::file::MIGRATIONS[..4] {
        db.execute_batch(step).unwrap();
    }
    db.pragma_update(None, "application_id", 0x464c_4341).unwrap();
    db.pragma_update(None, "user_version", 4).unwrap();
    let policy = serde_json::to_string(&Policy::default()).unwrap();
    for (key, name) in [(1, "sensors"), (2, "empty"), (3, "gone")] {
        let sql = "INSERT INTO fleets (key, name, folded, policy, created_at) VALUES (?1, ?2, ?2, ?3, 0)";
        db.execute(sql, rusqlite::params![key, name, policy]).unwrap();
    }
    let add = |n: u32, fleet: Option<u32>, status: &str| {
        let (kind, id) = (if fleet.is_some() { "device" } else { "gateway" }, format!("d{n}"));
        let sql = "INSERT INTO holders (kind, id, folded, fleet, status, handle, created_at) VALUES (?1, ?2, ?2, ?3, ?4, ?5, 0)";
        db.execute(sql, rusqlite::params![kind, id, fleet, status, format!("{n:032x}")]).unwrap();
    };
    let states = ["registered", "pending", "active", "held", "revoked", "decommissioned", "active"];
    for (n, status) in states.into_iter().enumerate() {
        add(n as u32, Some(1), status);
    }
    add(100, Some(3), "decommissioned");
    add(101, None, "active");
    drop(db);
    let store = SqliteStore::open_existing(&folder.database()).unwrap();
    let count = async |fleet: &str| store.usage(&fleet.parse().unwrap(), at(0)).await.unwrap().devices;
    assert_eq!((count("sensors").await, count("empty").await, count("gone").await), (6, 0, 0));
    let receipt = store.record_cutoff(cutoff("d2", Status::Decommissioned, KeyCompromise, 1)).await;
    assert_eq!((receipt.unwrap().status, count("sensors").await), (Status::Decommissioned, 5));
    let new = |fleet: &str, id: &str| NewHolder {
        subject: device(id),
        fleet: Some(fleet.parse().unwrap()),
        role: None,
        handle: format!("{:032x}", id.len() + 1000),
        created_at: at(1),
    };
    let rows = vec![new("gone", "new").into(), new("empty", "newer").into()];
    store.record_registrations(rows, vec![draft(1, "device.registered")]).await.unwrap();
    assert_eq!((count("empty").await, count("gone").await), (1, 1));
}
