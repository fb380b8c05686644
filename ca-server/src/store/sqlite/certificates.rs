//! Certificates: reading them, adding them, and what becomes of their revocation.

use rusqlite::{Connection, params, types::Type};

use super::{
    holders, issuers,
    query::{Columns, all, change, change_one, column, count, first, int, readable, the},
};
use crate::{
    identity::{IssuerId, KeyFingerprint, RevocationReason, SerialNumber, Subject, Timestamp},
    inventory::lineage::Lineage,
    store::{Attested, CertificateRow, KeyUse, MAX_LIVE, NewCertificate, Peer, RenewalFacts, Revoked, StoreError},
};

/// The columns that [`read`] takes, and the tables that have them.
macro_rules! certificate_columns {
    () => {
        "certificates.serial, holders.kind, holders.id, issuers.id, certificates.key_hash, certificates.hash, \
         certificates.not_before, certificates.not_after, certificates.was_head, certificates.presented, tokens.id, \
         certificates.revoked_at, certificates.reason, holders.head, holders.pending, attestations.method, \
         attestations.tier, attestations.identity"
    };
}
macro_rules! certificate_tables {
    () => {
        "certificates JOIN holders ON holders.key = certificates.holder \
         JOIN issuers ON issuers.key = certificates.issuer LEFT JOIN tokens ON tokens.key = certificates.token \
         LEFT JOIN attestations ON attestations.key = certificates.attestation"
    };
}

fn read(row: &mut Columns) -> rusqlite::Result<CertificateRow> {
    let serial = row.take()?;
    let holder = Subject { kind: row.take()?, id: row.take()? };
    let (issuer, key, hash) = (row.take()?, row.take()?, row.take()?);
    let (not_before, not_after) = (row.take()?, row.take()?);
    let was_head = row.take()?;
    let (presented, token) = (row.take()?, row.take()?);
    let revoked = read_revoked(row)?;
    let lineage = Lineage { head: row.take()?, pending: row.take()?, generation: 0, replacements: 0 };
    let position = lineage.position(serial, was_head);
    let attested = holders::read_attested(row)?;
    Ok(CertificateRow {
        serial,
        holder,
        issuer,
        key,
        hash,
        not_before,
        not_after,
        position,
        presented,
        token,
        revoked,
        attested,
    })
}

/// Reads a date and a reason. One without the other is no revocation that we have written, and none of none.
pub(super) fn read_revoked(row: &mut Columns) -> rusqlite::Result<Option<Revoked>> {
    match (row.take()?, row.take()?) {
        (None, None) => Ok(None),
        (Some(at), Some(reason)) => Ok(Some(Revoked { at, reason })),
        (at, _) => Err(rusqlite::Error::InvalidColumnType(
            0,
            "revoked_at or reason".into(),
            if at.is_none() { Type::Null } else { Type::Integer },
        )),
    }
}

/// Reads what is left of a date and a reason, and whether that is all of it. What nobody can read is revoked: since when is
/// unknown, so it is since the certificate was made.
pub(super) fn read_what_is_left(row: &mut Columns, serial: SerialNumber) -> (Option<Revoked>, bool) {
    let (at, reason) = (row.take::<Option<Timestamp>>(), row.take::<Option<RevocationReason>>());
    match (at, reason) {
        (Ok(None), Ok(None)) => (None, true),
        (Ok(Some(at)), Ok(Some(reason))) => (Some(Revoked { at, reason }), true),
        (at, reason) => {
            let at = at.ok().flatten().unwrap_or_else(|| serial.made_at());
            let reason = reason.ok().flatten().unwrap_or(RevocationReason::Unspecified);
            (Some(Revoked { at, reason }), false)
        }
    }
}

/// The unexpired ones of a holder, newest first.
pub(super) fn live(db: &Connection, holder: &Subject, now: Timestamp) -> Result<Vec<CertificateRow>, StoreError> {
    let sql = concat!(
        "-- live_certificates()\nSELECT ",
        certificate_columns!(),
        " FROM ",
        certificate_tables!(),
        " WHERE holders.kind = ?1 AND holders.id = ?2 AND certificates.not_after >= ?3 ORDER BY certificates.key DESC"
    );
    all(db, sql, params![holder.kind, holder.id, now], read)
}

/// A certificate and who holds it.
pub(super) fn peer(db: &Connection, serial: SerialNumber) -> Result<Option<Peer>, StoreError> {
    let sql = concat!(
        "-- peer()\nSELECT ",
        certificate_columns!(),
        ", ",
        holders::holder_columns!(),
        " FROM ",
        certificate_tables!(),
        " LEFT JOIN fleets ON fleets.key = holders.fleet WHERE certificates.serial = ?1"
    );
    first(db, sql, params![serial], |row| Ok(Peer { certificate: read(row)?, holder: holders::read(row)? }))
}

/// What decides a renewal.
pub(super) fn renewal(
    db: &Connection,
    serial: SerialNumber,
    key: &KeyFingerprint,
) -> Result<Option<RenewalFacts>, StoreError> {
    // The index of holders keeps each one's certificates in the order in which they were made.
    let sql = concat!(
        "-- renewal()\nSELECT ",
        certificate_columns!(),
        ", ",
        holders::holder_columns!(),
        ", fleets.policy, (SELECT not_after FROM certificates WHERE key = (SELECT key FROM certificates AS newer \
         WHERE newer.holder = holders.key ORDER BY key DESC LIMIT 1 OFFSET ?2)), \
         (SELECT max(sequence) FROM trust_bundles), EXISTS (SELECT 1 FROM banned_keys WHERE key_hash = ?3), \
         EXISTS (SELECT 1 FROM certificates AS carrier \
         WHERE substr(carrier.key_hash, 1, 8) = substr(?3, 1, 8) AND carrier.key_hash = ?3) FROM ",
        certificate_tables!(),
        " LEFT JOIN fleets ON fleets.key = holders.fleet WHERE certificates.serial = ?1"
    );
    let read = |row: &mut Columns| {
        let peer = Peer { certificate: read(row)?, holder: holders::read(row)? };
        Ok((peer, row.take()?, row.take()?, row.count()?, row.take()?, row.take()?))
    };
    let found = first(db, sql, params![serial, MAX_LIVE - 1, key], read)?;
    let Some((peer, policy, oldest_that_counts, trust_bundle, banned, carried)) = found else {
        return Ok(None);
    };
    // A fresh key has none, and nearly all are fresh.
    let certificates = if carried { with_key(db, key)? } else { Vec::new() };
    let key_use = KeyUse { banned, certificates };
    Ok(Some(RenewalFacts { key_use, policy, oldest_that_counts, trust_bundle, peer }))
}

/// A certificate and its bytes.
pub(super) fn with_bytes(
    db: &Connection,
    serial: SerialNumber,
) -> Result<Option<(CertificateRow, Vec<u8>)>, StoreError> {
    let sql = concat!(
        "-- certificate()\nSELECT ",
        certificate_columns!(),
        ", certificates.der FROM ",
        certificate_tables!(),
        " WHERE certificates.serial = ?1"
    );
    first(db, sql, params![serial], |row| Ok((read(row)?, row.take()?)))
}

/// What is known of a key.
pub(super) fn key_use(db: &Connection, key: &KeyFingerprint) -> Result<KeyUse, StoreError> {
    Ok(KeyUse { banned: is_banned(db, key)?, certificates: with_key(db, key)? })
}

/// Every certificate that carries a key, oldest first.
fn with_key(db: &Connection, key: &KeyFingerprint) -> Result<Vec<CertificateRow>, StoreError> {
    let sql = concat!(
        "-- with_key()\nSELECT ",
        certificate_columns!(),
        " FROM ",
        certificate_tables!(),
        " WHERE substr(certificates.key_hash, 1, 8) = substr(?1, 1, 8) AND certificates.key_hash = ?1 \
         ORDER BY certificates.key"
    );
    all(db, sql, params![key], read)
}

/// Every serial that a holder ever had from an issuer, in order.
pub(super) fn serials_of(db: &Connection, holder: &Subject, issuer: IssuerId) -> Result<Vec<SerialNumber>, StoreError> {
    let sql = "-- serials_of()\nSELECT certificates.serial FROM holders \
               JOIN certificates ON certificates.holder = holders.key \
               JOIN issuers ON issuers.key = certificates.issuer \
               WHERE holders.kind = ?1 AND holders.id = ?2 AND issuers.id = ?3 ORDER BY certificates.serial";
    all(db, sql, params![holder.kind, holder.id, issuer], column)
}

fn is_banned(db: &Connection, key: &KeyFingerprint) -> Result<bool, StoreError> {
    let sql = "-- is_banned()\nSELECT EXISTS (SELECT 1 FROM banned_keys WHERE key_hash = ?1)";
    the(db, sql, params![key], column)
}

/// What an enrollment proved; its key.
pub(super) fn insert_attestation(db: &Connection, attested: &Attested) -> Result<i64, StoreError> {
    let sql =
        "-- insert_attestation()\nINSERT INTO attestations (method, tier, identity) VALUES (?1, ?2, ?3) RETURNING key";
    let Attested { method, tier, identity } = attested;
    the(db, sql, params![method, tier, identity], column)
}

/// What the newest certificate of this holder's for this key descends from.
pub(super) fn attestation_of(db: &Connection, holder: i64, key: KeyFingerprint) -> Result<Option<i64>, StoreError> {
    let sql = "-- attestation_of()\nSELECT attestation FROM certificates \
               WHERE substr(key_hash, 1, 8) = substr(?1, 1, 8) AND key_hash = ?1 AND holder = ?2 \
               AND attestation IS NOT NULL ORDER BY key DESC LIMIT 1";
    first(db, sql, params![key, holder], column)
}

/// Adds a certificate of a holder. `Conflict` if its key is banned or somebody else's. Where it was made from another
/// certificate, it descends from the same attestation.
pub(super) fn insert(
    db: &Connection,
    holder: i64,
    certificate: &NewCertificate,
    token: Option<i64>,
    attestation: Option<i64>,
) -> Result<(), StoreError> {
    let sql = "-- key_is_refused()\nSELECT EXISTS (SELECT 1 FROM banned_keys WHERE key_hash = ?1) OR \
               EXISTS (SELECT 1 FROM certificates \
                       WHERE substr(key_hash, 1, 8) = substr(?1, 1, 8) AND key_hash = ?1 AND holder <> ?2)";
    if the(db, sql, params![certificate.key, holder], column)? {
        return Err(StoreError::Conflict);
    }
    let issuer = issuers::signing_key(db, certificate.issuer)?;
    let NewCertificate { serial, key, hash, not_before, not_after, presented, der, .. } = certificate;
    let sql = "-- insert_certificate()\nINSERT INTO certificates \
               (serial, holder, issuer, key_hash, hash, not_before, not_after, presented, token, der, attestation) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, \
               ifnull((SELECT attestation FROM certificates WHERE serial = ?8), ?11))";
    let params = params![serial, holder, issuer, key, hash, not_before, not_after, presented, token, der, attestation];
    change_one(db, sql, params)?;
    let sql = "-- fleet_needs_issuer()\nINSERT INTO fleet_issuers (fleet, issuer, last_not_after) \
               SELECT fleet, ?2, ?3 FROM holders WHERE key = ?1 AND fleet IS NOT NULL \
               ON CONFLICT (fleet, issuer) DO UPDATE SET last_not_after = excluded.last_not_after \
               WHERE excluded.last_not_after > last_not_after";
    change(db, sql, params![holder, issuer, not_after]).map(drop)
}

/// A certificate, as far as its revocation is concerned.
pub(super) struct Revocable {
    pub key: i64,
    pub serial: SerialNumber,
    pub issuer: i64,
    pub not_after: Timestamp,
    pub revoked: Option<Revoked>,
    /// Its revocation is what is left of one that can't be read.
    pub is_damaged: bool,
}

/// Those of a holder that belong on a CRL when they are revoked, oldest first: all that have not expired. Whether one
/// has is said by its issuer's CRL where that is behind the clock: a clock that leapt must not keep a revocation off.
///
/// And how many rows can't be read: these must not keep the others from being revoked, and let nobody in.
pub(super) fn revocable(db: &Connection, holder: i64, at: Timestamp) -> Result<(Vec<Revocable>, u64), StoreError> {
    let sql = "-- revocable()\nSELECT key, serial, issuer, not_after, revoked_at, reason FROM certificates \
               WHERE holder = ?1 AND not_after >= min(?2, ifnull((SELECT horizon FROM crl_heads \
               WHERE crl_heads.issuer = certificates.issuer), ?2)) ORDER BY key";
    readable(db, sql, params![holder, at], read_revocable)
}

/// Revokes or releases a certificate: the change takes its issuer's next number.
pub(super) fn set_revoked(db: &Connection, which: &Revocable, revoked: Option<Revoked>) -> Result<(), StoreError> {
    let sequence = append_change(db, which.issuer, which.serial, which.not_after, revoked)?;
    let (at, reason) = (revoked.map(|it| it.at), revoked.map(|it| it.reason));
    let sql = "-- set_revoked()\nUPDATE certificates SET revoked_at = ?2, reason = ?3, change = ?4 WHERE key = ?1";
    change_one(db, sql, params![which.key, at, reason, sequence])
}

/// Adds to an issuer's changes; the number that it took.
pub(super) fn append_change(
    db: &Connection,
    issuer: i64,
    serial: SerialNumber,
    not_after: Timestamp,
    revoked: Option<Revoked>,
) -> Result<i64, StoreError> {
    let sql = "-- next_change()\nUPDATE issuers SET last_change = last_change + 1 WHERE key = ?1 RETURNING last_change";
    let sequence = int(the(db, sql, params![issuer], count)?);
    let (at, reason) = (revoked.map(|it| it.at), revoked.map(|it| it.reason));
    let sql = "-- insert_change()\nINSERT INTO changes (issuer, sequence, serial, not_after, revoked_at, reason) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    change_one(db, sql, params![issuer, sequence, serial, not_after, at, reason])?;
    Ok(sequence)
}

/// One certificate by its serial number.
pub(super) fn revocable_one(db: &Connection, serial: SerialNumber) -> Result<Option<Revocable>, StoreError> {
    let sql = "-- revocable_one()\nSELECT key, serial, issuer, not_after, revoked_at, reason FROM certificates \
               WHERE serial = ?1";
    first(db, sql, params![serial], read_revocable)
}

fn read_revocable(row: &mut Columns) -> rusqlite::Result<Revocable> {
    let (key, serial, issuer, not_after) = (row.take()?, row.take()?, row.take()?, row.take()?);
    let (revoked, is_whole) = read_what_is_left(row, serial);
    Ok(Revocable { key, serial, issuer, not_after, revoked, is_damaged: !is_whole })
}

/// Revokes a certificate of this holder because another took its place.
pub(super) fn supersede(db: &Connection, holder: i64, serial: SerialNumber, at: Timestamp) -> Result<(), StoreError> {
    let (found, unreadable) = revocable(db, holder, at)?;
    let revoked = Revoked { at, reason: RevocationReason::Superseded };
    match found.iter().find(|which| which.serial == serial) {
        Some(which) if which.revoked.is_none() => set_revoked(db, which, Some(revoked)),
        // It may be among them, and would stay in force.
        None if unreadable > 0 => Err(passed_over(unreadable)),
        _ => Ok(()),
    }
}

/// Revokes what was superseded, or is not revoked at all, of a holder that comes back from having been revoked: nothing
/// of before counts for or against it.
pub(super) fn withdraw_all(db: &Connection, holder: i64, at: Timestamp) -> Result<(), StoreError> {
    let (found, unreadable) = revocable(db, holder, at)?;
    if unreadable > 0 {
        return Err(passed_over(unreadable));
    }
    for which in found {
        let since = match which.revoked {
            Some(Revoked { reason, .. }) if reason != RevocationReason::Superseded => continue,
            earlier => earlier.map_or(at, |revoked| revoked.at),
        };
        let withdrawn = Revoked { at: since, reason: RevocationReason::PrivilegeWithdrawn };
        set_revoked(db, &which, Some(withdrawn))?;
    }
    Ok(())
}

/// Certificates of a holder can't be read: who is let in has none that nobody knows of.
fn passed_over(unreadable: u64) -> StoreError {
    StoreError::Damaged(format!("{unreadable} certificates of the holder can't be read"))
}

/// Every issuer of a holder's certificates that belong on a CRL, with the last of their changes.
pub(super) fn watermarks(db: &Connection, holder: i64, at: Timestamp) -> Result<Vec<(IssuerId, u64)>, StoreError> {
    let sql = "-- watermarks()\nSELECT issuers.id, ifnull(max(certificates.change), 0) FROM certificates \
               JOIN issuers ON issuers.key = certificates.issuer \
               WHERE certificates.holder = ?1 AND certificates.not_after >= min(?2, ifnull((SELECT horizon FROM crl_heads \
               WHERE crl_heads.issuer = certificates.issuer), ?2)) GROUP BY issuers.key ORDER BY issuers.key";
    all(db, sql, params![holder, at], |row| Ok((row.take()?, row.count()?)))
}

/// Bans every key of a holder for ever; says how many were not banned before.
pub(super) fn ban_keys(db: &Connection, holder: i64, at: Timestamp) -> Result<usize, StoreError> {
    let sql = "-- ban_keys()\nINSERT OR IGNORE INTO banned_keys (key_hash, banned_at) \
               SELECT key_hash, ?2 FROM certificates WHERE holder = ?1";
    change(db, sql, params![holder, at])
}

/// Whether a key of a holder is not banned.
pub(super) fn any_key_to_ban(db: &Connection, holder: i64) -> Result<bool, StoreError> {
    let sql = "-- any_key_to_ban()\nSELECT EXISTS (SELECT 1 FROM certificates WHERE holder = ?1 \
               AND key_hash NOT IN (SELECT key_hash FROM banned_keys))";
    the(db, sql, params![holder], column)
}

/// Puts a lineage in force: its head is marked as one that was, and dates its holder. `seen` is when the holder was
/// heard of, if that is why.
pub(super) fn set_lineage(
    db: &Connection,
    holder: i64,
    lineage: &Lineage,
    seen: Option<Timestamp>,
) -> Result<(), StoreError> {
    let Lineage { head, pending, generation, replacements } = lineage;
    // Mostly the head stays what it is, and with it the index of holders by its end.
    let sql = "-- set_pending()\nUPDATE holders SET pending = ?3, generation = ?4, replacements = ?5, \
               last_seen_at = ifnull(?6, last_seen_at), version = version + 1 WHERE key = ?1 AND head = ?2";
    if change(db, sql, params![holder, head, pending, int(*generation), replacements, seen])? == 1 {
        return Ok(());
    }
    let mut expires_at = None;
    if let Some(head) = head {
        let sql = "-- head()\nSELECT key, not_after, was_head FROM certificates WHERE serial = ?1 AND holder = ?2";
        let read = |row: &mut Columns| Ok((row.take::<i64>()?, row.take::<Timestamp>()?, row.take::<bool>()?));
        let (key, not_after, was_head) = the(db, sql, params![head, holder], read)?;
        if !was_head {
            change_one(db, "-- mark_head()\nUPDATE certificates SET was_head = 1 WHERE key = ?1", params![key])?;
        }
        expires_at = Some(not_after);
    }
    let sql = "-- set_lineage()\nUPDATE holders SET head = ?2, pending = ?3, generation = ?4, replacements = ?5, \
               expires_at = ?6, last_seen_at = ifnull(?7, last_seen_at), version = version + 1 WHERE key = ?1";
    change_one(db, sql, params![holder, head, pending, int(*generation), replacements, expires_at, seen])
}
