//! Real gateways, fed by `enroll-client sync-crls`: a good device gets in, a revoked one does not once the gateway has
//! loaded the new list, and one that was revoked earlier still does not.

#[path = "gateways/stale.rs"]
mod stale;

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

use ca_server::{
    clock::{Clock, SystemClock},
    folder::Folder,
    identity::SerialNumber,
    pki::{CrlScope, Holder, LeafRequest, PemLabel, PublicKey, to_pem},
    server,
};
use fleetca_tests::{
    binaries,
    device::Device,
    gateway::{
        Admission, Gateway, Presented,
        apache::Apache,
        envoy::Envoy,
        haproxy::{Haproxy, News},
        matrix::{self, Table},
        mosquitto::Mosquitto,
        nginx::Nginx,
        place::Place,
        postgres::Postgres,
        stunnel::Stunnel,
        visitor::{Visit, Visitor},
    },
    http,
    process::run,
    server::Server,
    wait::{SOON, until_true},
};
use rcgen::{KeyPair, PublicKeyData};

/// Where a gateway has its CRLs from.
enum Source {
    /// Plain HTTP, and the device root.
    Http,
    /// gRPC, with the gateway's own certificate.
    Grpc(Device),
}

fn sync_command(server: &Server, source: &Source, out: &Path) -> Command {
    let mut command = Command::new(binaries::enroll_client());
    command.arg("sync-crls").arg("--out").arg(out);
    match source {
        Source::Http => command.args(["--http-url", &server.http_url(""), "--trust"]).arg(server.device_root()),
        Source::Grpc(gateway) => command.arg("--dir").arg(gateway.folder()),
    };
    command
}

/// Fetches what a gateway loads, as a cron job would.
fn sync_crls(server: &Server, source: &Source, out: &Path, on_change: Option<&str>) {
    let mut command = sync_command(server, source, out);
    if let Some(hook) = on_change {
        command.args(["--on-change", hook]);
    }
    run(&mut command).succeeded();
}

fn a_revoked_device_is_kept_out<G: Gateway>(
    source: impl FnOnce(&Server) -> Source,
    start: impl FnOnce(Place) -> Option<G>,
) {
    let server = Server::start();
    let admin = server.admin();
    admin.create_fleet("sensors");
    let source = source(&server);
    let [good, revoked, revoked_earlier] =
        ["good", "revoked", "revoked-earlier"].map(|id| Device::enroll(&server, "sensors", id).presented());
    admin.run(&["device", "revoke", "revoked-earlier", "--reason", "keyCompromise"]);

    let place = Place::make(&server.device_root());
    let crls = place.crls();
    sync_crls(&server, &source, &crls, None);
    let Some(gateway) = start(place) else { return };
    assert_eq!(gateway.admit(&good), Admission::Admitted);
    assert_eq!(gateway.admit(&revoked), Admission::Admitted);
    assert!(!gateway.admit(&revoked_earlier).is_admitted());
    let mut regular = Regular::come(gateway.visitor(&revoked));

    admin.run(&["device", "revoke", "revoked", "--reason", "keyCompromise"]);
    sync_crls(&server, &source, &crls, Some(&gateway.reload()));
    until_true(SOON, "the gateway has loaded the new list", || !gateway.admit(&revoked).is_admitted());
    assert!(!gateway.admit(&revoked_earlier).is_admitted());
    assert_eq!(gateway.admit(&good), Admission::Admitted);

    let (open, resumed) = (regular.stays(gateway.closes_connections()), regular.resumes());
    matrix::hold(Table::NewLists, gateway.name(), &["in, out, out".to_owned(), open, resumed]);
}

/// A device that was there before it was revoked: with a connection, and a session to come back with.
struct Regular {
    visitor: Visitor,
    visit: Visit,
    came_back_with_a_session: bool,
}

impl Regular {
    fn come(visitor: Visitor) -> Regular {
        let visit = || visitor.visit().expect("it is not revoked yet");
        let (mut first, second) = (visit(), visit());
        assert!(first.goes_on(), "a connection can be used again");
        Regular { came_back_with_a_session: second.was_resumed(), visit: second, visitor }
    }

    /// What became of the connection. One that is closed is so a moment after the new list is in force.
    fn stays(&mut self, closes: bool) -> String {
        if closes {
            until_true(SOON, "the gateway closes the connection", || !self.visit.goes_on());
            return "closed when idle".to_owned();
        }
        assert!(self.visit.goes_on(), "the gateway closes connections by now");
        "**stay**".to_owned()
    }

    /// For how long a session from before gets it in: never after the hook.
    fn resumes(&self) -> String {
        assert!(self.visitor.visit().is_err(), "a revoked device resumes its session");
        if self.came_back_with_a_session { "until the next hook".to_owned() } else { "never".to_owned() }
    }
}

#[test]
fn nginx_keeps_revoked_devices_out() {
    a_revoked_device_is_kept_out(|_| Source::Http, Nginx::start);
}

#[test]
fn mosquitto_keeps_revoked_devices_out() {
    a_revoked_device_is_kept_out(|server| Source::Grpc(Device::enroll_gateway(server, "eu-7")), Mosquitto::start);
}

#[test]
fn haproxy_keeps_revoked_devices_out_after_a_reload() {
    a_revoked_device_is_kept_out(|_| Source::Http, |place| Haproxy::start(place, News::Reload));
}

#[test]
fn haproxy_keeps_revoked_devices_out_after_a_commit() {
    a_revoked_device_is_kept_out(|_| Source::Http, |place| Haproxy::start(place, News::Commit));
}

#[test]
fn stunnel_keeps_revoked_devices_out() {
    a_revoked_device_is_kept_out(|_| Source::Http, Stunnel::start);
}

#[test]
fn apache_keeps_revoked_devices_out() {
    a_revoked_device_is_kept_out(|_| Source::Http, Apache::start);
}

#[test]
fn postgresql_keeps_revoked_devices_out() {
    a_revoked_device_is_kept_out(|_| Source::Http, Postgres::start);
}

#[test]
fn envoy_keeps_revoked_devices_out() {
    a_revoked_device_is_kept_out(|_| Source::Http, Envoy::start);
}

/// A device's credential that a thief made with an issuing key, and that no CA has ever recorded.
async fn forged(server: &Server, issuer: &str, folder: &Path) -> Presented {
    let stolen =
        server::open(&Folder::new(server.dir()), None, SystemClock.now()).await.expect("the thief reads the folder");
    let mut all = stolen.issuers.online();
    let stolen = all.find(|online| online.issuer.id().to_string() == issuer).expect("the issuing CA");
    let (id, fleet) = ("forged".parse().expect("an ID"), "ones".parse().expect("a name"));
    let (key, now) = (KeyPair::generate().expect("a key"), SystemClock.now());
    let public = PublicKey::from_spki_der(&key.subject_public_key_info()).expect("a key");
    let hour = Duration::from_secs(3600);
    let leaf = stolen.sign_leaf(&LeafRequest {
        holder: Holder::Device { id: &id, fleet: &fleet },
        key: &public,
        serial: SerialNumber::new(now, [9; 10]),
        not_before: now - hour,
        not_after: now + hour,
        crl: CrlScope::Full,
        policy: None,
        ocsp: false,
    });
    let leaf = to_pem(PemLabel::Certificate, &leaf.expect("the thief signs").der);
    let (chain_file, key_file) = (folder.join("forged.pem"), folder.join("forged-key.pem"));
    let chain = leaf + &to_pem(PemLabel::Certificate, stolen.issuer.certificate().der());
    fs::write(&chain_file, chain).expect("a file");
    fs::write(&key_file, key.serialize_pem()).expect("a file");
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).expect("it is ours");
    Presented { chain: chain_file, key: key_file }
}

/// Two issuing CAs in one bundle; then the key of one is stolen, and its root revokes it.
async fn a_stolen_issuing_key_is_worthless<G: Gateway>(start: impl FnOnce(Place) -> Option<G>) {
    let mut server = Server::start_with_limits(&[("issuer_wait_seconds", 0)]);
    let admin = server.admin();
    let (dir, roots) = (server.dir(), server.dir().join("offline"));
    let ceremony = |action: &[&str]| {
        let mut command = Command::new(binaries::ca_server());
        command.arg("issuer").args(action).arg("--dir").arg(&dir).arg("--root-dir").arg(&roots);
        run(&mut command).succeeded()
    };
    server.stop();
    ceremony(&["create"]);
    server.start_again();
    let issuers = admin.run(&["issuer", "status"]);
    let id = |at: usize| issuers[at]["id"].as_str().expect("an ID").to_owned();
    let (one, two) = (id(0), id(1));
    admin.run(&["fleet", "create", "ones", "--issuers", &one]);
    admin.run(&["fleet", "create", "twos", "--issuers", &two]);
    let honest = Device::enroll(&server, "ones", "honest").presented();
    let [good, revoked] = ["good", "revoked"].map(|id| Device::enroll(&server, "twos", id).presented());
    let forged = forged(&server, &one, server.scratch()).await;

    let place = Place::make(&server.device_root());
    let crls = place.crls();
    sync_crls(&server, &Source::Http, &crls, None);
    let Some(gateway) = start(place) else { return };
    for device in [&honest, &good, &revoked, &forged] {
        assert_eq!(gateway.admit(device), Admission::Admitted);
    }
    admin.run(&["device", "revoke", "revoked"]);
    sync_crls(&server, &Source::Http, &crls, Some(&gateway.reload()));
    until_true(SOON, "the revoked device is kept out", || !gateway.admit(&revoked).is_admitted());
    assert_eq!(gateway.admit(&honest), Admission::Admitted);

    server.stop();
    ceremony(&["revoke", &one]);
    server.start_again();
    sync_crls(&server, &Source::Http, &crls, Some(&gateway.reload()));
    until_true(SOON, "what the stolen key makes is refused", || !gateway.admit(&forged).is_admitted());
    // While a gateway reloads, what it was before may still answer.
    until_true(SOON, "an honest device has to attest anew", || !gateway.admit(&honest).is_admitted());
    assert!(!gateway.admit(&revoked).is_admitted());
    assert_eq!(gateway.admit(&good), Admission::Admitted);
}

#[tokio::test]
async fn a_certificate_made_with_a_stolen_issuing_key_is_refused_at_every_gateway_once_that_is_revoked() {
    a_stolen_issuing_key_is_worthless(Nginx::start).await;
    a_stolen_issuing_key_is_worthless(|place| Haproxy::start(place, News::Reload)).await;
    a_stolen_issuing_key_is_worthless(|place| Haproxy::start(place, News::Commit)).await;
    a_stolen_issuing_key_is_worthless(Apache::start).await;
    a_stolen_issuing_key_is_worthless(Mosquitto::start).await;
    a_stolen_issuing_key_is_worthless(Stunnel::start).await;
    a_stolen_issuing_key_is_worthless(Postgres::start).await;
    a_stolen_issuing_key_is_worthless(Envoy::start).await;
}

#[test]
fn a_gateway_takes_everything_one_fleets_bundle_or_one_issuers_crl() {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    Device::enroll(&server, "sensors", "pump-7");
    server.admin().run(&["device", "revoke", "pump-7"]);
    let gateway = Device::enroll_gateway(&server, "eu-7");
    let issuers = server.admin().run(&["issuer", "list"]);
    let issuing = issuers.as_array().expect("a list").iter().find(|issuer| issuer["hierarchy"] == "device");
    let issuing = issuing.expect("an issuing CA")["id"].as_str().expect("an ID").to_owned();
    let sync = |form: &str, source: &Source, max_age: &str| {
        let out = server.scratch().join(format!("{}.pem", form.replace(':', "-")));
        let mut command = sync_command(&server, source, &out);
        (run(command.args(["--form", form, "--max-age", max_age])), out)
    };
    for source in [Source::Http, Source::Grpc(gateway)] {
        for (form, served) in [
            ("bundle", "/crl/bundle.pem".to_owned()),
            ("fleet:sensors", "/crl/fleet/sensors/bundle.pem".to_owned()),
            (&format!("full:{issuing}"), format!("/crl/{issuing}/full.pem")),
        ] {
            let (finished, out) = sync(form, &source, "1h");
            assert!(finished.code == 0 && finished.stderr.contains("1 revoked"), "{form}: {finished:?}");
            assert_eq!(fs::read(&out).expect("it is written"), http::get(&server.http_url(&served)).ok(), "{form}");
        }
        assert_eq!(sync("fleet:nobody", &source, "1h").0.code, 1);
        assert_eq!(sync("full:0123456789abcdef", &source, "1h").0.code, 1);
        assert_eq!(sync("delta", &source, "1h").0.code, 2, "a delta must never reach a gateway");
    }
}
