//! What gateways have loaded, and which CRL holds what.

use rusqlite::{Connection, params};

use super::{
    certificates, holders,
    issuers::key,
    query::{Columns, all, change, change_one, column, count, first, int},
};
use crate::{
    identity::{IssuerId, Kind, Subject, Timestamp},
    inventory::device::Status,
    store::{Acknowledged, GatewayRow, StoreError},
};

/// Every gateway in force, and what it said that it has loaded.
pub(super) fn gateways(db: &Connection) -> Result<Vec<GatewayRow>, StoreError> {
    // What it may renew with, or confirm.
    let sql = "-- gateways()\nSELECT holders.id, holders.created_at, nullif(max(ifnull(holders.expires_at, -1), \
               ifnull((SELECT not_after FROM certificates WHERE serial = holders.pending), -1)), -1), \
               issuers.id, acknowledgements.number, acknowledgements.at \
               FROM holders LEFT JOIN acknowledgements ON acknowledgements.holder = holders.key \
               LEFT JOIN issuers ON issuers.key = acknowledgements.issuer \
               WHERE holders.kind = ?1 AND holders.status = ?2 ORDER BY holders.id, issuers.key";
    let read = |row: &mut Columns| {
        let subject = Subject::new(Kind::Gateway, row.take()?);
        let (created_at, expires_at): (Timestamp, Option<Timestamp>) = (row.take()?, row.take()?);
        let issuer: Option<IssuerId> = row.take()?;
        let (number, at): (Option<i64>, Option<Timestamp>) = (row.take()?, row.take()?);
        let said = issuer.zip(number.and_then(|number| u64::try_from(number).ok())).zip(at);
        let loaded = said.map(|((issuer, number), at)| Acknowledged { issuer, number, at }).into_iter().collect();
        Ok(GatewayRow { subject, created_at, expires_at, loaded })
    };
    let mut gateways: Vec<GatewayRow> = Vec::new();
    for row in all(db, sql, params![Kind::Gateway, Status::Active], read)? {
        match gateways.last_mut() {
            Some(last) if last.subject == row.subject => last.loaded.extend(row.loaded),
            _ => gateways.push(row),
        }
    }
    Ok(gateways)
}

/// thisUpdate of the CRL after this one.
pub(super) fn published_after(db: &Connection, issuer: IssuerId, number: u64) -> Result<Option<Timestamp>, StoreError> {
    let sql = "-- published_after()\nSELECT this_update FROM published_crls WHERE issuer = ?1 AND number > ?2 \
               ORDER BY number LIMIT 1";
    first(db, sql, params![key(db, issuer)?, int(number)], column)
}

/// The first CRL known to hold a change.
pub(super) fn first_to_hold(db: &Connection, issuer: IssuerId, change: u64) -> Result<Option<u64>, StoreError> {
    let sql = "-- first_to_hold()\nSELECT number FROM published_crls WHERE issuer = ?1 AND watermark >= ?2 \
               ORDER BY watermark, number LIMIT 1";
    first(db, sql, params![key(db, issuer)?, int(change)], count)
}

/// The last change of each issuer that concerns a holder.
pub(super) fn last_changes(
    db: &Connection,
    holder: &Subject,
    now: Timestamp,
) -> Result<Vec<(IssuerId, u64)>, StoreError> {
    let changes = certificates::watermarks(db, holders::standing(db, holder)?.key, now)?;
    Ok(changes.into_iter().filter(|(_, change)| *change > 0).collect())
}

/// Writes down what gateways have loaded, in the place of what they had loaded before.
pub(super) fn record(db: &Connection, loaded: &[(Subject, Vec<Acknowledged>)]) -> Result<(), StoreError> {
    let forget = "-- forget_acknowledged()\nDELETE FROM acknowledgements WHERE holder = ?1";
    let sql = "-- acknowledge()\nINSERT INTO acknowledgements (holder, issuer, number, at) VALUES (?1, ?2, ?3, ?4)";
    for (gateway, crls) in loaded {
        let holder = match holders::standing(db, gateway) {
            Err(StoreError::NotFound(_)) => continue,
            holder => holder?.key,
        };
        change(db, forget, params![holder])?;
        for crl in crls {
            change_one(db, sql, params![holder, key(db, crl.issuer)?, int(crl.number), crl.at])?;
        }
    }
    Ok(())
}
