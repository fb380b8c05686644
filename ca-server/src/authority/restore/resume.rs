//! The decision to go on: which CRLs of the lost time it needs, and which of them somebody says are lost.

use std::{collections::BTreeMap, time::Duration};

use super::{BATCH, RestoreError, TakenBack, domain, undecided};
use crate::{
    audit::{Draft, Kept},
    authority::{RESTORED, ROOT_FORGOTTEN, TAKEN_BACK, publish::CADENCE},
    identity::{IssuerId, Timestamp},
    pki::{CaRole, IssuerCertificate, RETENTION},
    store::{AuditQuery, IssuerRow, ReadStore, Restoration, Resumption, Store, StoreError},
};

/// The longest window in which certificates of a lost time are taken in: none that it concerns lives longer.
pub const LONGEST_WINDOW: Duration = Duration::from_secs(7 * 24 * 3600);

/// The highest CRL number of each issuer that records of this action tell of, since then.
pub(in crate::authority) async fn numbers(
    store: &(impl ReadStore + ?Sized),
    action: &str,
    since: Timestamp,
) -> Result<BTreeMap<String, u64>, StoreError> {
    let query = AuditQuery { limit: BATCH, action: Some(action.into()), newest_first: true, ..AuditQuery::default() };
    let mut numbers = BTreeMap::new();
    for Kept { record, .. } in store.audit_records(&query).await? {
        let detail: serde_json::Value = serde_json::from_str(&record.detail).unwrap_or_default();
        let issuer = detail["issuer"].as_str().or(record.subject.strip_prefix("issuer/"));
        if let (Some(issuer), Some(number)) = (issuer, detail["number"].as_u64())
            && record.at_millis >= since.millis()
        {
            let highest = numbers.entry(issuer.to_owned()).or_default();
            *highest = number.max(*highest);
        }
    }
    Ok(numbers)
}

/// The decision to go on. `given` are the CRLs that were looked at just now; those taken back since the restoration was
/// noticed count as well. One with nothing new in it counts only where it is our last, and none may have followed it.
/// `lost`: the issuers of which nobody has a CRL of the lost time, by somebody's word.
pub async fn resume(
    store: &dyn Store,
    given: &[TakenBack],
    lost: &[IssuerId],
    window: Duration,
    now: Timestamp,
) -> Result<Resumption, RestoreError> {
    let restoration = undecided(store).await?;
    let rows = store.issuers().await?;
    if let Some(unknown) = lost.iter().find(|id| rows.iter().all(|row| row.id != **id)) {
        return Err(RestoreError::NoIssuer(*unknown));
    }
    let missing = missing(store, &restoration, &rows, given).await?;
    let found: Vec<IssuerId> = missing.iter().copied().filter(|id| !lost.contains(id)).collect();
    if !found.is_empty() {
        return Err(RestoreError::CrlMissing(found));
    }
    let window_until = now + window.min(LONGEST_WINDOW);
    let resumption = Resumption { at: now, window_until, loss_accepted: !missing.is_empty() };
    let audit = Draft::done(now, "local", "ca.resumed", domain(store).await?)
        .fact("lost_from", restoration.lost_from.to_string())
        .fact("lost_until", restoration.lost_until.to_string())
        .fact("window_until", window_until.to_string())
        .fact("loss_accepted", missing.iter().map(ToString::to_string).collect::<Vec<_>>());
    store.record_resumption(resumption, audit).await?;
    Ok(resumption)
}

/// The issuers of which no CRL of the lost time was given, and there may be one that counts.
async fn missing(
    store: &dyn Store,
    restoration: &Restoration,
    rows: &[IssuerRow],
    given: &[TakenBack],
) -> Result<Vec<IssuerId>, RestoreError> {
    let shown = numbers(store, RESTORED, restoration.noticed_at).await?;
    let mut reached = numbers(store, TAKEN_BACK, restoration.noticed_at).await?;
    for back in given {
        let ours = store.crl_head(back.issuer).await?;
        let is_last = ours.is_some_and(|ours| ours.number == back.number);
        if back.taken.is_some() || is_last && back.this_update + CADENCE >= restoration.lost_until {
            let number = reached.entry(back.issuer.to_string()).or_default();
            *number = back.number.max(*number);
        }
    }
    // Somebody holds one that was made later: it is the one to find.
    let is_enough = |issuer: &String, number: &u64| shown.get(issuer).is_none_or(|later| number >= later);
    reached.retain(|issuer, number| is_enough(issuer, number));
    let roots = numbers(store, ROOT_FORGOTTEN, Timestamp::default()).await?;
    let mut missing = Vec::new();
    for row in rows {
        let is_missing = match row.role {
            // Of one that its root has ended in that time, too: its last CRL alone knows whom it cut off before.
            CaRole::DeviceIssuing => {
                let is_over =
                    IssuerCertificate::parse(&row.certificate)?.not_after() + RETENTION < restoration.lost_from;
                row.is_online() && !is_over && !reached.contains_key(&row.id.to_string())
            }
            CaRole::ControlCa => false,
            // Signed by hand, so that no date tells whether there is another; but a gateway may have shown one.
            CaRole::DeviceRoot | CaRole::ControlRoot => {
                let ours = store.crl_head(row.id).await?.map_or(0, |head| head.number);
                roots.get(&row.id.to_string()).is_some_and(|shown| *shown > ours)
            }
        };
        if is_missing {
            missing.push(row.id);
        }
    }
    Ok(missing)
}
