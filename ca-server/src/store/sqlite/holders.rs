//! Devices, gateways, operators and the server: reading them, and making new ones.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    audit, fleets, newcomers,
    query::{Columns, all, change_one, column, count, first, the},
};
use crate::{
    audit::Draft,
    identity::{DeviceId, IssuerId, Kind, Subject, Timestamp},
    inventory::{device::Status, lineage::Lineage},
    store::{Attested, Counts, EnrollmentHolder, Holder, HolderVersion, NewHolder, StoreError},
};

/// The columns that [`read`] takes, of `holders` joined with `fleets`.
macro_rules! holder_columns {
    () => {
        "holders.key, holders.version, holders.kind, holders.id, fleets.name, holders.role, holders.status, \
         holders.status_reason, holders.handle, holders.attested_method, holders.attested_tier, \
         holders.attested_identity, holders.head, holders.pending, holders.generation, holders.replacements, \
         holders.created_at, holders.expires_at, holders.last_seen_at, holders.reenroll_until"
    };
}
pub(super) use holder_columns;

/// Reads the columns of `holder_columns!`.
pub(super) fn read(columns: &mut Columns) -> rusqlite::Result<Holder> {
    Ok(Holder {
        version: HolderVersion { key: columns.take()?, version: columns.count()? },
        subject: Subject { kind: columns.take()?, id: columns.take()? },
        fleet: columns.take()?,
        role: columns.take()?,
        status: columns.take()?,
        status_reason: columns.take()?,
        handle: columns.take()?,
        attested: read_attested(columns)?,
        lineage: read_lineage(columns)?,
        created_at: columns.take()?,
        expires_at: columns.take()?,
        last_seen_at: columns.take()?,
        reenroll_until: columns.take()?,
    })
}

pub(super) fn read_attested(columns: &mut Columns) -> rusqlite::Result<Option<Attested>> {
    let parts: (Option<String>, Option<String>, Option<String>) = (columns.take()?, columns.take()?, columns.take()?);
    let (Some(method), Some(tier), Some(identity)) = parts else { return Ok(None) };
    Ok(Some(Attested { method, tier, identity }))
}

fn read_lineage(columns: &mut Columns) -> rusqlite::Result<Lineage> {
    Ok(Lineage {
        head: columns.take()?,
        pending: columns.take()?,
        generation: columns.count()?,
        replacements: columns.take()?,
    })
}

/// By kind and ID.
pub(super) fn by_subject(db: &Connection, subject: &Subject) -> Result<Option<Holder>, StoreError> {
    let sql = concat!(
        "-- holder()\nSELECT ",
        holder_columns!(),
        " FROM holders LEFT JOIN fleets ON fleets.key = holders.fleet WHERE holders.kind = ?1 AND holders.id = ?2"
    );
    first(db, sql, params![subject.kind, subject.id], read)
}

/// By kind and folded ID.
pub(super) fn by_folded(db: &Connection, kind: Kind, folded: &str) -> Result<Option<Holder>, StoreError> {
    let sql = concat!(
        "-- holder_folded()\nSELECT ",
        holder_columns!(),
        " FROM holders LEFT JOIN fleets ON fleets.key = holders.fleet WHERE holders.kind = ?1 AND holders.folded = ?2"
    );
    first(db, sql, params![kind, folded], read)
}

/// Of one kind, by ID.
pub(super) fn list(db: &Connection, kind: Kind, after: &str, limit: u32) -> Result<Vec<Holder>, StoreError> {
    let sql = concat!(
        "-- holders()\nSELECT ",
        holder_columns!(),
        " FROM holders LEFT JOIN fleets ON fleets.key = holders.fleet \
         WHERE holders.kind = ?1 AND holders.id > ?2 ORDER BY holders.id LIMIT ?3"
    );
    all(db, sql, params![kind, after, limit], read)
}

/// By the handle of its CRL, if this issuer ever certified it.
pub(super) fn by_handle(db: &Connection, issuer: IssuerId, handle: &str) -> Result<Option<Subject>, StoreError> {
    let sql = "-- holder_by_handle()\nSELECT kind, id FROM holders WHERE handle = ?1 AND EXISTS (\
               SELECT 1 FROM certificates JOIN issuers ON issuers.key = certificates.issuer \
               WHERE certificates.holder = holders.key AND issuers.id = ?2)";
    first(db, sql, params![handle, issuer], |row| Ok(Subject { kind: row.take()?, id: row.take()? }))
}

/// How many there are.
pub(super) fn counts(db: &Connection, now: Timestamp) -> Result<Counts, StoreError> {
    let by_status = "-- count_devices()\nSELECT status, count(*) FROM holders WHERE kind = 'device' GROUP BY status";
    let mut devices: Vec<(Status, u64)> = all(db, by_status, [], |row| Ok((row.take()?, row.count()?)))?;
    let waiting = newcomers::waiting(db, now)?;
    if waiting > 0 {
        devices.push((Status::Pending, waiting));
    }
    let lapsed = "-- count_lapsed()\nSELECT count(*) FROM holders \
                  WHERE kind = 'device' AND ifnull(expires_at, -1) < ?1 AND status = 'active'";
    Ok(Counts { devices, lapsed: the(db, lapsed, params![now], count)? })
}

/// Whether somebody of this kind has this ID, in whatever case.
pub(super) fn exists(db: &Connection, kind: Kind, id: &DeviceId) -> Result<bool, StoreError> {
    let sql = "-- holder_exists()\nSELECT 1 FROM holders WHERE kind = ?1 AND folded = ?2";
    let found = db.prepare_cached(sql)?.query_row(params![kind, id.folded()], |_| Ok(())).optional()?;
    Ok(found.is_some())
}

/// A new row; its key.
pub(super) fn insert(db: &Connection, holder: &NewHolder, status: Status) -> Result<i64, StoreError> {
    let fleet = holder.fleet.as_ref().map(|name| fleets::key(db, name)).transpose()?;
    let Subject { kind, id } = &holder.subject;
    let sql = "-- insert_holder()\nINSERT INTO holders (kind, id, folded, fleet, role, status, handle, created_at) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) RETURNING key";
    let params = params![kind, id, id.folded(), fleet, holder.role, status, holder.handle, holder.created_at];
    the(db, sql, params, column)
}

/// What a transaction finds out about a holder before it changes it, and no more: nothing else may stop a revocation.
pub(super) struct Standing {
    pub key: i64,
    pub version: u64,
    pub status: Status,
    pub reenroll_until: Option<Timestamp>,
}

/// By kind and ID.
pub(super) fn standing(db: &Connection, subject: &Subject) -> Result<Standing, StoreError> {
    let sql = "-- standing()\nSELECT key, version, status, reenroll_until FROM holders WHERE kind = ?1 AND id = ?2";
    first(db, sql, params![subject.kind, subject.id], read_standing)?.ok_or(StoreError::NotFound(subject.kind.as_str()))
}

/// What is found out about a holder that is to be cut off: nothing that can't be read keeps him from it.
pub(super) struct StandingToCutOff {
    pub key: i64,
    /// `None`: it can't be read.
    pub status: Option<Status>,
    /// Whether he was allowed to come back, or that can't be read.
    pub may_come_back: bool,
}

/// By kind and ID.
pub(super) fn standing_to_cut_off(db: &Connection, subject: &Subject) -> Result<StandingToCutOff, StoreError> {
    let sql = "-- standing_to_cut_off()\nSELECT key, status, reenroll_until FROM holders WHERE kind = ?1 AND id = ?2";
    let read = |row: &mut Columns| {
        let (key, status) = (row.take()?, row.take().ok());
        let may_come_back = row.take::<Option<Timestamp>>().map_or(true, |until| until.is_some());
        Ok(StandingToCutOff { key, status, may_come_back })
    };
    first(db, sql, params![subject.kind, subject.id], read)?.ok_or(StoreError::NotFound(subject.kind.as_str()))
}

/// The holder as it was read, if it still is, in one of these states.
pub(super) fn unchanged(db: &Connection, as_read: HolderVersion, states: &[Status]) -> Result<i64, StoreError> {
    let found = same(db, as_read)?;
    if states.contains(&found.status) { Ok(found.key) } else { Err(StoreError::Conflict) }
}

/// The holder as it was read, if it still is.
fn same(db: &Connection, as_read: HolderVersion) -> Result<Standing, StoreError> {
    let sql = "-- unchanged()\nSELECT key, version, status, reenroll_until FROM holders WHERE key = ?1";
    let found = first(db, sql, params![as_read.key], read_standing)?.ok_or(StoreError::Conflict)?;
    if found.version == as_read.version { Ok(found) } else { Err(StoreError::Conflict) }
}

/// Whoever is to have a certificate: its key, and whether it comes back from having been revoked.
pub(super) struct Admitted {
    pub key: i64,
    pub was_revoked: bool,
}

/// A new row, or the holder as it was read. `Conflict` where that has changed, or may not have a certificate now.
pub(super) fn admit(db: &Connection, holder: &EnrollmentHolder, now: Timestamp) -> Result<Admitted, StoreError> {
    let as_read = match holder {
        EnrollmentHolder::New(new) if exists(db, new.subject.kind, &new.subject.id)? => {
            return Err(StoreError::Conflict);
        }
        EnrollmentHolder::New(new) => {
            return Ok(Admitted { key: insert(db, new, Status::Active)?, was_revoked: false });
        }
        EnrollmentHolder::Known(as_read) => *as_read,
    };
    let found = same(db, as_read)?;
    match found.status {
        Status::Registered | Status::Pending | Status::Active => Ok(Admitted { key: found.key, was_revoked: false }),
        Status::Revoked if found.reenroll_until.is_some_and(|until| now <= until) => {
            Ok(Admitted { key: found.key, was_revoked: true })
        }
        Status::Held | Status::Revoked | Status::Decommissioned => Err(StoreError::Conflict),
    }
}

fn read_standing(row: &mut Columns) -> rusqlite::Result<Standing> {
    Ok(Standing { key: row.take()?, version: row.count()?, status: row.take()?, reenroll_until: row.take()? })
}

/// Whether a holder ever was given a certificate.
pub(super) fn has_enrolled(db: &Connection, holder: i64) -> Result<bool, StoreError> {
    let sql = "-- has_enrolled()\nSELECT attested_method IS NOT NULL OR head IS NOT NULL FROM holders WHERE key = ?1";
    the(db, sql, params![holder], column)
}

/// Moves a holder to another state. What was allowed of the state before it is no longer.
pub(super) fn set_status(db: &Connection, holder: i64, status: Status, reason: &str) -> Result<(), StoreError> {
    let sql = "-- set_status()\nUPDATE holders SET status = ?2, status_reason = ?3, reenroll_until = NULL, \
               version = version + 1 WHERE key = ?1";
    change_one(db, sql, params![holder, status, reason])
}

/// A revoked holder, as it was read, may enroll once more until then.
pub(super) fn record_reenrollment(
    db: &Connection,
    as_read: HolderVersion,
    until: Timestamp,
    draft: &Draft,
) -> Result<(), StoreError> {
    let key = unchanged(db, as_read, &[Status::Revoked])?;
    let sql = "-- allow_reenrollment()\nUPDATE holders SET reenroll_until = ?2, version = version + 1 WHERE key = ?1";
    change_one(db, sql, params![key, until])?;
    audit::append(db, draft)
}

/// Nobody who is revoked may enroll any more; who might have until now.
pub(super) fn end_reenrollments(db: &Connection) -> Result<Vec<String>, StoreError> {
    let sql = "-- end_reenrollments()\nUPDATE holders SET reenroll_until = NULL, version = version + 1 \
               WHERE status = 'revoked' AND reenroll_until IS NOT NULL RETURNING id";
    all(db, sql, [], column)
}

/// A holder that proved itself: how, and by which fleet token.
pub(super) fn activate(
    db: &Connection,
    holder: i64,
    attested: &Attested,
    came_by: Option<i64>,
) -> Result<(), StoreError> {
    let sql = "-- activate()\nUPDATE holders SET status = 'active', status_reason = '', attested_method = ?2, \
               attested_tier = ?3, attested_identity = ?4, came_by = ifnull(?5, came_by), reenroll_until = NULL WHERE key = ?1";
    let Attested { method, tier, identity } = attested;
    change_one(db, sql, params![holder, method, tier, identity, came_by])
}

/// A holder whose certificate was taken in out of a lost time: how it proved itself stays, where that is known.
pub(super) fn activate_restored(db: &Connection, holder: i64, attested: &Attested) -> Result<(), StoreError> {
    let sql = "-- activate_restored()\nUPDATE holders SET status = 'active', status_reason = '', \
               attested_method = ifnull(attested_method, ?2), attested_tier = ifnull(attested_tier, ?3), \
               attested_identity = ifnull(attested_identity, ?4) WHERE key = ?1";
    let Attested { method, tier, identity } = attested;
    change_one(db, sql, params![holder, method, tier, identity])
}
