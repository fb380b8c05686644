//! The domain, issuers, trust bundles, changes of revocations and the CRLs' heads.

use rusqlite::{Connection, params};

use super::{
    audit, certificates, past,
    query::{Columns, all, change_one, column, count, first, int, readable, the},
};
use crate::{
    audit::Draft,
    identity::{IssuerId, SerialNumber, Timestamp},
    inventory::partition::Standing,
    store::{Change, CrlHead, Domain, IssuerRow, StoreError, TrustBundleRow},
};

/// What `init` fixed.
pub(super) fn domain(db: &Connection) -> Result<Domain, StoreError> {
    let sql = "-- domain()\nSELECT trust_domain, public_url FROM domain";
    let read = |row: &mut Columns| Ok(Domain { trust_domain: row.take()?, public_url: row.take()? });
    first(db, sql, [], read)?.ok_or(StoreError::NotFound("the CA"))
}

/// Fixes it.
pub(super) fn insert_domain(db: &Connection, domain: &Domain) -> Result<(), StoreError> {
    let sql = "-- insert_domain()\nINSERT INTO domain (only_row, trust_domain, public_url) VALUES (1, ?1, ?2)";
    change_one(db, sql, params![domain.trust_domain, domain.public_url]).map_err(|error| match error {
        StoreError::Conflict => StoreError::Exists("a CA"),
        other => other,
    })
}

/// Writes a page and changes nothing.
pub(super) fn touch(db: &Connection) -> Result<(), StoreError> {
    super::query::change(db, "-- touch()\nUPDATE domain SET public_url = public_url", []).map(drop)
}

/// The trust bundle in force.
pub(super) fn trust_bundle(db: &Connection) -> Result<TrustBundleRow, StoreError> {
    let sql = "-- trust_bundle()\nSELECT sequence, signed FROM trust_bundles ORDER BY sequence DESC LIMIT 1";
    let read = |row: &mut Columns| Ok(TrustBundleRow { sequence: row.count()?, signed: row.take()? });
    first(db, sql, [], read)?.ok_or(StoreError::NotFound("the trust bundle"))
}

/// Puts a newer trust bundle in force.
pub(super) fn insert_trust_bundle(db: &Connection, bundle: &TrustBundleRow) -> Result<(), StoreError> {
    let sql = "-- last_trust_bundle()\nSELECT ifnull(max(sequence), 0) FROM trust_bundles";
    if bundle.sequence <= the(db, sql, [], count)? {
        return Err(StoreError::Conflict);
    }
    let sql = "-- insert_trust_bundle()\nINSERT INTO trust_bundles (sequence, signed) VALUES (?1, ?2)";
    change_one(db, sql, params![int(bundle.sequence), bundle.signed])
}

/// Every issuer, oldest first.
pub(super) fn list(db: &Connection) -> Result<Vec<IssuerRow>, StoreError> {
    let sql = "-- issuers()\nSELECT id, role, certificate, created_at, standing, \
               (SELECT id FROM issuers AS before WHERE before.key = issuers.replaces), published_at, \
               EXISTS (SELECT 1 FROM fleet_issuers WHERE fleet_issuers.issuer = issuers.key) FROM issuers ORDER BY key";
    let read = |row: &mut Columns| {
        Ok(IssuerRow {
            id: row.take()?,
            role: row.take()?,
            certificate: row.take()?,
            created_at: row.take()?,
            standing: row.take()?,
            replaces: row.take()?,
            published_at: row.take()?,
            has_signed: row.take()?,
        })
    };
    all(db, sql, [], read)
}

/// Adds one.
pub(super) fn insert(db: &Connection, issuer: &IssuerRow) -> Result<(), StoreError> {
    let replaces = issuer.replaces.map(|id| key(db, id)).transpose()?;
    let sql = "-- insert_issuer()\nINSERT INTO issuers (id, role, certificate, created_at, replaces) \
               VALUES (?1, ?2, ?3, ?4, ?5)";
    change_one(db, sql, params![issuer.id, issuer.role, issuer.certificate, issuer.created_at, replaces])
}

/// The key of an issuer that exists.
pub(super) fn key(db: &Connection, id: IssuerId) -> Result<i64, StoreError> {
    let sql = "-- issuer_key()\nSELECT key FROM issuers WHERE id = ?1";
    first(db, sql, params![id], column)?.ok_or(StoreError::NotFound("issuer"))
}

/// The key of one that has not come to its end: what it signs is recorded.
pub(super) fn signing_key(db: &Connection, id: IssuerId) -> Result<i64, StoreError> {
    let sql = "-- signing_key()\nSELECT key, standing FROM issuers WHERE id = ?1";
    let found = first(db, sql, params![id], |row| Ok((row.take()?, row.take::<Standing>()?)))?;
    let (key, standing) = found.ok_or(StoreError::NotFound("issuer"))?;
    if standing.publishes() { Ok(key) } else { Err(StoreError::Conflict) }
}

/// Changes after a number, in order.
pub(super) fn changes(db: &Connection, issuer: IssuerId, after: u64, limit: u32) -> Result<Vec<Change>, StoreError> {
    let sql = "-- changes()\nSELECT sequence, serial, not_after, revoked_at, reason FROM changes \
               WHERE issuer = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3";
    let read = |row: &mut Columns| {
        let (sequence, serial, not_after) = (row.count()?, row.take()?, row.take()?);
        Ok(Change { sequence, serial, not_after, revoked: certificates::read_revoked(row)? })
    };
    all(db, sql, params![key(db, issuer)?, int(after), limit], read)
}

/// Serials of certificates that were ever revoked or on hold, and expired within this time: from its beginning, and before
/// its end.
pub(super) fn expired(
    db: &Connection,
    issuer: IssuerId,
    from: Timestamp,
    until: Timestamp,
) -> Result<Vec<SerialNumber>, StoreError> {
    let sql = "-- expired()\nSELECT serial FROM changes WHERE issuer = ?1 AND not_after >= ?2 AND not_after < ?3";
    // What can't be read leaves no CRL.
    Ok(readable(db, sql, params![key(db, issuer)?, from, until], column)?.0)
}

/// The number of the last change.
pub(super) fn last_change(db: &Connection, issuer: IssuerId) -> Result<u64, StoreError> {
    let sql = "-- last_change()\nSELECT last_change FROM issuers WHERE id = ?1";
    first(db, sql, params![issuer], count)?.ok_or(StoreError::NotFound("issuer"))
}

/// The CRL published last.
pub(super) fn crl_head(db: &Connection, issuer: IssuerId) -> Result<Option<CrlHead>, StoreError> {
    let sql = "-- crl_head()\nSELECT number, this_update, next_update, watermark, horizon, sha256, signature, der \
               FROM crl_heads WHERE issuer = ?1";
    let read = |row: &mut Columns| {
        Ok(CrlHead {
            issuer,
            number: row.count()?,
            this_update: row.take()?,
            next_update: row.take()?,
            watermark: row.count()?,
            horizon: row.take()?,
            sha256: row.take()?,
            signature: row.take()?,
            der: row.take()?,
        })
    };
    first(db, sql, params![key(db, issuer)?], read)
}

/// Publishes a CRL after `previous`; neither its number nor its watermark ever goes back.
pub(super) fn put_crl(
    db: &Connection,
    head: &CrlHead,
    previous: Option<u64>,
    draft: Option<&Draft>,
) -> Result<(), StoreError> {
    let last = crl_head(db, head.issuer)?;
    let goes_back = |last: &CrlHead| head.number <= last.number || head.watermark < last.watermark;
    if last.as_ref().map(|last| last.number) != previous || last.as_ref().is_some_and(goes_back) {
        return Err(StoreError::Conflict);
    }
    let sql = "-- put_crl()\nINSERT OR REPLACE INTO crl_heads \
               (issuer, number, this_update, next_update, watermark, horizon, sha256, signature, der) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let CrlHead { this_update, next_update, horizon, sha256, signature, der, .. } = head;
    let (issuer, number, watermark) = (key(db, head.issuer)?, int(head.number), int(head.watermark));
    change_one(db, sql, params![issuer, number, this_update, next_update, watermark, horizon, sha256, signature, der])?;
    let sql = "-- published()\nUPDATE issuers SET published_at = ifnull(published_at, ?2) WHERE key = ?1";
    change_one(db, sql, params![issuer, this_update])?;
    past::remember(db, issuer, head)?;
    draft.map_or(Ok(()), |draft| audit::append(db, draft))
}
