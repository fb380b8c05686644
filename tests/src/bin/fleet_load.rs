//! Load: enrolled devices renew against a real server process, in phases, so that what the server spends is known for each.
//! With `--enrollments` devices of all methods enroll instead; those that come back by `previous` have enrolled before at
//! a server whose clock is behind, so that their certificates have expired.
//!
//! `cargo run --release -p fleetca-tests --bin fleet_load -- [--enrollments N] [--output json]`

#[path = "fleet_load/enrollments.rs"]
mod enrollments;
#[path = "fleet_load/slept.rs"]
mod slept;

use std::{
    future::Future,
    time::{Duration, Instant},
};

use clap::{Parser, ValueEnum};
use enroll_client::attester::token::JoinToken;
use fleetca_proto::v1::{
    ConfirmRequest, GetTrustBundleRequest, RenewRequest, TrustBundle, renewal_client::RenewalClient,
};
use fleetca_tests::{
    holder::Holder,
    measure::{cpu_of, percentile, verify_plus_sign},
    server::Server,
    simulator::Factory,
    stranger::{self, SubjectKey},
};
use futures::StreamExt;
use prost::Message;
use serde_json::json;
use tonic::transport::Channel;

/// Enrollments at the same time: they share a connection, which bears eight of a stranger.
const STREAMS: usize = 4;

/// Renews a fleet against a real server process on this machine, and says what it costs.
#[derive(Debug, Parser)]
#[command(name = "fleet_load")]
struct Arguments {
    /// How many devices
    #[arg(long, default_value_t = 500)]
    devices: usize,
    /// How often each of them renews
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    /// How many do something at the same time
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Let so many devices of all methods enroll, and none renew; needs swtpm
    #[arg(long, value_name = "N", conflicts_with_all = ["devices", "rounds"])]
    enrollments: Option<usize>,
    /// Form of the results
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// What a phase took.
#[derive(Default)]
struct Phase {
    wall: Duration,
    cpu: Duration,
    latencies: Vec<Duration>,
}

impl Phase {
    fn add(&mut self, other: Phase) {
        self.wall += other.wall;
        self.cpu += other.cpu;
        self.latencies.extend(other.latencies);
    }

    /// Processor time of the server for each time, in microseconds.
    fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.latencies.len() as f64
    }

    fn latency_ms(&mut self, part: f64) -> f64 {
        percentile(&mut self.latencies, part).as_secs_f64() * 1e3
    }
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let (mut server, token) = start();
    if let Some(count) = arguments.enrollments {
        let factory = Factory::new(&token);
        let slept = slept::devices(&mut server, &factory, count).await;
        let load = Load::of(server, arguments.in_flight).await;
        return enrollments::run(&load, &factory, slept, count, arguments.output).await;
    }
    let load = Load::of(server, arguments.in_flight).await;
    let holders = load.enroll(&token, arguments.devices).await;
    let mut devices = load.connect(holders).await.1;
    let (mut renew, mut handshake, mut confirm) = (Phase::default(), Phase::default(), Phase::default());
    for _ in 0..arguments.rounds {
        let (phase, renewed) = load.renew(devices).await;
        renew.add(phase);
        let (phase, connected) = load.connect(renewed).await;
        handshake.add(phase);
        let (phase, confirmed) = load.confirm(connected).await;
        confirm.add(phase);
        devices = confirmed;
    }
    let limit = tokio::task::spawn_blocking(verify_plus_sign).await.expect("it is measured").as_secs_f64() * 1e6;
    let renewals = renew.latencies.len();
    let per_second = renewals as f64 / (renew.wall + handshake.wall + confirm.wall).as_secs_f64();
    let ratio = renew.cpu_us() / limit;
    match arguments.output {
        Output::Json => {
            let result = json!({
                "devices": arguments.devices, "renewals": renewals, "in_flight": arguments.in_flight,
                "renewals_per_s": per_second,
                "latency_p50_ms": renew.latency_ms(0.5), "latency_p99_ms": renew.latency_ms(0.99),
                "renew_cpu_us": renew.cpu_us(), "handshake_cpu_us": handshake.cpu_us(), "confirm_cpu_us": confirm.cpu_us(),
                "verify_plus_sign_us": limit, "ratio": ratio,
            });
            println!("{result}");
        }
        Output::Table => {
            println!("{} devices, {renewals} renewals, {} at the same time", arguments.devices, arguments.in_flight);
            println!("renewals        {per_second:8.0} /s      each Renew, handshake, Confirm");
            println!("                  server CPU     p50 ms     p99 ms");
            for (name, phase) in [("Renew", &mut renew), ("handshake", &mut handshake), ("Confirm", &mut confirm)] {
                let (p50, p99) = (phase.latency_ms(0.5), phase.latency_ms(0.99));
                println!("{name:<15} {:9.1} µs {p50:10.2} {p99:10.2}", phase.cpu_us());
            }
            println!("verify + sign   {limit:9.1} µs      P-256, on all processors at once");
            println!("ratio           {ratio:9.2}         Renew / (verify + sign)");
        }
    }
}

/// A server with a fleet, and a token that any device enrolls with.
fn start() -> (Server, JoinToken) {
    let server = Server::start();
    let admin = server.admin();
    admin.create_fleet("load");
    let file = server.scratch().join("fleet.token");
    let token = admin.token(&["--fleet", "load", "--pattern", "device-*", "--uses", "100000"], &file);
    let text = std::fs::read_to_string(token).expect("the token's file");
    (server, JoinToken::parse(&text).expect("a join token"))
}

/// The sequence of the trust bundle in force.
async fn trust_sequence(server: &Server) -> u64 {
    let connection = stranger::connect(server).await;
    let signed =
        connection.enrollment().get_trust_bundle(GetTrustBundleRequest {}).await.expect("a trust bundle").into_inner();
    TrustBundle::decode(&*signed.bundle).expect("a trust bundle").sequence
}

struct Load {
    server: Server,
    pid: u32,
    in_flight: usize,
    /// The trust bundle in force, which every device holds since it enrolled.
    trust_sequence: u64,
}

impl Load {
    async fn of(mut server: Server, in_flight: usize) -> Load {
        let (pid, trust_sequence) = (server.process().pid(), trust_sequence(&server).await);
        Load { server, pid, in_flight, trust_sequence }
    }

    /// Does something for everyone, so many at the same time.
    async fn phase<A, B, F>(&self, in_flight: usize, all: Vec<A>, work: impl Fn(A) -> F) -> (Phase, Vec<B>)
    where
        F: Future<Output = B>,
    {
        let mut latencies = Vec::with_capacity(all.len());
        let (wall, cpu) = (Instant::now(), cpu_of(self.pid));
        let timed = all.into_iter().map(|one| {
            let work = work(one);
            async {
                let begun = Instant::now();
                (work.await, begun.elapsed())
            }
        });
        let done: Vec<(B, Duration)> = futures::stream::iter(timed).buffer_unordered(in_flight).collect().await;
        let (wall, cpu) = (wall.elapsed(), cpu_of(self.pid) - cpu);
        let mut results = Vec::with_capacity(done.len());
        for (result, latency) in done {
            latencies.push(latency);
            results.push(result);
        }
        (Phase { wall, cpu, latencies }, results)
    }

    async fn enroll(&self, token: &JoinToken, devices: usize) -> Vec<Holder> {
        let connection = &stranger::connect(&self.server).await;
        let keys = (0..devices).map(|index| (format!("device-{index}"), SubjectKey::generate())).collect();
        let work = |(id, key): (String, SubjectKey)| async move {
            let issued = stranger::enroll(connection, &id, token, &key).await.expect("it enrolls");
            Holder::of(&issued, &key)
        };
        self.phase(self.in_flight.min(STREAMS), keys, work).await.1
    }

    /// Every device opens a connection with its newest certificate.
    async fn connect(&self, holders: Vec<Holder>) -> (Phase, Vec<Channel>) {
        let port = self.server.addresses().devices.port();
        let work = |holder: Holder| async move { holder.connect_now(&self.server, port).await.expect("it connects") };
        self.phase(self.in_flight, holders, work).await
    }

    /// Every device asks for its next certificate over the connection that it has.
    async fn renew(&self, devices: Vec<Channel>) -> (Phase, Vec<Holder>) {
        let prepared = devices.into_iter().map(|channel| {
            let key = SubjectKey::generate();
            let request = RenewRequest { csr: key.csr(), trust_bundle_sequence: self.trust_sequence };
            (channel, request, key)
        });
        let work = |(channel, request, key): (Channel, RenewRequest, SubjectKey)| async move {
            let issued = RenewalClient::new(channel.clone()).renew(request).await.expect("it renews").into_inner();
            (channel, Holder::of(&issued, &key))
        };
        let (phase, done) = self.phase(self.in_flight, prepared.collect(), work).await;
        // The old connections end here, after the phase.
        (phase, done.into_iter().map(|(_, holder)| holder).collect())
    }

    /// Every device puts the certificate of its connection in force.
    async fn confirm(&self, devices: Vec<Channel>) -> (Phase, Vec<Channel>) {
        let work = |channel: Channel| async move {
            RenewalClient::new(channel.clone()).confirm(ConfirmRequest {}).await.expect("it confirms");
            channel
        };
        self.phase(self.in_flight, devices, work).await
    }
}
