//! Issuing CAs of devices as partitions: what changes among them, and what each is needed for.

use rusqlite::{Connection, params};

use super::{
    audit, fleets, issuers,
    query::{Columns, all, change_one, column, first, the},
};
use crate::{
    identity::{FleetName, IssuerId, Timestamp},
    inventory::partition::Standing,
    pki::{CaRole, RETENTION},
    store::{IssuerChange, IssuerUse, StoreError},
};

/// A change, all of it or none.
pub(super) fn record(db: &Connection, record: &IssuerChange) -> Result<(), StoreError> {
    if let Some((id, standing)) = record.standing {
        set_standing(db, id, standing, record.at)?;
    }
    if let Some(new) = &record.new {
        let last = new.replaces.map(|id| standing(db, id)).transpose()?;
        if last == Some(Standing::Active) || is_replaced(db, new.replaces)? {
            return Err(StoreError::Conflict);
        }
        issuers::insert(db, new).map_err(|error| match error {
            StoreError::Conflict => StoreError::Exists("issuer"),
            other => other,
        })?;
    }
    if let Some((head, previous)) = &record.root_crl {
        issuers::put_crl(db, head, *previous, None)?;
    }
    if let Some(bundle) = &record.trust_bundle {
        issuers::insert_trust_bundle(db, bundle)?;
    }
    audit::append(db, &record.audit)
}

fn set_standing(db: &Connection, id: IssuerId, to: Standing, at: Timestamp) -> Result<(), StoreError> {
    let from = standing(db, id)?;
    let allowed = match to {
        Standing::Active => false,
        Standing::Retired => from == Standing::Active,
        Standing::Ended => from.publishes() && !has_live(db, id, at - RETENTION)?,
        Standing::Revoked => from.publishes(),
    };
    if !allowed {
        return Err(StoreError::Conflict);
    }
    let sql = "-- set_standing()\nUPDATE issuers SET standing = ?2 WHERE id = ?1";
    change_one(db, sql, params![id, to])
}

/// Where an issuing CA of devices stands.
fn standing(db: &Connection, id: IssuerId) -> Result<Standing, StoreError> {
    let sql = "-- standing()\nSELECT standing FROM issuers WHERE id = ?1 AND role = ?2";
    first(db, sql, params![id, CaRole::DeviceIssuing], column)?.ok_or(StoreError::NotFound("issuer"))
}

/// Whether another has taken over from it already.
fn is_replaced(db: &Connection, id: Option<IssuerId>) -> Result<bool, StoreError> {
    let sql = "-- is_replaced()\nSELECT EXISTS (SELECT 1 FROM issuers AS next JOIN issuers ON issuers.key = next.replaces \
               WHERE issuers.id = ?1)";
    the(db, sql, params![id], column)
}

fn has_live(db: &Connection, id: IssuerId, at: Timestamp) -> Result<bool, StoreError> {
    let sql = "-- has_live()\nSELECT EXISTS (SELECT 1 FROM certificates \
               WHERE issuer = (SELECT key FROM issuers WHERE id = ?1) AND not_after >= ?2)";
    the(db, sql, params![id, at], column)
}

/// Who has signed for a fleet what has not expired at this moment.
pub(super) fn needed_by(db: &Connection, fleet: &FleetName, at: Timestamp) -> Result<Vec<IssuerId>, StoreError> {
    let sql = "-- issuers_needed_by()\nSELECT issuers.id FROM fleet_issuers \
               JOIN issuers ON issuers.key = fleet_issuers.issuer \
               WHERE fleet_issuers.fleet = ?1 AND fleet_issuers.last_not_after >= ?2 ORDER BY issuers.id";
    all(db, sql, params![fleets::key(db, fleet)?, at], column)
}

/// What every issuing CA of devices still answers for, oldest first.
pub(super) fn in_use(db: &Connection, now: Timestamp) -> Result<Vec<IssuerUse>, StoreError> {
    let sql = "-- issuers_in_use()\nSELECT id, key, \
               (SELECT count(*) FROM certificates WHERE issuer = issuers.key AND not_after >= ?1), \
               (SELECT max(not_after) FROM certificates WHERE issuer = issuers.key) \
               FROM issuers WHERE role = ?2 ORDER BY key";
    let read = |row: &mut Columns| Ok((row.take()?, row.take()?, row.count()?, row.take()?));
    let rows: Vec<(IssuerId, i64, u64, Option<Timestamp>)> = all(db, sql, params![now, CaRole::DeviceIssuing], read)?;
    let sql = "-- fleets_of_issuer()\nSELECT fleets.name, fleet_issuers.last_not_after FROM fleet_issuers \
               JOIN fleets ON fleets.key = fleet_issuers.fleet \
               WHERE fleet_issuers.issuer = ?1 AND fleet_issuers.last_not_after >= ?2 ORDER BY fleets.name";
    let of = |(issuer, key, live, last_not_after)| {
        let fleets = all(db, sql, params![key, now], |row| Ok((row.take()?, row.take()?)))?;
        Ok(IssuerUse { issuer, live, last_not_after: Option::filter(last_not_after, |at| *at >= now), fleets })
    };
    rows.into_iter().map(of).collect()
}
