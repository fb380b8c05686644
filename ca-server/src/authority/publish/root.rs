//! The roots' CRLs, which are signed offline: taken in where gateways would take them.

use std::{sync::Arc, time::Duration};

use super::{
    PublishError, Publisher, sha256, to_its_end,
    turn::{Base, Engine},
};
use crate::{
    audit::Draft,
    identity::Timestamp,
    pki::{ParsedCrl, check_successor},
    store::CrlHead,
};

/// How far ahead of ours the clock may be on which a root's CRL was signed.
const SKEW: Duration = Duration::from_secs(300);

impl Publisher {
    /// Takes in a root's CRL that was signed offline.
    pub async fn take_root_crl(self: &Arc<Self>, der: Vec<u8>, audit: Draft) -> Result<(), PublishError> {
        let publisher = self.clone();
        to_its_end(async move { publisher.take_root(&der, audit).await }).await
    }

    async fn take_root(&self, der: &[u8], audit: Draft) -> Result<(), PublishError> {
        let crl = ParsedCrl::parse(der.to_vec().into())?;
        let (id, role, certificate) = self
            .issuers
            .certificates()
            .find(|(_, role, certificate)| role.is_root() && certificate.key_identifier() == crl.authority_key())
            .ok_or(PublishError::UnknownIssuer)?;
        crl.verify(certificate)?;
        let now = self.dating.now();
        if crl.this_update() > now + SKEW || crl.next_update() <= now {
            return Err(PublishError::NotNow { this_update: crl.this_update(), next_update: crl.next_update() });
        }
        let mut engines = self.engines.lock().await;
        let engine = engines.entry(*id).or_default();
        if let Some(base) = &engine.base
            && let Some(lost) = check_successor(&base.crl, &crl)?.first()
        {
            return Err(PublishError::LosesEntry(*lost));
        }
        let head = CrlHead {
            issuer: *id,
            number: crl.number(),
            this_update: crl.this_update(),
            next_update: crl.next_update(),
            watermark: 0,
            horizon: Timestamp::default(),
            sha256: sha256(der),
            signature: crl.signature().to_vec(),
            der: Some(der.to_vec()),
        };
        let previous = engine.head.as_ref().map(|head| head.number);
        self.store.put_crl(head.clone(), previous, Some(audit.fact("number", head.number))).await?;
        self.serve(role, &head, &crl);
        let base = Base { issuer: head.issuer, crl, horizon: head.horizon, sha256: head.sha256 };
        *engine = Engine { head: Some(head), base: Some(base), ..Engine::default() };
        Ok(())
    }
}
