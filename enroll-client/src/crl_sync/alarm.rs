//! What is told of a failure of the watch: when it was, why, and what the file holds, so that one line says since which CRL
//! a gateway stands still.

use std::fmt;

use super::{
    SyncError,
    crl::CrlNumber,
    state::{Kept, State},
};
use crate::wall_time::WallTime;

/// How many issuers a line names.
const NAMED: usize = 10;

/// A try that failed.
#[derive(Debug)]
pub struct Alarm<'a> {
    why: &'a SyncError,
    at: WallTime,
    shown: State,
}

impl<'a> Alarm<'a> {
    /// Of a failure now. `shown` says what the file holds.
    pub(super) fn new(why: &'a SyncError, shown: State) -> Self {
        Self { why, at: WallTime::now(), shown }
    }

    /// Why it failed.
    pub fn why(&self) -> &'a SyncError {
        self.why
    }
}

impl fmt::Display for Alarm<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; ", self.at, self.why)?;
        let held: Vec<_> = self.shown.crls.iter().filter(|(_, crl)| crl.in_file && !crl.is_root).collect();
        if held.is_empty() {
            return f.write_str("no CRL is held that was verified");
        }
        f.write_str("held: ")?;
        for (at, (issuer, crl)) in held.iter().take(NAMED).enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}issuer {issuer}: number {}, made {}", number(&crl.number), crl.this_update)?;
            if let Some(seen) = taken_off(crl) {
                write!(f, " ({} was taken off again)", number(seen))?;
            }
        }
        match held.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

/// A CRL's number as people read it.
pub(super) fn number(hex: &str) -> CrlNumber {
    CrlNumber::from_hex(hex)
}

fn taken_off(crl: &Kept) -> Option<&str> {
    crl.seen.as_deref().filter(|seen| number(seen) > number(&crl.number))
}
