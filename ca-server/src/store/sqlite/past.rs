//! Lost times: what they are noticed by, what ends with them, the decision to go on, and what is taken in out of them.

use rusqlite::{Connection, params};

use super::{
    audit, certificates, fleets, holders,
    issuers::{self, key},
    newcomers,
    query::{Columns, all, change, change_one, column, first, int, the},
};
use crate::{
    audit::Draft,
    identity::{FleetName, RevocationReason::PrivilegeWithdrawn, SerialNumber, Subject, Timestamp, TokenId},
    store::{Adoption, Attested, ClaimedCrl, CrlHead, CrlMemory, Notice, Restoration, Resumption, Revoked, StoreError},
};

/// How many tokens, operators and fleets an audit record names.
const NAMED: usize = 100;

/// Every lost time, oldest first.
pub(super) fn list(db: &Connection) -> Result<Vec<Restoration>, StoreError> {
    let sql = "-- restorations()\nSELECT key, noticed_at, lost_from, lost_until, evidence, closed_fleets, resumed_at, \
               window_until, loss_accepted FROM restorations ORDER BY key";
    all(db, sql, [], read)
}

fn read(row: &mut Columns) -> rusqlite::Result<Restoration> {
    let (key, noticed_at, lost_from, lost_until) = (row.take()?, row.take()?, row.take()?, row.take()?);
    let evidence = row.take()?;
    let closed: String = row.take()?;
    let closed_fleets: Result<Vec<FleetName>, _> = closed.split_whitespace().map(str::parse).collect();
    let closed_fleets = closed_fleets
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(5, rusqlite::types::Type::Text, error.into()))?;
    let dates: (Option<Timestamp>, Option<Timestamp>) = (row.take()?, row.take()?);
    let loss_accepted = row.take()?;
    let resumption = dates.0.zip(dates.1).map(|(at, window_until)| Resumption { at, window_until, loss_accepted });
    Ok(Restoration { key, noticed_at, lost_from, lost_until, evidence, closed_fleets, resumption })
}

fn undecided(db: &Connection) -> Result<Option<Restoration>, StoreError> {
    let sql = "-- undecided()\nSELECT key, noticed_at, lost_from, lost_until, evidence, closed_fleets, resumed_at, \
               window_until, loss_accepted FROM restorations WHERE resumed_at IS NULL";
    first(db, sql, [], read)
}

/// Whether nobody has decided yet upon a lost time.
pub(super) fn is_undecided(db: &Connection) -> Result<bool, StoreError> {
    let sql = "-- is_undecided()\nSELECT EXISTS (SELECT 1 FROM restorations WHERE resumed_at IS NULL)";
    the(db, sql, [], column)
}

/// A lost time that was noticed, or one that is larger than it seemed.
pub(super) fn record_notice(db: &Connection, notice: &Notice) -> Result<Restoration, StoreError> {
    let found = || undecided(db)?.ok_or(StoreError::NotFound("restoration"));
    if let Some(known) = undecided(db)? {
        let lost_from = notice.lost_from.min(known.lost_from);
        let lost_until = notice.lost_until.max(known.lost_until);
        if (lost_from, lost_until) != (known.lost_from, known.lost_until) {
            let sql = "-- widen_restoration()\nUPDATE restorations SET lost_from = ?2, lost_until = ?3 WHERE key = ?1";
            change_one(db, sql, params![known.key, lost_from, lost_until])?;
            audit::append(db, &notice.audit)?;
        }
        return found();
    }
    let closed = fleets::close_all(db, notice.at)?;
    let fleets: Vec<String> = closed.iter().map(FleetName::to_string).collect();
    let sql = "-- insert_restoration()\nINSERT INTO restorations (noticed_at, lost_from, lost_until, evidence, closed_fleets) \
               VALUES (?1, ?2, ?3, ?4, ?5)";
    let (lost_from, lost_until) = (notice.lost_from.min(notice.at), notice.lost_until.max(notice.at));
    change_one(db, sql, params![notice.at, lost_from, lost_until, notice.evidence, fleets.join(" ")])?;
    let tokens = end_tokens(db)?;
    // Who was allowed to come back may have done so in the lost time, and been revoked again.
    let reenrollments = holders::end_reenrollments(db)?;
    newcomers::withdraw_approvals(db)?;
    let operators = withdraw_operators(db, notice.at)?;
    let named = |ids: &[String]| ids.iter().take(NAMED).cloned().collect::<Vec<_>>();
    let draft = notice.audit.clone().fact("tokens", named(&tokens)).fact("token_count", tokens.len());
    let draft = draft.fact("operators", named(&operators)).fact("operator_count", operators.len());
    let draft = draft.fact("reenrollments", named(&reenrollments)).fact("reenrollment_count", reenrollments.len());
    let draft = draft.fact("closed_fleets", named(&fleets)).fact("closed_fleet_count", fleets.len());
    audit::append(db, &draft)?;
    found()
}

/// A list of the lost time was made then: so it lasted until then at least, whatever the clock says now.
pub(super) fn reach(db: &Connection, at: Timestamp) -> Result<(), StoreError> {
    let sql = "-- reach()\nUPDATE restorations SET lost_until = max(lost_until, ?1) WHERE resumed_at IS NULL";
    change(db, sql, params![at]).map(drop)
}

/// Ends every token that has a use left: it may have been used in the lost time.
fn end_tokens(db: &Connection) -> Result<Vec<String>, StoreError> {
    let sql = "-- end_tokens()\nUPDATE tokens SET state = 'suspended' WHERE state = 'live' AND uses_left > 0 \
               RETURNING id";
    let ended: Vec<TokenId> = all(db, sql, [], column)?;
    Ok(ended.iter().map(TokenId::to_string).collect())
}

/// Takes every operator's certificates away: who was cut off in the lost time would be back.
fn withdraw_operators(db: &Connection, at: Timestamp) -> Result<Vec<String>, StoreError> {
    let sql = "-- operator_keys()\nSELECT key, id FROM holders WHERE kind = 'operator' ORDER BY id";
    let operators: Vec<(i64, String)> = all(db, sql, [], |row| Ok((row.take()?, row.take()?)))?;
    let mut withdrawn = Vec::new();
    for (holder, id) in operators {
        let (in_force, unreadable) = certificates::revocable(db, holder, at)?;
        let in_force: Vec<_> = in_force.iter().filter(|which| which.is_damaged || which.revoked.is_none()).collect();
        for which in &in_force {
            certificates::set_revoked(db, which, Some(Revoked { at, reason: PrivilegeWithdrawn }))?;
        }
        if !in_force.is_empty() || unreadable > 0 {
            let sql = "-- withdraw()\nUPDATE holders SET status = 'registered', status_reason = 'the past was restored', \
                       expires_at = NULL, version = version + 1 WHERE key = ?1";
            change_one(db, sql, params![holder])?;
            withdrawn.push(id);
        }
    }
    Ok(withdrawn)
}

/// The decision to go on.
pub(super) fn record_resumption(db: &Connection, resumption: &Resumption, draft: &Draft) -> Result<(), StoreError> {
    let known = undecided(db)?.ok_or(StoreError::NotFound("restoration that is not decided"))?;
    let sql = "-- resume()\nUPDATE restorations SET resumed_at = ?2, window_until = ?3, loss_accepted = ?4 \
               WHERE key = ?1";
    change_one(db, sql, params![known.key, resumption.at, resumption.window_until, resumption.loss_accepted])?;
    audit::append(db, draft)
}

/// Remembers that a CRL was given out, and forgets those that nobody takes any more. Roots' CRLs are not of our making.
pub(super) fn remember(db: &Connection, issuer: i64, head: &CrlHead) -> Result<(), StoreError> {
    if head.der.is_some() {
        return Ok(());
    }
    insert_published(db, issuer, head, false)?;
    // The horizon does not leap with a clock that does.
    let sql = "-- forget_published()\nDELETE FROM published_crls WHERE issuer = ?1 AND next_update < ?2";
    change(db, sql, params![issuer, head.horizon]).map(drop)
}

/// Adds a CRL to those that were given out.
pub(super) fn insert_published(db: &Connection, issuer: i64, head: &CrlHead, taken: bool) -> Result<(), StoreError> {
    let sql = "-- insert_published()\nINSERT OR REPLACE INTO published_crls \
               (issuer, number, this_update, next_update, sha256, taken_back, watermark) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let CrlHead { this_update, next_update, sha256, .. } = head;
    let watermark = (!taken).then(|| int(head.watermark));
    change_one(db, sql, params![issuer, int(head.number), this_update, next_update, sha256, taken, watermark])
}

/// What is known of a CRL that somebody holds.
pub(super) fn crl_memory(db: &Connection, claimed: &ClaimedCrl) -> Result<CrlMemory, StoreError> {
    let (issuer, number) = (key(db, claimed.issuer)?, int(claimed.number));
    let sql = "-- crl_memory()\nSELECT \
               EXISTS (SELECT 1 FROM published_crls WHERE issuer = ?1 AND number = ?2 AND sha256 = ?3), \
               EXISTS (SELECT 1 FROM published_crls WHERE issuer = ?1 AND number >= ?2 AND taken_back = 1), \
               (SELECT max(this_update) FROM published_crls WHERE issuer = ?1 AND this_update <= ?4 AND number < ?2)";
    let read = |row: &mut Columns| {
        let (is_known, is_behind_taken, last_known) = (row.take()?, row.take()?, row.take()?);
        Ok(CrlMemory { is_known, is_behind_taken, last_known, horizon: Timestamp::default() })
    };
    let memory = the(db, sql, params![issuer, number, claimed.sha256, claimed.this_update], read)?;
    let horizon = issuers::crl_head(db, claimed.issuer)?.map_or(Timestamp::default(), |head| head.horizon);
    Ok(CrlMemory { horizon, ..memory })
}

/// The revocation of a certificate of which nothing else is known.
pub(super) fn orphan(db: &Connection, serial: SerialNumber) -> Result<Option<Revoked>, StoreError> {
    let sql = "-- orphan()\nSELECT revoked_at, reason FROM orphans WHERE serial = ?1";
    first(db, sql, params![serial], |row| Ok(Revoked { at: row.take()?, reason: row.take()? }))
}

/// The certificate of a holder that was taken in.
pub(super) fn adopted(db: &Connection, restoration: i64, holder: &Subject) -> Result<Option<SerialNumber>, StoreError> {
    let sql = "-- adopted()\nSELECT adoptions.serial FROM adoptions JOIN holders ON holders.key = adoptions.holder \
               WHERE adoptions.restoration = ?1 AND holders.kind = ?2 AND holders.id = ?3";
    first(db, sql, params![restoration, holder.kind, holder.id], column)
}

/// Writes down that a holder had a certificate out of a lost time; false where he had one before.
pub(super) fn insert_adoption(
    db: &Connection,
    restoration: i64,
    holder: i64,
    serial: SerialNumber,
) -> Result<bool, StoreError> {
    let sql = "-- insert_adoption()\nINSERT OR IGNORE INTO adoptions (restoration, holder, serial) VALUES (?1, ?2, ?3)";
    Ok(change(db, sql, params![restoration, holder, serial])? > 0)
}

/// A certificate of a lost time as its holder's head.
pub(super) fn record_adoption(db: &Connection, record: &Adoption) -> Result<(), StoreError> {
    let holders::Admitted { key: holder, was_revoked } = holders::admit(db, &record.holder, record.at)?;
    if was_revoked {
        return Err(StoreError::Conflict);
    }
    if !insert_adoption(db, record.restoration, holder, record.certificate.serial)? {
        return Err(StoreError::Conflict);
    }
    let attestation = certificates::attestation_of(db, holder, record.certificate.key)?;
    certificates::insert(db, holder, &record.certificate, None, attestation)?;
    if let Some(serial) = record.superseded {
        certificates::supersede(db, holder, serial, record.at)?;
    }
    certificates::set_lineage(db, holder, &record.lineage, Some(record.at))?;
    holders::activate_restored(db, holder, &Attested::restored())?;
    audit::append(db, &record.audit)
}
