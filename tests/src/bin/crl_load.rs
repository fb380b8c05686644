//! Load: a real server process whose store has so many revoked certificates. How long it takes to start, what one more
//! revocation costs it until the CRL that holds it is served, and what it keeps in memory; beside what the least of it costs:
//! copying and hashing the same octets once.
//!
//! With `--gateways` so many watch that CRL and acknowledge each new one, while devices are revoked; with `--bulk` so many
//! more are revoked at last, by one command.
//!
//! `cargo run --release -p fleetca-tests --bin crl_load -- [--entries N] [--gateways N] [--bulk N] [--output json]`
//!
//! The certificates are rows without their octets, which no publication reads: a store of whole ones would be ten times as long.

#[path = "crl_load/watchers.rs"]
mod watchers;

use std::{
    fs,
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

use ca_server::{
    identity::{RevocationReason, SerialNumber, Timestamp},
    pki::{
        CaRequest, CaRole, CrlEntry, CrlTemplate, Edit, IssuerCertificate, ParsedCrl, check_successor, prepare_root,
    },
    signer::{Signer, SoftwareSigner},
};
use clap::{Parser, ValueEnum};
use fleetca_tests::{
    http,
    measure::{cpu_each, cpu_of},
    server::Server,
};
use ring::digest::{SHA256, digest};
use rusqlite::{Connection, params};
use serde_json::json;

const HOUR: Duration = Duration::from_secs(3600);
/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// How much of the store is kept in memory while it is filled, in KiB.
const CACHE_KIB: i64 = 8 << 20;
/// Devices that are revoked while it is measured.
const MORE: u32 = 7;
/// A figure of this process is taken so often, or more where there is less to do: the kernel counts in milliseconds.
const TIMES: u32 = 5;
const OCTETS: usize = 64 << 20;

/// Publishes CRLs of a store with many revoked certificates, and says what it costs.
#[derive(Debug, Parser)]
#[command(name = "crl_load")]
struct Arguments {
    /// How many revoked certificates
    #[arg(long, default_value_t = 100_000)]
    entries: u32,
    /// Let so many gateways watch
    #[arg(long, value_name = "N")]
    gateways: Option<usize>,
    /// Revoke so many devices a second while they watch
    #[arg(long, value_name = "N", default_value_t = 100, requires = "gateways")]
    per_second: u32,
    /// For so many seconds
    #[arg(long, value_name = "N", default_value_t = 60, requires = "gateways")]
    seconds: u32,
    /// Revoke a fleet of so many devices by one command
    #[arg(long, value_name = "N")]
    bulk: Option<u32>,
    /// Form of the results
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn main() {
    let Arguments { entries, gateways, per_second, seconds, bulk, output } = Arguments::parse();
    let revocations = gateways.map_or(0, |_| per_second * seconds);
    let mut server = Server::start();
    let admin = server.admin();
    ["load", "bulk"].into_iter().for_each(|fleet| admin.create_fleet(fleet));
    let empty = peak_rss(server.process().pid());
    server.stop();
    generate(&server.dir().join("ca.db"), entries, MORE + revocations, bulk.unwrap_or(0));

    // The first start writes the CRL anew, as after a loss; the second one rebuilds what was published.
    server.start_again_within(PATIENCE);
    server.stop();
    let began = Instant::now();
    server.start_again_within(PATIENCE);
    let restart = began.elapsed();
    let pid = server.process().pid();
    let issuers = admin.run(&["issuer", "list"]);
    let issuer = issuers.as_array().expect("a list").iter().find(|issuer| issuer["hierarchy"] == "device");
    let issuer = issuer.expect("an issuing CA")["id"].as_str().expect("an ID");
    let full = || http::get(&server.http_url(&format!("/crl/{issuer}/full.crl"))).ok();
    let crl = full();

    let (mut signed, mut served, mut walls) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..MORE {
        let (before, checks, began) = (cpu_of(pid), checking(&server), Instant::now());
        admin.run(&["device", "revoke", &format!("more-{index}"), "--reason", "keyCompromise"]);
        walls.push(began.elapsed());
        let cpu = cpu_of(pid) - before;
        served.push(cpu);
        signed.push(cpu.saturating_sub(checking(&server) - checks));
    }
    let length = crl.len();
    let limits = Limits::of(crl.into());
    let ms = |time: Duration| (time.as_secs_f64() * 1e5).round() / 1e2;
    let peak = peak_rss(pid);
    let (signed, served, wall) = (median(&mut signed), median(&mut served), median(&mut walls));
    let ratio = limits.encode_sign.as_secs_f64() / limits.copy_hash.as_secs_f64();
    let mut result = json!({
        "entries": entries, "crl_octets": length,
        "encode_sign_ms": ms(limits.encode_sign), "copy_hash_ms": ms(limits.copy_hash), "ratio": (ratio * 100.0).round() / 100.0,
        "read_back_ms": ms(limits.read_back),
        "revoke_to_signed_ms": ms(signed), "revoke_to_served_ms": ms(served), "revoke_to_served_wall_ms": ms(wall),
        "restart_ms": ms(restart), "peak_rss_mb": peak / 1024, "empty_rss_mb": empty / 1024,
        "rss_per_crl": (peak.saturating_sub(empty) as f64 * 1024.0 / length as f64 * 100.0).round() / 100.0,
    });
    if let Some(gateways) = gateways {
        let plan = watchers::Plan { gateways, first: MORE, revocations, per_second };
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        result["watch"] = runtime.block_on(watchers::run(&server, pid, issuer, full().into(), &plan));
        result["watch"]["peak_rss_mb"] = (peak_rss(pid) / 1024).into();
    }
    if let Some(devices) = bulk {
        let (before, began) = (cpu_of(pid), Instant::now());
        admin.run(&["device", "revoke", "--fleet", "bulk", "--all", "--reason", "keyCompromise", "--yes"]);
        let (took, cpu) = (began.elapsed(), cpu_of(pid) - before);
        result["bulk"] = json!({ "devices": devices, "wall_ms": ms(took), "server_cpu_ms": ms(cpu) });
    }
    match output {
        Output::Json => println!("{result}"),
        Output::Table => {
            for (name, value) in result.as_object().expect("an object") {
                println!("{name:<26}{value}");
            }
        }
    }
}

/// For how long the server has read its CRLs back so far: of what it does after it has signed one, all that grows with it.
fn checking(server: &Server) -> Duration {
    let metrics = String::from_utf8(http::get(&server.metrics_url("/metrics")).ok()).expect("text");
    let line = metrics.lines().find_map(|line| line.strip_prefix("fleetca_crl_check_seconds_sum "));
    Duration::from_secs_f64(line.expect("a metric").parse().expect("a number"))
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The most that a process ever had resident, in KiB.
fn peak_rss(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// What this process spends on a CRL with as many entries, by processor time.
struct Limits {
    encode_sign: Duration,
    copy_hash: Duration,
    read_back: Duration,
}

impl Limits {
    fn of(crl: bytes::Bytes) -> Limits {
        let base = ParsedCrl::parse(crl).expect("a CRL of ours");
        let key = SoftwareSigner::generate().expect("a key");
        let issuer = issuer(&key);
        let template = CrlTemplate {
            issuer: &issuer,
            number: base.number() + 1,
            this_update: base.this_update(),
            next_update: base.next_update(),
            distribution_point: None,
        };
        let serial = SerialNumber::new(base.this_update(), [0x55; 10]);
        let entry = CrlEntry { serial, revoked_at: base.this_update(), reason: RevocationReason::KeyCompromise };
        let more: Edit = (serial, Some(entry));
        let make = || {
            let prepared = template.prepare(Some(&base), [more]);
            let signature = key.sign(prepared.tbs()).expect("the key signs");
            prepared.assemble(&signature)
        };
        let octets = make();
        let times = u32::try_from(OCTETS / octets.len()).map_or(TIMES, |times| times.max(TIMES));
        // Of the same issuer, so that it may be a successor.
        let before = ParsedCrl::parse(octets.clone()).expect("a CRL");
        let after = CrlTemplate { number: template.number + 1, ..template }.prepare(Some(&before), []);
        let signature = key.sign(after.tbs()).expect("the key signs");
        let after = after.assemble(&signature);
        Limits {
            encode_sign: cpu_each(times, || drop(black_box(make()))),
            copy_hash: cpu_each(times, || {
                black_box(digest(&SHA256, &black_box(octets.to_vec())));
            }),
            read_back: cpu_each(times, || {
                let crl = ParsedCrl::parse(after.clone()).expect("a CRL");
                crl.verify(&issuer).expect("its signature verifies");
                assert!(check_successor(&before, &crl).expect("a successor").is_empty());
                black_box(digest(&SHA256, crl.der()));
            }),
        }
    }
}

fn issuer(key: &SoftwareSigner) -> IssuerCertificate {
    let now = Timestamp::from_secs(1_790_000_000);
    let request = CaRequest {
        role: CaRole::DeviceRoot,
        key: key.public_key(),
        serial: SerialNumber::new(now, [1; 10]),
        not_before: now,
        not_after: now + 24 * 365 * HOUR,
    };
    let prepared = prepare_root(&"load.example".parse().expect("a trust domain"), &request).expect("a root");
    let signature = key.sign(prepared.tbs()).expect("the key signs");
    IssuerCertificate::parse(&prepared.assemble(&signature).der).expect("a certificate")
}

/// Puts devices into a store that nobody has open: so many that are revoked, for reasons of all kinds, on dates of the last
/// days, with certificates that are still valid; and some that are active, some of them in another fleet.
fn generate(path: &Path, entries: u32, more: u32, bulk: u32) {
    let mut db = Connection::open(path).expect("the store");
    // It is only read afterwards, and what is written in any order is put in order in memory.
    db.query_row("PRAGMA journal_mode = OFF", [], |_| Ok(())).expect("nobody has it open");
    db.pragma_update(None, "synchronous", "OFF").expect("a setting");
    db.pragma_update(None, "cache_size", -CACHE_KIB).expect("a setting");
    let issuer: i64 =
        db.query_row("SELECT key FROM issuers WHERE role = 'device'", [], |row| row.get(0)).expect("an issuing CA");
    let fleet = |name: &str| -> i64 {
        db.query_row("SELECT key FROM fleets WHERE name = ?1", [name], |row| row.get(0)).expect("a fleet")
    };
    let (load, other) = (fleet("load"), fleet("bulk"));
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().expect("a clock").as_millis()).expect("a time");
    let (day, reasons) = (86_400_000, [1, 1, 1, 3, 4, 5, 5, 0, 6, 9]);
    let transaction = db.transaction().expect("a transaction");
    let insert = |index: u32, fleet: i64, id: &str, revoked: Option<(i64, i64)>| {
        let random = digest(&SHA256, &index.to_be_bytes());
        let random = random.as_ref();
        let mut octets = [0; 10];
        octets.copy_from_slice(&random[..10]);
        let made_at = now - i64::from(index % (6 * 86_400)) * 1000 - 60_000;
        let serial = SerialNumber::new(Timestamp::from_millis(made_at), octets);
        let status = match revoked {
            None => "active",
            Some((_, 6)) => "held",
            Some(_) => "revoked",
        };
        let handle: String = random[..16].iter().map(|octet| format!("{octet:02x}")).collect();
        let sql = "INSERT INTO holders (kind, id, folded, fleet, status, handle, attested_method, attested_tier, \
                   attested_identity, head, generation, created_at, expires_at) \
                   VALUES ('device', ?1, ?1, ?2, ?3, ?4, 'token', 'token', 'load', ?5, 1, ?6, ?7)";
        let not_after = made_at + 7 * day;
        let mut statement = transaction.prepare_cached(sql).expect("SQL");
        statement.execute(params![id, fleet, status, handle, serial.as_bytes(), made_at, not_after]).expect("a device");
        let holder = transaction.last_insert_rowid();
        let change = revoked.map(|_| i64::from(index) + 1);
        let sql = "INSERT INTO certificates (serial, holder, issuer, key_hash, hash, not_before, not_after, was_head, \
                   revoked_at, reason, change, der) VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, 1, ?7, ?8, ?9, x'00')";
        let (at, reason) = revoked.unzip();
        let mut statement = transaction.prepare_cached(sql).expect("SQL");
        statement
            .execute(params![serial.as_bytes(), holder, issuer, random, made_at, not_after, at, reason, change])
            .expect("a certificate");
        if let Some(change) = change {
            let sql = "INSERT INTO changes (issuer, sequence, serial, not_after, revoked_at, reason) \
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let mut statement = transaction.prepare_cached(sql).expect("SQL");
            statement.execute(params![issuer, change, serial.as_bytes(), not_after, at, reason]).expect("a change");
        }
    };
    for index in 0..entries {
        let at = now - i64::from(index % 86_400) * 1000;
        insert(index, load, &format!("load-{index}"), Some((at, reasons[index as usize % reasons.len()])));
    }
    for index in 0..more {
        insert(entries + index, load, &format!("more-{index}"), None);
    }
    for index in 0..bulk {
        insert(entries + more + index, other, &format!("bulk-{index}"), None);
    }
    let last = "UPDATE issuers SET last_change = ?1 WHERE key = ?2";
    transaction.execute(last, params![entries, issuer]).expect("the last change");
    transaction.commit().expect("it is committed");
}
