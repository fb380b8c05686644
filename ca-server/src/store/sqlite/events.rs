//! Security events: counted an hour, and bounded, so that no stranger can fill the disk with them.

use rusqlite::{Connection, params, params_from_iter, types::Value};

use super::query::{Columns, all, change, change_one, int};
use crate::store::{EventQuery, SecurityEventRow, StoreError};

/// How many rows are kept.
const KEPT: u64 = 10_000;
/// How many of one kind: a flood of one does not push the others out.
const KEPT_OF_KIND: u64 = 2_000;

/// Milliseconds.
const HOUR: i64 = 3_600_000;

/// Counts events up, and drops the oldest where there are too many.
pub(super) fn record(db: &Connection, events: &[SecurityEventRow]) -> Result<(), StoreError> {
    let sql = "-- count_event()\nINSERT INTO security_events (kind, subject, hour, first_at, last_at, count, detail) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
               ON CONFLICT (kind, subject, hour) DO UPDATE SET count = count + excluded.count, \
               first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at), \
               detail = excluded.detail, position = (SELECT max(position) + 1 FROM security_events)";
    let of_kind = "-- drop_oldest_of_kind()\nDELETE FROM security_events WHERE kind = ?1 AND position <= (\
                   SELECT position FROM security_events WHERE kind = ?1 ORDER BY position DESC LIMIT 1 OFFSET ?2)";
    for event in events {
        let hour = event.first_at.millis().div_euclid(HOUR);
        let SecurityEventRow { kind, subject, first_at, last_at, count, detail, .. } = event;
        change_one(db, sql, params![kind, subject, hour, first_at, last_at, int(*count), detail])?;
    }
    let mut kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    for kind in kinds {
        change(db, of_kind, params![kind, int(KEPT_OF_KIND)])?;
    }
    let sql = "-- drop_oldest_events()\nDELETE FROM security_events WHERE position <= (\
               SELECT position FROM security_events ORDER BY position DESC LIMIT 1 OFFSET ?1)";
    change(db, sql, params![int(KEPT)]).map(drop)
}

/// Events, newest first.
pub(super) fn list(db: &Connection, query: &EventQuery) -> Result<Vec<SecurityEventRow>, StoreError> {
    let mut sql = String::from(
        "-- security_events()\nSELECT position, kind, subject, first_at, last_at, count, detail \
         FROM security_events WHERE position < ?1",
    );
    let before = if query.before == 0 { i64::MAX } else { int(query.before) };
    let mut params = vec![Value::from(before), Value::from(query.limit)];
    for (column, wanted) in [("kind", &query.kind), ("subject", &query.subject)] {
        if let Some(wanted) = wanted {
            params.push(wanted.clone().into());
            sql.push_str(&format!(" AND {column} = ?{}", params.len()));
        }
    }
    sql.push_str(" ORDER BY position DESC LIMIT ?2");
    all(db, &sql, params_from_iter(params), read)
}

fn read(row: &mut Columns) -> rusqlite::Result<SecurityEventRow> {
    Ok(SecurityEventRow {
        position: row.count()?,
        kind: row.take()?,
        subject: row.take()?,
        first_at: row.take()?,
        last_at: row.take()?,
        count: row.count()?,
        detail: row.take()?,
    })
}
