//! Calls about devices that nobody registered, and that wait for approval.

use fleetca_proto::v1;

use super::{next_page, page_size};
use crate::{
    authority::{Authority, Refusal, Seen},
    identity::{DeviceId, HardwareId},
    rpc::convert,
    store::{NewcomerQuery, NewcomerRow},
};

pub async fn list(
    authority: &Authority,
    request: v1::ListNewcomersRequest,
    _: &str,
) -> Result<v1::ListNewcomersResponse, Refusal> {
    let limit = page_size(request.page_size);
    let query = NewcomerQuery {
        fleet: Some(request.fleet)
            .filter(|name| !name.is_empty())
            .map(|name| name.parse())
            .transpose()
            .map_err(Refusal::name("fleet"))?,
        id: Some(request.id)
            .filter(|id| !id.is_empty())
            .map(|id| id.parse())
            .transpose()
            .map_err(Refusal::name("id"))?,
        after: after(&request.page_token)?,
        now: authority.now(),
        limit,
    };
    let rows = authority.newcomers(&query).await?;
    let token = |row: &NewcomerRow| format!("{} {}", row.asking.id, identity_text(&row.asking.hardware));
    let next_page_token = next_page(&rows, limit, token);
    Ok(v1::ListNewcomersResponse { newcomers: rows.into_iter().map(convert::newcomer).collect(), next_page_token })
}

pub async fn approve(
    authority: &Authority,
    request: v1::ApproveDeviceRequest,
    actor: &str,
) -> Result<v1::Newcomer, Refusal> {
    let seen = seen(&request.id, &request.fleet, &request.identity, &request.key_sha256)?;
    authority.decide_newcomer(seen, true, actor).await.map(convert::newcomer)
}

pub async fn reject(
    authority: &Authority,
    request: v1::RejectDeviceRequest,
    actor: &str,
) -> Result<v1::Newcomer, Refusal> {
    let seen = seen(&request.id, &request.fleet, &request.identity, &request.key_sha256)?;
    authority.decide_newcomer(seen, false, actor).await.map(convert::newcomer)
}

fn seen(id: &str, fleet: &str, hardware: &str, key: &str) -> Result<Seen, Refusal> {
    Ok(Seen {
        id: id.parse().map_err(Refusal::name("id"))?,
        fleet: fleet.parse().map_err(Refusal::name("fleet"))?,
        hardware: identity(hardware)?,
        key: key.parse().map_err(Refusal::name("key_sha256"))?,
    })
}

pub(super) fn identity_text(hardware: &HardwareId) -> String {
    format!("{}:{hardware}", hardware.kind())
}

pub(super) fn identity(text: &str) -> Result<HardwareId, Refusal> {
    match text.split_once(':') {
        Some(("ek", hash)) => HardwareId::ek(hash).map_err(Refusal::name("identity")),
        Some(("idevid", identity)) => HardwareId::idevid(identity).map_err(Refusal::name("identity")),
        // Without its prefix it is the one or the other by its form.
        _ => HardwareId::ek(text)
            .or_else(|_| HardwareId::idevid(text))
            .map_err(|_| Refusal::invalid("identity", "must be ek:SHA256 or idevid:ISSUER-SPKI-SHA256:SERIAL")),
    }
}

/// Where a page ended.
fn after(token: &str) -> Result<Option<(DeviceId, HardwareId)>, Refusal> {
    if token.is_empty() {
        return Ok(None);
    }
    let refused = || Refusal::invalid("page_token", "is none of this list");
    let (id, hardware) = token.split_once(' ').ok_or_else(refused)?;
    Ok(Some((id.parse().map_err(|_| refused())?, identity(hardware).map_err(|_| refused())?)))
}
