//! When to renew, how long to wait after a failure, and what a failure means. Pure: clock and randomness are
//! arguments.

use std::time::Duration;

use fleetca_proto::v1;
use serde::{Deserialize, Serialize};
use tonic::Code;

use crate::wall_time::WallTime;

/// The interval in which to renew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Its first instant.
    pub not_before: WallTime,
    /// Its last instant, never before the first.
    pub not_after: WallTime,
}

impl Window {
    /// From the wire; `None` where an end is missing or they are the wrong way round.
    pub fn from_wire(wire: &v1::RenewalWindow) -> Option<Self> {
        let window = Self { not_before: wire.not_before?.into(), not_after: wire.not_after?.into() };
        (window.not_before <= window.not_after).then_some(window)
    }

    /// The default for a certificate's validity: from one third of it to two thirds.
    pub fn of_validity(not_before: WallTime, not_after: WallTime) -> Self {
        let third = not_before.until(not_after) / 3;
        Self { not_before: not_before + third, not_after: not_before + third * 2 }
    }

    /// One instant of the window, ends included. `random` is 64 uniformly random bits.
    ///
    /// ```
    /// use enroll_client::{renewal::Window, wall_time::WallTime};
    /// let window = Window { not_before: WallTime::from_unix(100), not_after: WallTime::from_unix(200) };
    /// assert_eq!(window.draw(0), WallTime::from_unix(100));
    /// assert_eq!(window.draw(u64::MAX), WallTime::from_unix(200));
    /// ```
    pub fn draw(&self, random: u64) -> WallTime {
        let seconds = self.not_before.until(self.not_after).as_secs();
        self.not_before + Duration::from_secs(scale(random, seconds.saturating_add(1)))
    }
}

/// What a window newly told by the CA does to the instant that is kept: `Some` new instant where the CA pulls the
/// renewal ahead, `None` where the kept one stands. A renewal is never put off.
pub fn reconsider(kept: WallTime, window: Window, random: u64) -> Option<WallTime> {
    (window.not_after < kept).then(|| window.draw(random))
}

/// Exponential backoff with full jitter: anything between nothing and the limit, which doubles with each failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The limit after the first failure.
    pub base: Duration,
    /// No limit grows beyond this.
    pub cap: Duration,
}

impl Backoff {
    /// For a certificate of this validity: at most half an hour, and short enough for short-lived certificates to get
    /// many tries in.
    pub fn for_validity(validity: Duration) -> Self {
        let cap = (validity / 24).clamp(Duration::from_secs(5), Duration::from_secs(30 * 60));
        Self { base: (cap / 64).max(Duration::from_secs(1)), cap }
    }

    /// How long to wait after failure number `attempt` (from 0) in a row. `random` is 64 uniformly random bits.
    pub fn delay(&self, attempt: u32, random: u64) -> Duration {
        let limit = self.base.saturating_mul(2u32.saturating_pow(attempt)).min(self.cap);
        Duration::from_millis(scale(random, u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).saturating_add(1)))
    }
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Try the same again, not before this time has passed.
    Retry {
        /// What the server asked for, at most a day.
        after: Option<Duration>,
    },
    /// The credential is of no use any more: enroll again.
    Reattest,
    /// Refused for good: somebody has to look.
    Stop,
}

/// What a refusal carries beside its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// `google.rpc.ErrorInfo.reason`, where the domain is this CA's.
    pub reason: Option<String>,
    /// Its metadata `action`.
    pub action: Option<String>,
    /// `google.rpc.RetryInfo.retry_delay`.
    pub retry_after: Option<Duration>,
}

/// What a gRPC status means. The server's `action` decides; a reason known here helps where it is missing; a status
/// without either never came from the CA's own logic, and can be tried again.
///
/// ```
/// use enroll_client::renewal::{Action, Details, classify};
/// let details = Details { reason: Some("SOMETHING_NEW".into()), action: Some("reattest".into()), retry_after: None };
/// assert_eq!(classify(tonic::Code::PermissionDenied, &details), Action::Reattest);
/// assert_eq!(classify(tonic::Code::Unavailable, &Details::default()), Action::Retry { after: None });
/// ```
pub fn classify(code: Code, details: &Details) -> Action {
    let retry = Action::Retry { after: details.retry_after.map(|after| after.min(Duration::from_secs(86_400))) };
    match details.action.as_deref() {
        Some("retry") => return retry,
        Some("reattest") => return Action::Reattest,
        Some("stop") => return Action::Stop,
        _ => {}
    }
    match details.reason.as_deref() {
        Some("CERTIFICATE_EXPIRED") => Action::Reattest,
        None => retry,
        Some(_) if details.retry_after.is_some() => retry,
        Some(_) => match code {
            Code::Unavailable
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Internal
            | Code::Unknown
            | Code::DataLoss
            | Code::Ok => retry,
            Code::Unauthenticated => Action::Reattest,
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented => Action::Stop,
        },
    }
}

/// `random` of 2^64, as a number below `bound`.
fn scale(random: u64, bound: u64) -> u64 {
    u64::try_from((u128::from(random) * u128::from(bound)) >> 64).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(from: i64, to: i64) -> Window {
        Window { not_before: WallTime::from_unix(from), not_after: WallTime::from_unix(to) }
    }

    #[test]
    fn a_window_that_comes_earlier_pulls_the_renewal_ahead() {
        let kept = WallTime::from_unix(1000);
        assert_eq!(reconsider(kept, window(0, 10), 0), Some(WallTime::from_unix(0)));
        assert_eq!(reconsider(kept, window(900, 1000), 0), None);
        assert_eq!(reconsider(kept, window(2000, 3000), 0), None);
    }

    #[test]
    fn the_backoff_of_a_day_ends_at_half_an_hour_and_that_of_minutes_at_seconds() {
        assert_eq!(Backoff::for_validity(Duration::from_secs(86_400)).cap, Duration::from_secs(1800));
        assert_eq!(Backoff::for_validity(Duration::from_secs(300)).cap, Duration::from_millis(12_500));
    }

    #[test]
    fn a_status_that_is_not_the_authoritys_can_be_tried_again() {
        for code in [Code::Unimplemented, Code::PermissionDenied, Code::Unknown] {
            assert_eq!(classify(code, &Details::default()), Action::Retry { after: None });
        }
    }

    #[test]
    fn the_servers_action_decides_even_for_a_reason_that_is_known() {
        let details =
            Details { reason: Some("CERTIFICATE_EXPIRED".into()), action: Some("stop".into()), retry_after: None };
        assert_eq!(classify(Code::Unauthenticated, &details), Action::Stop);
    }

    #[test]
    fn a_reason_without_an_action_is_judged_by_its_code() {
        let details = |retry_after| Details { reason: Some("NEW".into()), action: None, retry_after };
        assert_eq!(classify(Code::PermissionDenied, &details(None)), Action::Stop);
        assert_eq!(classify(Code::Unavailable, &details(None)), Action::Retry { after: None });
        let second = Some(Duration::from_secs(1));
        assert_eq!(classify(Code::PermissionDenied, &details(second)), Action::Retry { after: second });
    }

    proptest! {
        #[test]
        fn an_instant_is_drawn_inside_the_window(from in 0i64..1 << 40, span in 0i64..1 << 30, random: u64) {
            let window = window(from, from + span);
            let drawn = window.draw(random);
            prop_assert!(window.not_before <= drawn && drawn <= window.not_after);
        }

        #[test]
        fn a_delay_is_never_longer_than_its_limit(attempt: u32, random: u64) {
            let backoff = Backoff { base: Duration::from_secs(1), cap: Duration::from_secs(600) };
            prop_assert!(backoff.delay(attempt, random) <= backoff.cap);
            if attempt < 9 {
                prop_assert!(backoff.delay(attempt, random) <= backoff.base * 2u32.pow(attempt));
            }
        }

        #[test]
        fn a_validity_in_any_order_gives_a_window_in_order(from: i64, to: i64) {
            let window = Window::of_validity(WallTime::from_unix(from), WallTime::from_unix(to));
            prop_assert!(window.not_before <= window.not_after);
        }
    }
}
