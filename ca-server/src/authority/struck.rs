//! Issuing CAs that their root has ended, and that the store does not know to have ended: of a past that was restored.

use crate::{
    identity::{IssuerId, Timestamp},
    pki::{IssuerCertificate, ParsedCrl},
    store::{IssuerRow, Store, StoreError},
};

/// Those that are to go on here though the CRL of their root that the store has revokes them. One that has expired signs
/// nothing that counts, whatever stands on that CRL. A CRL or a certificate that can't be read is for others to complain of.
pub async fn struck(store: &dyn Store, now: Timestamp) -> Result<Vec<IssuerId>, StoreError> {
    let rows = store.issuers().await?;
    let read = |row: &IssuerRow| IssuerCertificate::parse(&row.certificate).ok();
    let going_on: Vec<_> =
        rows.iter().filter(|row| row.is_online()).filter_map(|row| Some((row.id, read(row)?))).collect();
    let mut found = Vec::new();
    for root in rows.iter().filter(|row| row.role.is_root()) {
        let Some(der) = store.crl_head(root.id).await?.and_then(|head| head.der) else { continue };
        let (Some(root), Ok(crl)) = (read(root), ParsedCrl::parse_root(der.into())) else { continue };
        let revoked = crl.revoked_authorities();
        let is_struck = |issuer: &IssuerCertificate| {
            issuer.issuer_der() == root.subject_der()
                && issuer.not_after() >= now
                && revoked.contains_key(&issuer.serial())
        };
        found.extend(going_on.iter().filter(|(_, issuer)| is_struck(issuer)).map(|(id, _)| *id));
    }
    Ok(found)
}
