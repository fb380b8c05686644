//! Devices that nobody registered: which fleet takes them, and under which name.
//!
//! They come with a maker's word only, and have said nothing about a fleet that would count. The fleet is the one that
//! takes unknown devices, by this method, from a maker whose root it pins. Where there is none the answer is that of any
//! device that is not registered; where there is more than one, too: nobody is to choose for an operator.

use super::{EnrollmentRequest, admit::Decision, verify::Proven};
use crate::{
    attestation::AttestationError,
    authority::{Authority, Refusal},
    identity::{FleetName, HardwareId, Kind, Subject, Timestamp},
    inventory::{
        fleet::{Method, Policy},
        unknown::UnknownDevices,
    },
};

/// A device that nobody registered, and the one fleet that takes it.
#[derive(Clone, Debug)]
pub(super) struct Newcomer {
    pub hardware: HardwareId,
    pub fleet: FleetName,
}

const UNREGISTERED: Refusal = Refusal::Attestation(AttestationError::Unregistered);

/// Which fleet takes it. `fits` says whether its evidence holds by a fleet's own rules: roots, validity, banned keys.
pub(super) async fn welcome(
    authority: &Authority,
    method: Method,
    hardware: &HardwareId,
    fits: impl Fn(&Policy) -> bool,
) -> Result<Newcomer, Refusal> {
    let open = authority.store.open_fleets().await?;
    let mut takers = open.into_iter().filter(|(_, policy)| takes(policy, method) && fits(policy)).map(|(name, _)| name);
    match (takers.next(), takers.next()) {
        (Some(fleet), None) => Ok(Newcomer { hardware: hardware.clone(), fleet }),
        (Some(one), Some(other)) => {
            tracing::warn!(%one, %other, "more than one fleet takes unknown devices of this maker; all are refused");
            Err(Refusal::Attestation(AttestationError::Ambiguous))
        }
        (None, _) => Err(UNREGISTERED),
    }
}

/// Whether a fleet takes unknown devices by this method, if a maker vouches for them.
fn takes(policy: &Policy, method: Method) -> bool {
    policy.unknown.devices != UnknownDevices::Refuse && policy.vouched().contains(&method)
}

/// Who it becomes: by what it has proven, whatever it asks for.
pub(super) async fn subject(
    authority: &Authority,
    request: &EnrollmentRequest,
    newcomer: &Newcomer,
) -> Result<Subject, Refusal> {
    if request.kind() != Kind::Device {
        return Err(Refusal::IdRefused);
    }
    let policy = authority.policy(&newcomer.fleet).await?;
    let id = policy.unknown.id_template.and_then(|template| template.name(&newcomer.hardware));
    let id = id.filter(|id| request.id().is_none_or(|asked| asked == id)).ok_or(Refusal::IdRefused)?;
    Ok(Subject::new(Kind::Device, id))
}

/// Step 5.
pub(super) async fn decide(
    authority: &Authority,
    newcomer: &Newcomer,
    subject: &Subject,
    proven: &Proven,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let key_use = authority.store.key_use(&proven.key.fingerprint()).await?;
    if key_use.banned {
        return Err(Refusal::KeyCompromised);
    }
    if !key_use.certificates.is_empty() {
        return Err(Refusal::KeyReused);
    }
    // The policy as it is now: it may have changed since the evidence was looked at.
    let policy = authority.policy(&newcomer.fleet).await?;
    if !takes(&policy, proven.claims.method) {
        return Err(UNREGISTERED);
    }
    let new = authority.new_holder(subject, Some(newcomer.fleet.clone()), None, now).await?;
    Ok(Decision::Create(new))
}
