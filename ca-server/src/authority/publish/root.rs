//! The roots' CRLs, which are signed offline: taken in where gateways would take them.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use super::{
    PublishError, Publisher, to_its_end,
    turn::{Base, Engine},
};
use crate::{
    audit::Draft,
    authority::{ROOT_FORGOTTEN, judge_root_crl, restore::numbers, struck::is_on},
    identity::{IssuerId, Timestamp},
    pki::{IssuerCertificate, ParsedCrl},
    store::{Store, StoreError},
};

/// The newest CRL of each root of which the store says that somebody has shown it.
pub(super) async fn forgotten(store: &dyn Store) -> Result<BTreeMap<IssuerId, u64>, StoreError> {
    let numbers = numbers(store, ROOT_FORGOTTEN, Timestamp::default()).await?;
    Ok(numbers.into_iter().filter_map(|(issuer, number)| Some((issuer.parse().ok()?, number))).collect())
}

impl Publisher {
    /// Whether it is known already that there is a root's CRL of this number, or a higher one.
    pub(in crate::authority) fn is_root_known_to_be(&self, root: &IssuerId, number: u64) -> bool {
        let newest = self.newest_roots.lock().unwrap_or_else(PoisonError::into_inner);
        newest.get(root).is_some_and(|known| *known >= number)
    }

    /// Somebody has shown a root's CRL of this number.
    pub(in crate::authority) fn root_is_known_to_be(&self, root: IssuerId, number: u64) {
        let mut newest = self.newest_roots.lock().unwrap_or_else(PoisonError::into_inner);
        let known = newest.entry(root).or_default();
        *known = number.max(*known);
    }

    /// The roots of which somebody has shown a newer CRL than the one served, and its number: readiness says so.
    pub fn forgotten_roots(&self) -> Vec<(IssuerId, u64)> {
        let newest = self.newest_roots.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_newer =
            |(root, number): &(IssuerId, u64)| self.current(root).is_none_or(|served| served.number < *number);
        newest.into_iter().filter(is_newer).collect()
    }

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
        let (is_on, now) = (is_on(certificate, &crl), self.dating.now());
        let is_cut_off = |issuer: &&IssuerCertificate| issuer.not_after() >= now && is_on(issuer);
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
