//! Issuing CAs that their root has ended, and that the store does not know to have ended: of a past that was restored.

use crate::{
    identity::{IssuerId, Timestamp},
    pki::{IssuerCertificate, ParsedCrl},
    store::{IssuerRow, Store, StoreError},
};

/// A CA that is to go on here though the CRL of its root that the store has revokes it: it may have no key any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Struck {
    /// Which.
    pub issuer: IssuerId,
    /// When its certificate ends.
    pub not_after: Timestamp,
}

impl Struck {
    /// Whether what it signs would count. What an expired CA has signed nobody takes, whatever stands on its root's CRL.
    pub fn counts(&self, now: Timestamp) -> bool {
        self.not_after >= now
    }
}

/// Those that there are. A CRL or a certificate that can't be read is for others to complain of.
pub async fn struck(store: &dyn Store) -> Result<Vec<Struck>, StoreError> {
    let rows = store.issuers().await?;
    let read = |row: &IssuerRow| IssuerCertificate::parse(&row.certificate).ok();
    let going_on: Vec<_> =
        rows.iter().filter(|row| row.is_online()).filter_map(|row| Some((row.id, read(row)?))).collect();
    let mut found = Vec::new();
    for root in rows.iter().filter(|row| row.role.is_root()) {
        let Some(der) = store.crl_head(root.id).await?.and_then(|head| head.der) else { continue };
        let (Some(root), Ok(crl)) = (read(root), ParsedCrl::parse_root(der.into())) else { continue };
        let is_on = is_on(&root, &crl);
        let on = going_on.iter().filter(|(_, issuer)| is_on(issuer));
        found.extend(on.map(|(id, issuer)| Struck { issuer: *id, not_after: issuer.not_after() }));
    }
    Ok(found)
}

/// Whether a root's CRL revokes an issuing CA below it.
pub(super) fn is_on<'a>(root: &'a IssuerCertificate, crl: &ParsedCrl) -> impl Fn(&IssuerCertificate) -> bool + use<'a> {
    let revoked = crl.revoked_authorities();
    move |issuer| issuer.issuer_der() == root.subject_der() && revoked.contains_key(&issuer.serial())
}
