//! By what CRLs are dated: by the clock, unless it has run ahead of the time that went by since somebody held it for
//! right. A date never goes back, so one that lies ahead would stay, and gateways refuse it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    clock::{Clock, TOLERANCE},
    identity::Timestamp,
};

/// How far the clock may drift ahead in a day without having leapt.
const DRIFT: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The clock, held against the time that goes by.
pub(super) struct Dating {
    clock: Arc<dyn Clock>,
    /// What the clock said when it was held for right, and how much time had gone by then.
    right: Mutex<(Timestamp, Duration)>,
    told: AtomicBool,
}

/// A clock that says what it can't have come to by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leap {
    /// What it says.
    pub says: Timestamp,
    /// What it said when it was held for right, and the time that went by since.
    pub expected: Timestamp,
}

impl fmt::Display for Leap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { says, expected } = self;
        write!(
            f,
            "it leapt: it says {says}, but by the time that has gone by it is {expected}, by which CRLs are dated; set it, \
             or, if it is right, run ca-server crl publish --accept-clock"
        )
    }
}

impl Dating {
    /// The clock is held for right.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let right = Mutex::new((clock.now(), clock.elapsed()));
        Self { clock, right, told: AtomicBool::new(false) }
    }

    /// The clock is right, whatever it said before.
    pub(super) fn accept(&self) {
        *self.right.lock().unwrap_or_else(PoisonError::into_inner) = (self.clock.now(), self.clock.elapsed());
    }

    /// By what to date now.
    pub(super) fn now(&self) -> Timestamp {
        self.drift();
        self.leap().map_or_else(|| self.clock.now(), |leap| leap.expected)
    }

    /// The least number of a CRL now: Unix milliseconds by the clock as it is, whatever it is held for.
    pub(super) fn number(&self) -> u64 {
        u64::try_from(self.clock.now().millis()).unwrap_or(0)
    }

    /// Small steps don't add up to a leap: each day the clock is held for right anew, a little ahead of the time at most.
    fn drift(&self) {
        let (says, elapsed) = (self.clock.now(), self.clock.elapsed());
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        let gone_by = elapsed.saturating_sub(right.1);
        if gone_by >= DAY {
            let expected = right.0 + gone_by;
            *right = (says.clamp(expected, expected + DRIFT), elapsed);
        }
    }

    /// Whether the clock runs ahead.
    pub(super) fn leap(&self) -> Option<Leap> {
        let (then, gone_by) = *self.right.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = then + self.clock.elapsed().saturating_sub(gone_by);
        let says = self.clock.now();
        (says > expected + TOLERANCE).then_some(Leap { says, expected })
    }

    /// The same, once for each time that it begins to.
    pub(super) fn new_leap(&self) -> Option<Leap> {
        let leap = self.leap();
        let told = self.told.swap(leap.is_some(), Ordering::SeqCst);
        leap.filter(|_| !told)
    }
}
