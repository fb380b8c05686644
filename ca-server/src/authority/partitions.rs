//! The issuing CAs of devices as partitions: which of them a fleet's devices are spread over, and when a new one may sign.

use super::{Authority, Refusal};
use crate::{
    identity::IssuerId,
    inventory::{fleet::Policy, partition::Standing},
    store::Holder,
};

impl Authority {
    /// Takes in where the issuing CAs of devices stand, and at which of them every gateway that is there has loaded the CRL.
    pub async fn look_at_issuers(&self) -> Result<(), Refusal> {
        let rows = self.store.issuers().await?;
        let loaded = self.loaded_everywhere().await?;
        self.issuers.settle(&rows, &loaded);
        Ok(())
    }

    /// Whose lists tell of a holder's certificates: the issuers of those that have not expired, or else who would sign the
    /// next one.
    pub async fn issuers_of(&self, holder: &Holder) -> Result<Vec<IssuerId>, Refusal> {
        let now = self.now();
        let live = self.store.live_certificates(&holder.subject, now).await?;
        let mut issuers: Vec<_> = live.iter().map(|row| row.issuer).filter(|id| self.issuers.publishes(id)).collect();
        if issuers.is_empty() {
            let terms = self.terms(holder.subject.kind, holder.fleet.as_ref()).await?;
            let signer = self.issuers.for_subject(&holder.subject, &terms.policy.spread, now, self.publisher.now())?;
            issuers.push(signer.issuer.id());
        }
        issuers.sort();
        issuers.dedup();
        Ok(issuers)
    }

    /// Takes in whom a new policy names, in the place of this one: they must be there, and wait until gateways have had time
    /// to take what is new in the fleet's bundle. Those before go on until then.
    pub(super) fn name_issuers(&self, was: Option<&Policy>, policy: &mut Policy) -> Result<(), Refusal> {
        if was.is_some_and(|was| was.spread.named == policy.spread.named) {
            return Ok(());
        }
        let places = self.issuers.places();
        for id in &policy.spread.named {
            let place = places.iter().find(|place| place.id == *id);
            let place = place.ok_or_else(|| {
                Refusal::invalid("issuers", format!("{id} is no issuing CA of devices: see `ca-server issuer list`"))
            })?;
            if place.standing != Standing::Active {
                let standing = place.standing.as_str();
                return Err(Refusal::invalid("issuers", format!("{id} is {standing}: it signs for no fleet any more")));
            }
        }
        // A new fleet has no gateways yet that would know less than all.
        if let Some(was) = was {
            let now = self.publisher.now();
            policy.spread.before = self.issuers.signing(&was.spread, now);
            policy.spread.since_millis = now.millis();
        }
        Ok(())
    }
}
