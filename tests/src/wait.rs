//! Waiting for a fact: poll for it with a deadline, never sleep for a guessed time.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Long enough for anything that should happen at once, on a machine that is busy.
pub const SOON: Duration = Duration::from_secs(30);

const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Looks again and again until `fact` gives a value, and panics with `what` when `limit` has passed.
pub fn until<T>(limit: Duration, what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = fact() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain: {what}");
        thread::sleep(BETWEEN_LOOKS);
    }
}

/// [`until`] for a fact that has no value.
pub fn until_true(limit: Duration, what: &str, mut fact: impl FnMut() -> bool) {
    until(limit, what, || fact().then_some(()));
}
