//! What a bad file of CRLs does to a gateway that is told of it: why `sync-crls` writes none, and nobody should.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use ca_server::{
    identity::Timestamp,
    pki::{CrlTemplate, IssuerCertificate, ParsedCrl, PemLabel, from_pem, to_pem},
    signer::{Signer, SoftwareSigner},
};
use fleetca_tests::{
    device::Device,
    gateway::{
        Gateway, Presented,
        apache::Apache,
        envoy::Envoy,
        haproxy::{Haproxy, News},
        matrix::{self, Table},
        mosquitto::Mosquitto,
        nginx::Nginx,
        place::Place,
        postgres::Postgres,
        stunnel::Stunnel,
    },
    http,
    process::{lives, run},
    server::Server,
    wait::{SOON, until_true},
};

/// How often the same is to be seen in a row: what the page says, and what nobody has said yet.
const OFTEN: (usize, usize) = (8, 60);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn bundle(server: &Server) -> Vec<u8> {
    http::get(&server.http_url("/crl/bundle.pem")).ok()
}

/// The bundle that is served, but for the issuing CA's CRL, which is the same and was good until three days ago: its key has
/// signed that.
fn stale(server: &Server) -> Vec<u8> {
    let bundle = String::from_utf8(bundle(server)).expect("PEM is text");
    let crls = from_pem(PemLabel::Crl, &bundle).expect("CRLs");
    let issuers = server.admin().run(&["issuer", "list"]);
    let issuing = issuers.as_array().expect("a list").iter().find(|issuer| issuer["hierarchy"] == "device");
    let id = issuing.expect("an issuing CA")["id"].as_str().expect("an ID");
    let certificate = http::get(&server.http_url(&format!("/issuers/{id}.cer"))).ok();
    let issuer = IssuerCertificate::parse(&certificate).expect("a certificate");
    let key = SoftwareSigner::load(&server.dir().join(format!("keys/{id}.pem")), None).expect("its key");
    let today = SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_secs();
    let now = Timestamp::from_secs(i64::try_from(today).expect("a time"));
    let age = |der: Vec<u8>| {
        let crl = ParsedCrl::parse(der.into()).expect("a CRL");
        if crl.verify(&issuer).is_err() {
            return to_pem(PemLabel::Crl, crl.der());
        }
        let template = CrlTemplate {
            issuer: &issuer,
            number: crl.number() + 1,
            this_update: now - 10 * DAY,
            next_update: now - 3 * DAY,
            distribution_point: None,
        };
        let prepared = template.prepare(Some(&crl), []);
        let signature = key.sign(prepared.tbs()).expect("the key signs");
        to_pem(PemLabel::Crl, &prepared.assemble(&signature))
    };
    crls.into_iter().map(age).collect::<String>().into()
}

fn put(octets: &[u8], crls: &Path) {
    let beside = crls.with_extension("new");
    fs::write(&beside, octets).expect("the file is written");
    fs::rename(&beside, crls).expect("the file is put there");
}

/// Runs the hook: whether it said that all went well.
fn tell(gateway: &impl Gateway) -> bool {
    run(Command::new("sh").args(["-c", &gateway.reload()])).code == 0
}

/// What becomes of devices once the gateway has been told of this file. `said`: what is waited for.
fn outcome<G: Gateway>(gateway: &G, good: &Presented, revoked: &Presented, said: Option<&str>) -> &'static str {
    let comes_in = |device| gateway.admit(device).is_admitted();
    let look = || match (comes_in(good), comes_in(revoked)) {
        _ if !lives(gateway.pid()) => "**ends**",
        (true, false) => "keeps the old one",
        (false, false) => "refuses everybody",
        (true, true) => "**lets everybody in**",
        (false, true) => "turns it round",
    };
    let (mut seen, mut times, mut looks) = (look(), 1, 0);
    let often = if said.is_some() { OFTEN.0 } else { OFTEN.1 };
    until_true(SOON, "the gateway does what the page says", || {
        looks += 1;
        // HAProxy's master loses a signal that comes while it begins.
        if looks % 64 == 0 && said.is_some_and(|said| !said.starts_with(seen)) {
            tell(gateway);
        }
        let next = look();
        times = if next == seen { times + 1 } else { 1 };
        seen = next;
        times >= often && said.is_none_or(|said| said.starts_with(seen))
    });
    seen
}

fn a_bad_file_does_what_the_page_says<G: Gateway>(start: impl Fn(Place) -> Option<G>) {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    let [good, revoked, late] =
        ["good", "revoked", "late"].map(|id| Device::enroll(&server, "sensors", id).presented());
    server.admin().run(&["device", "revoke", "revoked"]);
    let first = bundle(&server);
    let damaged = b"-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n".to_vec();
    let files = [stale(&server), damaged, Vec::new()];
    server.admin().run(&["device", "revoke", "late"]);
    let (mut name, mut cells) = ("", Vec::new());
    for (index, file) in files.into_iter().enumerate() {
        let place = Place::make(&server.device_root());
        let crls = place.crls();
        put(&first, &crls);
        let Some(gateway) = start(place) else { return };
        assert!(gateway.admit(&late).is_admitted() && !gateway.admit(&revoked).is_admitted());
        put(&file, &crls);
        let told = tell(&gateway);
        let page = matrix::said(Table::BadFiles, gateway.name());
        let outcome = outcome(&gateway, &good, &revoked, page.as_ref().map(|cells| cells[index].as_str()));
        let said = if told { "" } else { ", and the hook fails" };
        (name, cells) = (gateway.name(), [cells, vec![format!("{outcome}{said}")]].concat());
        if lives(gateway.pid()) {
            // The next good file is taken.
            put(&bundle(&server), &crls);
            until_true(SOON, "the gateway has loaded the next list", || {
                assert!(tell(&gateway), "the hook fails");
                !gateway.admit(&late).is_admitted() && gateway.admit(&good).is_admitted()
            });
        }
    }
    matrix::hold(Table::BadFiles, name, &cells);
}

#[test]
fn nginx_and_bad_files() {
    a_bad_file_does_what_the_page_says(Nginx::start);
}

#[test]
fn mosquitto_and_bad_files() {
    a_bad_file_does_what_the_page_says(Mosquitto::start);
}

#[test]
fn haproxy_and_bad_files_at_a_reload() {
    a_bad_file_does_what_the_page_says(|place| Haproxy::start(place, News::Reload));
}

#[test]
fn haproxy_and_bad_files_at_a_commit() {
    a_bad_file_does_what_the_page_says(|place| Haproxy::start(place, News::Commit));
}

#[test]
fn stunnel_and_bad_files() {
    a_bad_file_does_what_the_page_says(Stunnel::start);
}

#[test]
fn apache_and_bad_files() {
    a_bad_file_does_what_the_page_says(Apache::start);
}

#[test]
fn postgresql_and_bad_files() {
    a_bad_file_does_what_the_page_says(Postgres::start);
}

#[test]
fn envoy_and_bad_files() {
    a_bad_file_does_what_the_page_says(Envoy::start);
}
