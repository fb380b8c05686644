//! Sealing the audit log: chains what has been committed since the last seal, and signs the head.

use fleetca_proto::transcript;

use super::{Issuers, Refusal};
use crate::{
    audit::{Head, Seal},
    identity::Timestamp,
    step::{Step, reached},
    store::{AuditQuery, Store},
};

/// The most records that one seal covers.
const BATCH: u32 = 10_000;

/// Seals what waits, at most one batch. `false`: there was nothing.
pub async fn seal_once(store: &dyn Store, issuers: &Issuers, now: Timestamp) -> Result<bool, Refusal> {
    let last = store.last_seal().await?;
    let (sealed, mut head) = last.as_ref().map_or((0, Head::EMPTY), |seal| (seal.last_sequence, seal.head));
    let query = AuditQuery { from: sealed + 1, limit: BATCH, ..AuditQuery::default() };
    let records = store.audit_records(&query).await?;
    let Some(newest) = records.last().map(|kept| kept.record.clone()) else { return Ok(false) };
    for (kept, expected) in records.iter().zip(sealed + 1..) {
        if kept.record.sequence != expected {
            tracing::error!(expected, found = kept.record.sequence, "an audit record is missing: not sealing past it");
            return Err(Refusal::Internal("audit log broken"));
        }
        head = head.after(&kept.record);
    }
    let at_millis = now.millis().max(newest.at_millis).max(last.map_or(i64::MIN, |seal| seal.at_millis));
    let control = issuers.control();
    let signature = control.signer.sign(&transcript::audit_head(newest.sequence, at_millis, &head.0))?;
    reached(Step::SealSigned);
    let seal = Seal {
        first_sequence: sealed + 1,
        last_sequence: newest.sequence,
        head,
        at_millis,
        signature,
        issuer: control.issuer.id(),
    };
    store.record_seal(seal).await?;
    Ok(true)
}
