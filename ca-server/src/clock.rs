//! Where the time comes from: the machine's clock, or a test's hand.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::time::{ClockId, clock_gettime};

use crate::identity::Timestamp;

/// How far two tellings of the time may lie apart before one of them is held for wrong: less is a clock that was set
/// right.
pub const TOLERANCE: Duration = Duration::from_secs(600);

/// Counts while the machine sleeps, too, where there is such a clock.
#[cfg(target_os = "linux")]
const STEADY: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const STEADY: ClockId = ClockId::Monotonic;

/// A source of wall-clock time. It may step back; who can't bear that keeps the last value.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Now.
    fn now(&self) -> Timestamp;

    /// How much time has gone by since some moment of the past. Nobody sets it: it tells when [`Clock::now`] has leapt.
    fn elapsed(&self) -> Duration;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let millis = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        };
        Timestamp::from_millis(millis)
    }

    fn elapsed(&self) -> Duration {
        let since = clock_gettime(STEADY);
        Duration::new(u64::try_from(since.tv_sec).unwrap_or(0), u32::try_from(since.tv_nsec).unwrap_or(0))
    }
}

/// A clock that stands until it is set: for tests of everything that has to do with time.
#[derive(Debug)]
pub struct ManualClock(Mutex<(Timestamp, Duration)>);

impl ManualClock {
    /// A clock that says `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(Mutex::new((now, Duration::ZERO)))
    }

    /// From here on it says `now`: as much time has gone by as lies between.
    pub fn set(&self, now: Timestamp) {
        let mut hands = self.hands();
        *hands = (now, hands.1 + now.since(hands.0));
    }

    /// From here on it says `now`, and no time has gone by: somebody has set it.
    pub fn leap(&self, now: Timestamp) {
        self.hands().0 = now;
    }

    fn hands(&self) -> std::sync::MutexGuard<'_, (Timestamp, Duration)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.hands().0
    }

    fn elapsed(&self) -> Duration {
        self.hands().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_that_goes_by_is_counted_beside_the_clock() {
        let before = SystemClock.elapsed();
        assert!(before > Duration::ZERO && SystemClock.elapsed() >= before);
        let clock = ManualClock::new(Timestamp::from_secs(100));
        clock.set(Timestamp::from_secs(130));
        clock.leap(Timestamp::from_secs(900));
        assert_eq!((clock.now(), clock.elapsed()), (Timestamp::from_secs(900), Duration::from_secs(30)));
    }
}
