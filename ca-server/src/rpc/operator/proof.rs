//! What gateways have loaded, by their word.

use fleetca_proto::v1;

use crate::{
    authority::{Authority, LoadedAt, LoadedBy, LoadedCrl, Refusal},
    rpc::convert,
};

/// How many gateways that are behind are named.
const NAMED: usize = 100;
/// How many CRLs one call may name.
const MOST_CRLS: usize = 100;

pub async fn wait(
    authority: &Authority,
    request: v1::WaitForGatewaysRequest,
    _: &str,
) -> Result<v1::LoadedAt, Refusal> {
    if request.crls.len() > MOST_CRLS {
        return Err(Refusal::invalid("crls", format!("must be at most {MOST_CRLS}")));
    }
    let read = |crl: v1::CrlReceipt| Ok((crl.issuer.parse().map_err(Refusal::name("crls.issuer"))?, crl.number));
    let crls = request.crls.into_iter().map(read).collect::<Result<Vec<_>, Refusal>>()?;
    let patience = convert::duration("patience", request.patience)?;
    authority.wait_for_gateways(&crls, patience).await.map(|loaded| loaded_at(&loaded))
}

/// What is said of gateways by number.
pub fn loaded_at(loaded: &LoadedAt) -> v1::LoadedAt {
    let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
    v1::LoadedAt {
        gateways: count(loaded.gateways),
        loaded: count(loaded.gateways.saturating_sub(loaded.behind.len())),
        behind: loaded.behind.iter().take(NAMED).map(behind).collect(),
        not_heard: loaded.not_heard.map(count),
    }
}

fn behind(one: &LoadedBy) -> v1::GatewayBehind {
    let furthest = one.crls.iter().max_by_key(|crl| crl.behind);
    v1::GatewayBehind {
        gateway: one.gateway.id.to_string(),
        number: furthest.and_then(|crl| crl.said).map_or(0, |(number, _)| number),
        behind: Some(convert::span(one.lag())),
        issuer: furthest.map(|crl| crl.issuer.to_string()).unwrap_or_default(),
    }
}

/// What is said of a gateway itself.
pub fn add(peer: &mut v1::Peer, said: &LoadedBy) {
    peer.watches = said.watches;
    peer.heard_at = said.heard_at.map(convert::timestamp);
    // Who speaks is seen.
    let since = |at: &Option<prost_types::Timestamp>| at.as_ref().map(|at| (at.seconds, at.nanos));
    if since(&peer.heard_at) > since(&peer.last_seen_at) {
        peer.last_seen_at = peer.heard_at;
    }
    peer.loaded = said.crls.iter().map(loaded).collect();
}

fn loaded(crl: &LoadedCrl) -> v1::LoadedCrl {
    v1::LoadedCrl {
        issuer: crl.issuer.to_string(),
        number: crl.said.map_or(0, |(number, _)| number),
        said_at: crl.said.map(|(_, at)| convert::timestamp(at)),
        is_served: crl.behind.is_none(),
        behind: crl.behind.map(convert::span),
    }
}
