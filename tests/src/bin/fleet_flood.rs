//! Memory under a flood: what a connection of each kind costs the server, and where its limits hold it.
//!
//! `cargo run --release -p fleetca-tests --bin fleet_flood -- [--connections N]`

use std::{io, net::Ipv4Addr, sync::Arc};

use clap::Parser;
use enroll_client::attester::token::JoinToken;
use fleetca_proto::v1::{EnrollRequest, GetTimeRequest, enroll_request::Step, enrollment_client::EnrollmentClient};
use fleetca_tests::{
    crowd,
    device::Device,
    holder::Holder,
    measure::{open_files, resident},
    server::Server,
    stranger::{self, Exchange, SubjectKey},
    tls,
    wait::{SOON, until_true},
};
use prost::Message;
use rustls::ClientConnection;
use tokio::{io::AsyncWriteExt, net::TcpStream};

/// Opens connections of each kind to a server of its own, and says what they cost it.
#[derive(Debug, Parser)]
#[command(name = "fleet_flood")]
struct Arguments {
    /// How many connections of each kind
    #[arg(long, default_value_t = 1000)]
    connections: usize,
}

/// A kind of connection, kept for as long as this lives.
enum Open {
    Socket { _stream: TcpStream },
    Http2 { _channel: tonic::transport::Channel },
    Waiting { _exchange: Exchange },
}

#[derive(Clone, Copy, Debug)]
enum Flood {
    Silent,
    HalfHandshake,
    IdleStranger,
    WaitingStart,
    Holder,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let Arguments { connections } = Arguments::parse();
    println!("{:<42} {:>12} {:>12} {:>14}", "", "before KiB", "after KiB", "KiB/connection");
    let room = connections + 100;
    for (flood, what) in [
        (Flood::Silent, "TCP only"),
        (Flood::HalfHandshake, "half a TLS handshake"),
        (Flood::IdleStranger, "stranger, idle HTTP/2"),
        (Flood::WaitingStart, "stranger, an enrollment at the challenge"),
        (Flood::Holder, "certificate in force, idle HTTP/2"),
    ] {
        let wide = ["connections", "connections_per_holder", "stranger_connections", "handshakes", "stranger_requests"];
        let limits = wide.map(|limit| (limit, room));
        let (before, after) = run(&limits, flood, connections).await?;
        let each = after.saturating_sub(before) as f64 / connections as f64;
        println!("{what:<42} {before:>12} {after:>12} {each:>14.1}");
    }
    for (flood, what) in [
        (Flood::HalfHandshake, "half handshakes, default limits"),
        (Flood::WaitingStart, "enrollments at the challenge, default limits"),
    ] {
        let (before, after) = run(&[], flood, 4 * connections).await?;
        println!("{what:<42} {before:>12} {after:>12} {:>14}", format!("({} came)", 4 * connections));
    }
    Ok(())
}

/// The resident memory of a server (KiB) before a flood, and while it lasts.
async fn run(limits: &[(&'static str, usize)], flood: Flood, connections: usize) -> anyhow::Result<(u64, u64)> {
    let mut server = Server::start_with_limits(limits);
    server.admin().create_fleet("sensors");
    let device = Holder::copy(&Device::enroll(&server, "sensors", "pump-7"));
    let pid = server.process().pid();
    let (before, sockets) = (resident(pid), open_files(pid).0);
    let mut open = Vec::new();
    for n in 0..connections {
        // Many addresses, so that nobody holds most.
        let from = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 0)) + u32::try_from(n)? + 1);
        // Without room for it the server ends it, which is what the limits are for.
        open.extend(connect(&server, &device, flood, from).await);
    }
    if !limits.is_empty() {
        until_true(SOON, "all connections are open", || open_files(pid).0 >= sockets + connections);
    }
    Ok((before, resident(pid)))
}

async fn connect(server: &Server, device: &Holder, flood: Flood, from: Ipv4Addr) -> anyhow::Result<Open> {
    let address = server.addresses().devices;
    Ok(match flood {
        Flood::Silent => Open::Socket { _stream: crowd::tcp(from, address).await? },
        Flood::HalfHandshake => {
            let mut stream = crowd::tcp(from, address).await?;
            stream.write_all(&half_a_hello(server)?).await?;
            Open::Socket { _stream: stream }
        }
        Flood::IdleStranger => Open::Http2 { _channel: crowd::stranger(server, from).await? },
        Flood::WaitingStart => {
            let (token, key) = (JoinToken::generate()?, SubjectKey::generate());
            let start = stranger::start("pump-8", &token, &key).encode_to_vec();
            let client = EnrollmentClient::new(crowd::stranger(server, from).await?);
            let mut exchange = Exchange::over(client, EnrollRequest { step: Some(Step::Start(start)) }).await?;
            exchange.challenge().await?;
            Open::Waiting { _exchange: exchange }
        }
        Flood::Holder => {
            let channel = crowd::channel(from, address, device.tls(server)).await?;
            EnrollmentClient::new(channel.clone()).get_time(GetTimeRequest {}).await?;
            Open::Http2 { _channel: channel }
        }
    })
}

fn half_a_hello(server: &Server) -> io::Result<Vec<u8>> {
    let config = Arc::new(tls::config(&server.control_root(), None));
    let name = "localhost".try_into().map_err(io::Error::other)?;
    let mut hello = Vec::new();
    ClientConnection::new(config, name).map_err(io::Error::other)?.write_tls(&mut hello)?;
    hello.truncate(hello.len() / 2);
    Ok(hello)
}
