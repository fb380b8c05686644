//! What the store says: the CRL that was published last, rebuilt; and the changes since.

use std::collections::HashSet;

use bytes::Bytes;

use super::{
    PublishError, Publisher,
    make::template,
    pending::Pending,
    sha256,
    turn::{Base, Engine},
};
use crate::{
    identity::{IssuerId, SerialNumber},
    pki::{IssuerCertificate, ParsedCrl},
    store::{Change, CrlHead, StoreError},
};

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
                None => self.rebuilt(*id, certificate, &head, &mut engine.pending).await?,
            };
            if sha256(&der) == head.sha256 {
                let crl = if role.is_root() { ParsedCrl::parse_root(der)? } else { ParsedCrl::parse(der)? };
                self.serve(role, &head, &crl);
                // What was taken back may lack changes from before its watermark: all are gone through again.
                let since = if head.der.is_some() { 0 } else { head.watermark };
                engine.pending = Pending::after(since);
                engine.base = Some(Base { issuer: *id, crl, horizon: head.horizon, sha256: head.sha256 });
            } else {
                // Somebody changed the store under us. The next publication, a moment away, says what is true now.
                self.tell_of_mismatch(*id, head.number);
            }
            engine.head = Some(head);
            engines.insert(*id, engine);
        }
        Ok(())
    }

    /// The CRL with this head, by the change log; where that does not make it, by the certificates, too.
    async fn rebuilt(
        &self,
        issuer: IssuerId,
        certificate: &IssuerCertificate,
        head: &CrlHead,
        pending: &mut Pending,
    ) -> Result<Bytes, PublishError> {
        let written = |pending: &mut Pending| {
            let turn = pending.until(head.horizon, []);
            template(certificate, head).prepare(None, turn.edits()).assemble(&head.signature)
        };
        pending.reserve(head.watermark);
        self.catch_up(issuer, pending, Some(head.watermark)).await?;
        let der = written(pending);
        if sha256(&der) == head.sha256 {
            return Ok(der);
        }
        let left = self.store.changes_left(issuer, 0, Some(head.watermark)).await?.changes;
        let revoked = left.iter().filter(|change| change.revoked.is_some()).map(|change| change.serial);
        let listed = self.store.listed_of(revoked.collect(), head.watermark, head.horizon).await?;
        let listed: HashSet<SerialNumber> = listed.into_iter().collect();
        let turn = pending.until(head.horizon, []);
        let is_lost = |change: &&Change| listed.contains(&change.serial) && !turn.lists(&change.serial);
        let lost: Vec<Change> = left.iter().filter(is_lost).copied().collect();
        pending.take_left(&lost, head.watermark);
        let der = written(pending);
        if sha256(&der) == head.sha256 {
            // All is there; but not where it should be.
            self.tell_of_mismatch(issuer, head.number);
        }
        Ok(der)
    }

    fn tell_of_mismatch(&self, issuer: IssuerId, number: u64) {
        tracing::error!(%issuer, number, "the change log does not rebuild the CRL that was published");
        self.telemetry.event("crl.mismatch", &format!("issuer/{issuer}"), "", self.dating.now());
    }

    /// Takes changes that were committed since, up to `until` where that is said. What can't be read or is missing holds
    /// nothing up: what the certificates say counts in its place.
    pub(super) async fn catch_up(
        &self,
        issuer: IssuerId,
        pending: &mut Pending,
        until: Option<u64>,
    ) -> Result<(), PublishError> {
        let given = match until {
            Some(until) => until,
            None => self.store.last_change(issuer).await?,
        };
        if self.read_on(issuer, pending, until).await? && pending.watermark() >= given {
            return Ok(());
        }
        let after = pending.watermark();
        let left = self.store.changes_left(issuer, after, until).await?;
        let detail =
            format!("after change {after}: {} can't be read, {} came from certificates", left.lost, left.recovered);
        tracing::error!(%issuer, %detail, "the change log is damaged: CRLs go on by what can be read");
        self.telemetry.event("crl.unreadable", &format!("issuer/{issuer}"), &detail, self.dating.now());
        pending.take_left(&left.changes, left.last.max(given));
        Ok(())
    }

    /// `false`: a change can't be read, or is missing.
    async fn read_on(&self, issuer: IssuerId, pending: &mut Pending, until: Option<u64>) -> Result<bool, PublishError> {
        loop {
            let changes = match self.store.changes(issuer, pending.watermark(), BATCH).await {
                Err(StoreError::Damaged(_)) => return Ok(false),
                changes => changes?,
            };
            let wanted = |change: &&Change| until.is_none_or(|until| change.sequence <= until);
            let mut taken = 0;
            for change in changes.iter().take_while(wanted) {
                if !pending.apply(change) {
                    return Ok(false);
                }
                taken += 1;
            }
            if taken < BATCH as usize {
                return Ok(true);
            }
        }
    }
}
