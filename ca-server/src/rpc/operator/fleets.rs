//! Calls about fleets.

use fleetca_proto::v1;

use super::{next_page, page_size};
use crate::{
    authority::{Authority, Refusal},
    identity::FleetName,
    inventory::fleet::Policy,
    pki::CaRole,
    rpc::convert,
    store::FleetRow,
};

pub async fn create(authority: &Authority, request: v1::CreateFleetRequest, actor: &str) -> Result<v1::Fleet, Refusal> {
    let name: FleetName = request.name.parse().map_err(Refusal::name("name"))?;
    let mut policy = Policy::default();
    convert::change_policy(&request.policy.unwrap_or_default())?(&mut policy);
    Ok(fleet(authority, authority.create_fleet(&name, policy, actor).await?))
}

pub async fn update(authority: &Authority, request: v1::UpdateFleetRequest, actor: &str) -> Result<v1::Fleet, Refusal> {
    let name: FleetName = request.name.parse().map_err(Refusal::name("name"))?;
    let change = convert::change_policy(&request.policy.unwrap_or_default())?;
    Ok(fleet(authority, authority.change_policy(&name, change, actor).await?))
}

pub async fn get(authority: &Authority, request: v1::GetFleetRequest, _: &str) -> Result<v1::Fleet, Refusal> {
    let name: FleetName = request.name.parse().map_err(Refusal::name("name"))?;
    Ok(fleet(authority, authority.fleet(&name).await?))
}

pub async fn list(
    authority: &Authority,
    request: v1::ListFleetsRequest,
    _: &str,
) -> Result<v1::ListFleetsResponse, Refusal> {
    let limit = page_size(request.page_size);
    let rows = authority.store.fleets(&request.page_token, limit).await?;
    let next_page_token = next_page(&rows, limit, |row| row.name.to_string());
    // Roots and banned keys would not fit: who wants them asks for one fleet.
    let short = |mut row: FleetRow| {
        row.policy.factory_roots.0.clear();
        row.policy.tpm_roots.0.clear();
        row.policy.banned_keys.clear();
        fleet(authority, row)
    };
    Ok(v1::ListFleetsResponse { fleets: rows.into_iter().map(short).collect(), next_page_token })
}

fn fleet(authority: &Authority, row: FleetRow) -> v1::Fleet {
    let device = authority.issuers().certificates().filter(|(_, role, _)| *role == CaRole::DeviceIssuing);
    convert::fleet(row, device.map(|(id, _, _)| id.to_string()).collect())
}
