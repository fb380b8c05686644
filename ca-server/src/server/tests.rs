//! A whole server in this process, with a clock in the test's hand: what happens to it in the course of weeks, and when
//! one of its parts ends.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
};

use clap::Parser;
use futures::FutureExt;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    time_provider::TimeProvider,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::*;
use crate::{
    cli::Cli,
    clock::{ManualClock, SystemClock},
    identity::{HostName, Timestamp},
    inventory::fleet::Policy,
    pki::{IssuerCertificate, PeerCertificate},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

struct World {
    dir: tempfile::TempDir,
    begun: Timestamp,
    clock: Arc<ManualClock>,
}

impl World {
    /// A new CA, made now.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca");
        let init = "ca-server init --trust-domain fleet.test --public-url http://pki.fleet.test --dir";
        let line = init.split(' ').chain([path.to_str().unwrap()]);
        Cli::try_parse_from(line).unwrap().run().await;
        let begun = SystemClock.now();
        Self { dir, begun, clock: Arc::new(ManualClock::new(begun)) }
    }

    fn folder(&self) -> Folder {
        Folder::new(self.dir.path().join("ca"))
    }

    /// Serves it on free ports; the server looks every few milliseconds whether its certificate is to be renewed.
    async fn serve(&self) -> Server {
        self.try_serve(false).await.unwrap()
    }

    async fn try_serve(&self, accept_clock: bool) -> Result<Server, ServerError> {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = Config::read(&self.folder().config()).unwrap();
        let config = Config { listen: free, operator_listen: free, http_listen: free, metrics_listen: free, ..config };
        let listeners = Listeners::bind(&config).await.unwrap();
        let pace = Duration::from_millis(5);
        let start = Start { accept_clock, ..Start::default() };
        Server::start_at_pace(listeners, &self.folder(), &config, start, self.clock.clone(), pace).await
    }

    /// From now on it is so long after the start.
    fn at(&self, after: Duration) {
        self.clock.set(self.begun + after);
    }

    /// What the server shows in a handshake, judged under the control root at the time that the test's clock says.
    async fn shown(&self, server: &Server) -> PeerCertificate {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.folder().control_root()).unwrap()).unwrap();
        let time = Arc::new(At(self.clock.clone()));
        let config = ClientConfig::builder_with_details(Arc::new(ring::default_provider()), time)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(server.addresses.devices).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        PeerCertificate::parse(&chain[0], &server.authority.domain().trust_domain).unwrap()
    }
}

/// The test's clock, for TLS.
#[derive(Debug)]
struct At(Arc<ManualClock>);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().secs()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

#[tokio::test]
async fn the_servers_certificate_renews_itself_while_it_serves() {
    let world = World::new().await;
    let server = world.serve().await;
    let first = world.shown(&server).await;
    assert_eq!(first.not_after.since(first.not_before), 30 * DAY + Duration::from_secs(300));

    world.at(11 * DAY);
    let renewed = loop {
        let shown = world.shown(&server).await;
        if shown.serial != first.serial {
            break shown;
        }
    };
    assert!(renewed.not_after.since(first.not_after) > 10 * DAY);
    let known = server.authority.identify(&renewed).await.unwrap();
    assert_eq!((known.holder.lineage.head, known.holder.lineage.generation), (Some(renewed.serial), 2));
    server.authority.publisher.publish_now(false).await.unwrap();
    server.stop().await;

    let server = world.serve().await;
    assert_eq!(world.shown(&server).await.serial, renewed.serial, "a restart changes nothing");
    server.stop().await;
    world.at(60 * DAY);
    let server = world.try_serve(true).await.unwrap();
    assert!(world.shown(&server).await.not_before > renewed.not_after, "what has ended is not shown");
    server.stop().await;
}

#[tokio::test]
async fn the_servers_certificate_is_due_after_a_third_of_its_validity_and_where_its_names_are_others() {
    let world = World::new().await;
    let (folder, config) = (world.folder(), Config::read(&world.folder().config()).unwrap());
    let credential = ServerCredential::read(&folder.server(), &"fleet.test".parse().unwrap()).unwrap().unwrap();
    let due = |names: &[HostName], after: Duration| credential.is_due(names, world.begun + after);
    assert!(!due(&config.names, Duration::ZERO));
    assert!(!due(&config.names, 10 * DAY - Duration::from_secs(3600)));
    assert!(due(&config.names, 10 * DAY));
    assert!(credential.is_due(&config.names, world.begun - DAY), "by this clock it is not valid yet");
    let turned: Vec<HostName> = config.names.iter().rev().cloned().collect();
    assert!(!due(&turned, Duration::ZERO));
    assert!(due(&config.names[1..], Duration::ZERO));
    assert!(due(&[&config.names[..], &["ca.fleet.test".parse().unwrap()]].concat(), Duration::ZERO));
}

/// The last date of what this server publishes.
fn dated(server: &Server) -> Timestamp {
    let crls = server.authority.publisher.all().into_iter().filter(|crl| !crl.role.is_root());
    crls.map(|crl| crl.this_update).max().unwrap()
}

#[tokio::test]
async fn a_clock_a_week_ahead_of_all_that_was_published_is_refused_unless_it_is_accepted() {
    let world = World::new().await;
    let fresh = world.try_serve(false).await.unwrap();
    let published = dated(&fresh);
    fresh.stop().await;
    world.at(8 * DAY);
    let Err(ServerError::Clock(error)) = world.try_serve(false).await.map(drop) else { panic!("it serves") };
    let (now, last) = (world.clock.now(), published);
    assert!(matches!(error, ClockError::Ahead { now: n, last: l } if (n, l) == (now, last)), "{error}");
    let text = error.to_string();
    assert!(text.contains(&now.to_string()) && text.contains(&last.to_string()), "{text}");
    assert!(text.contains("set the clock") && text.ends_with("say --accept-clock"), "{text}");

    // It has dated nothing.
    world.at(Duration::ZERO);
    let server = world.serve().await;
    assert!(dated(&server).since(published) < Duration::from_secs(3600));
    server.stop().await;
    // Quiet for days is not too long.
    world.at(6 * DAY);
    world.serve().await.stop().await;
    world.at(20 * DAY);
    let server = world.try_serve(true).await.unwrap();
    assert_eq!(dated(&server), world.clock.now().floor_secs());
    server.stop().await;
    world.at(21 * DAY);
    world.serve().await.stop().await;
}

#[tokio::test]
async fn what_a_clock_recorded_that_leapt_while_the_server_ran_does_not_vouch_for_it_at_the_next_start() {
    let world = World::new().await;
    let server = world.serve().await;
    world.clock.leap(world.begun + 365 * DAY);
    server.authority.create_fleet(&"pumps".parse().unwrap(), Policy::default(), "operator/ana").await.unwrap();
    server.authority.publisher.publish_now(false).await.unwrap();
    server.stop().await;
    let refused = world.try_serve(false).await.map(drop);
    assert!(matches!(refused, Err(ServerError::Clock(ClockError::Ahead { .. }))), "{refused:?}");
}

#[tokio::test]
async fn the_servers_own_key_that_others_can_read_is_refused_with_the_cure_and_one_that_is_damaged_is_replaced() {
    let world = World::new().await;
    let path = world.folder().server();
    let mode = |mode| std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    let before = std::fs::read(&path).unwrap();
    let Err(error) = world.try_serve(false).await.map(drop) else { panic!("it serves") };
    assert!(matches!(error, ServerError::Signer(SignerError::Permissions { mode: 0o644, .. })), "{error}");
    assert!(error.to_string().ends_with(&format!("chmod 600 {}", path.display())), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before, "it is left as it is");
    mode(0o600);
    for damaged in [&b""[..], b"\xff\xfe", &before[..before.len() / 2]] {
        std::fs::write(&path, damaged).unwrap();
        world.serve().await.stop().await;
        assert_ne!(std::fs::read(&path).unwrap(), damaged);
    }
}

#[tokio::test]
async fn a_part_that_ends_is_told_of() {
    let world = World::new().await;
    for part in 0..3 {
        let mut server = world.serve().await;
        assert_eq!(server.failed().now_or_never(), None, "all is well");
        server.background[part].abort();
        assert_eq!(server.failed().await, "the publisher, the sealer or the renewal", "{part}");
        server.stop().await;
    }
    let mut server = world.serve().await;
    server.tasks.abort_all();
    assert_eq!(server.failed().await, "a port");
    server.stop().await;
}

/// Of a backup from before its root ended it: whoever ended it has removed its key, and it has expired since.
#[tokio::test]
async fn a_ca_that_its_root_has_ended_and_that_has_expired_needs_no_key_and_keeps_nothing_from_being_served() {
    let world = World::new().await;
    let folder = world.folder();
    let ceremony = async |what: &[&str]| {
        let (dir, roots) = (folder.path(), folder.path().join("offline"));
        let place = ["--dir", dir.to_str().unwrap(), "--root-dir", roots.to_str().unwrap()];
        let line = ["ca-server", "issuer"].iter().chain(what).chain(&place).copied().collect::<Vec<_>>();
        Cli::try_parse_from(line).unwrap().run().await;
    };
    let open = async |now| open(&folder, None, now).await;
    let first = {
        let store = open(world.begun).await.unwrap().store;
        let rows = store.issuers().await.unwrap();
        rows.iter().find(|row| row.role == CaRole::DeviceIssuing).unwrap().clone()
    };
    let (id, until) = (first.id, IssuerCertificate::parse(&first.certificate).unwrap().not_after());
    ceremony(&["rotate", &id.to_string()]).await;
    let copy = world.dir.path().join("ca.db");
    fs::copy(folder.database(), &copy).unwrap();
    ceremony(&["revoke", &id.to_string()]).await;
    let root_crl = {
        let store = open(world.begun).await.unwrap().store;
        let rows = store.issuers().await.unwrap();
        let root = rows.iter().find(|row| row.role == CaRole::DeviceRoot).unwrap().id;
        store.crl_head(root).await.unwrap().unwrap()
    };
    for name in ["ca.db", "ca.db-wal", "ca.db-shm"] {
        let _ = fs::remove_file(folder.path().join(name));
    }
    fs::copy(&copy, folder.database()).unwrap();
    {
        let store = open_without_keys(&folder, world.begun).await.unwrap().store;
        let before = store.crl_head(root_crl.issuer).await.unwrap().map(|head| head.number);
        store.put_crl(root_crl, before, None).await.unwrap();
    }
    assert!(!folder.issuer_key(id).exists());
    assert_eq!(open(until).await.unwrap().struck, [id]);
    let opened = open(until + Duration::from_secs(1)).await.unwrap();
    assert!(opened.struck.is_empty() && !opened.issuers.publishes(&id));
}
