//! The roots' CRLs, which are signed offline: taken in where gateways would take them.

use std::sync::Arc;

use super::{
    PublishError, Publisher, to_its_end,
    turn::{Base, Engine},
};
use crate::{audit::Draft, authority::judge_root_crl, pki::ParsedCrl};

impl Publisher {
    /// Takes in a root's CRL that was signed offline.
    pub async fn take_root_crl(self: &Arc<Self>, der: Vec<u8>, audit: Draft) -> Result<(), PublishError> {
        let publisher = self.clone();
        to_its_end(async move { publisher.take_root(&der, audit).await }).await
    }

    async fn take_root(&self, der: &[u8], audit: Draft) -> Result<(), PublishError> {
        let crl = ParsedCrl::parse_root(der.to_vec().into())?;
        let (id, role, certificate) = self
            .issuers
            .certificates()
            .find(|(_, role, certificate)| role.is_root() && certificate.key_identifier() == crl.authority_key())
            .ok_or(PublishError::UnknownIssuer)?;
        let mut engines = self.engines.lock().await;
        let engine = engines.entry(*id).or_default();
        let before = engine.base.as_ref().map(|base| &base.crl);
        let keeps = |serial: &_| self.issuers.keeps_entry(certificate, serial);
        let head = judge_root_crl(certificate, &crl, before, keeps, self.dating.now())?;
        let revoked = crl.revoked_authorities();
        let now = self.dating.now();
        let is_cut_off = |issuer: &&crate::pki::IssuerCertificate| {
            issuer.issuer_der() == certificate.subject_der()
                && issuer.not_after() >= now
                && revoked.contains_key(&issuer.serial())
        };
        // Its devices would be refused everywhere, while it goes on signing and the trust bundle names it.
        if let Some(issuer) = self.issuers.online().map(|online| online.issuer.certificate()).find(is_cut_off) {
            return Err(PublishError::RevokesIssuer(issuer.id()));
        }
        let previous = engine.head.as_ref().map(|head| head.number);
        self.store.put_crl(head.clone(), previous, Some(audit.fact("number", head.number))).await?;
        self.serve(role, &head, &crl);
        let base = Base { issuer: head.issuer, crl, horizon: head.horizon, sha256: head.sha256 };
        *engine = Engine { head: Some(head), base: Some(base), ..Engine::default() };
        Ok(())
    }
}
