//! Devices that nobody registered: which fleet takes them, and under which name.
//!
//! They come with a maker's word only, and have said nothing about a fleet that would count. The fleet is the one that
//! takes unknown devices, by this method, from a maker whose root it pins ([`takers`](super::takers)); then its own rules
//! count. Where there is none, or it does not take the device, the answer is that of any device that is not registered;
//! where there is more than one, too: nobody is to choose for an operator.

use std::time::Duration;

use super::{
    Outcome,
    admit::Decision,
    request::Asks,
    takers::{Taker, Takers, takes},
};
use crate::{
    attestation::{AttestationError, Claims},
    audit::Draft,
    authority::{Authority, Refusal, refuse_key_kind},
    identity::{DeviceId, FleetName, HardwareId, KeyFingerprint, Kind, Subject, Timestamp},
    inventory::{fleet::Policy, unknown::UnknownDevices},
    pki::{KeyKind, PublicKey},
    store::{Ask, Asking, NewcomerQuery, NewcomerRow, NewcomerState, StoreError, Verdict},
};

/// How long a device waits for a decision, and a decision for the device.
const WAITS: Duration = Duration::from_secs(7 * 24 * 3600);

/// A device that nobody registered, and the one fleet that takes it.
#[derive(Clone, Debug)]
pub(super) struct Newcomer {
    pub hardware: HardwareId,
    pub fleet: FleetName,
    /// The fleet's policy, by which it is the one: roots, banned keys, what becomes of unknown devices.
    pub policy: Policy,
}

/// The key that it wants certified.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub key: KeyFingerprint,
    /// `None`: nobody knows any more, or one that its fleet takes.
    pub kind: Option<KeyKind>,
}

impl From<&PublicKey> for Wanted {
    fn from(key: &PublicKey) -> Self {
        Self { key: key.fingerprint(), kind: Some(key.kind()) }
    }
}

const UNREGISTERED: Refusal = Refusal::Attestation(AttestationError::Unregistered);

/// Which fleet takes it: `choose` says which one that is, and whether the evidence holds by that fleet's own rules: roots,
/// validity, banned keys.
pub(super) async fn welcome(
    authority: &Authority,
    hardware: &HardwareId,
    choose: impl FnOnce(&Takers) -> Result<&Taker, Refusal>,
) -> Result<Newcomer, Refusal> {
    // Asked for everybody, and answered alike: who was rejected is not to tell it from no fleet taking him.
    let rejected = is_rejected(authority, hardware).await?;
    let takers = authority.takers().await?;
    match choose(&takers) {
        _ if rejected => Err(UNREGISTERED),
        Ok(Taker { name, policy, .. }) => {
            Ok(Newcomer { hardware: hardware.clone(), fleet: name.clone(), policy: policy.clone() })
        }
        Err(why) => Err(why),
    }
}

/// Whether an operator has said lately that he does not want this one.
async fn is_rejected(authority: &Authority, hardware: &HardwareId) -> Result<bool, Refusal> {
    let row = authority.store.newcomer(hardware).await?;
    Ok(row.is_some_and(|row| row.state == NewcomerState::Rejected && row.expires_at >= authority.now()))
}

/// Who it is to become: by what it has proven; or, where that is for an operator to decide and no template names it, by
/// what it asks for.
pub(super) async fn subject(authority: &Authority, asks: Asks<'_>, newcomer: &Newcomer) -> Result<Subject, Refusal> {
    if asks.kind != Kind::Device {
        return Err(Refusal::IdRefused);
    }
    let unknown = authority.policy(&newcomer.fleet).await?.unknown;
    let id = match (unknown.id_template, unknown.devices) {
        (Some(template), _) => {
            let id = template.name(&newcomer.hardware).filter(|id| asks.id.is_none_or(|asked| asked == id));
            id.ok_or(Refusal::IdRefused)?
        }
        (None, UnknownDevices::Pending) => {
            let missing = || Refusal::invalid("id", "is missing, and nothing else names this device");
            asks.id.cloned().ok_or_else(missing)?
        }
        (None, UnknownDevices::Refuse | UnknownDevices::Register) => return Err(UNREGISTERED),
    };
    Ok(Subject::new(Kind::Device, id))
}

/// Step 5.
pub(super) async fn decide(
    authority: &Authority,
    newcomer: &Newcomer,
    subject: &Subject,
    claims: &Claims,
    wanted: Wanted,
    policy: &Policy,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let key_use = authority.store.key_use(&wanted.key).await?;
    if key_use.banned {
        return Err(Refusal::KeyCompromised);
    }
    if !key_use.certificates.is_empty() {
        return Err(Refusal::KeyReused);
    }
    // If it has changed since the evidence was held against it, the evidence may hold no more.
    if !takes(policy, claims.method) {
        return Err(UNREGISTERED);
    }
    if *policy != newcomer.policy {
        return Err(Refusal::Contended);
    }
    // Rejected meanwhile: who was so before got no further than `welcome`.
    let row = authority.store.newcomer(&newcomer.hardware).await?.filter(|row| row.expires_at >= now);
    if row.as_ref().is_some_and(|row| row.state == NewcomerState::Rejected) {
        return Err(UNREGISTERED);
    }
    wanted.kind.map_or(Ok(()), |kind| refuse_key_kind(policy, kind))?;
    let new = authority.new_holder(subject, Some(newcomer.fleet.clone()), None, now);
    if policy.unknown.devices == UnknownDevices::Register {
        return Ok(Decision::Create(new.await?));
    }
    let asking = Box::new(Asking {
        hardware: newcomer.hardware.clone(),
        fleet: newcomer.fleet.clone(),
        id: subject.id.clone(),
        method: claims.method.as_str().into(),
        tier: claims.tier.as_str().into(),
        key: wanted.key,
    });
    match row.filter(|row| row.asking == *asking).map(|row| row.state) {
        // Not before: whoever asks for a name is not to learn whether somebody has it.
        Some(NewcomerState::Approved) => Ok(Decision::Approved(new.await?)),
        Some(NewcomerState::Asked) => Ok(Decision::Wait(asking)),
        // Another name or key than it came with before: nobody has seen that.
        Some(NewcomerState::Rejected) | None => Ok(Decision::Ask(asking, policy.unknown.most_pending)),
    }
}

impl Authority {
    /// Keeps what a device asks for until an operator has looked, and tells it to wait.
    pub(super) async fn ask(&self, asking: Asking, most: u32, now: Timestamp) -> Result<Outcome, Refusal> {
        let hardware = &asking.hardware;
        // Whoever asks has proven no name: it is the hardware that asks.
        let actor = format!("{}:{hardware}", hardware.kind());
        let audit = Draft::done(now, &actor, "device.asked", format!("device/{}", asking.id))
            .fact("fleet", asking.fleet.as_str())
            .fact("method", asking.method.as_str())
            .fact("key", asking.key.to_string());
        let ask = Ask { asking: asking.clone(), most, at: now, expires_at: now + WAITS, audit };
        match self.store.record_ask(ask).await {
            Ok(()) => Ok(Outcome::Waits(Box::new(asking))),
            Err(StoreError::Exists(_)) => Err(Refusal::KeyReused),
            Err(other) => Err(other.into()),
        }
    }

    /// Devices that wait for an operator.
    pub async fn newcomers(&self, query: &NewcomerQuery) -> Result<Vec<NewcomerRow>, Refusal> {
        Ok(self.store.newcomers(query).await?)
    }

    /// Lets one device in, once, by what the operator has seen of it; or keeps it out for as long as is remembered.
    pub async fn decide_newcomer(&self, seen: Seen, approve: bool, actor: &str) -> Result<NewcomerRow, Refusal> {
        let now = self.now();
        let (state, action) = match approve {
            true => (NewcomerState::Approved, "device.approved"),
            false => (NewcomerState::Rejected, "device.rejected"),
        };
        let audit = Draft::done(now, actor, action, format!("device/{}", seen.id));
        let Seen { id, fleet, hardware, key } = seen;
        let verdict = Verdict { id, fleet, hardware, key, state, at: now, expires_at: now + WAITS, audit };
        Ok(self.store.record_verdict(verdict).await?)
    }
}

/// What an operator has seen of a device that waits: all of it, so that nothing else is decided upon.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The name that it asks for.
    pub id: DeviceId,
    /// The fleet that takes it.
    pub fleet: FleetName,
    /// What it has proven.
    pub hardware: HardwareId,
    /// The key that it wants certified.
    pub key: KeyFingerprint,
}
