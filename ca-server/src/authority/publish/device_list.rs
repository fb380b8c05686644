//! The list of one device, which certificates of some fleets point to: its entries on the issuer's complete CRL.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use bytes::Bytes;

use super::{PublishError, Published, Publisher, sha256};
use crate::{
    identity::{IssuerId, Subject},
    pki::{CrlScope, CrlTemplate},
};

/// How long a device's own list is good.
const LIFETIME: Duration = Duration::from_secs(3600);
/// How many are kept; all go when the issuer publishes.
const MOST: usize = 10_000;

impl Publisher {
    /// The list of one device, signed when it is asked for: its entries on the issuer's current CRL. It has that CRL's
    /// number and date.
    pub async fn device_list(
        &self,
        issuer: &IssuerId,
        holder: &Subject,
        handle: &str,
    ) -> Result<Arc<Published>, PublishError> {
        let online = self.online(issuer)?;
        // Held while signing: a device list is never newer than the complete CRL that is served, and the serials, read
        // after it, have all that may stand on it. Read before, a renewal in between would be missing.
        let engines = self.engines.lock().await;
        let key = (*issuer, handle.to_owned());
        if let Some(list) = self.lists.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(list.clone());
        }
        if self.is_halted() {
            return Err(PublishError::Restored);
        }
        let full = self.current(issuer).ok_or(PublishError::UnknownIssuer)?;
        let engine = engines.get(issuer).ok_or(PublishError::UnknownIssuer)?;
        let base = engine.base.as_ref().ok_or(PublishError::UnknownIssuer)?;
        let serials = self.store.serials_of(holder, *issuer).await?;
        let entries: Vec<_> = serials.iter().filter_map(|serial| base.crl.entries().get(serial)).collect();
        let url = self.locations.crl(issuer, CrlScope::Device(handle)).map_err(|_| PublishError::UnknownIssuer)?;
        let next_update = full.this_update + LIFETIME;
        let template = CrlTemplate {
            issuer: online.issuer.certificate(),
            number: full.number,
            this_update: full.this_update,
            next_update,
            distribution_point: Some(&url),
        };
        let (count, prepared) =
            (entries.len() as u64, template.prepare(None, entries.iter().map(|entry| (entry.serial, Some(*entry)))));
        let signature = online.signer.sign(prepared.tbs())?;
        let der = prepared.assemble(&signature);
        let list = Arc::new(Published {
            next_update,
            entries: count,
            sha256: sha256(&der),
            head_signature: Bytes::new(),
            der,
            listed: Arc::default(),
            ..(*full).clone()
        });
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if lists.len() >= MOST {
            lists.clear();
        }
        lists.insert(key, list.clone());
        Ok(list)
    }
}
