//! Calls about devices and their certificates.

use fleetca_proto::v1::{self, list_devices_request::Sort};

use super::{page_refused, page_size, proof, registrations};
use crate::{
    authority::{Authority, Refusal},
    identity::{Kind, Subject},
    inventory::{device::Status, lineage::Position},
    rpc::convert,
    store::{DeviceQuery, DeviceSort},
};

pub async fn get(authority: &Authority, request: v1::GetDeviceRequest, _: &str) -> Result<v1::Device, Refusal> {
    let subject = subject(&request.id)?;
    let now = authority.now();
    let holder = authority.store.holder(&subject).await?.ok_or(Refusal::NotFound("device"))?;
    let cut_off = holder.status.is_cut_off();
    let mut device = convert::device(holder, now);
    let rows = authority.store.live_certificates(&subject, now).await?;
    // A CRL is named only where it holds what the store says of these certificates.
    // The number is of the first one that does: what is said of gateways is about that.
    let mut crls = if cut_off { authority.held_since(&subject).await? } else { Vec::new() };
    crls.extend(authority.publisher.of_revoked(rows.iter().map(|row| row.issuer)));
    let gateways = if crls.is_empty() { Vec::new() } else { authority.loaded().await? };
    for (issuer, number) in crls {
        let loaded = authority.loaded_at(&gateways, &[(issuer, number)]);
        let (issuer, loaded) = (issuer.to_string(), loaded.as_ref().map(proof::loaded_at));
        device.crls.push(v1::CrlReceipt { issuer, number, loaded });
    }
    registrations::add(authority, &subject, &mut device).await?;
    let head = rows.iter().find(|row| row.position == Position::Head);
    device.must_reattest = head.is_some_and(|row| authority.issuers().is_revoked(&row.issuer));
    device.certificates = rows.into_iter().map(|row| convert::certificate(row, Vec::new())).collect();
    Ok(device)
}

pub async fn list(
    authority: &Authority,
    request: v1::ListDevicesRequest,
    _: &str,
) -> Result<v1::ListDevicesResponse, Refusal> {
    let now = authority.now();
    let within = convert::duration("expiring_within", request.expiring_within)?;
    let fleet = match request.fleet.as_str() {
        "" => None,
        name => Some(name.parse().map_err(Refusal::name("fleet"))?),
    };
    let query = DeviceQuery {
        fleet,
        // What is cut off does not expire: it has ended.
        status: convert::status_from_wire(request.status)?.or((!within.is_zero()).then_some(Status::Active)),
        lapsed_at: request.lapsed.then_some(now),
        expiring: (!within.is_zero()).then_some((now, now + within)),
        sort: match Sort::try_from(request.sort) {
            Ok(Sort::Unspecified | Sort::Id) => DeviceSort::Id,
            Ok(Sort::ExpiresAt) => DeviceSort::ExpiresAt,
            Ok(Sort::CreatedAt) => DeviceSort::CreatedAt,
            Err(_) => return Err(Refusal::invalid("sort", "is none that this server knows")),
        },
        descending: request.descending,
        page_token: request.page_token,
        limit: page_size(request.page_size),
    };
    let page = authority.store.devices(&query).await.map_err(page_refused)?;
    Ok(v1::ListDevicesResponse {
        devices: page.devices.into_iter().map(|holder| convert::device(holder, now)).collect(),
        next_page_token: page.next,
    })
}

pub async fn revoke(
    authority: &Authority,
    request: v1::RevokeDeviceRequest,
    actor: &str,
) -> Result<v1::RevocationReceipt, Refusal> {
    let reason = convert::reason(request.reason)?;
    authority.revoke(&subject(&request.id)?, reason, actor).await.map(convert::receipt)
}

pub async fn hold(
    authority: &Authority,
    request: v1::HoldDeviceRequest,
    actor: &str,
) -> Result<v1::RevocationReceipt, Refusal> {
    authority.hold(&subject(&request.id)?, actor).await.map(convert::receipt)
}

pub async fn release(
    authority: &Authority,
    request: v1::ReleaseDeviceRequest,
    actor: &str,
) -> Result<v1::RevocationReceipt, Refusal> {
    let keep = match request.keep_serial.as_str() {
        "" => None,
        serial => Some(serial.parse().map_err(|_| Refusal::invalid("keep_serial", "must be 32 hexadecimal digits"))?),
    };
    authority.release(&subject(&request.id)?, keep, actor).await.map(convert::receipt)
}

pub async fn decommission(
    authority: &Authority,
    request: v1::DecommissionDeviceRequest,
    actor: &str,
) -> Result<v1::RevocationReceipt, Refusal> {
    authority.decommission(&subject(&request.id)?, actor).await.map(convert::receipt)
}

pub async fn allow_reenroll(
    authority: &Authority,
    request: v1::AllowReenrollRequest,
    actor: &str,
) -> Result<v1::Device, Refusal> {
    let lifetime = convert::duration("lifetime", request.lifetime)?;
    let holder = authority.allow_reenroll(&subject(&request.id)?, lifetime, actor).await?;
    Ok(convert::device(holder, authority.now()))
}

pub async fn certificate(
    authority: &Authority,
    request: v1::GetCertificateRequest,
    _: &str,
) -> Result<v1::Certificate, Refusal> {
    let serial = request.serial.parse().map_err(|_| Refusal::invalid("serial", "must be 32 hexadecimal digits"))?;
    let (row, der) = authority.store.certificate(serial).await?.ok_or(Refusal::NotFound("certificate"))?;
    Ok(convert::certificate(row, der))
}

fn subject(id: &str) -> Result<Subject, Refusal> {
    Ok(Subject::new(Kind::Device, id.parse().map_err(Refusal::name("id"))?))
}
