//! Calls that say what devices will prove.

use fleetca_proto::v1;
use tonic::Streaming;

use super::newcomers;
use crate::{
    authority::{Authority, NewDevice, Refusal},
    identity::{HardwareId, Kind, Subject, Timestamp},
    pki::PublicKey,
    rpc::{caller::Actor, convert},
    store::{NewRegisteredKey, RegisteredKey},
};

/// How many devices one call registers at most. All of them are held in memory.
const MOST_DEVICES: usize = 200_000;
/// How many keys a device is registered with at most.
const MOST_KEYS: usize = 16;

pub async fn register(
    authority: &Authority,
    request: v1::RegisterDeviceRequest,
    actor: &str,
) -> Result<v1::Device, Refusal> {
    let new = new_device(request, authority.now())?;
    let holder = authority.register_device(new, actor).await?;
    whole(authority, &holder.subject).await
}

pub async fn register_many(
    authority: &Authority,
    mut requests: Streaming<v1::RegisterDevicesRequest>,
    actor: &Actor,
) -> Result<v1::RegisterDevicesResponse, Refusal> {
    let now = authority.now();
    let mut devices = Vec::new();
    while let Some(request) = requests.message().await.map_err(|_| Refusal::Protocol("a message can't be read"))? {
        if devices.len() + request.devices.len() > MOST_DEVICES {
            return Err(Refusal::invalid("devices", format!("at most {MOST_DEVICES} in one call")));
        }
        for device in request.devices {
            let line = device.line;
            devices.push(new_device(device, now).map_err(|why| why.at_line(line))?);
        }
    }
    if devices.is_empty() {
        return Err(Refusal::invalid("devices", "there are none"));
    }
    authority.still_may(actor).await?;
    Ok(v1::RegisterDevicesResponse { registered: authority.register_devices(devices, actor).await? })
}

pub async fn register_key(
    authority: &Authority,
    request: v1::RegisterKeyRequest,
    actor: &str,
) -> Result<v1::Device, Refusal> {
    let device = subject("device_id", &request.device_id)?;
    let key = request.key.ok_or_else(|| Refusal::invalid("key", "is missing"))?;
    authority.register_key(&device, new_key(key, authority.now())?, actor).await?;
    whole(authority, &device).await
}

pub async fn retire_key(
    authority: &Authority,
    request: v1::RetireKeyRequest,
    actor: &str,
) -> Result<v1::Device, Refusal> {
    let device = subject("device_id", &request.device_id)?;
    let key = request.thumbprint.parse().map_err(Refusal::name("thumbprint"))?;
    let at = request.at.map(|at| convert::instant("at", &at)).transpose()?;
    authority.retire_key(&device, &key, at, actor).await?;
    whole(authority, &device).await
}

pub async fn register_hardware(
    authority: &Authority,
    request: v1::RegisterHardwareRequest,
    actor: &str,
) -> Result<v1::Device, Refusal> {
    let device = subject("device_id", &request.device_id)?;
    authority.add_hardware(&device, newcomers::identity(&request.identity)?, actor).await?;
    whole(authority, &device).await
}

pub async fn retire_hardware(
    authority: &Authority,
    request: v1::RetireHardwareRequest,
    actor: &str,
) -> Result<v1::Device, Refusal> {
    let device = subject("device_id", &request.device_id)?;
    authority.retire_hardware(&device, &newcomers::identity(&request.identity)?, actor).await?;
    whole(authority, &device).await
}

/// The device, with what was registered for it.
async fn whole(authority: &Authority, device: &Subject) -> Result<v1::Device, Refusal> {
    let holder = authority.store.holder(device).await?.ok_or(Refusal::NotFound("device"))?;
    let mut shown = convert::device(holder, authority.now());
    add(authority, device, &mut shown).await?;
    Ok(shown)
}

/// Adds what was registered for a device.
pub async fn add(authority: &Authority, device: &Subject, shown: &mut v1::Device) -> Result<(), Refusal> {
    for own in authority.hardware(device).await? {
        let list = if own.retired_at.is_some() { &mut shown.retired_hardware } else { &mut shown.hardware };
        list.push(newcomers::identity_text(&own.id));
    }
    shown.keys = authority.registered_keys(device).await?.into_iter().map(key).collect();
    Ok(())
}

fn key(row: RegisteredKey) -> v1::RegisteredKey {
    v1::RegisteredKey {
        spki: row.spki,
        active_from: Some(convert::timestamp(row.active_from)),
        retires_at: row.retires_at.map(convert::timestamp),
        thumbprint: row.thumbprint.to_string(),
    }
}

fn new_device(request: v1::RegisterDeviceRequest, now: Timestamp) -> Result<NewDevice, Refusal> {
    let mut hardware = Vec::new();
    if !request.ek_sha256.is_empty() {
        hardware.push(HardwareId::ek(&request.ek_sha256).map_err(Refusal::name("ek_sha256"))?);
    }
    if !request.idevid.is_empty() {
        hardware.push(HardwareId::idevid(&request.idevid).map_err(Refusal::name("idevid"))?);
    }
    if request.keys.len() > MOST_KEYS {
        return Err(Refusal::invalid("keys", format!("at most {MOST_KEYS}")));
    }
    Ok(NewDevice {
        id: subject("id", &request.id)?.id,
        fleet: request.fleet.parse().map_err(Refusal::name("fleet"))?,
        hardware,
        keys: request.keys.into_iter().map(|key| new_key(key, now)).collect::<Result<_, _>>()?,
        line: request.line,
    })
}

fn new_key(key: v1::RegisteredKey, now: Timestamp) -> Result<NewRegisteredKey, Refusal> {
    let public = PublicKey::from_spki_der(&key.spki).map_err(|error| Refusal::invalid("spki", error.to_string()))?;
    let instant = |field, at: Option<prost_types::Timestamp>| at.map(|at| convert::instant(field, &at)).transpose();
    let active_from = instant("active_from", key.active_from)?.unwrap_or(now);
    let retires_at = instant("retires_at", key.retires_at)?;
    if let Some(end) = retires_at.filter(|end| *end <= now) {
        return Err(Refusal::invalid("retires_at", format!("{end} has passed: the key would never count")));
    }
    if retires_at.is_some_and(|end| end <= active_from) {
        return Err(Refusal::invalid("retires_at", "must be after active_from"));
    }
    Ok(NewRegisteredKey { key: public, active_from, retires_at })
}

fn subject(field: &'static str, id: &str) -> Result<Subject, Refusal> {
    Ok(Subject::new(Kind::Device, id.parse().map_err(Refusal::name(field))?))
}
