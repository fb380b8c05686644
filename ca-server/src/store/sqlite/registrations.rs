//! Devices before they enroll: hardware identities and registered keys.

mod seen;

use rusqlite::{Connection, params};

use seen::Seen;

use super::{
    audit, holders, newcomers,
    query::{Columns, all, change, change_one, column, first, the},
};
use crate::{
    audit::Draft,
    identity::{HardwareId, Subject, Thumbprint, Timestamp},
    inventory::device::Status,
    store::{Hardware, Holder, NewRegisteredKey, RegisteredKey, Registration, StoreError},
};

/// Registers them all, or says which could not be. All is looked at before anything is written: to take back what many
/// rows have written takes many times as long as writing them.
pub(super) fn record(db: &Connection, rows: &[Registration], drafts: &[Draft]) -> Result<(), StoreError> {
    let mut seen = Seen::default();
    for row in rows {
        seen.refuse(db, row).map_err(at_line(row.line))?;
    }
    for row in rows {
        record_one(db, row).map_err(at_line(row.line))?;
    }
    drafts.iter().try_for_each(|draft| audit::append(db, draft))
}

/// A fault of the row at this line; 0 is none.
fn at_line(line: u32) -> impl Fn(StoreError) -> StoreError {
    move |error| if line == 0 { error } else { StoreError::Line(line, Box::new(error)) }
}

fn record_one(db: &Connection, row: &Registration) -> Result<(), StoreError> {
    let holder = holders::insert(db, &row.holder, Status::Registered)?;
    row.hardware.iter().try_for_each(|id| insert_hardware(db, holder, id))?;
    row.keys.iter().try_for_each(|key| insert_key(db, holder, key))
}

/// The hardware of a device that nobody registered. `Conflict` if it is somebody's.
pub(super) fn claim_hardware(db: &Connection, holder: i64, id: &HardwareId) -> Result<(), StoreError> {
    insert_hardware(db, holder, id).map_err(|error| match error {
        StoreError::Taken(_) => StoreError::Conflict,
        other => other,
    })
}

fn insert_hardware(db: &Connection, holder: i64, id: &HardwareId) -> Result<(), StoreError> {
    let sql = "-- insert_identity()\nINSERT INTO identities (kind, identity, holder) VALUES (?1, ?2, ?3)";
    change_one(db, sql, params![id.kind(), id.to_string(), holder])
        .or_else(|error| taken(error, seen::owner_of_hardware(db, id)?, format!("{}:{id}", id.kind())))?;
    newcomers::forget(db, id)
}

fn insert_key(db: &Connection, holder: i64, new: &NewRegisteredKey) -> Result<(), StoreError> {
    let sql = "-- insert_registered_key()\nINSERT INTO registered_keys \
               (thumbprint, holder, spki, active_from, retires_at) VALUES (?1, ?2, ?3, ?4, ?5)";
    let thumbprint = new.key.thumbprint();
    let params = params![thumbprint.as_bytes(), holder, new.key.spki_der(), new.active_from, new.retires_at];
    change_one(db, sql, params)
        .or_else(|error| taken(error, seen::owner_of_key(db, &thumbprint)?, format!("the key {thumbprint}")))
}

/// It is there already, and somebody's.
fn taken(error: StoreError, owner: Option<String>, what: String) -> Result<(), StoreError> {
    match (error, owner) {
        (StoreError::Conflict, Some(owner)) => Err(StoreError::Taken(format!("{what} is device {owner}'s already"))),
        (error, _) => Err(error),
    }
}

/// One more key for a device.
pub(super) fn record_key(
    db: &Connection,
    holder: &Subject,
    key: &NewRegisteredKey,
    draft: &Draft,
) -> Result<(), StoreError> {
    insert_key(db, holders::standing(db, holder)?.key, key)?;
    audit::append(db, draft)
}

/// The end of a registered key. Whoever was let in by it, and is not recorded yet, has to be decided upon again.
pub(super) fn record_key_retirement(
    db: &Connection,
    holder: &Subject,
    key: &Thumbprint,
    at: Timestamp,
    draft: &Draft,
) -> Result<(), StoreError> {
    let holder = holders::standing(db, holder)?.key;
    let sql = "-- retire_key()\nUPDATE registered_keys SET retires_at = ?3 WHERE thumbprint = ?1 AND holder = ?2";
    if change(db, sql, params![key.as_bytes(), holder, at])? == 0 {
        return Err(StoreError::NotFound("registered key"));
    }
    touch(db, holder)?;
    audit::append(db, draft)
}

/// More hardware for a device.
pub(super) fn record_hardware(
    db: &Connection,
    holder: &Subject,
    id: &HardwareId,
    draft: &Draft,
) -> Result<(), StoreError> {
    insert_hardware(db, holders::standing(db, holder)?.key, id)?;
    audit::append(db, draft)
}

/// The end of a device's hardware. Whoever was let in by it, and is not recorded yet, has to be decided upon again.
pub(super) fn record_hardware_retirement(
    db: &Connection,
    holder: &Subject,
    id: &HardwareId,
    at: Timestamp,
    draft: &Draft,
) -> Result<(), StoreError> {
    let holder = holders::standing(db, holder)?.key;
    let own = "-- own_hardware()\nSELECT EXISTS (SELECT 1 FROM identities \
               WHERE kind = ?1 AND identity = ?2 AND holder = ?3)";
    if !the(db, own, params![id.kind(), id.to_string(), holder], column)? {
        return Err(StoreError::NotFound("hardware identity"));
    }
    let sql = "-- retire_hardware()\nUPDATE identities SET retired_at = ?3 \
               WHERE kind = ?1 AND identity = ?2 AND retired_at IS NULL";
    if change(db, sql, params![id.kind(), id.to_string(), at])? == 0 {
        return Ok(());
    }
    touch(db, holder)?;
    audit::append(db, draft)
}

/// The holder has changed: what was read of it before counts no more.
fn touch(db: &Connection, holder: i64) -> Result<(), StoreError> {
    change_one(db, "-- touch()\nUPDATE holders SET version = version + 1 WHERE key = ?1", params![holder])
}

/// The columns that [`read_hardware`] takes.
macro_rules! hardware_columns {
    () => {
        "identities.kind, identities.identity, identities.retired_at"
    };
}

fn read_hardware(row: &mut Columns) -> rusqlite::Result<Hardware> {
    let (kind, identity): (String, String) = (row.take()?, row.take()?);
    let id = HardwareId::parse(&kind, &identity)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, error.into()))?;
    Ok(Hardware { id, retired_at: row.take()? })
}

/// Registered hardware and whose it is.
pub(super) fn holder_of_hardware(db: &Connection, id: &HardwareId) -> Result<Option<(Hardware, Holder)>, StoreError> {
    let sql = concat!(
        "-- holder_of_hardware()\nSELECT ",
        hardware_columns!(),
        ", ",
        holders::holder_columns!(),
        " FROM identities JOIN holders ON holders.key = identities.holder \
         LEFT JOIN fleets ON fleets.key = holders.fleet WHERE identities.kind = ?1 AND identities.identity = ?2"
    );
    first(db, sql, params![id.kind(), id.to_string()], |row| Ok((read_hardware(row)?, holders::read(row)?)))
}

/// The hardware of a holder.
pub(super) fn hardware_of(db: &Connection, holder: &Subject) -> Result<Vec<Hardware>, StoreError> {
    let sql = concat!(
        "-- hardware_of()\nSELECT ",
        hardware_columns!(),
        " FROM holders JOIN identities ON identities.holder = holders.key \
         WHERE holders.kind = ?1 AND holders.id = ?2 ORDER BY identities.kind, identities.identity"
    );
    all(db, sql, params![holder.kind, holder.id], read_hardware)
}

fn read_key(row: &mut Columns) -> rusqlite::Result<RegisteredKey> {
    Ok(RegisteredKey {
        thumbprint: Thumbprint::from_bytes(row.take()?),
        spki: row.take()?,
        active_from: row.take()?,
        retires_at: row.take()?,
    })
}

/// A registered key and whose it is.
pub(super) fn registered_key(db: &Connection, key: &Thumbprint) -> Result<Option<(RegisteredKey, Holder)>, StoreError> {
    let sql = concat!(
        "-- registered_key()\nSELECT registered_keys.thumbprint, registered_keys.spki, registered_keys.active_from, \
         registered_keys.retires_at, ",
        holders::holder_columns!(),
        " FROM registered_keys JOIN holders ON holders.key = registered_keys.holder \
         LEFT JOIN fleets ON fleets.key = holders.fleet WHERE registered_keys.thumbprint = ?1"
    );
    first(db, sql, params![key.as_bytes()], |row| Ok((read_key(row)?, holders::read(row)?)))
}

/// The keys of a holder, oldest first.
pub(super) fn registered_keys(db: &Connection, holder: &Subject) -> Result<Vec<RegisteredKey>, StoreError> {
    let sql = "-- registered_keys()\nSELECT registered_keys.thumbprint, registered_keys.spki, \
               registered_keys.active_from, registered_keys.retires_at FROM holders \
               JOIN registered_keys ON registered_keys.holder = holders.key \
               WHERE holders.kind = ?1 AND holders.id = ?2 \
               ORDER BY registered_keys.active_from, registered_keys.thumbprint";
    all(db, sql, params![holder.kind, holder.id], read_key)
}

/// Whether an assertion was used.
pub(super) fn is_assertion_used(db: &Connection, hash: &[u8; 32]) -> Result<bool, StoreError> {
    let sql = "-- is_assertion_used()\nSELECT EXISTS (SELECT 1 FROM assertions WHERE hash = ?1)";
    the(db, sql, params![hash], column)
}

/// Uses an assertion up. `Conflict` if it was used before. Those that have expired are forgotten.
pub(super) fn use_assertion(
    db: &Connection,
    hash: &[u8; 32],
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    change(db, "-- forget_assertions()\nDELETE FROM assertions WHERE expires_at < ?1", params![now])?;
    let sql = "-- use_assertion()\nINSERT INTO assertions (hash, expires_at) VALUES (?1, ?2)";
    change_one(db, sql, params![hash, expires_at])
}
