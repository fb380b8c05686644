//! The agent: keeps one credential alive for years. It renews at the instant drawn, asks now and then whether the CA
//! wants that earlier, waits with jitter after failures, and ends only when the CA says so or it is told to.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use fleetca_proto::v1::GetRenewalInfoRequest;
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::{
    adoption::random,
    connect::Connection,
    credential::{Credential, CredentialError, LastError, LockedFolder},
    enroll,
    flow::{FlowError, Observer},
    hook,
    refusal::Refusal,
    renew,
    renewal::{Action, Backoff, Window, reconsider},
    wall_time::WallTime,
};

/// The wall clock is looked at this often: it may be set while we wait.
const CLOCK_CHECK: Duration = Duration::from_secs(60);
/// A wall clock that is this far from where it should be has been set.
const CLOCK_STEP: Duration = Duration::from_secs(30);
const TURN_PATIENCE: Duration = Duration::from_secs(300);
const LONGEST_POLL: Duration = Duration::from_secs(3600);

/// The agent's settings.
#[derive(Clone, Debug, Default)]
pub struct Agent {
    /// Run through `sh -c` once a new credential is in force, with the path of `credential.pem` in `FLEETCA_FILE`.
    pub on_renew: Option<String>,
}

impl Agent {
    /// Runs until `stop` is ready (`Ok`), or until the CA wants no further try (`Err`): see
    /// [`FlowError::agent_action`].
    ///
    /// ```no_run
    /// use enroll_client::{agent::Agent, credential::LockedFolder};
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let folder = LockedFolder::open("/var/lib/fleetca".as_ref())?;
    /// let agent = Agent { on_renew: Some("systemctl reload mosquitto".into()) };
    /// agent.run(&folder, std::future::pending()).await?;
    /// # Ok(()) }
    /// ```
    pub async fn run(&self, folder: &LockedFolder, stop: impl Future<Output = ()>) -> Result<(), FlowError> {
        tokio::select! {
            biased;
            () = stop => Ok(()),
            ended = self.keep_alive(folder) => ended,
        }
    }

    async fn keep_alive(&self, folder: &LockedFolder) -> Result<(), FlowError> {
        let mut next_poll = Instant::now();
        let mut failures = 0;
        loop {
            // Every step is durable before the next, so that a turn may be given up anywhere.
            let turn = timeout(TURN_PATIENCE, turn_or_recovery(folder, &mut next_poll)).await;
            let pause = match turn.unwrap_or(Err(FlowError::TimedOut)) {
                Ok(()) => {
                    failures = 0;
                    folder.load().map_or(LONGEST_POLL, |credential| longest_rest(validity(&credential)))
                }
                Err(failure) => {
                    let pause = pause_after(folder, &failure, failures);
                    remember(folder, &failure);
                    failures = failures.saturating_add(1);
                    match pause {
                        Some(pause) => pause?,
                        None => return Err(failure),
                    }
                }
            };
            let announced = self.announce(folder).await;
            let renew_at = folder.load().ok().map(|credential| credential.state().renew_at);
            let next_poll = next_poll.saturating_duration_since(Instant::now());
            wait(rest(pause, renew_at, WallTime::now(), next_poll, announced)).await;
        }
    }

    /// Tells programs of a new credential. `false` where that has to be tried again.
    async fn announce(&self, folder: &LockedFolder) -> bool {
        let (Some(command), Ok(credential)) = (&self.on_renew, folder.load()) else { return true };
        if credential.state().announced || credential.state().confirm_required {
            return true;
        }
        let told = hook::run(command, &folder.dir().join("current/credential.pem")).await;
        if let Err(failure) = &told {
            warn!(%failure, "--on-renew failed, and is tried again in a minute");
        }
        let error = told.err().map(|failure| LastError { at: WallTime::now(), message: failure.to_string() });
        let announced = error.is_none();
        let kept = folder.update_state(|state| (state.announced, state.on_renew_error) = (announced, error));
        kept.inspect_err(|error| warn!(%error)).is_ok() && announced
    }
}

/// A turn; where the certificate turns out to have expired, or to be of a CA that was revoked, the way back with it.
async fn turn_or_recovery(folder: &LockedFolder, next_poll: &mut Instant) -> Result<(), FlowError> {
    let failure = match turn(folder, next_poll).await {
        Err(FlowError::Refused(refusal)) if refusal.may_come_back() => refusal,
        outcome => return outcome,
    };
    warn!(why = %failure, "the certificate is worth nothing any more: asking to come back with it");
    match enroll::recover(folder, Observer::none()).await {
        Ok(credential) => {
            info!(id = %credential.id(), not_after = %credential.leaf().not_after(), "back, with a new certificate");
            Ok(())
        }
        // A server that knows no such way, or wants none of it: what became of the certificate is the news.
        Err(FlowError::Refused(refusal)) if refusal.action == Action::Stop => Err(failure.into()),
        Err(other) => Err(other),
    }
}

/// What there is to do now: a confirmation outstanding, a renewal due, a question to the CA.
async fn turn(folder: &LockedFolder, next_poll: &mut Instant) -> Result<(), FlowError> {
    if renew::settle(folder, Observer::none()).await? {
        forget_failure(folder)?;
    }
    if folder.load()?.state().renew_at <= WallTime::now() {
        return renew_now(folder).await;
    }
    if *next_poll <= Instant::now() {
        let is_due = poll(folder).await?;
        renew::settle(folder, Observer::none()).await?;
        if is_due {
            renew_now(folder).await?;
        }
        *next_poll = Instant::now() + poll_interval(&folder.load()?, random()?);
    }
    Ok(())
}

async fn renew_now(folder: &LockedFolder) -> Result<(), FlowError> {
    let credential = renew::renew(folder, Observer::none()).await?;
    let state = credential.state();
    info!(
        id = %state.id,
        serial = credential.leaf().serial(),
        not_after = %credential.leaf().not_after(),
        renew_at = %state.renew_at,
        "renewed"
    );
    Ok(())
}

/// Asks when to renew. `true` where that is now, by the CA's clock.
async fn poll(folder: &LockedFolder) -> Result<bool, FlowError> {
    let credential = folder.load()?;
    let connection = Connection::with_credential(&credential).await?;
    let answer = connection.renewal().get_renewal_info(GetRenewalInfoRequest {}).await.map_err(Refusal::from)?;
    let info = answer.into_inner();
    let window = info.renewal_window.as_ref().and_then(Window::from_wire);
    let random = random()?;
    folder.update_state(|state| {
        state.last_error = None;
        // A CA restored from a backup may have forgotten our confirmation.
        state.confirm_required |= info.confirm_required;
        if let Some((window, instant)) = window.and_then(|w| Some((w, reconsider(state.renew_at, w, random)?))) {
            info!(renew_at = %instant, "the CA wants the renewal earlier");
            state.renewal_window = window;
            state.renew_at = instant;
        }
    })?;
    let now = info.server_time.map_or_else(WallTime::now, |time| WallTime::from(time).max(WallTime::now()));
    Ok(folder.load()?.state().renew_at <= now)
}

/// How long to wait after a failure; `None` where no further try is wanted.
fn pause_after(folder: &LockedFolder, failure: &FlowError, failures: u32) -> Option<Result<Duration, FlowError>> {
    match failure.agent_action() {
        Action::Retry { after } => {
            let backoff = Backoff::for_validity(folder.load().map_or(LONGEST_POLL, |credential| validity(&credential)));
            let random = match random() {
                Ok(random) => random,
                Err(error) => return Some(Err(error.into())),
            };
            let delay = after.unwrap_or_default() + backoff.delay(failures, random);
            warn!(%failure, ?delay, "failed, and is tried again");
            Some(Ok(delay))
        }
        Action::Reattest | Action::Stop => {
            error!(%failure, "gives up");
            None
        }
    }
}

/// How long the agent rests at most after a turn in which all was well. Where our clock is ahead of the CA's, the next
/// instant of renewal may seem to have passed, and is nothing to go by: three looks in a validity leave none to end.
fn longest_rest(validity: Duration) -> Duration {
    LONGEST_POLL.min(validity / 3)
}

/// The pause, but not beyond the next thing that is due. Pure.
fn rest(pause: Duration, renew_at: Option<WallTime>, now: WallTime, next_poll: Duration, announced: bool) -> Duration {
    let renewal = renew_at.filter(|renew_at| *renew_at > now).map(|renew_at| now.until(renew_at));
    let poll = (!next_poll.is_zero()).then_some(next_poll);
    let hook = (!announced).then_some(CLOCK_CHECK);
    [renewal, poll, hook].into_iter().flatten().fold(pause, Duration::min)
}

/// Waits; less where the wall clock is set meanwhile, or the machine slept.
async fn wait(pause: Duration) {
    let (started, wall) = (Instant::now(), WallTime::now());
    loop {
        let left = pause.saturating_sub(started.elapsed());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(CLOCK_CHECK)).await;
        let (expected, now) = (wall + started.elapsed(), WallTime::now());
        if expected.until(now).max(now.until(expected)) > CLOCK_STEP {
            info!(%now, "the clock has been set");
            return;
        }
    }
}

fn validity(credential: &Credential) -> Duration {
    credential.leaf().not_before().until(credential.leaf().not_after())
}

/// Between half of the interval and the whole of it: hourly for a day's certificate.
fn poll_interval(credential: &Credential, random: u64) -> Duration {
    let interval = (validity(credential) / 24).clamp(CLOCK_CHECK, LONGEST_POLL);
    let half = Backoff { base: interval / 2, cap: interval / 2 };
    interval / 2 + half.delay(0, random)
}

fn remember(folder: &LockedFolder, failure: &FlowError) {
    let error = LastError { at: WallTime::now(), message: failure.to_string() };
    // Where the folder itself is the trouble, the log has to do.
    let _ = folder.update_state(|state| state.last_error = Some(error));
}

fn forget_failure(folder: &LockedFolder) -> Result<(), CredentialError> {
    folder.update_state(|state| state.last_error = None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// So many minutes after an instant that stands for now.
    fn at(minutes: i64) -> WallTime {
        WallTime::from_unix(1_800_000_000 + 60 * minutes)
    }

    #[test]
    fn an_agent_whose_clock_is_ahead_looks_again_before_its_certificate_ends() {
        // By this clock the certificate ended long ago, and its renewal is overdue, right after it was issued.
        let overdue = Some(at(-120));
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        for (validity, most) in [(minutes(6), minutes(2)), (24 * HOUR, HOUR), (Duration::ZERO, Duration::ZERO)] {
            assert_eq!(rest(longest_rest(validity), overdue, at(0), Duration::ZERO, true), most);
        }
    }

    #[test]
    fn a_rest_ends_with_the_first_thing_that_is_due() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        assert_eq!(rest(HOUR, Some(at(90)), at(0), minutes(70), true), HOUR);
        assert_eq!(rest(HOUR, Some(at(20)), at(0), minutes(30), true), minutes(20));
        assert_eq!(rest(HOUR, Some(at(50)), at(0), minutes(30), true), minutes(30));
        assert_eq!(rest(HOUR, Some(at(50)), at(0), minutes(30), false), CLOCK_CHECK);
        assert_eq!(rest(minutes(2), None, at(0), Duration::ZERO, true), minutes(2));
    }
}
