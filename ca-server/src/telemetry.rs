//! What the CA tells its keepers: metrics, and security events apart from the audit log.
//!
//! Events of strangers are counted and aggregated, never logged one by one: nobody can fill the disk with refusals.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::{
    identity::{IssuerId, Timestamp},
    store::SecurityEventRow,
};

/// How many different events are told apart between two writes to the store. What comes beyond is counted under no
/// subject.
const MAX_DISTINCT: usize = 1000;
/// Of how many gateways metrics tell.
const MAX_GATEWAYS: usize = 1000;

/// Every kind of security event: `docs/audit.md` says what each means.
pub const EVENTS: [&str; 36] = [
    "approval.crowded",
    "attestation.ambiguous",
    "attestation.failed",
    "attestation.hardware_retired",
    "attestation.key_not_in_force",
    "attestation.refused",
    "ca.restored",
    "certificate.expired",
    "certificate.forgotten",
    "certificate.issuer_revoked",
    "certificate.revoked",
    "certificate.superseded",
    "certificate.unknown",
    "clock.leapt",
    "crl.carried",
    "crl.given_up",
    "crl.head_forged",
    "crl.mismatch",
    "crl.root_forgotten",
    "crl.unreadable",
    "csr.pop_failed",
    "csr.refused",
    "device.refused",
    "issuer.none",
    "key.compromised",
    "key.reused",
    "lineage.fork",
    "lineage.late_confirm",
    "lineage.second_key",
    "permission.denied",
    "protocol.error",
    "quota.devices",
    "quota.enrollments",
    "token.expired",
    "token.revoked",
    "token.spent",
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Issued {
    kind: &'static str,
    by: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfIssuer {
    issuer: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answer {
    status: &'static str,
    signature: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfGateway {
    gateway: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Overload {
    port: &'static str,
    places: &'static str,
    outcome: &'static str,
}

/// Counters and gauges, and the events that wait to be written.
pub struct Telemetry {
    registry: Registry,
    issued: Family<Issued, Counter>,
    refused: Family<Reason, Counter>,
    events: Family<Kind, Counter>,
    changes: Family<Kind, Counter>,
    crl_number: Family<OfIssuer, Gauge<i64, AtomicI64>>,
    crl_entries: Family<OfIssuer, Gauge<i64, AtomicI64>>,
    crl_this_update: Family<OfIssuer, Gauge<i64, AtomicI64>>,
    crl_next_update: Family<OfIssuer, Gauge<i64, AtomicI64>>,
    issuer_not_after: Family<OfIssuer, Gauge<i64, AtomicI64>>,
    publication_failures: Counter<u64, AtomicU64>,
    removals_stopped: Gauge<i64, AtomicI64>,
    overload: Family<Overload, Counter>,
    restored: Gauge<i64, AtomicI64>,
    crl_check: Histogram,
    signed_after: Histogram,
    loaded_after: Histogram,
    gateway_lag: Family<OfGateway, Gauge<i64, AtomicI64>>,
    ocsp: Family<Answer, Counter>,
    waiting: Mutex<HashMap<(&'static str, String), SecurityEventRow>>,
}

impl Default for Telemetry {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("fleetca");
        macro_rules! register {
            ($metric:expr, $name:literal, $help:literal) => {{
                let metric = $metric;
                registry.register($name, $help, metric.clone());
                metric
            }};
        }
        let events = register!(Family::<Kind, Counter>::default(), "security_events", "Security events, by kind");
        // A series that appears as 1 does not grow: those that alarms are set on are there from the start.
        for kind in [
            "lineage.fork",
            "lineage.second_key",
            "attestation.failed",
            "clock.leapt",
            "crl.mismatch",
            "certificate.forgotten",
            "crl.root_forgotten",
            "ca.restored",
        ] {
            drop(events.get_or_create(&Kind { kind }));
        }
        Self {
            events,
            issued: register!(Family::default(), "certificates_issued", "Certificates issued"),
            refused: register!(Family::default(), "requests_refused", "Requests refused, by reason"),
            changes: register!(Family::default(), "device_changes", "Changes of device states, by kind"),
            crl_number: register!(Family::default(), "crl_number", "Number of the CRL that is served"),
            crl_entries: register!(Family::default(), "crl_entries", "Entries of the CRL that is served"),
            crl_this_update: register!(
                Family::default(),
                "crl_this_update_seconds",
                "thisUpdate of the CRL that is served, Unix time"
            ),
            crl_next_update: register!(
                Family::default(),
                "crl_next_update_seconds",
                "nextUpdate of the CRL that is served, Unix time"
            ),
            issuer_not_after: register!(
                Family::default(),
                "issuer_not_after_seconds",
                "When an issuer's certificate ends, Unix time"
            ),
            publication_failures: register!(
                Counter::default(),
                "crl_publication_failures",
                "CRL publications that failed and are tried again"
            ),
            removals_stopped: register!(
                Gauge::default(),
                "crl_removals_stopped",
                "1 while expired entries stay on CRLs because the clock jumped"
            ),
            overload: register!(
                Family::default(),
                "overload",
                "Times that all places were taken, by what became of it: refused, or displaced somebody else"
            ),
            restored: register!(
                Gauge::default(),
                "restored",
                "1 while the CA stands still because its past was restored"
            ),
            crl_check: register!(
                Histogram::new(exponential_buckets(0.0005, 2.0, 14)),
                "crl_check_seconds",
                "Reading a CRL that was signed back, and holding it against the one before it, until it is recorded"
            ),
            signed_after: register!(
                Histogram::new(exponential_buckets(0.05, 2.0, 14)),
                "revoke_to_signed_seconds",
                "From a revocation's request until the CRL that holds it is signed and served"
            ),
            loaded_after: register!(
                Histogram::new(exponential_buckets(0.05, 2.0, 14)),
                "revoke_to_acknowledged_seconds",
                "From a revocation's request until a gateway says that it has loaded it, one observation each gateway"
            ),
            gateway_lag: register!(
                Family::default(),
                "gateway_lag_seconds",
                "How far a gateway's CRLs are behind those served, by its word; of the 1000 furthest behind"
            ),
            ocsp: register!(
                Family::default(),
                "ocsp_answers",
                "Answers to OCSP requests, one a certificate asked for, by what they say and whether they had to be signed"
            ),
            waiting: Mutex::default(),
            registry,
        }
    }
}

impl Telemetry {
    /// A certificate was issued to a device, gateway, …, by enrollment or renewal.
    pub fn issued(&self, kind: &'static str, by: &'static str) {
        self.issued.get_or_create(&Issued { kind, by }).inc();
    }

    /// A request was refused for this reason.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// A device, gateway or operator changed its state.
    pub fn changed(&self, change: &'static str) {
        self.changed_many(change, 1);
    }

    /// So many at once.
    pub fn changed_many(&self, change: &'static str, count: u64) {
        self.changes.get_or_create(&Kind { kind: change }).inc_by(count);
    }

    /// A CRL is served from here on.
    pub fn published(&self, issuer: IssuerId, number: u64, entries: u64, dates: (Timestamp, Timestamp)) {
        let of = OfIssuer { issuer: issuer.to_string() };
        self.crl_number.get_or_create(&of).set(i64::try_from(number).unwrap_or(i64::MAX));
        self.crl_entries.get_or_create(&of).set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.crl_this_update.get_or_create(&of).set(dates.0.secs());
        self.crl_next_update.get_or_create(&of).set(dates.1.secs());
    }

    /// An issuer is known, and ends then.
    pub fn issuer(&self, issuer: IssuerId, not_after: Timestamp) {
        self.issuer_not_after.get_or_create(&OfIssuer { issuer: issuer.to_string() }).set(not_after.secs());
    }

    /// A CRL could not be published.
    pub fn publication_failed(&self) {
        self.publication_failures.inc();
    }

    /// Whether entries stay on CRLs because the clock jumped.
    pub fn removals_stopped(&self, stopped: bool) {
        self.removals_stopped.set(i64::from(stopped));
    }

    /// All places of a kind were taken: a newcomer was refused, or displaced somebody else.
    pub fn overload(&self, port: &'static str, places: &'static str, outcome: &'static str) {
        self.overload.get_or_create(&Overload { port, places, outcome }).inc();
    }

    /// Whether the CA stands still because its past was restored.
    pub fn restored(&self, restored: bool) {
        self.restored.set(i64::from(restored));
    }

    /// A CRL that was signed was read back, which took so long.
    pub fn crl_checked(&self, time: Duration) {
        self.crl_check.observe(time.as_secs_f64());
    }

    /// The CRL that holds a revocation is served, so long after it was asked for.
    pub fn signed_after(&self, time: Duration) {
        self.signed_after.observe(time.as_secs_f64());
    }

    /// A gateway says that it has loaded the CRL that holds a revocation, so long after that was asked for.
    pub fn loaded_after(&self, time: Duration) {
        self.loaded_after.observe(time.as_secs_f64());
    }

    /// How far each gateway is behind. At most so many are told of, those first that are furthest.
    pub fn gateways(&self, mut lags: Vec<(String, Duration)>) {
        lags.sort_by_key(|(_, lag)| std::cmp::Reverse(*lag));
        self.gateway_lag.clear();
        for (gateway, lag) in lags.into_iter().take(MAX_GATEWAYS) {
            let lag = i64::try_from(lag.as_secs()).unwrap_or(i64::MAX);
            self.gateway_lag.get_or_create(&OfGateway { gateway }).set(lag);
        }
    }

    /// An OCSP request was answered so, by a signature that was made for it, kept, or by none.
    pub fn ocsp(&self, status: &'static str, signature: &'static str) {
        self.ocsp.get_or_create(&Answer { status, signature }).inc();
    }

    /// Something happened that a keeper wants to know of: counted now, written with the next batch.
    pub fn event(&self, kind: &'static str, subject: &str, detail: &str, at: Timestamp) {
        self.events.get_or_create(&Kind { kind }).inc();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (kind, subject.to_owned());
        if waiting.len() >= MAX_DISTINCT && !waiting.contains_key(&key) {
            key.1.clear();
        }
        let row = waiting.entry(key).or_insert_with_key(|(kind, subject)| SecurityEventRow {
            position: 0,
            kind: (*kind).into(),
            subject: subject.clone(),
            first_at: at,
            last_at: at,
            count: 0,
            detail: String::new(),
        });
        row.count += 1;
        row.last_at = row.last_at.max(at);
        row.detail = detail.into();
    }

    /// The events that wait to be written; they wait no longer.
    pub fn take_events(&self) -> Vec<SecurityEventRow> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.drain().map(|(_, row)| row).collect()
    }

    /// All metrics in the Prometheus (OpenMetrics) text format.
    pub fn metrics_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_event_is_counted_not_repeated() {
        let telemetry = Telemetry::default();
        for at in [5, 7, 6] {
            telemetry.event("attestation.failed", "", "x", Timestamp::from_secs(at));
        }
        let events = telemetry.take_events();
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].count, events[0].last_at), (3, Timestamp::from_secs(7)));
        assert!(telemetry.take_events().is_empty());
    }

    #[test]
    fn a_flood_of_subjects_stays_bounded() {
        let telemetry = Telemetry::default();
        for n in 0..5000 {
            telemetry.event("attestation.failed", &format!("device/{n}"), "", Timestamp::default());
        }
        let events = telemetry.take_events();
        assert!(events.len() <= MAX_DISTINCT + 1);
        assert_eq!(events.iter().map(|event| event.count).sum::<u64>(), 5000);
    }

    #[test]
    fn of_a_thousand_gateways_at_most_metrics_tell_and_of_those_furthest_behind() {
        let telemetry = Telemetry::default();
        for count in [1500, 1200] {
            telemetry.gateways((0..count).map(|n| (format!("eu-{n}"), Duration::from_secs(n))).collect());
        }
        let text = telemetry.metrics_text();
        assert_eq!(text.matches("fleetca_gateway_lag_seconds{").count(), 1000);
        assert!(text.contains("fleetca_gateway_lag_seconds{gateway=\"eu-1199\"} 1199"), "{text}");
    }

    #[test]
    fn metrics_are_prometheus_text() {
        let telemetry = Telemetry::default();
        telemetry.issued("device", "enrollment");
        let text = telemetry.metrics_text();
        assert!(text.contains("fleetca_certificates_issued_total{kind=\"device\",by=\"enrollment\"} 1"), "{text}");
    }
}
