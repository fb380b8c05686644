//! Many devices cut off or released in one transaction: found and counted, and then each as if it were alone.

use std::collections::{BTreeMap, HashSet};

use ring::digest::{SHA256, digest};
use rusqlite::{Connection, params};

use super::{
    certificates,
    cutoff::{self, CutOff},
    fleets, holders,
    query::{Columns, first, readable},
};
use crate::{
    audit::Draft,
    identity::{DeviceId, FleetName, Kind, Subject, hex},
    inventory::device::Status,
    store::{
        Bulk, BulkAction, BulkCounts, BulkPlan, BulkReceipt, Cutoff, CutoffReceipt, Fate, Listed, Release, Selection,
        StoreError,
    },
};

/// How many hexadecimal digits of a plan's digest an audit record names it by.
const NAME: usize = 16;

/// A device, as far as it matters what becomes of it.
struct Target {
    key: i64,
    id: DeviceId,
    fleet: FleetName,
    /// `None`: it can't be read, as with the next.
    status: Option<Status>,
    status_reason: Option<String>,
    /// It may enroll once more.
    way_back: bool,
    /// It is cut off, and something is left to be ended.
    left: bool,
    line: u32,
}

/// The columns that [`read`] takes, and the tables that have them.
macro_rules! targets {
    () => {
        "SELECT holders.key, holders.id, fleets.name, holders.status, holders.status_reason, \
         holders.reenroll_until IS NOT NULL FROM holders JOIN fleets ON fleets.key = holders.fleet WHERE "
    };
}

fn read(row: &mut Columns) -> rusqlite::Result<Target> {
    Ok(Target {
        key: row.take()?,
        id: row.take()?,
        fleet: row.take()?,
        status: row.take().ok(),
        status_reason: row.take().ok(),
        way_back: row.take()?,
        left: false,
        line: 0,
    })
}

/// What would come of it.
pub(super) fn plan(db: &Connection, bulk: &Bulk) -> Result<BulkPlan, StoreError> {
    let found = find(db, bulk)?;
    let mut plan = count(bulk, &found);
    for target in found.targets.iter().filter(|target| target.changes(bulk)) {
        let changed = cutoff::count(db, target.key, bulk.action, bulk.at).map_err(target.at_line())?;
        plan.add_certificates(&target.fleet, changed);
    }
    Ok(plan)
}

/// Does it, to all of them or to none. Everything that may refuse it is looked at before anything is written: to take back
/// what many rows have written takes many times as long as writing them. `Conflict` where another plan is `expected`.
pub(super) fn record(
    db: &Connection,
    bulk: &Bulk,
    expected: Option<[u8; 32]>,
    draft: &Draft,
) -> Result<BulkReceipt, StoreError> {
    let found = find(db, bulk)?;
    let plan = count(bulk, &found);
    if expected.is_some_and(|expected| expected != plan.digest) {
        return Err(StoreError::Conflict);
    }
    let mut name = hex(&plan.digest);
    name.truncate(NAME);
    let draft = draft.clone().fact("plan", name);
    let (mut receipt, mut watermarks) = (BulkReceipt { plan, ..BulkReceipt::default() }, BTreeMap::new());
    for target in &found.targets {
        let later = if target.changes(bulk) {
            let done = target.record(db, bulk, &draft).map_err(target.at_line())?;
            receipt.plan.add_certificates(&target.fleet, (done.certificates.into(), done.unreadable.into()));
            receipt.tokens += u64::from(done.tokens);
            done.watermarks
        } else {
            certificates::watermarks(db, target.key, bulk.at)?
        };
        for (issuer, change) in later {
            let last = watermarks.entry(issuer).or_insert(change);
            *last = change.max(*last);
        }
    }
    receipt.watermarks = watermarks.into_iter().collect();
    Ok(receipt)
}

/// Everybody meant, in the order of IDs.
struct Found {
    targets: Vec<Target>,
    /// Devices of this fleet whose names can't be read: they are passed over.
    unreadable: Option<(FleetName, u64)>,
}

/// And what is left of who is cut off already.
fn find(db: &Connection, bulk: &Bulk) -> Result<Found, StoreError> {
    let mut found = find_all(db, &bulk.devices)?;
    for target in &mut found.targets {
        if let Some(status) = target.status.filter(|status| status.is_cut_off()) {
            let of = CutOff { key: target.key, subject: target.subject(), status, way_back: target.way_back };
            target.left = cutoff::is_left(db, &of, bulk.action, bulk.at).map_err(target.at_line())?;
        }
    }
    Ok(found)
}

fn find_all(db: &Connection, devices: &Selection) -> Result<Found, StoreError> {
    match devices {
        Selection::Fleet(name) => {
            let sql = concat!("-- devices_of_fleet()\n", targets!(), "holders.fleet = ?1 ORDER BY holders.id");
            let (targets, unreadable) = readable(db, sql, params![fleets::key(db, name)?], read)?;
            Ok(Found { targets, unreadable: (unreadable > 0).then(|| (name.clone(), unreadable)) })
        }
        Selection::Listed(listed) => {
            let mut targets = Vec::with_capacity(listed.len());
            let mut seen = HashSet::with_capacity(listed.len());
            for one in listed {
                let target = find_one(db, one).map_err(at_line(one.line))?;
                if seen.insert(target.key) {
                    targets.push(target);
                }
            }
            targets.sort_by(|a, b| a.id.cmp(&b.id));
            Ok(Found { targets, unreadable: None })
        }
    }
}

fn find_one(db: &Connection, listed: &Listed) -> Result<Target, StoreError> {
    let sql = concat!("-- device_of_many()\n", targets!(), "holders.kind = 'device' AND holders.id = ?1");
    let found = first(db, sql, params![listed.id], read)?.ok_or(StoreError::NotFound("device"))?;
    match &listed.fleet {
        Some(fleet) if *fleet != found.fleet => Err(StoreError::NotFound("device of this fleet")),
        _ => Ok(Target { line: listed.line, ..found }),
    }
}

/// How many change, and which: everything but their certificates.
fn count(bulk: &Bulk, found: &Found) -> BulkPlan {
    let mut fleets = BTreeMap::<FleetName, BulkCounts>::new();
    // Neither words nor IDs have an end of line in them.
    let mut text = format!("fleetca-bulk-v1\n{}\n{}\n", bulk.action.as_str(), bulk.action.reason());
    for target in &found.targets {
        let counts = match fleets.get_mut(&target.fleet) {
            Some(counts) => counts,
            None => fleets.entry(target.fleet.clone()).or_default(),
        };
        match target.fate(bulk) {
            Fate::Changes => {
                counts.devices += 1;
                text.push_str(target.id.as_str());
                text.push('\n');
            }
            Fate::Stays => counts.unchanged += 1,
            Fate::Undecided => counts.undecided += 1,
        }
    }
    if let Some((fleet, unreadable)) = &found.unreadable {
        fleets.entry(fleet.clone()).or_default().unreadable += unreadable;
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    BulkPlan { digest: hash, fleets }
}

impl Target {
    fn fate(&self, bulk: &Bulk) -> Fate {
        bulk.action.fate(self.status, self.status_reason.as_deref(), bulk.needs_choice, self.left)
    }

    fn changes(&self, bulk: &Bulk) -> bool {
        self.fate(bulk) == Fate::Changes
    }

    fn at_line(&self) -> impl Fn(StoreError) -> StoreError + use<> {
        at_line(self.line)
    }

    fn subject(&self) -> Subject {
        Subject::new(Kind::Device, self.id.clone())
    }

    /// As if it were alone, with an audit record of its own.
    fn record(&self, db: &Connection, bulk: &Bulk, draft: &Draft) -> Result<CutoffReceipt, StoreError> {
        let subject = self.subject();
        let audit = Draft { subject: subject.to_string(), ..draft.clone() };
        if bulk.action == BulkAction::Release {
            let holder = holders::by_subject(db, &subject)?.ok_or(StoreError::NotFound("device"))?;
            let (lineage, at) = (holder.lineage, bulk.at);
            return cutoff::record_release(db, &Release { holder: holder.version, keep: None, lineage, at, audit });
        }
        let (status, reason) = (bulk.action.status(), bulk.action.reason());
        let cutoff = Cutoff { subject, status, reason, status_reason: reason.to_string(), at: bulk.at, audit };
        cutoff::record_cutoff(db, &cutoff)
    }
}

/// A fault of the device at this line; 0 is none.
fn at_line(line: u32) -> impl Fn(StoreError) -> StoreError {
    move |error| if line == 0 { error } else { StoreError::Line(line, Box::new(error)) }
}
