//! Many devices cut off or released at once: a plan that changes nothing, then one transaction, one publication, one
//! receipt.

use tokio::time::Instant;

use super::{
    Authority, Refusal,
    revoke::{NEEDS_CHOICE, RELEASED, action, refuse_reason},
};
use crate::{
    audit::Draft,
    identity::{IssuerId, Kind},
    store::{Bulk, BulkAction, BulkPlan, MOST_AT_ONCE, Selection, StoreError},
};

/// All of it is durable, and the CRLs named here, which hold it, are signed and served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkOutcome {
    /// What came of it.
    pub plan: BulkPlan,
    /// Tokens ended or suspended.
    pub tokens: u64,
    /// Issuer and CRL number.
    pub crls: Vec<(IssuerId, u64)>,
}

impl Authority {
    /// What would come of it. Changes nothing.
    pub async fn plan_bulk(&self, action: BulkAction, devices: Selection) -> Result<BulkPlan, Refusal> {
        Ok(self.store.plan_bulk(self.bulk(action, devices).await?).await?)
    }

    /// Does it, to all of these devices or to none; where a plan is `expected`, only if it is that one still.
    pub async fn change_bulk(
        &self,
        what: BulkAction,
        devices: Selection,
        expected: Option<[u8; 32]>,
        actor: &str,
    ) -> Result<BulkOutcome, Refusal> {
        let (bulk, began) = (self.bulk(what, devices).await?, Instant::now());
        let (at, of) = (
            bulk.at,
            match &bulk.devices {
                Selection::Fleet(name) => format!("fleet/{name}"),
                Selection::Listed(_) => "devices".to_owned(),
            },
        );
        let word = if what == BulkAction::Release { RELEASED } else { action(Kind::Device, what.status()) };
        let mut audit = Draft::done(bulk.at, actor, word, String::new());
        if what != BulkAction::Release {
            audit = audit.fact("reason", what.reason().as_str());
        }
        let receipt = self.store.record_bulk(bulk, expected, audit).await.map_err(|error| {
            match error {
            StoreError::Conflict => Refusal::State(
                "the plan is another one by now, as other devices would be changed: nothing was done; look at the plan \
                 again"
                    .into(),
            ),
            other => other.into(),
        }
        })?;
        let done = receipt.plan.total();
        let (took, action) = (began.elapsed(), what.as_str());
        tracing::info!(%actor, action, devices = done.devices, certificates = done.certificates, ?took, "changed many");
        let released = what == BulkAction::Release;
        self.telemetry.changed_many(if released { "released" } else { what.status().as_str() }, done.devices);
        self.tell_of_unreadable(&of, done.unreadable, at);
        let measured = done.certificates > 0 && !released;
        if measured {
            self.word.cut_off(&receipt.watermarks, began);
        }
        let crls = self.publisher.in_force(&receipt.watermarks).await?;
        if measured {
            self.telemetry.signed_after(began.elapsed());
        }
        Ok(BulkOutcome { plan: receipt.plan, tokens: receipt.tokens, crls })
    }

    async fn bulk(&self, action: BulkAction, devices: Selection) -> Result<Bulk, Refusal> {
        if let BulkAction::Revoke(reason) = action {
            refuse_reason(reason)?;
        }
        if let Selection::Fleet(name) = &devices {
            let fleet = self.store.fleet(name).await?.ok_or(Refusal::NotFound("fleet"))?;
            if fleet.device_count > MOST_AT_ONCE as u64 {
                let why = format!(
                    "the fleet has {} devices, and one call changes at most {MOST_AT_ONCE}: name them in several calls",
                    fleet.device_count
                );
                return Err(Refusal::invalid("fleet", why));
            }
        }
        Ok(Bulk { action, devices, needs_choice: &NEEDS_CHOICE, at: self.now() })
    }
}
