//! Calls about fleets.

use fleetca_proto::v1;

use super::{newcomers::identity, next_page, page_size};
use crate::{
    authority::{Answer, Authority, Explained, Refusal, Way},
    identity::{FleetName, IssuerId, Kind, Subject},
    inventory::fleet::Policy,
    rpc::{convert, status},
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

pub async fn explain(
    authority: &Authority,
    request: v1::ExplainDeviceRequest,
    _: &str,
) -> Result<v1::Explanation, Refusal> {
    let name: FleetName = request.fleet.parse().map_err(Refusal::name("fleet"))?;
    let device = Subject::new(Kind::Device, request.device_id.parse().map_err(Refusal::name("device_id"))?);
    let hardware = if request.identity.is_empty() { None } else { Some(identity(&request.identity)?) };
    let Explained { holder, waits, ways } = authority.explain(&name, &device, hardware).await?;
    let unknown = || v1::Device {
        id: request.device_id.clone(),
        fleet: request.fleet.clone(),
        status: if waits { v1::DeviceStatus::Pending } else { v1::DeviceStatus::Unspecified }.into(),
        ..Default::default()
    };
    let device = holder.map_or_else(unknown, |holder| convert::device(holder, authority.now()));
    Ok(v1::Explanation { device: Some(device), ways: ways.into_iter().map(way).collect() })
}

fn way(Way { way, identity, outcome, note }: Way) -> v1::ExplainedWay {
    let told = v1::ExplainedWay { way: way.into(), identity: identity.unwrap_or_default(), ..Default::default() };
    match outcome {
        Ok(Answer::Certificate { confirm }) => {
            let provided = note.unwrap_or_default();
            v1::ExplainedWay { admitted: true, confirm_required: confirm, provided, ..told }
        }
        Ok(Answer::Waits) => v1::ExplainedWay { waits: true, provided: note.unwrap_or_default(), ..told },
        Err(why) => {
            let reason = status::reason(&why).into();
            v1::ExplainedWay { reason, because: note.unwrap_or_else(|| because(why)), ..told }
        }
    }
}

/// For operators, who may know what the device is not told.
fn because(refusal: Refusal) -> String {
    match refusal {
        Refusal::Attestation(why) => why.to_string(),
        Refusal::KeyNotInForce(_) => "none of its registered keys is in force".into(),
        Refusal::HardwareRetired(_) => "this hardware was retired".into(),
        other => other.to_string(),
    }
}

fn fleet(authority: &Authority, row: FleetRow) -> v1::Fleet {
    let (issuers, spread, now) = (authority.issuers(), &row.policy.spread, authority.publisher.now());
    let text = |ids: Vec<IssuerId>| ids.iter().map(ToString::to_string).collect();
    let all = [issuers.members(spread, now), issuers.signing(spread, now), issuers.leaving(spread, now)].map(text);
    convert::fleet(row, all)
}
