//! One publication: from what has changed to a CRL that is served.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError},
};

use bytes::Bytes;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};

use super::{
    CADENCE, LIFETIME, PublishError, Published, Publisher,
    make::{Made, make},
    pending::{Pending, next_horizon},
};
use crate::{
    authority::{OnlineIssuer, notice},
    identity::{IssuerId, SerialNumber, Timestamp},
    pki::{CaRole, ParsedCrl},
    step::{Step, reached},
    store::{ClaimedCrl, CrlHead, StoreError},
};

/// What an issuer's next publication starts from.
#[derive(Default)]
pub(super) struct Engine {
    /// What was recorded last, here or elsewhere.
    pub head: Option<CrlHead>,
    /// The CRL whose entries the next one takes over; none where all are to be written anew.
    pub base: Option<Base>,
    /// What has changed since the base.
    pub pending: Pending,
}

/// A CRL that was published.
pub(super) struct Base {
    pub issuer: IssuerId,
    pub crl: ParsedCrl,
    /// Of its DER.
    pub sha256: [u8; 32],
    /// Entries of certificates that expired before this are not on it.
    pub horizon: Timestamp,
}

impl Publisher {
    /// Publishes an issuer's CRL, if it is due or `asked` for.
    pub(super) async fn publish(
        &self,
        online: &OnlineIssuer,
        engine: &mut Engine,
        asked: Option<bool>,
    ) -> Result<(), PublishError> {
        let id = online.issuer.id();
        self.catch_up(id, &mut engine.pending, None).await?;
        let now = self.dating.now();
        let (last, previous) = (engine.head.as_ref(), engine.head.as_ref().map(|head| head.number));
        // Where another CRL was recorded than ours, as by a commit that was told to have failed, ours is served without it.
        let is_ours = engine.base.as_ref().is_some_and(|base| Some(base.crl.number()) == previous);
        let due = last
            .is_none_or(|head| engine.pending.watermark() > head.watermark || now.since(head.this_update) >= CADENCE);
        if !due && asked.is_none() && is_ours {
            return Ok(());
        }
        let (horizon, stopped) = next_horizon(last.map(|head| head.horizon), now, asked == Some(true));
        self.telemetry.removals_stopped(stopped);
        if stopped {
            tracing::warn!(issuer = %id, "the clock leapt: expired entries stay on the CRL until `crl publish --accept-clock`");
        }
        let (expired, horizon) = match &engine.base {
            Some(base) => match self.store.expired(id, base.horizon, horizon).await {
                Ok(expired) => (expired, horizon),
                // Removals wait, additions don't.
                Err(error) => {
                    tracing::error!(issuer = %id, %error, "what has expired can't be read: it stays on the CRL");
                    (Vec::new(), base.horizon)
                }
            },
            None => (Vec::new(), horizon),
        };
        let watermark = engine.pending.watermark();
        let expired = self.leave_listed(engine.base.as_ref(), &mut engine.pending, horizon, expired).await;
        let turn = engine.pending.until(horizon, expired);
        let this_update = now.max(last.map_or(now, |head| head.this_update)).floor_secs();
        // By the clock as it is: what was published in a time that a restored machine has forgotten has lower numbers.
        let number = previous.map_or(0, |number| number + 1).max(self.dating.number());
        let mut head = CrlHead {
            issuer: id,
            number,
            this_update,
            next_update: this_update + LIFETIME,
            watermark,
            horizon,
            sha256: [0; 32],
            signature: Vec::new(),
            der: None,
        };
        let base = engine.base.as_ref().map(|base| &base.crl);
        let made = aside(|| {
            let sign = |tbs: &[u8]| online.signer.sign(tbs);
            make(online.issuer.certificate(), sign, &mut head, base, &turn, |template| {
                template.prepare(base, turn.edits())
            })
        })?;
        let Made { crl, steps, instead_of, checked } = made;
        self.telemetry.crl_checked(checked);
        if let Some(why) = instead_of {
            let detail = format!("CRL {number} is written anew: {why}");
            tracing::error!(issuer = %id, %detail, "what was made of the last CRL is not what was to come: report this fault");
            self.telemetry.event("crl.carried", &format!("issuer/{id}"), &detail, now);
        }
        if let Err(error) = self.store.put_crl(head.clone(), previous, None).await {
            if matches!(error, StoreError::Conflict) {
                // Somebody else has published: the next turn goes on from there.
                engine.head = self.store.crl_head(id).await?;
            }
            return Err(error.into());
        }
        reached(Step::CrlRecorded);
        tracing::info!(issuer = %id, number = head.number, entries = crl.entries().len(), "published a CRL");
        if let Some((base, steps)) = engine.base.as_ref().zip(steps) {
            let steps = steps.through(&base.crl);
            let from = (base.crl.number(), base.sha256);
            self.patches_of(id, |patches| patches.add(from, head.number, steps));
        }
        self.serve(online.issuer.role(), &head, &crl);
        reached(Step::CrlServed);
        let base = Base { issuer: id, crl, horizon, sha256: head.sha256 };
        *engine = Engine { pending: Pending::after(head.watermark), head: Some(head), base: Some(base) };
        Ok(())
    }

    /// An entry leaves where both say so, the change log and its certificate. Where they differ it stays: the union of the old
    /// CRL and the new one. Gives what has expired and may leave.
    async fn leave_listed(
        &self,
        base: Option<&Base>,
        pending: &mut Pending,
        horizon: Timestamp,
        mut expired: Vec<SerialNumber>,
    ) -> Vec<SerialNumber> {
        let Some(base) = base else { return expired };
        let watermark = pending.watermark();
        let turn = pending.until(horizon, expired.iter().copied());
        let leaving: Vec<_> = turn.all_off().filter(|serial| base.crl.entries().get(serial).is_some()).collect();
        if leaving.is_empty() {
            return expired;
        }
        let kept = match self.store.listed_of(leaving, watermark, horizon).await {
            Ok(kept) => kept,
            // The change log alone: what was released must not stay for want of a second word.
            Err(error) => {
                tracing::error!(issuer = %base.issuer, %error, "certificates can't be asked whether their entries may leave");
                return expired;
            }
        };
        let Some(first) = kept.first() else { return expired };
        let (issuer, detail) = (base.issuer, format!("{} by what their certificates say; first {first}", kept.len()));
        tracing::error!(%issuer, %detail, "entries stay on the CRL, which the change log takes off");
        self.telemetry.event("crl.carried", &format!("issuer/{issuer}"), &detail, self.dating.now());
        let kept: BTreeSet<SerialNumber> = kept.into_iter().collect();
        pending.forget(&kept);
        expired.retain(|serial| !kept.contains(serial));
        expired
    }

    /// By this signature the CA knows a CRL that it has given out, and forgotten. A CRL without one is as good as any.
    fn sign_head(&self, head: &CrlHead) -> Bytes {
        let CrlHead { issuer, number, this_update, sha256, .. } = *head;
        let signed = notice::sign_head(self.issuers.control(), &ClaimedCrl { issuer, number, this_update, sha256 });
        signed.unwrap_or_default().into()
    }

    pub(super) fn serve(&self, role: CaRole, head: &CrlHead, crl: &ParsedCrl) {
        if self.is_halted() && !role.is_root() {
            return;
        }
        // Roots sign by hand, days apart.
        let last = self.current(&head.issuer);
        let dated_apart = last.map_or(role.is_root(), |last| last.this_update < head.this_update);
        let entries = crl.entries().len() as u64;
        let published = Arc::new(Published {
            issuer: head.issuer,
            role,
            number: head.number,
            this_update: head.this_update,
            dated_apart,
            next_update: head.next_update,
            entries,
            watermark: head.watermark,
            sha256: head.sha256,
            head_signature: self.sign_head(head),
            der: crl.der().clone(),
            listed: Arc::new(crl.entries().clone()),
        });
        self.telemetry.published(head.issuer, head.number, entries, (head.this_update, head.next_update));
        let mut served = (**self.served.load()).clone();
        served.insert(head.issuer, published);
        self.served.store(Arc::new(served));
        if !role.is_root() {
            self.note_delta_base(head);
        }
        self.lists.lock().unwrap_or_else(PoisonError::into_inner).retain(|(issuer, _), _| *issuer != head.issuer);
    }
}

/// Works for long, a fifth of a second with a million entries: where there are other threads, they take over what else this
/// one would have done meanwhile.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(work),
        _ => work(),
    }
}
