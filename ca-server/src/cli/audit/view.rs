//! Audit records and security events as they are shown.

use fleetca_proto::v1;
use serde::Serialize;

use crate::{
    cli::output::{Instant, Row, or_dash, present, when},
    identity::Timestamp,
};

/// An audit record, with all that its hash covers.
#[derive(Debug, Serialize)]
pub(super) struct Record {
    sequence: u64,
    at: String,
    at_millis: i64,
    actor: String,
    action: String,
    subject: String,
    serial: Option<String>,
    outcome: String,
    detail: serde_json::Value,
    hash: String,
}

impl From<v1::AuditRecord> for Record {
    fn from(wire: v1::AuditRecord) -> Self {
        Self {
            sequence: wire.sequence,
            at: Instant::from_millis(wire.at_millis).exact(),
            at_millis: wire.at_millis,
            actor: wire.actor,
            action: wire.action,
            subject: wire.subject,
            serial: present(wire.serial),
            outcome: wire.outcome,
            detail: serde_json::from_str(&wire.detail).unwrap_or(serde_json::Value::String(wire.detail)),
            hash: enroll_client::certificate::hex(&wire.hash),
        }
    }
}

impl Row for Record {
    const COLUMNS: &'static [&'static str] =
        &["RECORD", "AT", "ACTOR", "ACTION", "SUBJECT", "OUTCOME", "SERIAL", "DETAIL"];

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![
            self.sequence.to_string(),
            self.at.clone(),
            self.actor.clone(),
            self.action.clone(),
            self.subject.clone(),
            self.outcome.clone(),
            or_dash(self.serial.clone()),
            self.detail.to_string(),
        ]
    }
}

/// A security event, aggregated.
#[derive(Debug, Serialize)]
pub(super) struct Event {
    kind: String,
    subject: Option<String>,
    first_at: Option<Instant>,
    last_at: Option<Instant>,
    count: u64,
    detail: Option<String>,
}

impl From<v1::SecurityEvent> for Event {
    fn from(wire: v1::SecurityEvent) -> Self {
        Self {
            kind: wire.kind,
            subject: present(wire.subject),
            first_at: Instant::from_wire(wire.first_at),
            last_at: Instant::from_wire(wire.last_at),
            count: wire.count,
            detail: present(wire.detail),
        }
    }
}

impl Row for Event {
    const COLUMNS: &'static [&'static str] = &["KIND", "SUBJECT", "COUNT", "LAST", "FIRST", "DETAIL"];

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.kind.clone(),
            or_dash(self.subject.clone()),
            self.count.to_string(),
            when(self.last_at, now),
            when(self.first_at, now),
            or_dash(self.detail.clone()),
        ]
    }
}
