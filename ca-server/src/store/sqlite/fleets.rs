//! Fleets and their policies.

use rusqlite::{Connection, params};

use super::{
    audit,
    query::{Columns, all, change_one, column, count, first, the},
};
use crate::{
    audit::Draft,
    identity::{FleetName, Timestamp},
    inventory::fleet::{Certificates, Policy},
    store::{FleetRow, StoreError},
};

/// By name.
pub(super) fn by_name(db: &Connection, name: &FleetName) -> Result<Option<FleetRow>, StoreError> {
    let sql = "-- fleet()\nSELECT name, policy, created_at, \
               (SELECT count(*) FROM holders WHERE holders.fleet = fleets.key), \
               ifnull((SELECT devices FROM fleet_devices WHERE fleet_devices.fleet = fleets.key), 0) FROM fleets WHERE name = ?1";
    first(db, sql, params![name], read)
}

/// The policy alone: what every enrollment and renewal asks for.
pub(super) fn policy(db: &Connection, name: &FleetName) -> Result<Option<Policy>, StoreError> {
    first(db, "-- policy()\nSELECT policy FROM fleets WHERE name = ?1", params![name], column)
}

/// How often any fleet has changed: counted by triggers.
pub(super) fn revision(db: &Connection) -> Result<u64, StoreError> {
    the(db, "-- fleets_revision()\nSELECT number FROM fleets_revision", [], count)
}

/// The makers' roots of every fleet, each once.
pub(super) fn factory_roots(db: &Connection) -> Result<Vec<Vec<u8>>, StoreError> {
    let sql = "-- factory_roots()\nSELECT DISTINCT roots.value FROM fleets, json_each(fleets.policy, '$.factory_roots') AS roots";
    let texts: Vec<String> = all(db, sql, [], column)?;
    let roots = Certificates::try_from(texts).map_err(|error| StoreError::Database(error.to_string()))?;
    Ok(roots.0)
}

/// Those that do not refuse devices that nobody registered, by name.
pub(super) fn open(db: &Connection) -> Result<Vec<(FleetName, Policy)>, StoreError> {
    let sql = "-- open_fleets()\nSELECT name, policy FROM fleets \
               WHERE ifnull(json_extract(policy, '$.unknown.devices'), 'refuse') <> 'refuse' ORDER BY name";
    all(db, sql, [], |row| Ok((row.take()?, row.take()?)))
}

/// No fleet takes devices any more that nobody registered; which did.
pub(super) fn close_all(db: &Connection, at: Timestamp) -> Result<Vec<FleetName>, StoreError> {
    let open = open(db)?;
    for (name, was) in &open {
        let mut policy = was.clone();
        policy.unknown.close();
        let audit = Draft::done(at, "system", "fleet.changed", format!("fleet/{name}"))
            .fact("by", "ca.restored")
            .fact("unknown_devices_were", was.unknown.devices.as_str())
            .fact("unknown_devices", policy.unknown.devices.as_str());
        record_policy(db, name, was, &policy, &audit)?;
    }
    Ok(open.into_iter().map(|(name, _)| name).collect())
}

/// By name, after the one named.
pub(super) fn list(db: &Connection, after: &str, limit: u32) -> Result<Vec<FleetRow>, StoreError> {
    let sql = "-- fleets()\nSELECT name, policy, created_at, \
               (SELECT count(*) FROM holders WHERE holders.fleet = fleets.key), \
               ifnull((SELECT devices FROM fleet_devices WHERE fleet_devices.fleet = fleets.key), 0) FROM fleets \
               WHERE name > ?1 ORDER BY name LIMIT ?2";
    all(db, sql, params![after, limit], read)
}

fn read(row: &mut Columns) -> rusqlite::Result<FleetRow> {
    Ok(FleetRow {
        name: row.take()?,
        policy: row.take()?,
        created_at: row.take()?,
        device_count: row.count()?,
        devices_in_use: row.count()?,
    })
}

/// The key of a fleet that exists.
pub(super) fn key(db: &Connection, name: &FleetName) -> Result<i64, StoreError> {
    let sql = "-- fleet_key()\nSELECT key FROM fleets WHERE name = ?1";
    first(db, sql, params![name], column)?.ok_or(StoreError::NotFound("fleet"))
}

/// A new fleet.
pub(super) fn record(db: &Connection, name: &FleetName, policy: &Policy, draft: &Draft) -> Result<(), StoreError> {
    let folded = name.as_str().to_ascii_lowercase();
    let sql = "-- insert_fleet()\nINSERT INTO fleets (name, folded, policy, created_at) VALUES (?1, ?2, ?3, ?4)";
    change_one(db, sql, params![name, folded, policy, draft.at]).map_err(|error| match error {
        StoreError::Conflict => StoreError::Exists("fleet"),
        other => other,
    })?;
    audit::append(db, draft)
}

/// A new policy in the place of the one that was read.
pub(super) fn record_policy(
    db: &Connection,
    name: &FleetName,
    was: &Policy,
    policy: &Policy,
    draft: &Draft,
) -> Result<(), StoreError> {
    let found = self::policy(db, name)?.ok_or(StoreError::NotFound("fleet"))?;
    if found != *was {
        return Err(StoreError::Conflict);
    }
    let sql = "-- set_policy()\nUPDATE fleets SET policy = ?2 WHERE name = ?1";
    change_one(db, sql, params![name, policy])?;
    audit::append(db, draft)
}
