//! So many times a second, and no more.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// For how long one may save up.
const SAVED: Duration = Duration::from_secs(1);

/// A budget that fills up as time goes by.
pub(super) struct Budget {
    each: Duration,
    /// When all that was taken would have been earned.
    paid: Mutex<Duration>,
}

impl Budget {
    /// So many a second.
    pub(super) fn a_second(times: u32) -> Self {
        Self { each: Duration::from_secs(1) / times, paid: Mutex::default() }
    }

    /// Takes one, at this time of a clock that nobody sets; `false`: there is none left.
    pub(super) fn take(&self, now: Duration) -> bool {
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let next = (*paid).max(now) + self.each;
        let affordable = next <= now + SAVED;
        if affordable {
            *paid = next;
        }
        affordable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_what_it_says_a_second_and_no_more_is_saved_up() {
        let budget = Budget::a_second(100);
        let spend = |at: u64| (0..1000).filter(|_| budget.take(Duration::from_millis(at))).count();
        assert_eq!([spend(5_000), spend(5_000), spend(5_500), spend(60_000)], [100, 0, 50, 100]);
    }
}
