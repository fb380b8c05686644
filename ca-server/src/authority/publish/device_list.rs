//! The list of one device, which certificates of some fleets point to: its entries on the issuer's complete CRL.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use bytes::Bytes;

use super::{PublishError, Published, Publisher, sha256};
use crate::{
    identity::{IssuerId, SerialNumber, Subject},
    pki::{CrlScope, CrlTemplate},
};

/// How long a device's own list is good.
const LIFETIME: Duration = Duration::from_secs(3600);
/// How many are kept; all go when the issuer publishes.
const MOST: usize = 10_000;
/// How many are made at the same time, and how long one waits for its turn.
pub(super) const BENCH: usize = 4;
const PATIENCE: Duration = Duration::from_secs(2);

/// Lists that were made, by issuer and handle.
pub(super) type Lists = HashMap<(IssuerId, String), Arc<Published>>;

impl Publisher {
    /// The list of one device, signed when it is asked for: its entries on the issuer's current CRL. It has that CRL's
    /// number and date. However many ask, a few are made at the same time, and no publication waits for them.
    pub async fn device_list(
        &self,
        issuer: &IssuerId,
        holder: &Subject,
        handle: &str,
    ) -> Result<Arc<Published>, PublishError> {
        let key = (*issuer, handle.to_owned());
        if let Some(list) = self.kept_list(&key) {
            return Ok(list);
        }
        let turn = tokio::time::timeout(PATIENCE, self.list_bench.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(PublishError::Busy) };
        // Who has waited finds it made, mostly.
        if let Some(list) = self.kept_list(&key) {
            return Ok(list);
        }
        if self.is_halted() {
            return Err(PublishError::Restored);
        }
        // The serials are read after it: they have all that may stand on it. Read before, a renewal in between would be
        // missing.
        let full = self.current(issuer).ok_or(PublishError::UnknownIssuer)?;
        let serials = self.store.serials_of(holder, *issuer).await?;
        let list = Arc::new(self.sign_list(&full, handle, &serials)?);
        if self.is_halted() {
            return Err(PublishError::Restored);
        }
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        // What was published meanwhile is served before lists go: what is put here then would stay.
        if self.current(issuer).is_some_and(|served| served.sha256 == full.sha256) {
            keep(&mut lists, MOST, key, &list);
        }
        Ok(list)
    }

    fn kept_list(&self, key: &(IssuerId, String)) -> Option<Arc<Published>> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn sign_list(&self, full: &Published, handle: &str, serials: &[SerialNumber]) -> Result<Published, PublishError> {
        let online = self.online(&full.issuer)?;
        let entries: Vec<_> = serials.iter().filter_map(|serial| full.listed.get(serial)).collect();
        let url =
            self.locations.crl(&full.issuer, CrlScope::Device(handle)).map_err(|_| PublishError::UnknownIssuer)?;
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
        Ok(Published {
            next_update,
            entries: count,
            sha256: sha256(&der),
            head_signature: Bytes::new(),
            der,
            listed: Arc::default(),
            ..full.clone()
        })
    }
}

/// Keeps one more; where there are as many as may be, none but this one.
fn keep(lists: &mut Lists, most: usize, key: (IssuerId, String), list: &Arc<Published>) {
    if lists.len() >= most {
        lists.clear();
    }
    lists.insert(key, list.clone());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::CaRole;

    #[test]
    fn no_more_lists_are_kept_than_is_said() {
        let list = Arc::new(Published {
            issuer: "0123456789abcdef".parse().unwrap(),
            role: CaRole::DeviceIssuing,
            number: 1,
            this_update: Default::default(),
            dated_apart: false,
            next_update: Default::default(),
            entries: 0,
            watermark: 0,
            sha256: [0; 32],
            head_signature: Bytes::new(),
            der: Bytes::new(),
            listed: Arc::default(),
        });
        let mut lists = Lists::new();
        let mut most = 0;
        for handle in 0..100 {
            keep(&mut lists, 7, (list.issuer, handle.to_string()), &list);
            assert!(lists.contains_key(&(list.issuer, handle.to_string())));
            most = most.max(lists.len());
        }
        assert_eq!(most, 7);
    }
}
