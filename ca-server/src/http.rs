//! HTTP: CRLs and issuing certificates for everybody, health and metrics for the keepers. Bytes that were made before,
//! served; nobody who asks here makes the CA sign or write, a device's own list and OCSP aside, which have budgets.
//!
//! [`public_app`] is plain HTTP: all that it serves is signed. [`private_app`] belongs on a loopback address.
//! [`serve`] runs either, within bounds.

mod armor;
mod conditions;
mod crls;
mod health;
mod issuers;
mod ocsp;
mod representation;
mod server;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};

use self::crls::Shelf;
use crate::{
    authority::{Issuers, OcspResponder, PublishError, Published, Publisher},
    clock::Clock,
    identity::IssuerId,
    store::ReadStore,
    telemetry::Telemetry,
};

pub use server::serve;

/// `/crl/…`, `/issuers/…` and `/ocsp`.
pub fn public_app(
    store: Arc<dyn ReadStore>,
    publisher: Arc<Publisher>,
    issuers: Arc<Issuers>,
    responder: Arc<OcspResponder>,
) -> Router {
    let certificates = issuers::Certificates::new(&issuers);
    let rooms = Rooms { store, publisher, issuers, shelf: Shelf::default() };
    Router::new()
        .route("/crl/bundle.pem", get(crls::bundle))
        .route("/crl/fleet/{fleet}/bundle.pem", get(crls::fleet_bundle))
        .route("/crl/{issuer}/{file}", get(crls::full))
        .route("/crl/{issuer}/device/{file}", get(crls::device))
        .route("/crl/{issuer}/patch/{numbers}", get(crls::patch))
        .with_state(Arc::new(rooms))
        .merge(Router::new().route("/issuers/{file}", get(issuers::certificate)).with_state(Arc::new(certificates)))
        .merge(
            Router::new()
                .route("/ocsp", post(ocsp::post))
                .route("/ocsp/", post(ocsp::post))
                .route("/ocsp/{*request}", get(ocsp::get))
                .with_state(responder),
        )
        .fallback(|| async { crls::not_found() })
}

/// `/healthz`, `/readyz` and `/metrics`.
pub fn private_app(
    store: Arc<dyn ReadStore>,
    publisher: Arc<Publisher>,
    issuers: Arc<Issuers>,
    telemetry: Arc<Telemetry>,
    clock: Arc<dyn Clock>,
) -> Router {
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .with_state(Arc::new(health::Keepers { store, publisher, issuers, telemetry, clock }))
        .fallback(|| async { crls::not_found() })
}

/// What the public handlers need.
struct Rooms {
    store: Arc<dyn ReadStore>,
    publisher: Arc<Publisher>,
    issuers: Arc<Issuers>,
    shelf: Shelf,
}

impl Rooms {
    /// The issuer of this name, if it is one of ours that has not come to its end.
    fn known_issuer(&self, text: &str) -> Option<IssuerId> {
        text.parse().ok().filter(|id| self.issuers.publishes(id))
    }

    /// The list of the device with this handle; `None` where nobody has it.
    async fn device_list(&self, issuer: &IssuerId, handle: &str) -> Result<Option<Arc<Published>>, PublishError> {
        let Some(holder) = self.store.holder_by_handle(*issuer, handle).await? else { return Ok(None) };
        self.publisher.device_list(issuer, &holder, handle).await.map(Some)
    }
}
