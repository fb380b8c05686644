//! CRLs of a lost time: their entries are in force again, whether the certificates are known here or not.

use rusqlite::{Connection, params};

use super::{
    audit, certificates, cutoff, holders,
    issuers::{self, key},
    past,
    query::{change, change_one, int},
};
use crate::{
    identity::RevocationReason::CertificateHold,
    inventory::device::Status,
    store::{CrlHead, CutoffReceipt, Recognition, Revoked, StoreError, Taken, TakenCrl},
};

/// Takes a CRL back. Where it is newer than the one published last it takes its place, whole.
pub(super) fn record(db: &Connection, record: &TakenCrl) -> Result<Taken, StoreError> {
    let head = &record.head;
    let before = issuers::last_change(db, head.issuer)?;
    for asked in &record.cutoffs {
        let receipt = cutoff::record_cutoff(db, asked)?;
        if receipt.status == Status::Held {
            // Whatever he was on hold for before: he was released since, and put on hold for something else.
            let holder = holders::standing(db, &asked.subject)?;
            holders::set_status(db, holder.key, Status::Held, &asked.status_reason)?;
        }
    }
    past::reach(db, head.this_update)?;
    let mut taken = Taken::default();
    let issuer = key(db, head.issuer)?;
    for (entry, not_after) in &record.entries {
        let revoked = Revoked { at: entry.revoked_at, reason: entry.reason };
        match certificates::revocable_one(db, entry.serial)? {
            // What was decided here since is not taken back, but a hold is.
            Some(which)
                if which.revoked.is_none_or(|now| {
                    now.reason == CertificateHold && !now.is_listed_as(revoked.at, revoked.reason)
                }) =>
            {
                certificates::set_revoked(db, &which, Some(revoked))?;
            }
            Some(_) => {}
            None => {
                let sql = "-- insert_orphan()\nINSERT OR IGNORE INTO orphans (serial, issuer, revoked_at, reason) \
                           VALUES (?1, ?2, ?3, ?4)";
                if change(db, sql, params![entry.serial, issuer, revoked.at, revoked.reason])? > 0 {
                    certificates::append_change(db, issuer, entry.serial, *not_after, Some(revoked))?;
                    taken.orphans += 1;
                }
            }
        }
    }
    // Where the past was restored unnoticed, we have published since, and our numbers are higher.
    if issuers::crl_head(db, head.issuer)?.is_none_or(|last| last.number < head.number) {
        put_whole(db, issuer, head)?;
    }
    past::insert_published(db, issuer, head, true)?;
    let changes = issuers::last_change(db, head.issuer)? - before;
    taken.certificates = u32::try_from(changes).unwrap_or(u32::MAX);
    let draft = record.audit.clone().fact("changes", taken.certificates).fact("unknown", taken.orphans);
    audit::append(db, &draft)?;
    Ok(taken)
}

/// A certificate of which the revocation was known only becomes its holder's, as revoked as it was.
pub(super) fn record_recognition(db: &Connection, record: &Recognition) -> Result<CutoffReceipt, StoreError> {
    let Recognition { restoration, certificate, cutoff } = record;
    let (serial, holder) = (certificate.serial, holders::standing(db, &cutoff.subject)?);
    let revoked = past::orphan(db, serial)?.ok_or(StoreError::Conflict)?;
    let attestation = certificates::attestation_of(db, holder.key, certificate.key)?;
    certificates::insert(db, holder.key, certificate, None, attestation)?;
    // It is on the CRL already: no change that another one has to hold.
    let sql = "-- recognize()\nUPDATE certificates SET revoked_at = ?2, reason = ?3 WHERE serial = ?1";
    change_one(db, sql, params![serial, revoked.at, revoked.reason])?;
    change_one(db, "-- delete_orphan()\nDELETE FROM orphans WHERE serial = ?1", params![serial])?;
    if let Some(restoration) = restoration {
        past::insert_adoption(db, *restoration, holder.key, serial)?;
    }
    let receipt = cutoff::record_cutoff(db, cutoff)?;
    if receipt.certificates == 0 && receipt.status == holder.status {
        audit::append(db, &cutoff.audit)?;
    }
    if receipt.status == Status::Held {
        // Whatever he was on hold for before: there is a certificate more to choose from.
        holders::set_status(db, holder.key, Status::Held, &cutoff.status_reason)?;
    }
    Ok(receipt)
}

/// Puts the CRL in the place of the one published last. Its watermark says that it holds none of our changes for sure.
fn put_whole(db: &Connection, issuer: i64, head: &CrlHead) -> Result<(), StoreError> {
    let sql = "-- put_taken_crl()\nINSERT OR REPLACE INTO crl_heads \
               (issuer, number, this_update, next_update, watermark, horizon, sha256, signature, der) \
               VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7, ?8)";
    let CrlHead { this_update, next_update, horizon, sha256, signature, der, .. } = head;
    let number = int(head.number);
    change_one(db, sql, params![issuer, number, this_update, next_update, horizon, sha256, signature, der])
}
