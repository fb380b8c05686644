//! A real `ca-server` in a temporary folder: made by `init`, run by `serve` on free ports of the loopback interface.

use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use ca_server::step::Step;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use crate::{
    binaries,
    operator::Operator,
    process::{Running, run},
    wait::{SOON, until_true},
};

/// The trust domain of every server here.
pub const TRUST_DOMAIN: &str = "fleet.test";

/// The URL at which certificates say that their CRLs are. Nobody is there: tests ask the server's own address.
pub const PUBLIC_URL: &str = "http://pki.fleet.test";

const ANY_PORT: &str = "127.0.0.1:0";

/// A server, and the folder of its CA.
#[derive(Debug)]
pub struct Server {
    // Before the folder: the process ends first.
    process: Option<Running>,
    addresses: Addresses,
    settings: Settings,
    folder: TempDir,
    // Apart from the folder, whose disk may be full.
    logs: TempDir,
}

/// How `serve` is run.
#[derive(Debug, Default)]
struct Settings {
    options: Vec<String>,
    log: Option<String>,
    /// Whether it can be killed at a durable step.
    killable: bool,
    limits: Vec<(&'static str, usize)>,
    /// Lines at the beginning of its settings.
    lines: String,
}

/// Where a server listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Enrollment, renewal, revocation.
    pub devices: SocketAddr,
    /// The operators' port.
    pub operators: SocketAddr,
    /// CRLs and certificates.
    pub http: SocketAddr,
    /// Health and metrics.
    pub metrics: SocketAddr,
}

impl Server {
    /// Makes a CA and serves it.
    pub fn start() -> Server {
        Server::start_with(&[])
    }

    /// As [`Server::start`], with more options for `serve`, on this and on every later start.
    pub fn start_with(options: &[&str]) -> Server {
        Server::make(&[], options)
    }

    /// As [`Server::start_with`], with more options for `init`, too.
    pub fn make(init: &[&str], serve: &[&str]) -> Server {
        let options = serve.iter().map(|&option| option.to_owned()).collect();
        Server::start_as(init, Settings { options, ..Settings::default() })
    }

    /// As [`Server::start`], with this in `FLEETCA_LOG`.
    pub fn start_logging(filter: &str) -> Server {
        Server::start_as(&[], Settings { log: Some(filter.to_owned()), ..Settings::default() })
    }

    /// As [`Server::start`], with some limits of its own.
    pub fn start_with_limits(limits: &[(&'static str, usize)]) -> Server {
        Server::start_as(&[], Settings { limits: limits.to_vec(), ..Settings::default() })
    }

    /// As [`Server::start`], with lines of its own at the beginning of its settings.
    pub fn start_with_settings(lines: &str) -> Server {
        Server::start_as(&[], Settings { lines: lines.to_owned(), ..Settings::default() })
    }

    /// As [`Server::start`], by a program that dies where [`Server::kill_at`] says so.
    pub fn start_killable() -> Server {
        Server::start_as(&[], Settings { killable: true, ..Settings::default() })
    }

    /// As [`Server::start`], with all that it writes below this folder.
    pub fn start_in(folder: &Path) -> Server {
        let folder = TempDir::new_in(folder).expect("a temporary folder");
        Server::start_below(folder, &[], Settings::default())
    }

    /// Serves the CA that there is in this folder, below `ca`.
    pub fn start_made(folder: TempDir) -> Server {
        Server::serve_below(folder, Settings::default())
    }

    fn start_as(options: &[&str], settings: Settings) -> Server {
        Server::start_below(TempDir::new().expect("a temporary folder"), options, settings)
    }

    fn start_below(folder: TempDir, options: &[&str], settings: Settings) -> Server {
        init_with(&folder.path().join("ca"), options);
        Server::serve_below(folder, settings)
    }

    fn serve_below(folder: TempDir, settings: Settings) -> Server {
        set_limits(&folder.path().join("ca/config.toml"), &settings.limits);
        set_lines(&folder.path().join("ca/config.toml"), &settings.lines);
        let logs = TempDir::new().expect("a temporary folder");
        let command = serve_command(folder.path(), &settings, [ANY_PORT; 4].map(str::to_owned));
        let (process, addresses) = serve(command, logs.path(), SOON);
        Server { process: Some(process), addresses, settings, folder, logs }
    }

    /// The CA's folder.
    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("ca")
    }

    /// A folder for the test's own files, which lives as long as this.
    pub fn scratch(&self) -> &Path {
        self.folder.path()
    }

    /// What devices and operators pin.
    pub fn control_root(&self) -> PathBuf {
        self.dir().join("control-root.pem")
    }

    /// What gateways load.
    pub fn device_root(&self) -> PathBuf {
        self.dir().join("device-root.pem")
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The devices' port as a URL.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.addresses.devices.port())
    }

    /// The operators' port as a URL.
    pub fn operator_url(&self) -> String {
        format!("https://localhost:{}", self.addresses.operators.port())
    }

    /// The URL of a path that is served over plain HTTP, such as `/crl/bundle.pem`.
    pub fn http_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addresses.http)
    }

    /// The URL of a path on the port for monitoring, such as `/readyz`.
    pub fn metrics_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addresses.metrics)
    }

    /// The first operator, an admin.
    pub fn admin(&self) -> Operator {
        Operator::new(self.operator_url(), self.dir().join("operator"))
    }

    /// The process.
    pub fn process(&mut self) -> &mut Running {
        self.process.as_mut().expect("the server runs")
    }

    /// Sends it a signal by name, such as `KILL`, through a value that others share.
    pub fn signal(&self, signal: &str) {
        self.process.as_ref().expect("the server runs").signal(signal);
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// From now on: the server, or its next start, dies when it reaches that durable step for the nth time.
    pub fn kill_at(&self, step: Step, times: usize) {
        let (order, draft) = (kill_order(self.scratch()), self.scratch().join("kill.new"));
        fs::write(&draft, format!("{step:?} {times}")).expect("a file");
        fs::rename(draft, order).expect("a file");
    }

    /// Waits until it has died where it was told to.
    pub fn until_killed(&mut self) {
        let order = kill_order(self.scratch());
        let process = self.process();
        until_true(SOON, "the server dies at the step", || process.ended().is_some());
        assert!(!order.exists(), "it died of something else:\n{}", process.stderr());
        self.process = None;
    }

    /// Starts it again, which must end as [`Server::kill_at`] says.
    pub fn start_and_die(&mut self) {
        assert!(self.process.is_none(), "the server still runs");
        let command = serve_command(self.folder.path(), &self.settings, ports(self.addresses));
        self.process = Some(Running::start("ca-server", command, self.logs.path()));
        self.until_killed();
    }

    /// Asks it to end (SIGTERM), and panics unless it ends with exit code 0.
    pub fn stop(&mut self) {
        let status = self.process().stop();
        assert!(status.success(), "the server ended with {status}:\n{}", self.process().stderr());
        self.process = None;
    }

    /// As [`Server::start_again`], with these options instead of those before, on this and on every later start.
    pub fn start_again_with(&mut self, options: &[&str]) {
        self.settings.options = options.iter().map(|&option| option.to_owned()).collect();
        self.start_again();
    }

    /// Serves the same folder again, on the same ports. The server must have ended.
    pub fn start_again(&mut self) {
        self.start_again_within(SOON);
    }

    /// [`Server::start_again`], where it may take longer.
    pub fn start_again_within(&mut self, limit: Duration) {
        assert!(self.process.is_none(), "the server still runs");
        let command = serve_command(self.folder.path(), &self.settings, ports(self.addresses));
        let (process, addresses) = serve(command, self.logs.path(), limit);
        self.process = Some(process);
        self.addresses = addresses;
    }
}

/// The issuing CA of devices in a backup that has one.
pub fn issuer_in(backup: &Path) -> String {
    let path = format!("file:{}?immutable=1", backup.join("ca.db").display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let database = Connection::open_with_flags(path, flags).expect("a database");
    let sql = "SELECT id FROM issuers WHERE role = 'device'";
    database.query_one(sql, [], |row| row.get(0)).expect("one issuing CA of devices")
}

/// `ca-server init` in a folder that does not exist yet.
pub fn init(dir: &Path) {
    init_with(dir, &[]);
}

/// [`init`] with more options.
pub fn init_with(dir: &Path, options: &[&str]) {
    let mut command = Command::new(binaries::ca_server());
    command.args(["init", "--trust-domain", TRUST_DOMAIN, "--public-url", PUBLIC_URL]);
    command.args(["--name", "localhost", "--name", "127.0.0.1", "--dir"]).arg(dir).args(options);
    run(&mut command).succeeded();
}

/// The file that says where a server dies.
fn kill_order(scratch: &Path) -> PathBuf {
    scratch.join("kill")
}

fn ports(addresses: Addresses) -> [String; 4] {
    let Addresses { devices, operators, http, metrics } = addresses;
    [devices, operators, http, metrics].map(|address| address.to_string())
}

/// Changes limits in a file of settings, which has them all.
fn set_limits(file: &Path, limits: &[(&str, usize)]) {
    let mut text = fs::read_to_string(file).expect("init writes settings");
    for (key, limit) in limits {
        let key = format!("\n{key} = ");
        let (before, rest) = text.split_once(&key).unwrap_or_else(|| panic!("no limit{key}in {text}"));
        let (_, after) = rest.split_once('\n').unwrap_or((rest, ""));
        text = format!("{before}{key}{limit}\n{after}");
    }
    fs::write(file, text).expect("settings can be written");
}

fn set_lines(file: &Path, lines: &str) {
    let text = fs::read_to_string(file).expect("init writes settings");
    fs::write(file, format!("{lines}\n{text}")).expect("settings can be written");
}

fn serve(command: Command, logs: &Path, limit: Duration) -> (Running, Addresses) {
    let mut process = Running::start("ca-server", command, logs);
    let ready = |process: &Running| read_ready_line(&process.stdout());
    let addresses = process.until_within(limit, "it says that it is ready", ready);
    (process, addresses)
}

fn serve_command(folder: &Path, settings: &Settings, ports: [String; 4]) -> Command {
    let [devices, operators, http, metrics] = ports;
    let mut command = match settings.killable {
        false => Command::new(binaries::ca_server()),
        true => Command::new(binaries::helper("killed-server")),
    };
    command.env("FLEETCA_KILL", kill_order(folder));
    command.arg("serve").arg("--dir").arg(folder.join("ca"));
    command.args(["--listen", &devices, "--operator-listen", &operators]);
    command.args(["--http-listen", &http, "--metrics-listen", &metrics]).args(&settings.options);
    if let Some(filter) = &settings.log {
        command.env("FLEETCA_LOG", filter);
    }
    command
}

/// Reads `ready: devices=ADDRESS operators=ADDRESS http=ADDRESS metrics=ADDRESS`, once the line is whole.
fn read_ready_line(output: &str) -> Option<Addresses> {
    let line = output.split_inclusive('\n').find(|line| line.starts_with("ready: ") && line.ends_with('\n'))?;
    let words: HashMap<&str, &str> =
        line["ready: ".len()..].split_whitespace().filter_map(|w| w.split_once('=')).collect();
    let address = |name: &str| {
        let text = words.get(name).unwrap_or_else(|| panic!("no {name}= in: {line}"));
        text.parse().unwrap_or_else(|_| panic!("{text} is no address, in: {line}"))
    };
    Some(Addresses {
        devices: address("devices"),
        operators: address("operators"),
        http: address("http"),
        metrics: address("metrics"),
    })
}
