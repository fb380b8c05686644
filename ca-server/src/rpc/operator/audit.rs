//! Calls about the audit log and the security events.

use fleetca_proto::v1;

use super::page_size;
use crate::{
    audit::{ACTIONS, Kept, SUBJECTS, Seal},
    authority::{Authority, Refusal},
    rpc::convert,
    store::{AuditQuery, EventQuery},
    telemetry::EVENTS,
};

/// The most octets of records in one answer: a message has 64 KiB.
const BUDGET: usize = 48 * 1024;

pub async fn records(
    authority: &Authority,
    request: v1::ListAuditRecordsRequest,
    _: &str,
) -> Result<v1::ListAuditRecordsResponse, Refusal> {
    let limit = page_size(request.page_size);
    let query = AuditQuery {
        from: request.from_sequence,
        limit,
        subject: subject(request.subject)?,
        action: one_of("action", request.action, &ACTIONS)?,
        newest_first: request.newest_first,
    };
    let rows = authority.store.audit_records(&query).await?;
    let (mut records, mut octets) = (Vec::new(), 0);
    let full = rows.len() == limit as usize;
    let mut next_sequence = 0;
    for kept in rows {
        let sequence = kept.record.sequence;
        octets += kept.record.detail.len() + kept.record.subject.len() + kept.record.actor.len() + 200;
        if octets > BUDGET && !records.is_empty() {
            next_sequence = sequence;
            break;
        }
        records.push(record(kept));
        if full {
            next_sequence = if query.newest_first { sequence - 1 } else { sequence + 1 };
        }
    }
    Ok(v1::ListAuditRecordsResponse { records, next_sequence })
}

pub async fn seals(
    authority: &Authority,
    request: v1::ListAuditSealsRequest,
    _: &str,
) -> Result<v1::ListAuditSealsResponse, Refusal> {
    let limit = page_size(request.page_size);
    let rows = authority.store.audit_seals(request.from_sequence, limit).await?;
    let next_sequence =
        if rows.len() < limit as usize { 0 } else { rows.last().map_or(0, |seal| seal.last_sequence + 1) };
    Ok(v1::ListAuditSealsResponse { seals: rows.into_iter().map(seal).collect(), next_sequence })
}

pub async fn events(
    authority: &Authority,
    request: v1::ListSecurityEventsRequest,
    _: &str,
) -> Result<v1::ListSecurityEventsResponse, Refusal> {
    let limit = page_size(request.page_size);
    let before = match request.page_token.as_str() {
        "" => 0,
        token => token.parse().map_err(|_| Refusal::invalid("page_token", "is none of this list"))?,
    };
    let kind = one_of("kind", request.kind, &EVENTS)?;
    let query = EventQuery { kind, subject: subject(request.subject)?, before, limit };
    let rows = authority.store.security_events(&query).await?;
    let next_page_token = super::next_page(&rows, limit, |row| row.position.to_string());
    let events = rows.into_iter().map(convert::security_event).collect();
    Ok(v1::ListSecurityEventsResponse { events, next_page_token })
}

/// A word that can be asked for: one that is never written would give an empty list, which reads like good news.
fn one_of(field: &'static str, word: String, all: &[&str]) -> Result<Option<String>, Refusal> {
    match word.as_str() {
        "" => Ok(None),
        known if all.contains(&known) => Ok(Some(word)),
        _ => Err(Refusal::invalid(field, format!("there is none of this name; there are {}", all.join(", ")))),
    }
}

/// Likewise for what records and events are about.
fn subject(text: String) -> Result<Option<String>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let is = |subject: &&str| match text.strip_prefix(*subject) {
        Some(which) => subject.ends_with('/') != which.is_empty(),
        None => false,
    };
    if SUBJECTS.iter().any(is) {
        return Ok(Some(text));
    }
    let why = format!("must be such as device/pump-7; it begins with one of {}", SUBJECTS.join(", "));
    Err(Refusal::invalid("subject", why))
}

fn record(kept: Kept) -> v1::AuditRecord {
    let Kept { record, hash } = kept;
    v1::AuditRecord {
        sequence: record.sequence,
        at_millis: record.at_millis,
        actor: record.actor,
        action: record.action,
        subject: record.subject,
        serial: record.serial,
        outcome: record.outcome,
        detail: record.detail,
        hash: hash.to_vec(),
    }
}

fn seal(seal: Seal) -> v1::AuditSeal {
    v1::AuditSeal {
        first_sequence: seal.first_sequence,
        last_sequence: seal.last_sequence,
        head: seal.head.0.to_vec(),
        at_millis: seal.at_millis,
        signature: seal.signature,
        issuer: seal.issuer.to_string(),
    }
}
