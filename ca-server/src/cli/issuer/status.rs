//! `ca-server issuer status`: what each issuing CA of devices is still needed for.

use fleetca_proto::v1::{self, ListIssuersRequest};
use serde::Serialize;

use super::super::{
    CommandError, Session,
    output::{Instant, Row, or_dash, present, when},
};
use crate::identity::Timestamp;

/// Prints it.
pub async fn run(session: &Session) -> Result<(), CommandError> {
    let request = ListIssuersRequest { with_use: true };
    let issuers = session.operator().await?.list_issuers(request).await?.into_inner().issuers;
    let device = issuers.into_iter().filter(|issuer| !issuer.standing.is_empty());
    session.output().list(&device.map(View::from).collect::<Vec<_>>())
}

/// An issuing CA, and what it is needed for.
#[derive(Debug, Serialize)]
struct View {
    id: String,
    standing: String,
    replaces: Option<String>,
    ready_at: Option<Instant>,
    live_certificates: u64,
    /// What part of all live certificates of devices that is.
    share: f64,
    needed_until: Option<Instant>,
    fleets: Vec<String>,
}

impl From<v1::Issuer> for View {
    fn from(wire: v1::Issuer) -> Self {
        let all = wire.live_of_all.max(1);
        Self {
            id: wire.id,
            standing: wire.standing,
            replaces: present(wire.replaces),
            ready_at: Instant::from_wire(wire.ready_at),
            live_certificates: wire.live,
            share: (wire.live as f64 / all as f64 * 1000.0).round() / 1000.0,
            needed_until: Instant::from_wire(wire.last_not_after),
            fleets: wire.fleets,
        }
    }
}

impl Row for View {
    const COLUMNS: &'static [&'static str] = &["ID", "STANDING", "REPLACES", "LIVE", "SHARE", "NEEDED UNTIL", "FLEETS"];

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.clone(),
            self.standing.clone(),
            or_dash(self.replaces.clone()),
            self.live_certificates.to_string(),
            format!("{:.1} %", self.share * 100.0),
            when(self.needed_until, now),
            self.fleets.join(","),
        ]
    }
}
