//! What monitoring asks: is it alive, can it do its work, what are the numbers.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};

use super::representation::short;
use crate::{
    authority::{Issuers, Publisher},
    clock::{Clock, TOLERANCE},
    identity::{Kind, Timestamp},
    pki::{CaRole, Profile},
    store::ReadStore,
    telemetry::Telemetry,
};

/// An issuing CA publishes every half hour: what is older than this says that nobody publishes.
const OVERDUE: std::time::Duration = std::time::Duration::from_secs(3600);

/// What the private handlers need.
pub(super) struct Keepers {
    pub(super) store: Arc<dyn ReadStore>,
    pub(super) publisher: Arc<Publisher>,
    pub(super) issuers: Arc<Issuers>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) clock: Arc<dyn Clock>,
}

/// `/healthz`.
pub(super) async fn alive() -> Response {
    short(StatusCode::OK, "ok")
}

/// `/readyz`: 503 with one reason a line, where there is any.
pub(super) async fn ready(State(keepers): State<Arc<Keepers>>) -> Response {
    let reasons = keepers.reasons_against().await;
    match reasons.is_empty() {
        true => short(StatusCode::OK, "ready"),
        false => short(StatusCode::SERVICE_UNAVAILABLE, &reasons.join("\n")),
    }
}

/// `/metrics`.
pub(super) async fn metrics(State(keepers): State<Arc<Keepers>>) -> Response {
    let mut response = short(StatusCode::OK, keepers.telemetry.metrics_text().trim_end());
    let openmetrics = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, openmetrics);
    response
}

impl Keepers {
    /// Why the CA can't do all of its work now.
    async fn reasons_against(&self) -> Vec<String> {
        let now = self.clock.now();
        let mut reasons = Vec::new();
        if let Err(error) = self.store.check_writable().await {
            reasons.push(format!("store: {error}"));
        }
        if let Some(leap) = self.publisher.leap() {
            reasons.push(format!("clock: {leap}"));
        }
        if let Some(failure) = self.publisher.failure() {
            reasons.push(format!("publishing CRLs: {failure}"));
        }
        for (root, number) in self.publisher.forgotten_roots() {
            reasons.push(format!(
                "issuer {root}: a gateway holds CRL {number} of this root, newer than the one here, which may have ended an issuing \
                 CA: take the root's CRL out of that gateway's file, and in with `ca-server crl publish --root-crl FILE`; see the \
                 event crl.root_forgotten"
            ));
        }
        let mut issuers: Vec<_> = self.issuers.certificates().filter(|(id, ..)| self.issuers.publishes(id)).collect();
        issuers.sort_by_key(|(id, ..)| **id);
        for (id, role, certificate) in issuers {
            match self.publisher.current(id) {
                None => reasons.push(format!("issuer {id}: no CRL is published")),
                Some(crl) if crl.next_update <= now => {
                    reasons.push(format!("issuer {id}: its CRL was due for replacement at {}", crl.next_update));
                }
                Some(crl) if crl.this_update > now + TOLERANCE => {
                    reasons.push(format!(
                        "issuer {id}: its CRL is dated {}, and the clock says {now}: gateways refuse it until then; look at \
                         the clock",
                        crl.this_update
                    ));
                }
                Some(crl) if !role.is_root() && now.since(crl.this_update) > OVERDUE => {
                    reasons.push(format!("issuer {id}: nothing was published since {}", crl.this_update));
                }
                Some(_) => {}
            }
            if self.issuers.signs(id) && ends_too_soon(role, certificate.not_after(), now) {
                let end = certificate.not_after();
                reasons.push(format!("issuer {id}: ends at {end}, before what it would sign now"));
            }
        }
        reasons
    }
}

/// Whether a CA would refuse to sign the longest-lived leaves of its kind, as they would outlive it.
fn ends_too_soon(role: CaRole, not_after: Timestamp, now: Timestamp) -> bool {
    let longest = match role {
        CaRole::DeviceIssuing => Profile::Leaf(Kind::Device).longest_validity(),
        CaRole::ControlCa => Profile::Leaf(Kind::Operator).longest_validity(),
        CaRole::ControlRoot | CaRole::DeviceRoot => return not_after <= now,
    };
    not_after < now + longest
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_issuing_ca_that_its_leaves_would_outlive_is_told_of() {
        let now = Timestamp::from_secs(1_790_000_000);
        let days = |days: u64| now + Duration::from_secs(days * 24 * 3600);
        assert!(!ends_too_soon(CaRole::DeviceIssuing, days(8), now));
        assert!(ends_too_soon(CaRole::DeviceIssuing, days(7), now));
        assert!(ends_too_soon(CaRole::ControlCa, days(30), now));
        assert!(!ends_too_soon(CaRole::DeviceRoot, days(1), now));
        assert!(ends_too_soon(CaRole::DeviceRoot, now, now));
    }
}
