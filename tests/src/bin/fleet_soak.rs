//! Soak: a fleet in motion against a real server process, for minutes or hours. The server is killed now and then, copied
//! while it runs, asked for lists; gateways sync, agents renew. Then it is held to all that it has acknowledged.
//!
//! The last half of the time is one life of the server, in which memory and open files are looked at.
//!
//! `cargo run --release -p fleetca-tests --bin fleet_soak -- [--minutes N] [--output json]`

use std::{
    future::Future,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use fleetca_proto::v1::{ListAuditRecordsRequest, ListCrlsRequest, ListDevicesRequest};
use fleetca_tests::{
    admin::Admin,
    binaries,
    device::Device,
    http,
    measure::{open_files, resident},
    process::{Running, run},
    server::Server,
    soak::{Counts, Dice, Fleet, count, is_cut},
    wait::{SOON, until_true},
};
use serde_json::json;
use tokio::{
    sync::watch,
    task::{JoinSet, spawn_blocking},
    time::{MissedTickBehavior, interval, sleep_until},
};
use tonic::Status;

/// How many things the devices do at the same time, and how long each waits before it does the next.
const HANDS: u64 = 8;
const BEAT: Duration = Duration::from_millis(200);
/// How long a server lives at least before it is killed.
const SHORTEST_LIFE: Duration = Duration::from_secs(8);
/// Real agents, on a fleet whose certificates live five minutes.
const AGENTS: usize = 3;
/// Files that a server may open after the first quarter of a life: connections to its database, as many as read at once.
const MORE_FILES: usize = 32;

/// Keeps a fleet in motion against a real server process that is killed now and then, and holds the server to what it
/// has acknowledged.
#[derive(Debug, Parser)]
#[command(name = "fleet_soak")]
struct Arguments {
    /// For how long
    #[arg(long, default_value_t = 5)]
    minutes: u64,
    /// How many devices
    #[arg(long, default_value_t = 100)]
    devices: usize,
    /// Other moments and other devices for another number
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Form of the results
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// What was done beside the devices.
#[derive(Debug, Default)]
struct Others {
    syncs: AtomicUsize,
    fetches: AtomicUsize,
    lists: AtomicUsize,
    backups: AtomicUsize,
}

/// How a process stands.
#[derive(Clone, Copy, Debug)]
struct Sample {
    kib: u64,
    sockets: usize,
    files: usize,
}

impl Sample {
    fn of(pid: u32) -> Sample {
        let (sockets, files) = open_files(pid);
        Sample { kib: resident(pid), sockets, files }
    }
}

struct Soak {
    fleet: Arc<Fleet>,
    others: Arc<Others>,
    gateway: Device,
    dice: Dice,
    lives: u64,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let begun = Instant::now();
    let mut server = Server::start();
    server.admin().run(&["fleet", "create", "steady", "--attest", "token", "--validity", "24h"]);
    server.admin().run(&["fleet", "create", "brief", "--attest", "token", "--validity", "5m"]);
    let agents: Vec<_> = (0..AGENTS).map(|number| Agent::start(&server, number)).collect();
    let gateway = Device::enroll_gateway(&server, "eu-7");
    let fleet = Arc::new(Fleet::new("steady", arguments.devices));
    let mut soak = Soak { fleet, others: Arc::default(), gateway, dice: Dice(arguments.seed), lives: 0 };
    let half = Duration::from_secs(arguments.minutes * 30);
    // Everybody has connected before a kill.
    while begun.elapsed() + SHORTEST_LIFE < half {
        let life = SHORTEST_LIFE + Duration::from_secs(soak.dice.roll(20));
        let life = life.min(half.saturating_sub(begun.elapsed()));
        server = soak.life(server, life, true).await.0;
        server.kill();
        server.start_again();
    }
    let (server, samples) = soak.life(server, half, false).await;
    let report = soak.finish(server, agents, &samples).await;
    arguments.output.print(&soak, &samples, &report);
}

/// What was found at the end.
struct Report {
    idle: Sample,
    revoked: usize,
    active: usize,
    certificates: usize,
    renewed_agents: usize,
}

impl Soak {
    /// One life of the server: everybody does what he does until its end. Gives samples, four a second.
    async fn life(&mut self, mut server: Server, length: Duration, kill: bool) -> (Server, Vec<Sample>) {
        self.lives += 1;
        let (deadline, pid) = (tokio::time::Instant::now() + length, server.process().pid());
        let server = Arc::new(server);
        let (end, ended) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for _ in 0..HANDS {
            let dice = Dice(self.dice.roll(u64::MAX));
            tasks.spawn(self.fleet.clone().work(server.clone(), dice, BEAT, ended.clone()));
        }
        let others = self.others.clone();
        tasks.spawn(lists(server.clone(), self.fleet.clone(), others.clone(), ended.clone()));
        tasks.spawn(fetches(server.clone(), self.fleet.clone(), others.clone(), ended.clone()));
        tasks.spawn(syncs(server.clone(), self.fleet.clone(), self.gateway.clone(), others.clone(), ended.clone()));
        tasks.spawn(backups(server.clone(), self.fleet.clone(), others, ended));
        let mut samples = Vec::new();
        let mut look = interval(Duration::from_millis(250));
        while tokio::time::Instant::now() < deadline {
            tokio::select! {
                _ = look.tick() => samples.push(Sample::of(pid)),
                Some(done) = tasks.join_next() => panic!("somebody ended by himself: {done:?}"),
                () = sleep_until(deadline) => {}
            }
        }
        if kill {
            server.signal("KILL");
        }
        let _ = end.send(true);
        for done in tasks.join_all().await {
            assert!(done.is_ok(), "{done:?}");
        }
        let mut server = Arc::into_inner(server).expect("everybody has ended");
        let log = server.process().stderr();
        let faults: Vec<_> = log.lines().filter(|line| line.contains("panicked") || line.contains("ERROR")).collect();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        (server, samples)
    }

    /// Whoever was revoked is refused, everybody else goes on, all that was acknowledged is known, and nothing is left open.
    async fn finish(&self, mut server: Server, agents: Vec<Agent>, samples: &[Sample]) -> Report {
        let renewed_agents = agents.into_iter().map(|agent| agent.end(&server)).filter(|renewed| *renewed).count();
        run(self.gateway.command("sync-crls").arg("--out").arg(server.scratch().join("crls.pem"))).succeeded();
        let (revoked, active) = self.fleet.check(&server).await;
        let mut ledger = std::mem::take(&mut *self.fleet.ledger());
        ledger.check(&server).await;
        let backup = server.scratch().join(format!("backup-{}", self.others.backups.load(Ordering::Relaxed) - 1));
        restore(&server, &backup);
        let (pid, first) = (server.process().pid(), samples[0].sockets);
        until_true(SOON, "all connections are closed", || open_files(pid).0 <= first);
        let idle = Sample::of(pid);
        let quarter = samples[samples.len() / 4].files;
        assert!(idle.files <= quarter + MORE_FILES, "{quarter} files were open after a quarter, {} now", idle.files);
        server.stop();
        Report { idle, revoked, active, certificates: ledger.certificates(), renewed_agents }
    }
}

/// A backup makes a CA again, which stands still until somebody decides.
fn restore(server: &Server, backup: &Path) {
    let mut command = Command::new(binaries::ca_server());
    command.arg("restore").arg("--from").arg(backup).arg("--dir").arg(server.scratch().join("restored"));
    run(command.arg("--keys").arg(server.dir().join("keys"))).succeeded();
}

/// `enroll-client run`, through all lives of the server.
struct Agent {
    device: Device,
    id: String,
    first: String,
    process: Running,
}

impl Agent {
    fn start(server: &Server, number: usize) -> Agent {
        let id = format!("agent-{number}");
        let device = Device::enroll(server, "brief", &id);
        let process = Running::start(&id, device.command("run"), server.scratch());
        Agent { first: device.serial(), device, id, process }
    }

    /// Whether it has renewed. What it holds is in force.
    fn end(mut self, server: &Server) -> bool {
        assert!(self.process.ended().is_none(), "{}:\n{}", self.id, self.process.stderr());
        assert!(self.process.stop().success(), "{}:\n{}", self.id, self.process.stderr());
        let shown = server.admin().run(&["device", "show", &self.id]);
        let known = [&shown["head_serial"], &shown["pending_serial"]];
        assert!(known.iter().any(|serial| **serial == self.device.serial()), "{}: {shown}", self.id);
        self.device.serial() != self.first
    }
}

/// Something at every beat, until it is refused or somebody ends it.
async fn again<F>(
    beat: Duration,
    fleet: &Fleet,
    ended: watch::Receiver<bool>,
    mut work: impl FnMut() -> F,
) -> Result<(), Status>
where
    F: Future<Output = Result<(), Status>>,
{
    let mut beats = interval(beat);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*ended.borrow() {
        beats.tick().await;
        match work().await {
            Err(status) if is_cut(&status) => fleet.cut(&ended),
            done => done?,
        }
    }
    Ok(())
}

/// An operator looks at devices and at the log.
async fn lists(
    server: Arc<Server>,
    fleet: Arc<Fleet>,
    others: Arc<Others>,
    ended: watch::Receiver<bool>,
) -> Result<(), Status> {
    let admin = Admin::of(&server);
    let (admin, others) = (&admin, &others);
    again(Duration::from_secs(1), &fleet, ended, || async move {
        let mut page_token = String::new();
        loop {
            let request = ListDevicesRequest { page_size: 50, page_token, ..Default::default() };
            page_token = admin.client().list_devices(request).await?.into_inner().next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        let request = ListAuditRecordsRequest { page_size: 500, newest_first: true, ..Default::default() };
        admin.client().list_audit_records(request).await?;
        count(&others.lists);
        Ok(())
    })
    .await
}

/// Everybody fetches CRLs.
async fn fetches(
    server: Arc<Server>,
    fleet: Arc<Fleet>,
    others: Arc<Others>,
    ended: watch::Receiver<bool>,
) -> Result<(), Status> {
    let listed = Admin::of(&server).client().list_crls(ListCrlsRequest {}).await?.into_inner().crls;
    let (server, fleet, others, listed) = (&server, &fleet, &others, &listed);
    again(Duration::from_millis(500), fleet, ended, || async move {
        for status in listed {
            let url = server.http_url(&format!("/crl/{}/full.crl", status.issuer));
            let fetched = spawn_blocking(move || http::try_request("GET", &url, &[])).await.expect("no panic");
            let crl = fetched.map_err(|error| Status::unavailable(error.to_string()))?;
            // A kill may cut an answer short.
            if crl.header("content-length") != Some(&crl.body.len().to_string()) {
                return Err(Status::unavailable("cut short"));
            }
            fleet.ledger().seen(&status.issuer, crl.ok());
            count(&others.fetches);
        }
        Ok(())
    })
    .await
}

/// A gateway keeps its file.
async fn syncs(
    server: Arc<Server>,
    fleet: Arc<Fleet>,
    gateway: Device,
    others: Arc<Others>,
    ended: watch::Receiver<bool>,
) -> Result<(), Status> {
    let out = server.scratch().join("crls.pem");
    let (gateway, others, out) = (&gateway, &others, &out);
    again(Duration::from_secs(2), &fleet, ended, || {
        let mut command = gateway.command("sync-crls");
        command.arg("--out").arg(out);
        async move {
            let finished = spawn_blocking(move || run(&mut command)).await.expect("no panic");
            match finished.code {
                0 => count(&others.syncs),
                // What it says when the server can't be reached, it says for other reasons too: the last one must succeed.
                _ => return Err(Status::unavailable(finished.stderr)),
            }
            Ok(())
        }
    })
    .await
}

/// A copy at every life's beginning, and every half minute.
async fn backups(
    server: Arc<Server>,
    fleet: Arc<Fleet>,
    others: Arc<Others>,
    ended: watch::Receiver<bool>,
) -> Result<(), Status> {
    let (server, others) = (&server, &others);
    let mut next = Instant::now();
    again(Duration::from_millis(500), &fleet, ended, || {
        let due = Instant::now() >= next;
        if due {
            next = Instant::now() + Duration::from_secs(30);
        }
        async move {
            if due {
                let number = others.backups.load(Ordering::Relaxed);
                let (dir, out) = (server.dir(), server.scratch().join(format!("backup-{number}")));
                spawn_blocking(move || backup(&dir, out)).await.expect("no panic");
                count(&others.backups);
            }
            Ok(())
        }
    })
    .await
}

fn backup(dir: &Path, out: PathBuf) {
    let mut command = Command::new(binaries::ca_server());
    run(command.arg("backup").arg("--dir").arg(dir).arg("--out").arg(out)).succeeded();
}

impl Output {
    fn print(self, soak: &Soak, samples: &[Sample], report: &Report) {
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let Counts { enrollments, renewals, revocations, holds, forks, cuts } = &soak.fleet.counts;
        let Others { syncs, fetches, lists, backups } = &*soak.others;
        let at = |part: usize| samples[(samples.len() - 1) * part / 4];
        let quarters: Vec<_> = (1..=4).map(at).collect();
        let kib: Vec<_> = quarters.iter().map(|sample| sample.kib).collect();
        let files: Vec<_> = quarters.iter().map(|sample| sample.sockets + sample.files).collect();
        let Report { idle, revoked, active, certificates, renewed_agents } = report;
        let done = [
            ("kills", soak.lives as usize - 1),
            ("certificates", *certificates),
            ("enrollments", read(enrollments)),
            ("renewals", read(renewals)),
            ("revocations", read(revocations)),
            ("holds", read(holds)),
            ("forks", read(forks)),
            ("syncs", read(syncs)),
            ("fetches", read(fetches)),
            ("lists", read(lists)),
            ("backups", read(backups)),
            ("connections_cut", read(cuts)),
            ("renewed_agents", *renewed_agents),
            ("revoked_and_refused", *revoked),
            ("active_and_renewed", *active),
        ];
        match self {
            Output::Json => {
                let mut result: serde_json::Map<_, _> =
                    done.iter().map(|(name, number)| ((*name).to_owned(), json!(number))).collect();
                result.insert("rss_kib_by_quarter".into(), json!(kib));
                result.insert("open_files_by_quarter".into(), json!(files));
                result.insert("idle".into(), json!({"rss_kib": idle.kib, "open_files": idle.sockets + idle.files}));
                println!("{}", serde_json::Value::Object(result));
            }
            Output::Table => {
                done.iter().for_each(|(name, number)| println!("{:<22} {number:>8}", name.replace('_', " ")));
                println!("last life of the server, after each quarter, and idle:");
                println!("resident, KiB          {kib:?} {}", idle.kib);
                println!("open files             {files:?} {}", idle.sockets + idle.files);
                println!("nothing that was acknowledged is missing");
            }
        }
    }
}
