//! What gateways run: fetches CRLs, verifies each, and swaps the file that a TLS program loads; once, or whenever there are
//! new ones.
//!
//! The file is never empty, never unverified and never older than what was there, but for one case: an empty one lets
//! everybody into some gateways, a stale or badly signed one nobody into others. With `--probe` the one from before comes
//! back where the gateway does not live with the new one.

mod acknowledge;
mod age;
mod alarm;
mod before;
pub mod crl;
mod form;
mod grpc;
mod http;
mod state;
#[cfg(test)]
mod tests;
mod verdict;
mod watch;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

pub use alarm::Alarm;
pub use crl::CrlError;
pub use form::{Form, FormError, IssuerId};
pub use http::{HttpError, HttpUrl};
use state::State;
use tokio::time::timeout;
use tracing::{info, warn};
use verdict::Verdict;

use crate::{
    certificate::{Certificate, CertificateError, hex, sha256},
    connect::{ConnectError, Connection},
    credential::CredentialError,
    durable::{self, PUBLIC},
    hook::{self, HookError},
    lock::Lock,
    refusal::Refusal,
    renewal::Action,
    trust::{Roots, TrustError},
    wall_time::WallTime,
};

/// Why a CRL file was not brought up to date. Whatever the reason, the file holds the newest CRLs that were verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The credential folder.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The server said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The server fell silent in the middle of its answer.
    #[error("the server took too long to answer")]
    TimedOut,
    /// HTTP failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The trust bundle is not taken.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// An issuer's certificate is not taken.
    #[error("the certificate of issuer {issuer}: {reason}")]
    Issuer {
        /// Which one.
        issuer: IssuerId,
        /// Why not.
        reason: CrlError,
    },
    /// A certificate cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// What came is no series of CRLs.
    #[error("what the server sent is no CRL: {0}")]
    NotCrls(&'static str),
    /// A CRL that cannot be read, or is no complete one.
    #[error("what the server sent is not taken: {0}")]
    Unreadable(CrlError),
    /// A CRL is not taken.
    #[error("CRL of issuer {issuer}: {reason}")]
    Crl {
        /// Whose it is.
        issuer: IssuerId,
        /// Why not.
        reason: CrlError,
    },
    /// A CRL that belongs there is missing.
    #[error("the CRL of issuer {0} is missing, and nothing says that this CA has ended")]
    Missing(IssuerId),
    /// A CRL that doesn't belong there.
    #[error("a CRL of issuer {0} does not belong here")]
    Mixed(IssuerId),
    /// No CRL of an issuing CA.
    #[error("no CRL of an issuing CA came")]
    Empty,
    /// The CRL is verified and written, and older than `--max-age`.
    #[error("the newest CRL of issuer {issuer} is {} s old, more than --max-age", .age.as_secs())]
    TooOld {
        /// Whose it is.
        issuer: IssuerId,
        /// Since its thisUpdate.
        age: Duration,
    },
    /// Nothing new was taken, and what the file holds is older than `--max-age`.
    #[error("{failure}; and the CRL of issuer {issuer} that is kept is {} s old, more than --max-age", .age.as_secs())]
    FailedAndTooOld {
        /// Why nothing new was taken.
        failure: Box<SyncError>,
        /// Whose CRL it is.
        issuer: IssuerId,
        /// Since its thisUpdate.
        age: Duration,
    },
    /// The state file beside the output cannot be read.
    #[error("{}: {source}; remove it to begin anew", path.display())]
    State {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// Another process writes the same file.
    #[error("{} is being written by another process", .0.display())]
    Locked(PathBuf),
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is new, and the hook command failed. It runs again with the next try.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The hook command has run, and then `--probe` failed: what was there before is back.
    #[error("with the new CRLs --probe failed: {probe}; {}", if *.restored { "the file from before is back" } else { "there is no file from before" })]
    Probe {
        /// How it failed.
        probe: HookError,
        /// There was a file before, and it is back.
        restored: bool,
    },
    /// They are the same with which `--probe` has failed.
    #[error("these are the CRLs with which --probe has failed; they are not tried again, the next ones are")]
    KnownBad,
}

impl SyncError {
    /// What a command should tell its caller.
    pub fn action(&self) -> Action {
        match self {
            SyncError::Connect(error) => error.action(),
            SyncError::Refused(refusal) => refusal.action,
            SyncError::Credential(CredentialError::Absent(_)) => Action::Reattest,
            SyncError::FailedAndTooOld { failure, .. } => failure.action(),
            SyncError::Http(error) if error.is_temporary() => Action::Retry { after: None },
            SyncError::Crl { reason, .. } | SyncError::Issuer { reason, .. } if reason.is_temporary() => {
                Action::Retry { after: None }
            }
            SyncError::TimedOut
            | SyncError::TooOld { .. }
            | SyncError::Locked(_)
            | SyncError::Hook(_)
            | SyncError::Probe { .. }
            | SyncError::KnownBad => Action::Retry { after: None },
            SyncError::Http(_)
            | SyncError::Credential(_)
            | SyncError::Trust(_)
            | SyncError::Issuer { .. }
            | SyncError::Certificate(_)
            | SyncError::NotCrls(_)
            | SyncError::Unreadable(_)
            | SyncError::Crl { .. }
            | SyncError::Missing(_)
            | SyncError::Mixed(_)
            | SyncError::Empty
            | SyncError::State { .. }
            | SyncError::Io { .. } => Action::Stop,
        }
    }
}

/// Where CRLs come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// From the server that a credential folder belongs to, over mTLS.
    Folder(PathBuf),
    /// Over plain HTTP, verified under these device roots.
    Http {
        /// The public URL, for example `http://crl.example:7080`.
        url: HttpUrl,
        /// What is trusted.
        roots: Roots,
    },
}

/// How long a fetch may take in all.
const LONGEST_FETCH: Duration = Duration::from_secs(300);

/// One synchronisation.
///
/// ```no_run
/// use enroll_client::{crl_sync::{CrlSync, Form, Source}, trust::Roots};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let sync = CrlSync {
///     source: Source::Http {
///         url: "http://crl.example:7080".parse()?,
///         roots: Roots::from_pem(&std::fs::read("device-root.pem")?)?,
///     },
///     form: Form::Bundle,
///     out: "/etc/nginx/fleet.crl.pem".into(),
///     on_change: Some("systemctl reload nginx".into()),
///     probe: None,
///     max_age: None,
///     on_stale: None,
/// };
/// let synced = sync.run().await?;
/// println!("{}", if synced.changed { "new CRLs" } else { "nothing new" });
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct CrlSync {
    /// Where CRLs come from.
    pub source: Source,
    /// Which ones.
    pub form: Form,
    /// The PEM file to keep.
    pub out: PathBuf,
    /// Run through `sh -c` when the file has changed, with its path in `FLEETCA_FILE`.
    pub on_change: Option<String>,
    /// Run through `sh -c` after that, in the same way: where it fails, the file from before comes back.
    pub probe: Option<String>,
    /// Fail when a thisUpdate of an issuing CA is older, once all that came is verified and written.
    pub max_age: Option<Duration>,
    /// Run through `sh -c`, in the same way, where that is so: the gateway is to let nobody in any more. `on_change` waits
    /// until what is held is younger.
    pub on_stale: Option<String>,
}

/// What a synchronisation found.
#[derive(Clone, Debug)]
pub struct Synced {
    /// The file is another one than before.
    pub changed: bool,
    /// What it holds.
    pub crls: Vec<Held>,
}

/// One CRL of the file.
#[derive(Clone, Debug)]
pub struct Held {
    /// Whose it is.
    pub issuer: IssuerId,
    /// Its number, decimal; hexadecimal after `0x` where it is longer than any number of this CA.
    pub number: String,
    /// How many certificates it revokes.
    pub entries: usize,
    /// When it was made.
    pub this_update: WallTime,
    /// When the next one is due at the latest.
    pub next_update: WallTime,
    /// It is a root's, not an issuing CA's.
    pub is_root: bool,
}

/// What was fetched, and by what it is to be judged.
struct Fetched {
    crls: Vec<Vec<u8>>,
    /// The CA's signature over the head of each, where one came: to be kept, and shown again.
    head_signatures: Vec<Vec<u8>>,
    roots: Roots,
    /// Certificates of issuing CAs; not verified yet.
    issuers: Vec<Certificate>,
    /// Whether `issuers` are all that there are: then no other may appear, and none of the bundle's may be missing.
    is_closed: bool,
    etag: Option<String>,
}

/// The file, and what is remembered of it, while its lock is held.
struct Desk {
    _lock: Lock,
    state_path: PathBuf,
    state: State,
    /// `None`: it is not there.
    file: Option<Vec<u8>>,
}

impl Desk {
    /// The file's content, if it is as the state describes it.
    fn known(&self) -> Option<&[u8]> {
        self.file.as_deref().filter(|file| self.state.file_sha256 == hex(&sha256(file)))
    }

    /// What may be said of the file: nothing, where it is not as the state describes it.
    fn shown(&self) -> State {
        let mut state = self.state.clone();
        if self.known().is_none() {
            state.crls.values_mut().for_each(|crl| crl.in_file = false);
        }
        state
    }
}

impl CrlSync {
    /// Acknowledges what is held, fetches, verifies, swaps, tells, and acknowledges that.
    pub async fn run(&self) -> Result<Synced, SyncError> {
        let mut desk = self.begin().await?;
        let outcome = self.turn(&mut desk, LONGEST_FETCH).await;
        age::warn_of_age(&desk.state);
        self.with_age(outcome, &mut desk).await
    }

    async fn begin(&self) -> Result<Desk, SyncError> {
        match self.open() {
            Ok(desk) => Ok(desk),
            Err(failure) => Err(self.with_age_unopened(failure).await),
        }
    }

    fn open(&self) -> Result<Desk, SyncError> {
        let _lock = self.lock()?;
        let state_path = self.beside(".state.json");
        let state = State::load(&state_path)?;
        let file = durable::read_if_there(&self.out).map_err(self.io(&self.out))?;
        Ok(Desk { _lock, state_path, state, file })
    }

    async fn turn(&self, desk: &mut Desk, longest_fetch: Duration) -> Result<Synced, SyncError> {
        let fetch = async {
            match &self.source {
                Source::Folder(dir) => {
                    let (connection, fetched) = grpc::fetch(dir, &self.form, &desk.shown()).await?;
                    Ok((Some(connection), fetched))
                }
                Source::Http { url, roots } => {
                    if desk.state.crls.is_empty() {
                        warn!(%url, "no number is known from before: who stands between may send an old CRL. Begin over mTLS (--dir)");
                    }
                    Ok((None, http::fetch(url, roots, &self.form, desk.known(), &desk.state).await?))
                }
            }
        };
        // Whoever answers a drop at a time must not keep the next run, and its alarm, from beginning.
        let fetched = timeout(longest_fetch, fetch).await.unwrap_or(Err(SyncError::TimedOut));
        match fetched {
            Ok((connection, fetched)) => self.take(desk, fetched, connection.as_ref()).await,
            Err(failure) => {
                self.finish(desk).await?;
                Err(failure)
            }
        }
    }

    /// What is begun and not done: the gateway's program is told, and asked.
    async fn finish(&self, desk: &mut Desk) -> Result<(), SyncError> {
        let begun = desk.state.hook_pending && desk.file.is_some() && self.tells() && !self.is_stopped(&desk.state);
        if begun { self.announce(desk).await } else { Ok(()) }
    }

    /// Judges what came, swaps the file, and tells whom it concerns: the gateway's program, then the CA.
    async fn take(
        &self,
        desk: &mut Desk,
        fetched: Fetched,
        connection: Option<&Connection>,
    ) -> Result<Synced, SyncError> {
        let verdict = Verdict::of(&fetched, &self.form, &desk.state, WallTime::now())?;
        let changed = desk.file.as_deref() != Some(verdict.pem.as_bytes());
        let mut state = verdict.state(&desk.state, &self.form);
        state.source = self.source_text();
        state.etag = fetched.etag;
        state.hook_pending = self.tells() && (changed || desk.state.hook_pending);
        if changed && self.probe.is_some() && state.file_sha256 == desk.state.refused {
            // That the file from before is back may still have to be told.
            self.finish(desk).await?;
            return Err(SyncError::KnownBad);
        }
        self.store(desk, state, changed.then(|| verdict.pem.into_bytes()))?;
        self.finish(desk).await?;
        if let Some(connection) = connection
            && let Err(error) = acknowledge::acknowledge(connection, &desk.shown()).await
        {
            // What is held now is acknowledged by the next run, before anything else.
            warn!(%error, "the CRLs are in place, but could not be acknowledged");
        }
        self.check_age(&verdict.held)?;
        Ok(Synced { changed, crls: verdict.held })
    }

    /// The state first: its numbers, and that the hook is to run, must not be lost once the file is new.
    fn store(&self, desk: &mut Desk, state: State, file: Option<Vec<u8>>) -> Result<(), SyncError> {
        if file.is_some() || self.probe.is_none() {
            self.keep_before(desk)?;
        }
        if state != desk.state {
            self.remember(desk, state)?;
        }
        if let Some(file) = file {
            durable::replace(&self.out, &file, PUBLIC).map_err(self.io(&self.out))?;
            info!(file = %self.out.display(), "CRLs swapped");
            desk.file = Some(file);
        }
        Ok(())
    }

    fn remember(&self, desk: &mut Desk, state: State) -> Result<(), SyncError> {
        durable::replace(&desk.state_path, &state.to_json(), PUBLIC).map_err(self.io(&desk.state_path))?;
        desk.state = state;
        Ok(())
    }

    /// The gateway's program takes the file in, and then is asked whether it lives.
    async fn announce(&self, desk: &mut Desk) -> Result<(), SyncError> {
        if let Some(command) = &self.on_change {
            hook::run(command, &self.out).await?;
        }
        if let Some(command) = &self.probe {
            if let Err(probe) = hook::run(command, &self.out).await {
                let restored = self.bring_back(desk).await?;
                return Err(SyncError::Probe { probe, restored });
            }
            self.forget_before()?;
        }
        self.remember(desk, State { hook_pending: false, ..desk.state.clone() })
    }

    /// Whether the gateway's program is told, or asked.
    fn tells(&self) -> bool {
        self.on_change.is_some() || self.probe.is_some()
    }

    fn lock(&self) -> Result<Lock, SyncError> {
        let path = self.beside(".lock");
        let lock = Lock::take(&path).map_err(self.io(&path))?;
        lock.ok_or_else(|| SyncError::Locked(self.out.clone()))
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.out.file_name().unwrap_or_default().to_owned();
        name.push(suffix);
        self.out.with_file_name(name)
    }

    fn source_text(&self) -> String {
        match &self.source {
            Source::Folder(_) => "grpc".into(),
            Source::Http { url, .. } => url.to_string(),
        }
    }

    fn io(&self, path: &Path) -> impl Fn(io::Error) -> SyncError + use<> {
        let path = path.to_owned();
        move |source| SyncError::Io { path: path.clone(), source }
    }
}
