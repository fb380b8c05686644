//! `ca-server serve` and `show-config`.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    CommandError, Session, accept_clock::AcceptClock, key::key_files, key_passphrase::KeyPassphrase, local,
    output::Format,
};
use crate::{
    clock::SystemClock,
    config::Config,
    folder::{self, Folder},
    pki::CaRole,
    server::{Addresses, Server, Start},
    signer::is_encrypted,
};

/// Which folder, and what differs from its settings.
#[derive(Args, Clone, Debug)]
pub struct Serve {
    /// The CA's folder, as `init` made it
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The settings [default: DIR/config.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// gRPC for devices and gateways
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// gRPC for operators
    #[arg(long, value_name = "ADDRESS")]
    operator_listen: Option<SocketAddr>,
    /// HTTP for CRLs
    #[arg(long, value_name = "ADDRESS")]
    http_listen: Option<SocketAddr>,
    /// HTTP for health and metrics
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
    #[command(flatten)]
    key_passphrase: KeyPassphrase,
    #[command(flatten)]
    clock: AcceptClock,
}

impl Serve {
    fn folder(&self) -> Folder {
        Folder::new(&self.dir)
    }

    fn config(&self) -> Result<Config, CommandError> {
        let path = self.config.clone().unwrap_or_else(|| self.folder().config());
        let mut config = Config::read(&path).map_err(local)?;
        for (address, given) in [
            (&mut config.listen, self.listen),
            (&mut config.operator_listen, self.operator_listen),
            (&mut config.http_listen, self.http_listen),
            (&mut config.metrics_listen, self.metrics_listen),
        ] {
            *address = given.unwrap_or(*address);
        }
        self.key_passphrase.put_into(&mut config);
        Ok(config)
    }
}

/// Serves until SIGTERM or SIGINT.
pub async fn run(args: Serve, session: &Session) -> Result<(), CommandError> {
    let config = args.config()?;
    let folder = args.folder();
    let start = Start { passphrase: args.key_passphrase.read(&config)?, accept_clock: args.clock.accept_clock };
    warn_of_root_keys(config.root_dir.as_deref().unwrap_or(&folder.default_root_dir()));
    if start.passphrase.is_some() {
        warn_of_plain_keys(&folder);
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut server = Server::start(&folder, &config, start, Arc::new(SystemClock)).await.map_err(local)?;
    match session.output().format() {
        Format::Table => session.output().write(&ready(&server.addresses))?,
        Format::Json => session.output().line(&server.addresses)?,
    }
    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        part = server.failed() => Some(part),
    };
    server.stop().await;
    match failed {
        None => Ok(()),
        Some(part) => Err(CommandError::Local(format!("{part} ended unexpectedly: see the log, and start again"))),
    }
}

/// Prints the settings in force.
pub fn show_config(args: &Serve, session: &Session) -> Result<(), CommandError> {
    let config = args.config()?;
    session.output().write(&match session.output().format() {
        Format::Table => config.to_toml(),
        Format::Json => format!("{:#}\n", config.to_json()),
    })
}

/// The one line on stdout that says where the server listens.
fn ready(addresses: &Addresses) -> String {
    let Addresses { devices, operators, http, metrics } = addresses;
    format!("ready: devices={devices} operators={operators} http={http} metrics={metrics}\n")
}

fn warn_of_root_keys(dir: &Path) {
    if can_read_root_keys(dir) {
        tracing::warn!(
            dir = %dir.display(),
            "this server can read the root keys: move them offline, nobody needs them here"
        );
    }
}

/// A passphrase protects only what was encrypted with it.
fn warn_of_plain_keys(folder: &Folder) {
    // What can't be read is told by whoever needs it, in a moment.
    for path in key_files(folder).unwrap_or_default() {
        if fs::read_to_string(&path).is_ok_and(|text| !is_encrypted(&text)) {
            tracing::warn!(
                key = %path.display(),
                "this key is not encrypted, although there is a passphrase: run ca-server key encrypt"
            );
        }
    }
}

fn can_read_root_keys(dir: &Path) -> bool {
    let keys = [CaRole::ControlRoot, CaRole::DeviceRoot].map(|role| folder::root_file(dir, role, "key.pem"));
    keys.iter().any(|key| File::open(key).is_ok())
}
