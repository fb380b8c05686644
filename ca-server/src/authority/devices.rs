//! Devices before they enroll: registered one by one or in bulk, with what they will prove.

use std::collections::BTreeMap;

use ring::digest::{Context, SHA256};

use super::{Authority, Refusal, fleets::useless};
use crate::{
    audit::Draft,
    identity::{DeviceId, FleetName, HardwareId, Kind, Subject, Thumbprint, Timestamp, hex},
    inventory::{
        device::Status,
        fleet::{Method, Policy},
    },
    store::{Hardware, Holder, NewHolder, NewRegisteredKey, RegisteredKey, Registration},
};

/// A device to be registered.
#[derive(Clone, Debug)]
pub struct NewDevice {
    /// Its ID.
    pub id: DeviceId,
    /// Its fleet.
    pub fleet: FleetName,
    /// Its hardware.
    pub hardware: Vec<HardwareId>,
    /// Its keys.
    pub keys: Vec<NewRegisteredKey>,
    /// Where it stands in what the operator gave, for errors; 0: nowhere.
    pub line: u32,
}

impl Authority {
    /// Registers a device of a fleet ahead of its enrollment.
    pub async fn register_device(&self, new: NewDevice, actor: &str) -> Result<Holder, Refusal> {
        let subject = Subject::new(Kind::Device, new.id.clone());
        let mut audit =
            Draft::done(self.now(), actor, "device.registered", subject.to_string()).fact("fleet", new.fleet.as_str());
        for id in &new.hardware {
            audit = audit.fact(id.kind(), id.to_string());
        }
        if !new.keys.is_empty() {
            let keys: Vec<String> = new.keys.iter().map(|key| key.key.thumbprint().to_string()).collect();
            audit = audit.fact("keys", keys);
        }
        let rows = self.registrations(vec![new]).await?;
        self.store.record_registrations(rows, vec![audit]).await?;
        self.store.holder(&subject).await?.ok_or(Refusal::NotFound("device"))
    }

    /// Registers many devices, all or none; how many. One audit record a fleet says how many, and what they hash to.
    pub async fn register_devices(&self, new: Vec<NewDevice>, actor: &str) -> Result<u64, Refusal> {
        let count = new.len() as u64;
        let mut fleets: BTreeMap<FleetName, (u64, Context)> = BTreeMap::new();
        for device in &new {
            let (count, hash) = fleets.entry(device.fleet.clone()).or_insert_with(|| (0, Context::new(&SHA256)));
            *count += 1;
            hash.update(device.id.as_str().as_bytes());
            hash.update(b"\n");
        }
        let now = self.now();
        let audit = fleets.into_iter().map(|(fleet, (count, hash))| {
            let ids = hex(hash.finish().as_ref());
            Draft::done(now, actor, "device.registered", format!("fleet/{fleet}"))
                .fact("devices", count)
                .fact("ids_sha256", ids)
        });
        let audit = audit.collect();
        let rows = self.registrations(new).await?;
        self.store.record_registrations(rows, audit).await?;
        Ok(count)
    }

    async fn registrations(&self, new: Vec<NewDevice>) -> Result<Vec<Registration>, Refusal> {
        let created_at = self.now();
        let mut known = BTreeMap::new();
        let mut rows = Vec::with_capacity(new.len());
        for NewDevice { id, fleet, hardware, keys, line } in new {
            if !known.contains_key(&fleet) {
                let policy = self.policy(&fleet).await.map_err(|why| why.at_line(line))?;
                known.insert(fleet.clone(), policy);
            }
            let policy = known.get(&fleet).ok_or(Refusal::NotFound("fleet"))?;
            refuse_useless(&fleet, policy, &hardware, !keys.is_empty()).map_err(|why| why.at_line(line))?;
            let subject = Subject::new(Kind::Device, id);
            let handle = self.new_handle()?;
            let holder = NewHolder { subject, fleet: Some(fleet), role: None, handle, created_at };
            rows.push(Registration { holder, hardware, keys, line });
        }
        Ok(rows)
    }

    /// The keys that were registered for a device.
    pub async fn registered_keys(&self, device: &Subject) -> Result<Vec<RegisteredKey>, Refusal> {
        Ok(self.store.registered_keys(device).await?)
    }

    /// One more key for a device.
    pub async fn register_key(&self, device: &Subject, key: NewRegisteredKey, actor: &str) -> Result<(), Refusal> {
        let holder = self.store.holder(device).await?.ok_or(Refusal::NotFound("device"))?;
        if let Some(fleet) = &holder.fleet {
            refuse_useless(fleet, &self.policy(fleet).await?, &[], true)?;
        }
        let mut audit = Draft::done(self.now(), actor, "key.registered", device.to_string())
            .fact("key", key.key.thumbprint().to_string())
            .fact("active_from", key.active_from.to_string());
        if let Some(end) = key.retires_at {
            audit = audit.fact("retires_at", end.to_string());
        }
        Ok(self.store.record_registered_key(device, key, audit).await?)
    }

    /// The end of a registered key: from then on its assertions are refused, and told. One that has come stays.
    pub async fn retire_key(
        &self,
        device: &Subject,
        key: &Thumbprint,
        at: Option<Timestamp>,
        actor: &str,
    ) -> Result<(), Refusal> {
        let now = self.now();
        let at = at.unwrap_or(now);
        let known = self.store.registered_key(key).await?.and_then(|(known, _)| known.retires_at);
        if let Some(end) = known.filter(|end| *end <= now && at > *end) {
            return Err(Refusal::State(format!("retired since {end}, for good: register another key")));
        }
        let audit = Draft::done(now, actor, "key.retired", device.to_string())
            .fact("key", key.to_string())
            .fact("at", at.to_string());
        Ok(self.store.record_key_retirement(device, key, at, audit).await?)
    }

    /// The hardware that was registered for a device.
    pub async fn hardware(&self, device: &Subject) -> Result<Vec<Hardware>, Refusal> {
        Ok(self.store.hardware_of(device).await?)
    }

    /// More hardware for a device: it is the device's from now on, and for ever. What the device has proven so far stays
    /// what it was.
    pub async fn add_hardware(&self, device: &Subject, id: HardwareId, actor: &str) -> Result<(), Refusal> {
        let holder = self.store.holder(device).await?.ok_or(Refusal::NotFound("device"))?;
        if holder.status == Status::Decommissioned {
            return Err(Refusal::State("the device is decommissioned: no hardware is of use to it".into()));
        }
        if let Some(fleet) = &holder.fleet {
            refuse_useless(fleet, &self.policy(fleet).await?, std::slice::from_ref(&id), false)?;
        }
        let audit = Draft::done(self.now(), actor, "hardware.registered", device.to_string());
        let audit = audit.fact(id.kind(), id.to_string());
        Ok(self.store.record_hardware(device, id, audit).await?)
    }

    /// The end of a device's hardware: from then on it enrolls nothing, and who tries is told. It stays the device's.
    pub async fn retire_hardware(&self, device: &Subject, id: &HardwareId, actor: &str) -> Result<(), Refusal> {
        let now = self.now();
        let audit = Draft::done(now, actor, "hardware.retired", device.to_string()).fact(id.kind(), id.to_string());
        Ok(self.store.record_hardware_retirement(device, id, now, audit).await?)
    }
}

/// Refuses what a device could never prove in its fleet.
fn refuse_useless(fleet: &FleetName, policy: &Policy, hardware: &[HardwareId], keys: bool) -> Result<(), Refusal> {
    let admit = |method: Method| {
        let tier = method.tier().ok_or(Refusal::Internal("a method without tier"))?;
        policy.admit(method, tier).map_err(|why| useless(fleet, method, why))
    };
    for id in hardware {
        admit(match id {
            HardwareId::Ek(_) => Method::Tpm,
            HardwareId::IdevId { .. } => Method::Factory,
        })?;
        if policy.bans(id) {
            return Err(Refusal::invalid("identity", "is, or was issued by, a key that the device's fleet has banned"));
        }
    }
    if keys {
        admit(Method::RegisteredKey)?;
    }
    // Then a token is all that it could come by.
    if hardware.is_empty() && !keys && admit(Method::Token).is_err() {
        return Err(Refusal::State(format!(
            "it has nothing to prove itself by, and the fleet {fleet} takes no tokens: give its hardware or a key"
        )));
    }
    Ok(())
}
