//! The audit log: appended in the transaction of what it tells of, read, and sealed.

use rusqlite::{Connection, params, params_from_iter, types::Value};

use super::query::{Columns, all, change_one, first, int};
use crate::{
    audit::{Draft, Head, Kept, Record, Seal},
    identity::Timestamp,
    store::{AuditQuery, StoreError},
};

/// Appends a record: its number is the next, its time no earlier than the last one's.
pub(super) fn append(db: &Connection, draft: &Draft) -> Result<(), StoreError> {
    let (sequence, at) = match last(db)? {
        Some((sequence, at)) => (sequence + 1, draft.at.max(at)),
        None => (1, draft.at),
    };
    let detail = serde_json::to_string(&draft.detail).map_err(|error| StoreError::Database(error.to_string()))?;
    let record = Record {
        sequence,
        at_millis: at.millis(),
        actor: draft.actor.clone(),
        action: draft.action.into(),
        subject: draft.subject.clone(),
        serial: draft.serial.clone(),
        outcome: draft.outcome.into(),
        detail,
    };
    let sql = "-- insert_audit_record()\nINSERT INTO audit_records \
               (sequence, at, actor, action, subject, serial, outcome, detail, hash) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let Record { actor, action, subject, serial, outcome, detail, .. } = &record;
    let params =
        params![int(sequence), record.at_millis, actor, action, subject, serial, outcome, detail, record.hash()];
    change_one(db, sql, params)
}

/// Number and time of the newest record.
pub(super) fn last(db: &Connection) -> Result<Option<(u64, Timestamp)>, StoreError> {
    let sql = "-- last_audit()\nSELECT sequence, at FROM audit_records ORDER BY sequence DESC LIMIT 1";
    first(db, sql, [], |row| Ok((row.count()?, row.take()?)))
}

/// Records, as the query asks.
pub(super) fn list(db: &Connection, query: &AuditQuery) -> Result<Vec<Kept>, StoreError> {
    let mut sql = String::from(
        "-- audit_records()\nSELECT sequence, at, actor, action, subject, serial, outcome, detail, hash \
         FROM audit_records WHERE sequence ",
    );
    let (compare, order) = if query.newest_first { ("<=", "DESC") } else { (">=", "ASC") };
    let from = if query.newest_first && query.from == 0 { i64::MAX } else { int(query.from) };
    let mut params = vec![Value::from(from), Value::from(query.limit)];
    sql.push_str(compare);
    sql.push_str(" ?1");
    // A subject has few records, an action may have most of them: with both, the subject's index is walked.
    let action = if query.subject.is_some() { "+action" } else { "action" };
    for (column, wanted) in [("subject", &query.subject), (action, &query.action)] {
        if let Some(wanted) = wanted {
            params.push(wanted.clone().into());
            sql.push_str(&format!(" AND {column} = ?{}", params.len()));
        }
    }
    sql.push_str(&format!(" ORDER BY sequence {order} LIMIT ?2"));
    all(db, &sql, params_from_iter(params), read)
}

fn read(row: &mut Columns) -> rusqlite::Result<Kept> {
    let record = Record {
        sequence: row.count()?,
        at_millis: row.take()?,
        actor: row.take()?,
        action: row.take()?,
        subject: row.take()?,
        serial: row.take()?,
        outcome: row.take()?,
        detail: row.take()?,
    };
    Ok(Kept { record, hash: row.take()? })
}

const SEAL: &str = "first_sequence, last_sequence, head, at, signature, issuer";

fn read_seal(row: &mut Columns) -> rusqlite::Result<Seal> {
    Ok(Seal {
        first_sequence: row.count()?,
        last_sequence: row.count()?,
        head: Head(row.take()?),
        at_millis: row.take()?,
        signature: row.take()?,
        issuer: row.take()?,
    })
}

/// Seals that end at or after a record.
pub(super) fn seals(db: &Connection, from: u64, limit: u32) -> Result<Vec<Seal>, StoreError> {
    let sql = format!(
        "-- audit_seals()\nSELECT {SEAL} FROM audit_seals WHERE last_sequence >= ?1 ORDER BY last_sequence LIMIT ?2"
    );
    all(db, &sql, params![int(from), limit], read_seal)
}

/// The newest seal.
pub(super) fn last_seal(db: &Connection) -> Result<Option<Seal>, StoreError> {
    let sql = format!("-- last_seal()\nSELECT {SEAL} FROM audit_seals ORDER BY last_sequence DESC LIMIT 1");
    first(db, &sql, [], read_seal)
}

/// Adds a seal that begins right after the last one and ends at a record that exists.
pub(super) fn record_seal(db: &Connection, seal: &Seal) -> Result<(), StoreError> {
    let next = last_seal(db)?.map_or(1, |last| last.last_sequence + 1);
    let last = last(db)?.map_or(0, |(sequence, _)| sequence);
    if seal.first_sequence != next || seal.last_sequence < next || seal.last_sequence > last {
        return Err(StoreError::Conflict);
    }
    let sql = "-- insert_seal()\nINSERT INTO audit_seals \
               (first_sequence, last_sequence, head, at, signature, issuer) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let Seal { head, at_millis, signature, issuer, .. } = seal;
    let params = params![int(seal.first_sequence), int(seal.last_sequence), head.0, at_millis, signature, issuer];
    change_one(db, sql, params)
}
