//! The trust bundle in force, read once and kept for the answers that carry it: nearly all are given the same one.

use std::sync::Arc;

use arc_swap::ArcSwap;
use fleetca_proto::v1::SignedTrustBundle;
use prost::Message;

use super::{Authority, Refusal};

/// A trust bundle, as it is sent.
#[derive(Clone, Debug, Default)]
pub struct TrustBundle {
    /// Its sequence number.
    pub sequence: u64,
    /// With its signatures.
    pub signed: SignedTrustBundle,
}

/// The one that was read last. Sequence numbers begin with 1: before anything is read, none is as wanted.
#[derive(Default)]
pub(super) struct KeptBundle(ArcSwap<TrustBundle>);

impl Authority {
    /// The trust bundle in force.
    pub async fn trust_bundle(&self) -> Result<Arc<TrustBundle>, Refusal> {
        let row = self.store.trust_bundle().await?;
        let signed = SignedTrustBundle::decode(row.signed.as_slice());
        let signed = signed.map_err(|_| Refusal::Internal("trust bundle unreadable"))?;
        let bundle = Arc::new(TrustBundle { sequence: row.sequence, signed });
        self.bundle.0.store(bundle.clone());
        Ok(bundle)
    }

    /// The same, for whoever has just read its sequence number.
    pub(super) async fn trust_bundle_numbered(&self, sequence: u64) -> Result<Arc<TrustBundle>, Refusal> {
        let kept = self.bundle.0.load_full();
        if kept.sequence == sequence { Ok(kept) } else { self.trust_bundle().await }
    }
}
