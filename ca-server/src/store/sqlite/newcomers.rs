//! Devices that nobody registered, while they wait for an operator.

use rusqlite::{Connection, params};

use super::{
    audit, fleets, holders,
    query::{Columns, all, change, change_one, column, count, first, the},
};
use crate::{
    audit::Draft,
    identity::{FleetName, HardwareId, KeyFingerprint, Kind, Timestamp},
    store::{Ask, Asking, MOST_KEYS, NewHolder, NewcomerQuery, NewcomerRow, NewcomerState, StoreError, Verdict},
};

/// The columns that [`read`] takes, of `newcomers` joined with `fleets`.
macro_rules! newcomer_columns {
    () => {
        "newcomers.kind, newcomers.identity, fleets.name, newcomers.id, newcomers.method, newcomers.tier, \
         newcomers.key_hash, newcomers.state, newcomers.asked_at, newcomers.expires_at"
    };
}

fn read(row: &mut Columns) -> rusqlite::Result<NewcomerRow> {
    let (kind, identity): (String, String) = (row.take()?, row.take()?);
    let hardware = HardwareId::parse(&kind, &identity)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, error.into()))?;
    let (fleet, id, method, tier, key) = (row.take()?, row.take()?, row.take()?, row.take()?, row.take()?);
    let asking = Asking { hardware, fleet, id, method, tier, key };
    Ok(NewcomerRow { asking, state: row.take()?, asked_at: row.take()?, expires_at: row.take()? })
}

/// By its hardware.
pub(super) fn by_hardware(db: &Connection, id: &HardwareId) -> Result<Option<NewcomerRow>, StoreError> {
    let sql = concat!(
        "-- newcomer()\nSELECT ",
        newcomer_columns!(),
        " FROM newcomers JOIN fleets ON fleets.key = newcomers.fleet \
         WHERE newcomers.kind = ?1 AND newcomers.identity = ?2"
    );
    first(db, sql, params![id.kind(), id.to_string()], read)
}

/// By name, then by hardware.
pub(super) fn list(db: &Connection, query: &NewcomerQuery) -> Result<Vec<NewcomerRow>, StoreError> {
    let sql = concat!(
        "-- newcomers()\nSELECT ",
        newcomer_columns!(),
        " FROM newcomers JOIN fleets ON fleets.key = newcomers.fleet \
         WHERE newcomers.expires_at >= ?1 AND (?2 IS NULL OR fleets.name = ?2) AND (?3 IS NULL OR newcomers.id = ?3) \
         AND (newcomers.id, newcomers.kind, newcomers.identity) > (?4, ?5, ?6) \
         ORDER BY newcomers.id, newcomers.kind, newcomers.identity LIMIT ?7"
    );
    let after = query.after.as_ref();
    let (id, kind, identity) = after
        .map(|(id, hardware)| (id.to_string(), hardware.kind(), hardware.to_string()))
        .unwrap_or_else(|| (String::new(), "", String::new()));
    all(db, sql, params![query.now, query.fleet, query.id, id, kind, identity, query.limit], read)
}

/// A device asks. `Conflict` where it is known by now, or was rejected; `Exists` where another asks with its key; `Crowded`
/// where too many wait, or it has come with too many keys. Nobody else's row is touched, and its name is not looked up.
pub(super) fn record_ask(db: &Connection, ask: &Ask) -> Result<(), StoreError> {
    forget_expired(db, ask.at)?;
    let Asking { hardware, fleet, id, method, tier, key } = &ask.asking;
    let (kind, identity) = (hardware.kind(), hardware.to_string());
    let known = "-- identity_exists()\nSELECT EXISTS (SELECT 1 FROM identities WHERE kind = ?1 AND identity = ?2)";
    if the(db, known, params![kind, identity], column)? {
        return Err(StoreError::Conflict);
    }
    let others = "-- newcomer_with_key()\nSELECT EXISTS (SELECT 1 FROM newcomers \
                  WHERE key_hash = ?1 AND (kind, identity) <> (?2, ?3))";
    if the(db, others, params![key, kind, identity], column)? {
        return Err(StoreError::Exists("key"));
    }
    let own = by_hardware(db, hardware)?;
    match &own {
        Some(own) if own.state == NewcomerState::Rejected => return Err(StoreError::Conflict),
        Some(own) if own.asking == ask.asking => return Ok(()),
        Some(own) if own.asking.fleet == *fleet && own.state == NewcomerState::Asked => {}
        _ => {
            let waiting = "-- count_waiting()\nSELECT count(*) FROM newcomers JOIN fleets ON fleets.key = newcomers.fleet \
                           WHERE fleets.name = ?1 AND newcomers.state = 'asked'";
            if the(db, waiting, params![fleet], count)? >= ask.most.into() {
                return Err(StoreError::Crowded);
            }
        }
    }
    let fleet = fleets::key(db, fleet)?;
    if own.is_none() {
        let sql = "-- insert_newcomer()\nINSERT INTO newcomers (kind, identity, fleet, id, method, tier, key_hash, keys, \
                   state, asked_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1, 'asked', ?8, ?9)";
        change_one(db, sql, params![kind, identity, fleet, id, method, tier, key, ask.at, ask.expires_at])?;
    } else {
        // It asks for something else: what was approved before is not that.
        let sql = "-- ask_anew()\nUPDATE newcomers SET fleet = ?3, id = ?4, method = ?5, tier = ?6, key_hash = ?7, \
                   keys = keys + 1, state = 'asked' WHERE kind = ?1 AND identity = ?2 AND keys < ?8";
        if change(db, sql, params![kind, identity, fleet, id, method, tier, key, MOST_KEYS])? == 0 {
            return Err(StoreError::Crowded);
        }
    }
    audit::append(db, &ask.audit)
}

/// What an operator says of the one device that he has seen.
pub(super) fn record_verdict(db: &Connection, verdict: &Verdict) -> Result<NewcomerRow, StoreError> {
    forget_expired(db, verdict.at)?;
    let sql = concat!(
        "-- newcomer_seen()\nSELECT ",
        newcomer_columns!(),
        " FROM newcomers JOIN fleets ON fleets.key = newcomers.fleet \
         WHERE newcomers.kind = ?1 AND newcomers.identity = ?2 AND newcomers.key_hash = ?3 AND newcomers.id = ?4 \
         AND fleets.name = ?5"
    );
    let Verdict { id, fleet, hardware, key, .. } = verdict;
    let seen = first(db, sql, params![hardware.kind(), hardware.to_string(), key, id, fleet], read)?;
    let mut row =
        seen.ok_or(StoreError::NotFound("device that waits in this fleet under this ID, with this identity and key"))?;
    if row.state == verdict.state {
        return Ok(row);
    }
    if verdict.state == NewcomerState::Approved {
        let twin = "-- approved_twin()\nSELECT EXISTS (SELECT 1 FROM newcomers WHERE id = ?1 COLLATE NOCASE \
                    AND state = 'approved')";
        if holders::exists(db, Kind::Device, &verdict.id)? || the(db, twin, params![verdict.id], column)? {
            return Err(StoreError::Exists("a device, or another approval, of this ID"));
        }
    }
    let sql =
        "-- decide_newcomer()\nUPDATE newcomers SET state = ?3, expires_at = ?4 WHERE kind = ?1 AND identity = ?2";
    change_one(db, sql, params![hardware.kind(), hardware.to_string(), verdict.state, verdict.expires_at])?;
    let audit = verdict.audit.clone().fact("fleet", fleet.as_str());
    audit::append(db, &audit.fact(hardware.kind(), hardware.to_string()).fact("key", key.to_string()))?;
    (row.state, row.expires_at) = (verdict.state, verdict.expires_at);
    Ok(row)
}

/// Uses an approval up. `Conflict` unless there is one for just this.
pub(super) fn use_approval(
    db: &Connection,
    hardware: &HardwareId,
    new: &NewHolder,
    key: &KeyFingerprint,
    at: Timestamp,
) -> Result<(), StoreError> {
    let sql = "-- use_approval()\nDELETE FROM newcomers WHERE kind = ?1 AND identity = ?2 AND id = ?3 AND key_hash = ?4 \
               AND fleet = (SELECT key FROM fleets WHERE name = ?5) AND state = 'approved' AND expires_at >= ?6";
    match change(db, sql, params![hardware.kind(), hardware.to_string(), new.subject.id, key, new.fleet, at])? {
        1 => Ok(()),
        _ => Err(StoreError::Conflict),
    }
}

/// `Conflict` where an operator has said lately that he does not want this one.
pub(super) fn refuse_rejected(db: &Connection, hardware: &HardwareId, now: Timestamp) -> Result<(), StoreError> {
    let row = by_hardware(db, hardware)?.filter(|row| row.expires_at >= now);
    let rejected = row.is_some_and(|row| row.state == NewcomerState::Rejected);
    if rejected { Err(StoreError::Conflict) } else { Ok(()) }
}

/// Hardware that is a device's waits no more.
pub(super) fn forget(db: &Connection, hardware: &HardwareId) -> Result<(), StoreError> {
    let sql = "-- forget_newcomer()\nDELETE FROM newcomers WHERE kind = ?1 AND identity = ?2";
    change(db, sql, params![hardware.kind(), hardware.to_string()]).map(drop)
}

/// What was approved wants approval again: it may have been used in a lost time.
pub(super) fn withdraw_approvals(db: &Connection) -> Result<(), StoreError> {
    let sql = "-- withdraw_approvals()\nUPDATE newcomers SET state = 'asked' WHERE state = 'approved'";
    change(db, sql, []).map(drop)
}

/// How many wait for a decision.
pub(super) fn waiting(db: &Connection, now: Timestamp) -> Result<u64, StoreError> {
    let sql = "-- newcomers_waiting()\nSELECT count(*) FROM newcomers WHERE state = 'asked' AND expires_at >= ?1";
    the(db, sql, params![now], count)
}

/// Forgets those whose time is over, and says how many of each fleet.
fn forget_expired(db: &Connection, now: Timestamp) -> Result<(), StoreError> {
    let sql = "-- expired_newcomers()\nSELECT fleets.name, count(*) FROM newcomers \
               JOIN fleets ON fleets.key = newcomers.fleet WHERE newcomers.expires_at < ?1 GROUP BY fleets.name";
    let expired: Vec<(FleetName, u64)> = all(db, sql, params![now], |row| Ok((row.take()?, row.count()?)))?;
    if expired.is_empty() {
        return Ok(());
    }
    change(db, "-- forget_expired()\nDELETE FROM newcomers WHERE expires_at < ?1", params![now])?;
    expired.into_iter().try_for_each(|(fleet, count)| {
        let audit = Draft::done(now, "system", "newcomers.expired", format!("fleet/{fleet}"));
        audit::append(db, &audit.fact("devices", count))
    })
}
