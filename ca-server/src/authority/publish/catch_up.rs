//! What the store says: the CRL that was published last, rebuilt; and the changes since.

use super::{
    PublishError, Publisher,
    pending::Pending,
    sha256,
    turn::{Base, Engine, template},
};
use crate::{identity::IssuerId, pki::ParsedCrl, store::Change};

/// How many changes are read at once.
const BATCH: u32 = 10_000;

impl Publisher {
    /// Rebuilds what was published last from its head and the change log.
    pub(super) async fn load(&self) -> Result<(), PublishError> {
        let mut engines = self.engines.lock().await;
        for (id, role, certificate) in self.issuers.certificates().filter(|(id, ..)| self.issuers.publishes(id)) {
            let Some(head) = self.store.crl_head(*id).await? else { continue };
            let mut engine = Engine::default();
            let der = match &head.der {
                // A root's, or one that was taken back after a restoration.
                Some(der) => der.clone().into(),
                None => {
                    engine.pending.reserve(head.watermark);
                    self.catch_up(*id, &mut engine.pending, Some(head.watermark)).await?;
                    let turn = engine.pending.until(head.horizon, []);
                    template(certificate, &head).prepare(None, turn.edits()).assemble(&head.signature)
                }
            };
            if sha256(&der) == head.sha256 {
                let crl = ParsedCrl::parse(der)?;
                self.serve(role, &head, &crl);
                // What was taken back may lack changes from before its watermark: all are gone through again.
                let since = if head.der.is_some() { 0 } else { head.watermark };
                engine.pending = Pending::after(since);
                engine.base = Some(Base { crl, horizon: head.horizon, sha256: head.sha256 });
            } else {
                // Somebody changed the store under us. The next publication, a moment away, says what is true now.
                tracing::error!(issuer = %id, number = head.number, "the store does not rebuild the CRL that was published");
                self.telemetry.event("crl.mismatch", &format!("issuer/{id}"), "", self.dating.now());
            }
            engine.head = Some(head);
            engines.insert(*id, engine);
        }
        Ok(())
    }

    /// Takes changes that were committed since, up to `until` where that is said.
    pub(super) async fn catch_up(
        &self,
        issuer: IssuerId,
        pending: &mut Pending,
        until: Option<u64>,
    ) -> Result<(), PublishError> {
        loop {
            let changes = self.store.changes(issuer, pending.watermark(), BATCH).await?;
            let wanted = |change: &&Change| until.is_none_or(|until| change.sequence <= until);
            let mut taken = 0;
            for change in changes.iter().take_while(wanted) {
                if !pending.apply(change) {
                    return Err(PublishError::Gap { issuer, after: pending.watermark() });
                }
                taken += 1;
            }
            if taken < BATCH as usize {
                return Ok(());
            }
        }
    }
}
