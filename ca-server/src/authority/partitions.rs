//! The issuing CAs of devices as partitions: which of them a fleet's devices are spread over, and when a new one may sign.

use super::{Authority, Refusal, renew::refuse_inactive};
use crate::{
    audit::Draft,
    identity::IssuerId,
    inventory::{
        fleet::Policy,
        partition::{Spread, Standing},
    },
    store::{FleetRow, Holder, IssuerChange, Peer},
};

/// How many fleets are read at once.
const FLEETS: u32 = 100;

impl Authority {
    /// Takes in where the issuing CAs of devices stand, and of which of them every gateway has loaded the CRL.
    pub async fn look_at_issuers(&self) -> Result<(), Refusal> {
        let _looks = self.word.looks.lock().await;
        self.look().await
    }

    /// Changes which CRLs a fleet's gateways take: who has loaded all that he takes may lack some after it. Until everybody
    /// has been looked at again, no issuing CA counts as loaded.
    pub(super) async fn change_bundle<T>(
        &self,
        change: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let _looks = self.word.looks.lock().await;
        self.issuers.forget_loaded();
        let changed = change.await;
        if let Err(error) = self.look().await {
            tracing::warn!(%error, "which gateways have loaded what could not be looked at yet");
        }
        changed
    }

    async fn look(&self) -> Result<(), Refusal> {
        let rows = self.store.issuers().await?;
        let loaded = self.loaded_everywhere().await?;
        self.issuers.settle(&rows, &loaded);
        Ok(())
    }

    /// An issuing CA signs no certificate any more: its devices move to the others with their next renewals. Refused where
    /// a fleet would be left without one that signs now; no error, and no record, where it is retired already.
    pub async fn retire_issuer(&self, id: IssuerId, actor: &str) -> Result<(), Refusal> {
        self.look_at_issuers().await?;
        let place = self.issuers.places().iter().find(|place| place.id == id).cloned();
        match place.ok_or(Refusal::NotFound("issuer"))?.standing {
            Standing::Active => {}
            Standing::Retired => return Ok(()),
            standing => return Err(Refusal::State(format!("the issuing CA is {}", standing.as_str()))),
        }
        let now = self.publisher.now();
        let mut after = String::new();
        loop {
            let fleets = self.store.fleets(&after, FLEETS).await?;
            let stranded = fleets.iter().find(|fleet| !self.issuers.can_do_without(&fleet.policy.spread, id, now));
            if let Some(FleetRow { name, .. }) = stranded {
                return Err(Refusal::State(format!(
                    "no other issuing CA that lasts would sign for the fleet {name} now: name others for it (`fleet set {name} \
                     --issuers`), or wait until they may sign (`issuer list`)"
                )));
            }
            let Some(last) = fleets.last() else { break };
            after = last.name.to_string();
        }
        if !self.issuers.can_do_without(&Spread::default(), id, now) {
            return Err(Refusal::State(
                "it is the only issuing CA that signs now, and lasts: `issuer create`, or `rotate`".into(),
            ));
        }
        let audit = Draft::done(self.now(), actor, "issuer.retired", format!("issuer/{id}"));
        let standing = Some((id, Standing::Retired));
        let change = IssuerChange { new: None, standing, root_crl: None, trust_bundle: None, at: self.now(), audit };
        self.store.record_issuer_change(change).await?;
        self.look_at_issuers().await
    }

    /// Whoever comes with a certificate of an issuing CA whose key is stolen has to attest anew.
    pub(super) fn refuse_of_revoked(&self, peer: &Peer) -> Result<(), Refusal> {
        if !self.issuers.is_revoked(&peer.certificate.issuer) {
            return Ok(());
        }
        refuse_inactive(peer.holder.status)?;
        Err(Refusal::IssuerRevoked)
    }

    /// Whether a device is left with a certificate of a revoked issuing CA.
    pub(super) async fn is_stranded(&self, holder: &Holder) -> Result<bool, Refusal> {
        let Some(head) = holder.lineage.head else { return Ok(false) };
        if !self.issuers.places().iter().any(|place| place.standing == Standing::Revoked) {
            return Ok(false);
        }
        let head = self.store.certificate(head).await?;
        Ok(head.is_some_and(|(row, _)| self.issuers.is_revoked(&row.issuer)))
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
