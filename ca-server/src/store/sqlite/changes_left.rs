//! What is left of a change log that is damaged: rows that can be read, and the certificates themselves, which say by which
//! change they came to what they are.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::{
    certificates, issuers,
    query::{Columns, column, int, readable, the},
};
use crate::{
    identity::{IssuerId, SerialNumber, Timestamp},
    store::{Change, ChangesLeft, StoreError},
};

/// The expiry of a certificate whose own can't be read: its entry stays.
const FAR: Timestamp = Timestamp::from_secs(253_402_300_799);

/// A change, and whether all of it could be read.
struct Left {
    change: Change,
    whole: bool,
}

/// What is left.
pub(super) fn changes_left(
    db: &Connection,
    issuer: IssuerId,
    after: u64,
    until: Option<u64>,
) -> Result<ChangesLeft, StoreError> {
    let key = issuers::key(db, issuer)?;
    let until = until.map_or(i64::MAX, int);
    let log = "-- changes_left()\nSELECT sequence, serial, not_after, revoked_at, reason FROM changes \
               WHERE issuer = ?1 AND sequence > ?2 AND sequence <= ?3 ORDER BY sequence";
    let own = "-- changes_of_certificates()\nSELECT change, serial, not_after, revoked_at, reason FROM certificates \
               WHERE issuer = ?1 AND change > ?2 AND change <= ?3";
    let (log, _) = readable(db, log, params![key, int(after), until], read)?;
    let (own, _) = readable(db, own, params![key, int(after), until], read)?;
    let given = match until {
        i64::MAX => issuers::last_change(db, issuer).unwrap_or_default(),
        until => until as u64,
    };
    let last = log.iter().chain(&own).map(|left| left.change.sequence).fold(given.max(after), u64::max);
    let whole = log.iter().filter(|left| left.whole).count() as u64;
    let mut left = ChangesLeft { last, lost: (last - after).saturating_sub(whole), ..ChangesLeft::default() };
    let mut of = BTreeMap::<SerialNumber, Left>::new();
    for found in log {
        of.insert(found.change.serial, found);
    }
    for found in own {
        let is_better = of.get(&found.change.serial).is_none_or(|known| found.outdoes(known));
        if is_better {
            left.recovered += 1;
            of.insert(found.change.serial, found);
        }
    }
    left.changes = of.into_values().map(|left| left.change).collect();
    left.changes.sort_by_key(|change| change.sequence);
    Ok(left)
}

impl Left {
    /// The later one counts; then the one that is whole, that cuts off, and for longer.
    fn outdoes(&self, other: &Left) -> bool {
        let rank =
            |Left { change, whole }: &Left| (change.sequence, *whole, change.revoked.is_some(), change.not_after);
        rank(self) > rank(other)
    }
}

/// Reads as much as there is. Without its serial it is no change.
fn read(row: &mut Columns) -> rusqlite::Result<Left> {
    let (sequence, serial): (u64, SerialNumber) = (row.count()?, row.take()?);
    let not_after = row.take::<Timestamp>();
    let (revoked, is_whole) = certificates::read_what_is_left(row, serial);
    let whole = not_after.is_ok() && is_whole;
    Ok(Left { change: Change { sequence, serial, not_after: not_after.unwrap_or(FAR), revoked }, whole })
}

/// Of these certificates, those whose entries must not leave a CRL.
pub(super) fn listed_of(
    db: &Connection,
    serials: &[SerialNumber],
    watermark: u64,
    horizon: Timestamp,
) -> Result<Vec<SerialNumber>, StoreError> {
    let sql = "-- is_listed()\nSELECT EXISTS (SELECT 1 FROM certificates WHERE serial = ?1 AND revoked_at IS NOT NULL \
               AND change <= ?2 AND not_after >= ?3)";
    let mut listed = Vec::new();
    for serial in serials {
        if the(db, sql, params![serial, int(watermark), horizon], column)? {
            listed.push(*serial);
        }
    }
    Ok(listed)
}
