//! The fleets that nobody signs for any more, once an issuing CA of devices is gone.

use super::super::{CommandError, local};
use crate::{
    authority::ends_too_soon,
    identity::{IssuerId, Timestamp},
    inventory::partition::{Choice, Partition, Standing},
    pki::{CaRole, IssuerCertificate},
    store::{IssuerRow, Store},
};

/// How many fleets are read at once.
const FLEETS: u32 = 100;

/// Those whose devices no issuing CA may sign for, however long they wait, if this one stands so from now on; by name.
pub async fn bereft(
    store: &dyn Store,
    gone: IssuerId,
    standing: Standing,
    now: Timestamp,
) -> Result<Vec<String>, CommandError> {
    let rows = store.issuers().await.map_err(local)?;
    let left = left(&rows, gone, standing, now);
    let (mut names, mut after) = (Vec::new(), String::new());
    loop {
        let fleets = store.fleets(&after, FLEETS).await.map_err(local)?;
        for fleet in &fleets {
            let choice = Choice { all: &left, spread: &fleet.policy.spread, settled: true };
            if choice.all_signers().is_empty() {
                names.push(fleet.name.to_string());
            }
        }
        let Some(last) = fleets.last() else { return Ok(names) };
        after = last.name.to_string();
    }
}

/// The issuing CAs as they will stand, when all of them have had their time. One that ends before what it would sign now
/// counts for nobody.
fn left(rows: &[IssuerRow], gone: IssuerId, standing: Standing, now: Timestamp) -> Vec<Partition> {
    let device = rows.iter().filter(|row| row.role == CaRole::DeviceIssuing);
    let lasts = |row: &IssuerRow| {
        IssuerCertificate::parse(&row.certificate).is_ok_and(|certificate| !ends_too_soon(&certificate, now))
    };
    let partition = |row: &IssuerRow| Partition {
        id: row.id,
        standing: match row.id == gone {
            true => standing,
            false if lasts(row) => row.standing,
            false => row.standing.without_signing(),
        },
        replaces: row.replaces,
        ready: true,
        loaded: false,
    };
    device.map(partition).collect()
}

/// What to do about them, a line each.
pub fn cures(fleets: &[String]) -> String {
    let cure = |name: &String| {
        format!(
            "nobody signs for the fleet {name} now: `ca-server fleet set {name} --issuers all`, or name others there\n"
        )
    };
    fleets.iter().map(cure).collect()
}
