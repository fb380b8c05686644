//! `ca-server quickstart`: the whole story on this machine, in one command. Nothing in it is a show: the CA, the
//! devices, the TLS connections and the CRL are what `init`, `serve` and `enroll-client` make.

mod gateway;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use enroll_client::{
    attester::{Attester, token::JoinToken},
    connect::{Connection, ServerUrl},
    credential::{Credential, LockedFolder},
    crl_sync::{CrlSync, Form, Source, Synced},
    enroll::{Enrollment, enroll},
    flow::Observer,
    identity::Kind,
    renew::renew,
    trust::{Roots, Trust},
};
use fleetca_proto::v1::{self, operator_client::OperatorClient};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tonic::transport::Channel;

use self::gateway::Gateway;
use super::{CommandError, Session, init, local, output::Format};
use crate::{
    clock::SystemClock,
    config::Config,
    folder::{self, Folder},
    server::{Addresses, Listeners, Server, Start},
};

const FLEET: &str = "pumps";
const DEVICES: [&str; 3] = ["pump-1", "pump-2", "pump-3"];
const RENEWED: &str = "pump-1";
const REVOKED: &str = "pump-2";

/// A CA, a server and three devices on this machine: the whole story in one command
#[derive(Args, Clone, Debug)]
pub struct Quickstart {
    /// Where everything goes: must not exist, or be empty [default: fleetca-quickstart, or the next free
    /// fleetca-quickstart-N]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// End after the story, instead of serving on
    #[arg(long)]
    exit: bool,
}

/// Runs the command.
pub async fn run(args: Quickstart, session: &Session) -> Result<(), CommandError> {
    let dir = match args.dir {
        Some(dir) => dir,
        None => free_dir()?,
    };
    if !folder::is_vacant(&dir).map_err(CommandError::file(&dir))? {
        let reason = "there is something already: choose another folder with --dir, or remove this one".into();
        return Err(CommandError::Content { path: dir, reason });
    }
    let mut story = Story { session, dir, step: 0 };
    let server = story.tell().await?;
    if args.exit {
        server.stop().await;
        return story.end(None);
    }
    story.end(Some(server.addresses))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    server.stop().await;
    Ok(())
}

/// A step of the story, for programs.
#[derive(Serialize)]
struct Step {
    step: usize,
    what: String,
}

/// The story's end, for programs.
#[derive(Serialize)]
struct End<'a> {
    done: bool,
    dir: &'a Path,
    serving: Option<Addresses>,
}

struct Story<'a> {
    session: &'a Session,
    dir: PathBuf,
    step: usize,
}

impl Story<'_> {
    async fn tell(&mut self) -> Result<Server, CommandError> {
        let folder = Folder::new(self.dir.join("ca"));
        let listeners = Listeners::usual_or_free().await.map_err(local)?;
        let addresses = listeners.addresses();
        self.make_ca(&folder, addresses).await?;
        let config = Config::read(&folder.config()).map_err(local)?;
        let server = Server::start_on(listeners, &folder, &config, Start::default(), Arc::new(SystemClock))
            .await
            .map_err(local)?;
        self.done(format!(
            "serving: devices {}, operators {}, CRLs http://{}",
            addresses.devices, addresses.operators, addresses.http
        ))?;

        let mut operator = operator(&folder, addresses.operators).await?;
        operator.create_fleet(v1::CreateFleetRequest { name: FLEET.into(), policy: None }).await?;
        self.done(format!("created the fleet {FLEET}, as operator admin over mTLS"))?;

        for id in DEVICES {
            self.enroll(&mut operator, &folder, addresses.devices, id).await?;
        }
        self.renew(RENEWED).await?;

        let gateway = Gateway::bind().await?;
        let crls = self.dir.join("gateway").join("crls.pem");
        std::fs::create_dir_all(self.dir.join("gateway"))?;
        self.sync(&folder, addresses.http, &crls).await?;
        self.meet(&gateway, &folder, &crls, &[]).await?;

        self.revoke(&mut operator).await?;
        let synced = self.sync(&folder, addresses.http, &crls).await?;
        self.done(format!(
            "fetched the CRLs over HTTP and verified them: {} revoked; see {}",
            synced.crls.iter().map(|crl| crl.entries).sum::<usize>(),
            crls.display(),
        ))?;
        self.meet(&gateway, &folder, &crls, &[REVOKED]).await?;
        Ok(server)
    }

    async fn make_ca(&mut self, folder: &Folder, addresses: Addresses) -> Result<(), CommandError> {
        std::fs::create_dir_all(&self.dir).map_err(CommandError::file(&self.dir))?;
        let localhost = "localhost".parse().map_err(local)?;
        let loopback = "127.0.0.1".parse().map_err(local)?;
        let init = init::Init {
            dir: folder.path().to_owned(),
            trust_domain: Some("quickstart.test".parse().map_err(local)?),
            names: vec![localhost, loopback],
            public_url: Some(format!("http://{}", addresses.http)),
            root_dir: None,
            root_passphrase_file: None,
            key_passphrase_file: None,
            operator: "admin".parse().map_err(local)?,
            csr_out: None,
            issuer_cert: None,
            root_cert: None,
            root_crl: None,
        };
        init::make(init, None).await?;
        let (control, device) = (folder.control_root(), folder.device_root());
        self.done(format!(
            "made a CA: {} is what devices pin, {} what gateways load",
            control.display(),
            device.display()
        ))
    }

    async fn enroll(
        &mut self,
        operator: &mut OperatorClient<Channel>,
        folder: &Folder,
        devices: SocketAddr,
        id: &str,
    ) -> Result<(), CommandError> {
        let token = JoinToken::generate()?;
        let request = v1::CreateTokenRequest {
            public_key: token.public_key().to_vec(),
            fleet: FLEET.into(),
            device_id: id.into(),
            ..v1::CreateTokenRequest::default()
        };
        operator.create_token(request).await?;
        let roots = std::fs::read(folder.control_root()).map_err(CommandError::file(folder.control_root()))?;
        let enrollment = Enrollment {
            server: url(devices)?,
            trust: Trust::Roots(Roots::from_pem(&roots).map_err(local)?),
            kind: Kind::Device,
            id: Some(id.parse().map_err(local)?),
            attester: Attester::Token(token),
        };
        let device = LockedFolder::open(&self.device(id))?;
        let credential = enroll(&device, &enrollment, Observer::none()).await.map_err(local)?;
        self.done(format!(
            "{id} enrolled with a one-time token: serial {}, valid until {}; see {}/current",
            credential.leaf().serial(),
            credential.leaf().not_after(),
            self.device(id).display(),
        ))
    }

    async fn renew(&mut self, id: &str) -> Result<(), CommandError> {
        let device = LockedFolder::open(&self.device(id))?;
        let before = device.load()?.leaf().serial();
        let after = renew(&device, Observer::none()).await.map_err(local)?.leaf().serial();
        if before == after {
            return Err(local(format!("{id} kept its certificate")));
        }
        self.done(format!("{id} renewed with a fresh key and confirmed: serial {after} after {before}"))
    }

    async fn revoke(&mut self, operator: &mut OperatorClient<Channel>) -> Result<(), CommandError> {
        let reason = v1::RevocationReason::KeyCompromise.into();
        let request = v1::RevokeDeviceRequest { id: REVOKED.into(), reason };
        let receipt = operator.revoke_device(request).await?.into_inner();
        let crl = receipt.crls.first().ok_or_else(|| local("the receipt names no CRL"))?;
        self.done(format!("revoked {REVOKED} for keyCompromise: issuer {}, CRL number {}", crl.issuer, crl.number))
    }

    async fn sync(&self, folder: &Folder, http: SocketAddr, out: &Path) -> Result<Synced, CommandError> {
        let roots = std::fs::read(folder.device_root()).map_err(CommandError::file(folder.device_root()))?;
        let sync = CrlSync {
            source: Source::Http {
                url: format!("http://{http}").parse().map_err(local)?,
                roots: Roots::from_pem(&roots).map_err(local)?,
            },
            form: Form::Bundle,
            out: out.to_owned(),
            on_change: None,
            probe: None,
            max_age: None,
            on_stale: None,
        };
        sync.run().await.map_err(local)
    }

    /// Has every device call at the gateway: exactly those named must be refused.
    async fn meet(
        &mut self,
        gateway: &Gateway,
        folder: &Folder,
        crls: &Path,
        refused: &[&str],
    ) -> Result<(), CommandError> {
        let mut outcomes = Vec::new();
        for id in DEVICES {
            let credential = Credential::load(&self.device(id))?;
            let outcome = gateway.meet(&folder.device_root(), crls, &credential).await?;
            if outcome.is_ok() == refused.contains(&id) {
                return Err(local(format!("the gateway answered {id} with {outcome:?}")));
            }
            outcomes.push(match outcome {
                Ok(_) => format!("{id} accepted"),
                Err(error) => format!("{id} refused ({error})"),
            });
        }
        self.done(format!("a TLS gateway that checks this CRL: {}", outcomes.join(", ")))
    }

    /// That every step did what it says; and where the server serves on, if it does.
    fn end(&self, serving: Option<Addresses>) -> Result<(), CommandError> {
        let output = self.session.output();
        match (output.format(), serving) {
            (Format::Table, None) => self.say("Done: every step did what it says."),
            (Format::Table, Some(addresses)) => self.what_next(addresses),
            (Format::Json, serving) => output.line(&End { done: true, dir: &self.dir, serving }),
        }
    }

    fn what_next(&self, addresses: Addresses) -> Result<(), CommandError> {
        let dir = std::path::absolute(&self.dir)?;
        let folder = Folder::new(dir.join("ca"));
        let program = std::env::current_exe().unwrap_or_else(|_| "ca-server".into());
        let beside = program.with_file_name("enroll-client");
        // `cargo run` builds one program only.
        let client = match beside.exists() {
            true => beside.display().to_string(),
            false => "cargo run --release --bin enroll-client --".to_owned(),
        };
        let (program, dir) = (program.display(), dir.display());
        self.say(&format!(
            "\nTry next, in another terminal:\n  \
             export FLEETCA_SERVER=https://{operators} FLEETCA_CREDENTIAL={operator}\n  \
             {program} device list\n  \
             {program} device show {REVOKED}\n  \
             {program} crl status\n  \
             {program} audit verify\n  \
             {program} token create --fleet {FLEET} --device-id pump-4 --out {dir}/pump-4.token\n  \
             {client} enroll --server https://{devices} --root {root} --dir {dir}/pump-4 --attest token:{dir}/pump-4.token\n  \
             curl -s http://{http}/crl/bundle.pem",
            operators = addresses.operators,
            operator = folder.operator().display(),
            devices = addresses.devices,
            root = folder.control_root().display(),
            http = addresses.http,
        ))?;
        self.say("\nServing until Ctrl-C.")
    }

    fn device(&self, id: &str) -> PathBuf {
        self.dir.join(id)
    }

    /// One line for what has just happened.
    fn done(&mut self, what: String) -> Result<(), CommandError> {
        self.step += 1;
        let output = self.session.output();
        match output.format() {
            Format::Table => self.say(&format!("{:2}. {what}", self.step)),
            Format::Json => output.line(&Step { step: self.step, what }),
        }
    }

    fn say(&self, text: &str) -> Result<(), CommandError> {
        self.session.output().write(&format!("{text}\n"))
    }
}

async fn operator(folder: &Folder, address: SocketAddr) -> Result<OperatorClient<Channel>, CommandError> {
    let credential = Credential::load(&folder.operator())?;
    let trust = Trust::Roots(credential.control_roots().clone());
    Ok(Connection::open(&url(address)?, &trust, Some(&credential)).await?.operator())
}

fn url(address: SocketAddr) -> Result<ServerUrl, CommandError> {
    format!("https://{address}").parse().map_err(local)
}

/// A folder that is not there yet, in the current one.
fn free_dir() -> Result<PathBuf, CommandError> {
    let first = PathBuf::from("fleetca-quickstart");
    let further = (2..1000).map(|n| PathBuf::from(format!("fleetca-quickstart-{n}")));
    std::iter::once(first)
        .chain(further)
        .find(|dir| !dir.exists())
        .ok_or_else(|| local("a thousand quickstarts are here already: remove some, or choose with --dir"))
}
