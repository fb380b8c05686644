//! Real gateways, fed by `enroll-client sync-crls`: a good device gets in, a revoked one does not once the gateway has
//! loaded the new list, and one that was revoked earlier still does not.

use std::{fs, path::Path, process::Command};

use fleetca_tests::{
    binaries,
    device::Device,
    gateway::{
        Admission, Gateway,
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
    let mut regular = gateway.visitor(&revoked).map(Regular::come);

    admin.run(&["device", "revoke", "revoked", "--reason", "keyCompromise"]);
    sync_crls(&server, &source, &crls, Some(&gateway.reload()));
    until_true(SOON, "the gateway has loaded the new list", || !gateway.admit(&revoked).is_admitted());
    assert!(!gateway.admit(&revoked_earlier).is_admitted());
    assert_eq!(gateway.admit(&good), Admission::Admitted);

    let [open, resumed] = match &mut regular {
        Some(regular) => [regular.stays(gateway.closes_connections()), regular.resumes()],
        None => [NOT_TRIED, NOT_TRIED].map(str::to_owned),
    };
    matrix::hold(Table::NewLists, gateway.name(), &["in, out, out".to_owned(), open, resumed]);
}

const NOT_TRIED: &str = "not tried";

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
