//! Cutting a holder off, and ending a hold.
//!
//! A cutoff compares nothing and wins every race: it reads no more than it needs, changes what is not yet as it must
//! be, and where nothing is left to change it records nothing.

use rusqlite::Connection;

use super::{
    audit,
    certificates::{self, Revocable, set_revoked},
    holders, tokens,
};
use crate::{
    audit::Draft,
    identity::{
        RevocationReason::{self, CertificateHold, KeyCompromise, PrivilegeWithdrawn, Superseded},
        SerialNumber, Subject, Timestamp, TokenId,
    },
    inventory::device::Status,
    store::{BulkAction, Cutoff, CutoffReceipt, Release, Revoked, StoreError, UNREADABLE},
};

/// How many serials an audit record names.
const NAMED: usize = 100;

/// A holder cut off.
pub(super) fn record_cutoff(db: &Connection, record: &Cutoff) -> Result<CutoffReceipt, StoreError> {
    let holder = holders::standing_to_cut_off(db, &record.subject)?;
    // From a state that can't be read it may be done.
    let allowed = holder.status.is_none_or(|status| status.may_become(record.status));
    let hold = record.status == Status::Held;
    let compromise = record.reason == KeyCompromise && !hold;
    let mut done = Done::default();
    // What is decommissioned stays so; that its keys were stolen is recorded all the same.
    if allowed || (compromise && holder.status.is_some_and(Status::is_cut_off)) {
        let (found, unreadable) = certificates::revocable(db, holder.key, record.at)?;
        done.unreadable = unreadable;
        for which in found {
            if let Some(next) = next_revocation(&which, hold, record.reason, record.at) {
                set_revoked(db, &which, Some(next))?;
                done.serials.push(which.serial);
            }
        }
        if compromise {
            done.keys = certificates::ban_keys(db, holder.key, record.at)?;
        }
        if !hold {
            done.tokens = tokens::suspend(db, holder.key, &record.subject)?;
        }
    }
    let status = holder.status.filter(|_| !allowed).unwrap_or(record.status);
    // Who was allowed to come back, and is revoked again before that, may not.
    let taken_back = allowed && holder.may_come_back;
    if holder.status != Some(status) || done.any() || taken_back {
        // It may have been cut off for good: then no release may end it that nobody has thought about.
        let reason = if hold && holder.status.is_none() { UNREADABLE } else { &record.status_reason };
        holders::set_status(db, holder.key, status, reason)?;
        let draft = done.told(&record.audit);
        audit::append(db, &if taken_back { draft.fact("reenrollment_ended", true) } else { draft })?;
    }
    done.receipt(db, holder.key, status, record.at)
}

/// Who is cut off already.
pub(super) struct CutOff {
    pub key: i64,
    pub subject: Subject,
    pub status: Status,
    /// It may enroll once more.
    pub way_back: bool,
}

/// Whether [`record_cutoff`] would find anything left to change.
pub(super) fn is_left(db: &Connection, of: &CutOff, action: BulkAction, at: Timestamp) -> Result<bool, StoreError> {
    let compromise = action == BulkAction::Revoke(KeyCompromise);
    match action {
        BulkAction::Release => return Ok(false),
        BulkAction::Hold if of.status != Status::Held => return Ok(false),
        BulkAction::Revoke(_) if of.status == Status::Decommissioned && !compromise => return Ok(false),
        BulkAction::Revoke(_) if of.way_back || tokens::any_to_suspend(db, of.key, &of.subject)? => return Ok(true),
        BulkAction::Revoke(_) | BulkAction::Hold => {}
    }
    Ok(count(db, of.key, action, at)?.0 > 0 || (compromise && certificates::any_key_to_ban(db, of.key)?))
}

/// How many certificates of a holder this would change, and how many of them can't be read.
pub(super) fn count(db: &Connection, holder: i64, action: BulkAction, at: Timestamp) -> Result<(u64, u64), StoreError> {
    let (found, unreadable) = certificates::revocable(db, holder, at)?;
    let changes = |which: &&Revocable| match action {
        BulkAction::Release => which.is_damaged || which.revoked.is_some_and(|now| now.reason == CertificateHold),
        BulkAction::Hold => next_revocation(which, true, CertificateHold, at).is_some(),
        BulkAction::Revoke(reason) => next_revocation(which, false, reason, at).is_some(),
    };
    Ok((found.iter().filter(changes).count() as u64, unreadable))
}

/// What becomes of a certificate, if it isn't so already. One on hold keeps its date, since which it is not good; one
/// revoked by itself stays as it is, unless its key was stolen. What is left of a revocation that can't be read is written
/// down again, and no hold takes its place: that would end.
fn next_revocation(which: &Revocable, hold: bool, reason: RevocationReason, at: Timestamp) -> Option<Revoked> {
    match which.revoked {
        None => Some(Revoked { at, reason: if hold { CertificateHold } else { reason } }),
        Some(now) if hold || now.reason == reason => which.is_damaged.then_some(now),
        Some(now) if now.reason == CertificateHold || reason == KeyCompromise => Some(Revoked { at: now.at, reason }),
        Some(now) => which.is_damaged.then_some(now),
    }
}

/// A hold ended.
pub(super) fn record_release(db: &Connection, record: &Release) -> Result<CutoffReceipt, StoreError> {
    let holder = holders::unchanged(db, record.holder, &[Status::Held])?;
    let (found, unreadable) = certificates::revocable(db, holder, record.at)?;
    if let Some(keep) = record.keep {
        let kept = found.iter().find(|which| which.serial == keep).ok_or(StoreError::NotFound("certificate"))?;
        if !may_be_kept(kept) {
            return Err(StoreError::NotFound("certificate that may be kept"));
        }
    }
    let mut done = Done { unreadable, ..Done::default() };
    for which in found {
        let held = which.revoked.is_some_and(|now| now.reason == CertificateHold);
        let open = which.revoked.is_none_or(|now| matches!(now.reason, CertificateHold | Superseded));
        let withdrawn = Revoked { at: which.revoked.map_or(record.at, |now| now.at), reason: PrivilegeWithdrawn };
        let next = match record.keep {
            _ if which.is_damaged => Some(if open { withdrawn } else { which.revoked.unwrap_or(withdrawn) }),
            None if held => None,
            Some(keep) if which.serial == keep && which.revoked.is_some() => None,
            Some(keep) if which.serial != keep && open => Some(withdrawn),
            _ => continue,
        };
        set_revoked(db, &which, next)?;
        done.serials.push(which.serial);
    }
    certificates::set_lineage(db, holder, &record.lineage, None)?;
    let status = if holders::has_enrolled(db, holder)? { Status::Active } else { Status::Registered };
    holders::set_status(db, holder, status, "")?;
    audit::append(db, &done.told(&record.audit))?;
    done.receipt(db, holder, status, record.at)
}

/// Whether a release may put it in force: what it was revoked for, if it was, is no more than its lineage, and is known.
fn may_be_kept(which: &Revocable) -> bool {
    let may_end = |reason: RevocationReason| reason == CertificateHold || reason.is_lineages();
    !which.is_damaged && which.revoked.is_none_or(|now| may_end(now.reason))
}

/// What was changed.
#[derive(Default)]
struct Done {
    serials: Vec<SerialNumber>,
    tokens: Vec<TokenId>,
    keys: usize,
    unreadable: u64,
}

impl Done {
    fn any(&self) -> bool {
        !self.serials.is_empty() || !self.tokens.is_empty() || self.keys > 0
    }

    /// The audit record with what only the transaction knows.
    fn told(&self, draft: &Draft) -> Draft {
        let serials: Vec<String> = self.serials.iter().take(NAMED).map(SerialNumber::to_string).collect();
        let tokens: Vec<String> = self.tokens.iter().map(TokenId::to_string).collect();
        let draft = draft.clone().fact("certificates", serials).fact("certificate_count", self.serials.len());
        let draft = draft.fact("tokens", tokens);
        let draft = if self.keys == 0 { draft } else { draft.fact("keys_banned", self.keys) };
        if self.unreadable == 0 { draft } else { draft.fact("unreadable", self.unreadable) }
    }

    fn receipt(
        &self,
        db: &Connection,
        holder: i64,
        status: Status,
        at: Timestamp,
    ) -> Result<CutoffReceipt, StoreError> {
        Ok(CutoffReceipt {
            status,
            certificates: u32::try_from(self.serials.len()).unwrap_or(u32::MAX),
            tokens: u32::try_from(self.tokens.len()).unwrap_or(u32::MAX),
            watermarks: certificates::watermarks(db, holder, at)?,
            unreadable: u32::try_from(self.unreadable).unwrap_or(u32::MAX),
        })
    }
}
