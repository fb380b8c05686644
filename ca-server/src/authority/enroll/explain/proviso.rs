//! What an answer about hardware depends on: what a fleet's roots and bans say of it before it comes, and what only its chain
//! can show.

use crate::{
    attestation::{
        AttestationError,
        chain::ChainError,
        tpm::{EndorsementKind, TpmError},
    },
    authority::{Refusal, enroll::takers},
    identity::{FleetName, HardwareId, KeyFingerprint},
    inventory::fleet::{FactoryValidity, Method, Policy},
};

/// Refuses hardware of which no chain can hold: its key or its issuer's is banned, or no root is left for it.
pub(super) fn refuse_hopeless(policy: &Policy, method: Method, hardware: &HardwareId) -> Result<(), Refusal> {
    if policy.bans(hardware) {
        return Err(refused(method, ChainError::Banned));
    }
    let keys = root_keys(policy, method)?;
    match method {
        Method::Factory if keys.is_empty() => Err(refused(method, ChainError::Untrusted)),
        _ if !keys.is_empty() && keys.iter().all(|key| policy.banned_keys.contains(key)) => {
            Err(refused(method, ChainError::Banned))
        }
        _ => Ok(()),
    }
}

/// How hardware stands.
pub(super) struct Standing<'a> {
    /// It is a device's.
    pub is_known: bool,
    /// Where it is nobody's: the other fleets that could be meant.
    pub rivals: &'a [FleetName],
}

/// What still has to hold of its evidence.
pub(super) fn of(
    policy: &Policy,
    method: Method,
    hardware: Option<&HardwareId>,
    Standing { is_known, rivals }: Standing<'_>,
) -> Result<Option<String>, Refusal> {
    let mut provisos = Vec::new();
    let keys = root_keys(policy, method)?;
    if !keys.is_empty() {
        let issuer = match hardware {
            Some(HardwareId::IdevId { issuer, .. }) => Some(KeyFingerprint::from_bytes(*issuer)),
            Some(HardwareId::Ek(_)) | None => None,
        };
        provisos.push(match issuer {
            Some(issuer) if keys.contains(&issuer) => "its certificate is good".to_owned(),
            Some(_) => "its chain leads from its issuer, which is none of the fleet's roots, to one of them".to_owned(),
            None => format!("its certificate leads to one of the fleet's {} roots", method.as_str()),
        });
        if policy.factory_validity == FactoryValidity::Now {
            provisos.push("all of its chain is valid then".to_owned());
        }
        if !policy.banned_keys.is_empty() {
            provisos.push("no key of its chain is banned".to_owned());
        }
    }
    if let (Method::Tpm, false, Some(kind)) = (method, is_known, policy.unknown.ek_kind) {
        provisos.push(format!("its endorsement key is of the kind {}", EndorsementKind::as_str(kind)));
    }
    for rival in rivals {
        provisos.push(format!(
            "its chain leads to no root of the fleet {rival}, too, which takes unknown devices and pins a root above or below \
             (of both, neither takes it)"
        ));
    }
    Ok(Some(provisos.join(", ")).filter(|all| !all.is_empty()).map(|all| format!("if {all}")))
}

fn root_keys(policy: &Policy, method: Method) -> Result<Vec<KeyFingerprint>, Refusal> {
    takers::read(policy.roots(method))?.keys().map_err(|_| Refusal::Internal("a pinned root is unreadable"))
}

fn refused(method: Method, error: ChainError) -> Refusal {
    Refusal::Attestation(match method {
        Method::Tpm => AttestationError::Tpm(TpmError::Chain(error)),
        _ => AttestationError::Chain(error),
    })
}
