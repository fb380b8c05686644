//! What fleets have used of their quotas: counted in the transaction that uses it.

use rusqlite::{Connection, params};

use super::query::{all, change, change_one, first, int};
use crate::{
    identity::{FleetName, Timestamp},
    inventory::quota::{Exceeded, Minute, Quotas, Usage},
    store::StoreError,
};

/// What a fleet has used.
pub(super) fn usage(db: &Connection, fleet: &FleetName, now: Timestamp) -> Result<Usage, StoreError> {
    let sql = "-- fleet_usage()\nSELECT fleets.key, ifnull(devices, 0) FROM fleets \
               LEFT JOIN fleet_devices ON fleet_devices.fleet = fleets.key WHERE name = ?1";
    let (key, devices) =
        first(db, sql, params![fleet], |row| Ok((row.take()?, row.count()?)))?.ok_or(StoreError::NotFound("fleet"))?;
    Ok(Usage { devices, enrollments: enrollments(db, key, now)? })
}

fn enrollments(db: &Connection, fleet: i64, now: Timestamp) -> Result<Vec<(Minute, u64)>, StoreError> {
    let sql = "-- enrollments_of_an_hour()\nSELECT minute, enrollments FROM fleet_enrollments \
               WHERE fleet = ?1 AND minute BETWEEN ?2 AND ?3 ORDER BY minute";
    let params = params![fleet, Minute::oldest(now).0, Minute::newest(now).0];
    all(db, sql, params, |row| Ok((Minute(row.take()?), row.count()?)))
}

/// Whether a fleet that has just got a device may have as many.
pub(super) fn check_devices(db: &Connection, fleet: &FleetName) -> Result<(), StoreError> {
    if devices_too_many(db, fleet)? > 0 { Err(StoreError::Quota(Exceeded::Devices)) } else { Ok(()) }
}

/// How many devices a fleet has beyond its quota.
pub(super) fn devices_too_many(db: &Connection, fleet: &FleetName) -> Result<u64, StoreError> {
    let sql = "-- devices_allowed()\nSELECT json_extract(policy, '$.quotas.max_devices'), devices FROM fleets \
               JOIN fleet_devices ON fleet_devices.fleet = fleets.key WHERE name = ?1";
    let found = first(db, sql, params![fleet], |row| Ok((row.take()?, row.count()?)))?;
    let Some((max_devices, devices)) = found else { return Ok(0) };
    Ok(Quotas { max_devices, ..Quotas::default() }.devices_too_many(devices))
}

/// How many more devices a fleet may have.
pub(super) fn room_for_devices(db: &Connection, fleet: &FleetName) -> Result<u64, StoreError> {
    let sql = "-- room_for_devices()\nSELECT json_extract(policy, '$.quotas.max_devices'), ifnull(devices, 0) FROM fleets \
               LEFT JOIN fleet_devices ON fleet_devices.fleet = fleets.key WHERE name = ?1";
    let found = first(db, sql, params![fleet], |row| Ok((row.take::<Option<u32>>()?, row.count()?)))?;
    let (most, devices) = found.ok_or(StoreError::NotFound("fleet"))?;
    Ok(most.map_or(u64::MAX, |most| u64::from(most).saturating_sub(devices)))
}

/// Takes one enrollment of what the holder's fleet may have in an hour.
pub(super) fn take_enrollment(db: &Connection, holder: i64, now: Timestamp) -> Result<(), StoreError> {
    let sql = "-- enrollments_allowed()\nSELECT fleets.key, json_extract(policy, '$.quotas.max_enrollments_per_hour') \
               FROM holders JOIN fleets ON fleets.key = holders.fleet WHERE holders.key = ?1";
    let found = first(db, sql, params![holder], |row| Ok((row.take::<i64>()?, row.take::<Option<u32>>()?)))?;
    let Some((fleet, Some(most))) = found else { return Ok(()) };
    let used = Usage { devices: 0, enrollments: enrollments(db, fleet, now)? };
    let quotas = Quotas { max_enrollments_per_hour: Some(most), ..Quotas::default() };
    quotas.admit_enrollment(&used).map_err(StoreError::Quota)?;
    let sql = "-- forget_enrollments()\nDELETE FROM fleet_enrollments WHERE fleet = ?1 AND minute < ?2";
    change(db, sql, params![fleet, Minute::oldest(now).0])?;
    let sql = "-- count_enrollment()\nINSERT INTO fleet_enrollments (fleet, minute, enrollments) VALUES (?1, ?2, ?3) \
               ON CONFLICT (fleet, minute) DO UPDATE SET enrollments = enrollments + ?3";
    change_one(db, sql, params![fleet, Minute::of(now).0, int(1)])
}
