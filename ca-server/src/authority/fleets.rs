//! Fleets and their policies.

use std::collections::BTreeSet;

use super::{Authority, Refusal};
use crate::{
    attestation::chain::{Anchor, Pinned},
    audit::Draft,
    identity::{CertificateHash, FleetName},
    inventory::{
        fleet::{Certificates, Method, NotAdmitted, Policy, PolicyError},
        unknown::UnknownDevices,
    },
    store::FleetRow,
};

impl From<NotAdmitted> for Refusal {
    fn from(why: NotAdmitted) -> Self {
        match why {
            NotAdmitted::Method => Refusal::MethodRefused,
            NotAdmitted::Tier => Refusal::TierRefused,
        }
    }
}

impl From<PolicyError> for Refusal {
    fn from(error: PolicyError) -> Self {
        Refusal::invalid("policy", error.to_string())
    }
}

impl Authority {
    /// Makes a fleet.
    pub async fn create_fleet(&self, name: &FleetName, mut policy: Policy, actor: &str) -> Result<FleetRow, Refusal> {
        policy.validate_after(&Policy::default())?;
        policy.drop_repeated_roots();
        self.name_issuers(None, &mut policy)?;
        self.refuse_rival(name, &policy).await?;
        let audit = Draft::done(self.now(), actor, "fleet.created", format!("fleet/{name}"))
            .fact("policy", policy_fact(&policy));
        self.store.record_fleet(name, &policy, audit).await?;
        self.fleet(name).await
    }

    /// Changes a fleet's policy: `change` makes the new one from the one in force.
    pub async fn change_policy(
        &self,
        name: &FleetName,
        change: impl Fn(&mut Policy),
        actor: &str,
    ) -> Result<FleetRow, Refusal> {
        let was = self.policy(name).await?;
        let mut policy = was.clone();
        change(&mut policy);
        policy.validate_after(&was)?;
        policy.drop_repeated_roots();
        self.name_issuers(Some(&was), &mut policy)?;
        if policy != was {
            self.refuse_rival(name, &policy).await?;
            let audit = Draft::done(self.now(), actor, "fleet.changed", format!("fleet/{name}"))
                .fact("was", policy_fact(&was))
                .fact("policy", policy_fact(&policy));
            let recorded = async { Ok(self.store.record_policy(name, &was, &policy, audit).await?) };
            match policy.spread == was.spread {
                true => recorded.await?,
                false => self.change_bundle(recorded).await?,
            }
        }
        self.fleet(name).await
    }

    /// Two fleets that take unknown devices by one method under one root would take none: no device could tell which. Roots
    /// that differ may still vouch for one device, or be set at the same moment: then it is refused when it comes.
    async fn refuse_rival(&self, name: &FleetName, policy: &Policy) -> Result<(), Refusal> {
        if policy.unknown.devices == UnknownDevices::Refuse {
            return Ok(());
        }
        let open = self.store.open_fleets().await?;
        let rival = open.into_iter().filter(|(other, _)| other != name).find(|(_, other)| {
            let theirs = other.vouched();
            let mut methods = policy.vouched().into_iter().filter(|method| theirs.contains(method));
            methods.any(|method| !anchors(policy, method).is_disjoint(&anchors(other, method)))
        });
        match rival {
            None => Ok(()),
            Some((rival, _)) => Err(Refusal::invalid(
                "policy",
                format!(
                    "the fleet {rival} takes unknown devices under the same root: which fleet they are of has to be clear"
                ),
            )),
        }
    }

    /// A fleet's policy.
    pub async fn policy(&self, name: &FleetName) -> Result<Policy, Refusal> {
        self.store.policy(name).await?.ok_or(Refusal::NotFound("fleet"))
    }

    /// A fleet by its name.
    pub async fn fleet(&self, name: &FleetName) -> Result<FleetRow, Refusal> {
        self.store.fleet(name).await?.ok_or(Refusal::NotFound("fleet"))
    }
}

/// Why what an operator makes or registers would be of no use in its fleet, and what to do.
pub(super) fn useless(fleet: &FleetName, method: Method, why: NotAdmitted) -> Refusal {
    let method = method.as_str();
    Refusal::State(match why {
        NotAdmitted::Method => {
            format!(
                "the fleet {fleet} does not accept {method}: name it in `fleet set {fleet} --attest`, or choose another fleet"
            )
        }
        NotAdmitted::Tier => {
            format!("{method} proves less than the fleet {fleet} demands (`fleet set {fleet} --least-tier`)")
        }
    })
}

/// What vouches for devices by this method: a root of one name and key is the same one in each of its certificates.
fn anchors(policy: &Policy, method: Method) -> BTreeSet<Anchor> {
    // What can't be read was never set.
    let pinned = Pinned::read(policy.roots(method).iter().map(Vec::as_slice)).unwrap_or_default();
    pinned.anchors().cloned().collect()
}

/// A policy for the audit log: roots by the SHA-256 of their certificates.
fn policy_fact(policy: &Policy) -> serde_json::Value {
    let hashes = |roots: &Certificates| -> Vec<String> {
        roots.0.iter().map(|der| CertificateHash::of(der).to_string()).collect()
    };
    let (factory, tpm) = (hashes(&policy.factory_roots), hashes(&policy.tpm_roots));
    let short = Policy { factory_roots: Certificates::default(), tpm_roots: Certificates::default(), ..policy.clone() };
    let mut fact = serde_json::to_value(short).unwrap_or_default();
    (fact["factory_roots"], fact["tpm_roots"]) = (factory.into(), tpm.into());
    fact
}
