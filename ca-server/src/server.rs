//! A running CA: opens what `init` made, puts the rooms together, and serves until it is told to stop.

mod credential;
mod open;
mod start;

use std::{fs::File, future::Future, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
};

pub use credential::{ServerCredential, save as save_credential};
pub use open::{Opened, lock, open, open_without_keys};
pub use start::Start;

use crate::{
    authority::{
        Authority, ClockError, Issuers, IssuersError, PublishError, Publisher, Refusal, check_clock,
        issue_server_certificate, seal_once,
    },
    clock::Clock,
    config::Config,
    folder::Folder,
    http,
    identity::{DeviceId, IssuerId, Timestamp},
    open_files,
    pki::{CaRole, LocationError, Locations},
    places::Places,
    rpc::{self, Port, RpcError},
    signer::{Passphrase, Signer, SignerError, SoftwareSigner},
    store::{ReadStore, Store, StoreError},
    telemetry::Telemetry,
    tls::{ClientCertificate, ServerIdentity, TlsError, server_config},
};

/// How often audit records are sealed, and events written.
const SEAL_EVERY: Duration = Duration::from_secs(1);
/// How often the server looks whether its certificate is to be renewed.
const RENEW_EVERY: Duration = Duration::from_secs(600);
/// How long requests under way may take once the server is to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// Why the server doesn't run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// An address can't be listened on.
    #[error("cannot listen on {address} for {what}: {source}; {}", start::other_address(source, option))]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What for.
        what: &'static str,
        /// The option that chooses another.
        option: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Another server has the folder.
    #[error("another server is running on {}; end that one first", path.display())]
    Locked {
        /// Which folder.
        path: PathBuf,
    },
    /// The clock can't be right.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// No folder.
    #[error("{} does not exist: check --dir, or make a CA with ca-server init", path.display())]
    NoFolder {
        /// Which.
        path: PathBuf,
    },
    /// No key of an issuer that has to sign.
    #[error("the key of issuer {issuer} is missing: put {} back from a backup", path.display())]
    KeyMissing {
        /// Whose.
        issuer: IssuerId,
        /// Where it should be.
        path: PathBuf,
    },
    /// A file that can't be written.
    #[error(
        "cannot write {}: {source}; the server must be able to write in its folder: give it to the user that runs this, or \
         mount it writable",
        path.display()
    )]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An issuing CA that its root has ended, and that is to go on here.
    #[error(
        "issuing CA {0} is on its root's CRL, and not known to have ended here, as in a past that was restored: say `ca-server \
         issuer revoke {0}` (or `issuer end`, where no device needs it) before anything is served"
    )]
    Struck(IssuerId),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The issuers.
    #[error(transparent)]
    Issuers(#[from] IssuersError),
    /// The public URL in the store.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The first CRLs could not be published.
    #[error("cannot publish: {0}")]
    Publish(#[from] PublishError),
    /// The server's own certificate.
    #[error("the server's certificate: {0}")]
    Certificate(#[from] Refusal),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Where a server listens.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Addresses {
    /// gRPC for devices and gateways.
    pub devices: SocketAddr,
    /// gRPC for operators.
    pub operators: SocketAddr,
    /// CRLs.
    pub http: SocketAddr,
    /// Health and metrics.
    pub metrics: SocketAddr,
}

/// A server that runs.
pub struct Server {
    /// Where it listens.
    pub addresses: Addresses,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    authority: Arc<Authority>,
    background: Vec<JoinHandle<()>>,
    _lock: File,
}

impl Server {
    /// Opens the folder and starts to serve. Everything that can be refused is refused here.
    pub async fn start(
        folder: &Folder,
        config: &Config,
        start: Start,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ServerError> {
        Self::start_on(Listeners::bind(config).await?, folder, config, start, clock).await
    }

    /// The same, on ports that are taken already.
    pub async fn start_on(
        listeners: Listeners,
        folder: &Folder,
        config: &Config,
        start: Start,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ServerError> {
        Self::start_at_pace(listeners, folder, config, start, clock, RENEW_EVERY).await
    }

    async fn start_at_pace(
        listeners: Listeners,
        folder: &Folder,
        config: &Config,
        start: Start,
        clock: Arc<dyn Clock>,
        renew_every: Duration,
    ) -> Result<Self, ServerError> {
        let lock = lock(folder)?;
        let limits = open_files::fit(config.limits);
        let Opened { store, issuers, struck } = open(folder, start.passphrase.as_ref(), clock.now()).await?;
        if let Some(id) = struck.first() {
            return Err(ServerError::Struck(*id));
        }
        let issuers = Arc::new(issuers.with_wait(config.issuer_wait));
        check_clock(store.as_ref(), None, clock.now(), start.accept_clock).await?;
        let domain = store.domain().await?;
        let telemetry = Arc::new(Telemetry::default());
        for (id, _, certificate) in issuers.certificates().filter(|(id, ..)| issuers.publishes(id)) {
            telemetry.issuer(*id, certificate.not_after());
        }
        let locations = Locations::new(&domain.public_url)?;
        let publisher =
            Publisher::start(store.clone(), clock.clone(), issuers.clone(), locations, telemetry.clone()).await?;
        if config.delta_crls {
            publisher.offer_deltas();
        }
        let authority = Authority::new(
            store.clone(),
            clock.clone(),
            domain,
            issuers.clone(),
            publisher.clone(),
            telemetry.clone(),
            config.backdate,
        );
        let authority = Arc::new(
            authority.with_policy_arc(config.policy_arc).with_ocsp_in_certificates(config.ocsp_in_certificates),
        );
        // What was published for the first time a moment ago begins to wait.
        authority.look_at_issuers().await?;
        let own = OwnCertificate {
            folder: folder.clone(),
            config: config.clone(),
            passphrase: start.passphrase,
            authority: authority.clone(),
        };
        let identity = own.load_or_issue().await?;
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let addresses = listeners.addresses();
        let control = root_certificates(&issuers, &[CaRole::ControlRoot]);
        let both = root_certificates(&issuers, &[CaRole::ControlRoot, CaRole::DeviceRoot]);
        let devices = server_config(identity.clone(), &slices(&both), ClientCertificate::Optional)?;
        let operators = server_config(identity.clone(), &slices(&control), ClientCertificate::Required)?;
        for (listener, port, tls) in
            [(listeners.devices, Port::Devices, devices), (listeners.operators, Port::Operators, operators)]
        {
            let served = rpc::serve(listener, port, tls, authority.clone(), limits, until(stopped.clone()));
            tasks.spawn(told(served, "gRPC"));
        }
        let read: Arc<dyn ReadStore> = store.clone();
        let public = http::public_app(read.clone(), publisher.clone(), issuers.clone(), authority.ocsp_responder());
        let private = http::private_app(read, publisher.clone(), issuers.clone(), telemetry.clone(), clock.clone());
        for (listener, port, app) in [(listeners.http, "http", public), (listeners.metrics, "metrics", private)] {
            let places = Places::new(port, "connections", limits.rules(limits.http_connections), telemetry.clone());
            tasks.spawn(http::serve(listener, app, places, until(stopped.clone())));
        }
        tracing::info!(?addresses, "serving");
        let background = vec![
            tokio::spawn(publisher.run()),
            tokio::spawn(keep_books(store, issuers, telemetry, clock)),
            tokio::spawn(authority.clone().keep_all_words()),
            tokio::spawn(own.keep_renewed(identity, renew_every)),
        ];
        Ok(Self { addresses, stop, tasks, authority, background, _lock: lock })
    }

    /// The CA that is served.
    pub fn authority(&self) -> &Arc<Authority> {
        &self.authority
    }

    /// Waits until a part of the server ends by itself, which none should: then the whole must not go on as if it were
    /// well.
    pub async fn failed(&mut self) -> &'static str {
        let (tasks, background) = (&mut self.tasks, &mut self.background);
        tokio::select! {
            _ = tasks.join_next() => "a port",
            _ = futures::future::select_all(background.iter_mut()) => "the publisher, the sealer or the renewal",
        }
    }

    /// Stops: no new connection, what is under way may end, then everything does. What was committed is sealed.
    pub async fn stop(mut self) {
        tracing::info!("stopping");
        self.stop.send_replace(true);
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::info!("connections that are still open are closed");
        }
        self.tasks.shutdown().await;
        for task in &self.background {
            task.abort();
        }
        let authority = &self.authority;
        authority.keep_words().await;
        write_books(authority.store.as_ref(), authority.issuers(), &authority.telemetry, authority.now()).await;
    }
}

/// The four ports, taken.
pub struct Listeners {
    devices: TcpListener,
    operators: TcpListener,
    http: TcpListener,
    metrics: TcpListener,
}

impl Listeners {
    /// Takes the ports that the settings name.
    pub async fn bind(config: &Config) -> Result<Self, ServerError> {
        let bind = async |address, what, option| {
            TcpListener::bind(address).await.map_err(|source| ServerError::Listen { address, what, option, source })
        };
        Ok(Self {
            devices: bind(config.listen, "devices", "listen").await?,
            operators: bind(config.operator_listen, "operators", "operator-listen").await?,
            http: bind(config.http_listen, "CRLs", "http-listen").await?,
            metrics: bind(config.metrics_listen, "metrics", "metrics-listen").await?,
        })
    }

    /// Takes the usual ports on loopback, or, where another server has them, whichever are free.
    pub async fn usual_or_free() -> Result<Self, ServerError> {
        let usual = Config::parse("").map_err(|_| ServerError::Certificate(Refusal::Internal("defaults")))?;
        if let Ok(listeners) = Self::bind(&usual).await {
            return Ok(listeners);
        }
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let any = Config { listen: free, operator_listen: free, http_listen: free, metrics_listen: free, ..usual };
        Self::bind(&any).await
    }

    /// Where they are.
    pub fn addresses(&self) -> Addresses {
        // A listener that is bound knows its address.
        let of = |listener: &TcpListener| listener.local_addr().unwrap_or(([0, 0, 0, 0], 0).into());
        Addresses {
            devices: of(&self.devices),
            operators: of(&self.operators),
            http: of(&self.http),
            metrics: of(&self.metrics),
        }
    }
}

/// A chain, leaf first, and its key.
type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The server's own certificate, which renews itself.
struct OwnCertificate {
    folder: Folder,
    config: Config,
    passphrase: Option<Passphrase>,
    authority: Arc<Authority>,
}

impl OwnCertificate {
    async fn load_or_issue(&self) -> Result<Arc<ServerIdentity>, ServerError> {
        let kept = self.read()?.filter(|kept| !kept.is_due(&self.config.names, self.authority.now()));
        let (chain, key) = match kept.map(|kept| self.decrypt(kept)) {
            Some(Ok(pair)) => pair,
            Some(Err(error)) => {
                tracing::warn!(%error, "the server's own key can't be used: making another");
                self.issue().await?
            }
            None => self.issue().await?,
        };
        Ok(ServerIdentity::new(chain, key)?)
    }

    fn read(&self) -> Result<Option<ServerCredential>, SignerError> {
        ServerCredential::read(&self.folder.server(), &self.authority.domain().trust_domain)
    }

    fn decrypt(&self, kept: ServerCredential) -> Result<Pair, SignerError> {
        let key = kept.key(self.passphrase.as_ref(), &self.folder.server())?;
        Ok((kept.chain, key))
    }

    async fn issue(&self) -> Result<Pair, ServerError> {
        let key = SoftwareSigner::generate()?;
        let authority = &self.authority;
        let issuers = authority.issuers();
        let (names, backdate) = (&self.config.names, self.config.backdate);
        let leaf = issue_server_certificate(
            authority.store.as_ref(),
            issuers,
            &server_id(),
            names,
            key.public_key(),
            backdate,
            authority.now(),
        )
        .await?;
        let chain = server_chain(issuers, &leaf);
        save_credential(&self.folder.server(), &key, self.passphrase.as_ref(), &chain)?;
        let saved = self.read()?.ok_or(ServerError::Certificate(Refusal::Internal("server certificate unreadable")))?;
        Ok(self.decrypt(saved)?)
    }

    async fn renew_if_due(&self, identity: &ServerIdentity) -> Result<(), ServerError> {
        if self.read()?.is_none_or(|kept| kept.is_due(&self.config.names, self.authority.now())) {
            let (chain, key) = self.issue().await?;
            identity.swap(chain, key)?;
        }
        Ok(())
    }

    async fn keep_renewed(self, identity: Arc<ServerIdentity>, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            if let Err(error) = self.renew_if_due(&identity).await {
                tracing::error!(%error, "the server's certificate was not renewed; trying again");
            }
        }
    }
}

/// The server's name in its SPIFFE ID.
pub fn server_id() -> DeviceId {
    // Unwrap safety: a fixed name of the grammar.
    "ca".parse().unwrap_or_else(|_| unreachable!("`ca` is a name"))
}

/// What the server shows: its leaf, the control CA, and the control root, which clients may find by its fingerprint.
pub fn server_chain<'a>(issuers: &'a Issuers, leaf: &'a [u8]) -> Vec<&'a [u8]> {
    let mut chain = vec![leaf, issuers.control().issuer.certificate().der()];
    chain.extend(issuers.certificates().filter(|(_, role, _)| *role == CaRole::ControlRoot).map(|(_, _, c)| c.der()));
    chain
}

fn root_certificates(issuers: &Issuers, roles: &[CaRole]) -> Vec<Vec<u8>> {
    let wanted = issuers.certificates().filter(|(_, role, _)| roles.contains(role));
    wanted.map(|(_, _, certificate)| certificate.der().to_vec()).collect()
}

fn slices(ders: &[Vec<u8>]) -> Vec<&[u8]> {
    ders.iter().map(Vec::as_slice).collect()
}

/// Seals audit records and writes events down, for as long as the server runs.
async fn keep_books(store: Arc<dyn Store>, issuers: Arc<Issuers>, telemetry: Arc<Telemetry>, clock: Arc<dyn Clock>) {
    loop {
        tokio::time::sleep(SEAL_EVERY).await;
        write_books(store.as_ref(), &issuers, &telemetry, clock.now()).await;
    }
}

async fn write_books(store: &dyn Store, issuers: &Issuers, telemetry: &Telemetry, now: Timestamp) {
    while match seal_once(store, issuers, now).await {
        Ok(sealed) => sealed,
        Err(error) => {
            tracing::error!(%error, "the audit log could not be sealed; trying again");
            false
        }
    } {}
    let events = telemetry.take_events();
    if !events.is_empty()
        && let Err(error) = store.record_security_events(events).await
    {
        tracing::error!(%error, "security events could not be written down");
    }
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone means stop, too.
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn told(served: impl Future<Output = Result<(), RpcError>>, what: &'static str) {
    if let Err(error) = served.await {
        tracing::error!(%error, what, "a server ended");
    }
}

#[cfg(test)]
mod tests;
