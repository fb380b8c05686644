//! Which of many rows can't be recorded, and why: what it claims is another row's, or somebody's already. Whoever may
//! register is told whose.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, params};

use crate::{
    identity::{FleetName, HardwareId, Thumbprint},
    inventory::quota::Exceeded,
    store::{
        Registration, StoreError,
        sqlite::{
            holders,
            query::{column, first},
            quotas,
        },
    },
};

/// What the rows before have taken, and on which line.
#[derive(Default)]
pub(super) struct Seen<'a> {
    ids: HashMap<String, (u32, &'a str)>,
    hardware: HashMap<&'a HardwareId, u32>,
    keys: HashMap<Thumbprint, u32>,
    /// How many devices each fleet has room for.
    room: BTreeMap<&'a FleetName, u64>,
}

impl<'a> Seen<'a> {
    /// Refuses a row that can't be recorded after those before it.
    pub(super) fn refuse(&mut self, db: &Connection, row: &'a Registration) -> Result<(), StoreError> {
        let subject = &row.holder.subject;
        let (kind, id, line) = (subject.kind.as_str(), subject.id.as_str(), row.line);
        if let Some((line, other)) = self.ids.insert(subject.id.folded(), (line, id)) {
            let case = if other == id { "" } else { ", in another case" };
            return Err(StoreError::Taken(format!("{kind} {id} is in the same file, on line {line}{case}")));
        }
        if let Some(holder) = holders::by_folded(db, subject.kind, &subject.id.folded())? {
            let known = holder.subject.id;
            let case = if known == subject.id { String::new() } else { format!(", as {known}") };
            return Err(StoreError::Taken(format!("{kind} {id} exists already{case}")));
        }
        for own in &row.hardware {
            let what = || format!("{}:{own}, of {id},", own.kind());
            in_file(self.hardware.insert(own, line), what)?;
            held(owner_of_hardware(db, own)?, what)?;
        }
        for own in &row.keys {
            let own = own.key.thumbprint();
            let what = || format!("the key {own}, of {id},");
            in_file(self.keys.insert(own, line), what)?;
            held(owner_of_key(db, &own)?, what)?;
        }
        let Some(fleet) = &row.holder.fleet else { return Ok(()) };
        if !self.room.contains_key(fleet) {
            self.room.insert(fleet, quotas::room_for_devices(db, fleet)?);
        }
        let room = self.room.entry(fleet).or_default();
        *room = room.checked_sub(1).ok_or(StoreError::Quota(Exceeded::Devices))?;
        Ok(())
    }
}

fn in_file(before: Option<u32>, what: impl Fn() -> String) -> Result<(), StoreError> {
    match before {
        None => Ok(()),
        // One device, without a file.
        Some(0) => Err(StoreError::Taken(format!("{} is given twice", what()))),
        Some(line) => Err(StoreError::Taken(format!("{} is in the same file, on line {line}", what()))),
    }
}

fn held(owner: Option<String>, what: impl Fn() -> String) -> Result<(), StoreError> {
    owner.map_or(Ok(()), |owner| Err(StoreError::Taken(format!("{} is device {owner}'s already", what()))))
}

/// Whose hardware this is: retired or not, it is one device's for ever.
pub(super) fn owner_of_hardware(db: &Connection, id: &HardwareId) -> Result<Option<String>, StoreError> {
    let sql = "-- owner_of_hardware()\nSELECT holders.id FROM identities JOIN holders ON holders.key = identities.holder \
               WHERE identities.kind = ?1 AND identities.identity = ?2";
    first(db, sql, params![id.kind(), id.to_string()], column)
}

/// Whose registered key this is.
pub(super) fn owner_of_key(db: &Connection, key: &Thumbprint) -> Result<Option<String>, StoreError> {
    let sql = "-- owner_of_key()\nSELECT holders.id FROM registered_keys \
               JOIN holders ON holders.key = registered_keys.holder WHERE registered_keys.thumbprint = ?1";
    first(db, sql, params![key.as_bytes()], column)
}
