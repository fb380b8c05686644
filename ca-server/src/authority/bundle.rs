//! The trust bundle in force, read once and kept for the answers that carry it: nearly all are given the same one.

use std::sync::Arc;

use arc_swap::ArcSwap;
use fleetca_proto::v1::SignedTrustBundle;
use prost::Message;

use super::{Authority, Refusal};

/// The one that was read last. Sequence numbers begin with 1: before anything is read, none is as wanted.
#[derive(Default)]
pub(super) struct KeptBundle(ArcSwap<(u64, Arc<SignedTrustBundle>)>);

impl Authority {
    /// The trust bundle in force.
    pub async fn trust_bundle(&self) -> Result<Arc<SignedTrustBundle>, Refusal> {
        let row = self.store.trust_bundle().await?;
        let bundle = SignedTrustBundle::decode(row.signed.as_slice());
        let bundle = Arc::new(bundle.map_err(|_| Refusal::Internal("trust bundle unreadable"))?);
        self.bundle.0.store(Arc::new((row.sequence, bundle.clone())));
        Ok(bundle)
    }

    /// The same, for whoever has just read its sequence number.
    pub(super) async fn trust_bundle_numbered(&self, sequence: u64) -> Result<Arc<SignedTrustBundle>, Refusal> {
        let kept = self.bundle.0.load();
        if kept.0 == sequence { Ok(kept.1.clone()) } else { self.trust_bundle().await }
    }
}
