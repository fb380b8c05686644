//! What a device has proven, as a certificate policy: what OpenSSL makes of it, and that no renewal changes it.

use std::path::Path;

use fleetca_tests::{
    device::Device,
    maker::{CA, IDEVID, Maker, Wish, text},
    openssl,
    pem::write_certificate,
    pkilint::{self, Subject},
    process::{Finished, run},
    server::Server,
    tpm::Tpm,
};

const SETTINGS: &str = "policy_arc = \"1.3.6.1.4.1.99999.1\"";
const TOKEN: &str = "1.3.6.1.4.1.99999.1.1";
const FACTORY: &str = "1.3.6.1.4.1.99999.1.3";
const HARDWARE: &str = "1.3.6.1.4.1.99999.1.4";

/// `openssl verify` of a device's certificate, where one of these policies is demanded.
fn verify(server: &Server, device: &Device, policies: &[&str]) -> Finished {
    let chain = device.presented().chain;
    let mut command = openssl::command().expect("it was there");
    command.args(["verify", "-x509_strict", "-explicit_policy"]);
    policies.iter().for_each(|policy| _ = command.args(["-policy", policy]));
    run(command.arg("-CAfile").arg(server.device_root()).arg("-untrusted").arg(&chain).arg(&chain))
}

fn refused(finished: &Finished) {
    assert!(finished.code != 0 && finished.stderr.contains("no explicit policy"), "{finished:?}");
}

fn lint(server: &Server, device: &Device) {
    let certificate = write_certificate(server.scratch(), "linted", &device.chain()[0]);
    assert_eq!(pkilint::findings(Subject::Certificate, &certificate).unwrap_or_default(), [""; 0]);
}

/// A board that enrolls by its factory identity.
fn board(server: &Server) -> Option<Device> {
    let maker = Maker::new(server.scratch().join("maker"))?;
    let root = maker.make("root", &Wish { subject: "/O=Maker/CN=Root", ..CA }, None);
    let idevid = maker.make("board", &IDEVID, Some(&root));
    let admin = server.admin();
    admin.run(&["fleet", "create", "boards", "--attest", "factory", "--factory-roots", text(&root.certificate)]);
    let identity = format!("{}:SN-1", root.spki_sha256());
    admin.run(&["device", "register", "board-1", "--fleet", "boards", "--idevid", &identity]);
    let device = Device::new(server.scratch().join("board-1"));
    enroll(server, &device, &idevid.certificate, &idevid.key);
    Some(device)
}

fn enroll(server: &Server, device: &Device, certificate: &Path, key: &Path) {
    let mut command = device.command("enroll");
    command.args(["--server", &server.url(), "--root"]).arg(server.control_root());
    let evidence = format!("factory:{},{}", certificate.display(), key.display());
    run(command.args(["--device-id", "board-1", "--attest", &evidence])).succeeded();
}

#[test]
fn openssl_lets_in_who_has_proven_enough_and_nobody_else_and_renewals_change_nothing() {
    if openssl::command().is_none() {
        return;
    }
    let server = Server::start_with_settings(SETTINGS);
    server.admin().create_fleet("sensors");
    let (sensor, Some(board)) = (Device::enroll(&server, "sensors", "sensor-1"), board(&server)) else { return };
    for round in ["enrolled", "renewed"] {
        lint(&server, &sensor);
        lint(&server, &board);
        verify(&server, &board, &[FACTORY]).succeeded();
        verify(&server, &board, &[FACTORY, HARDWARE]).succeeded();
        verify(&server, &sensor, &[TOKEN]).succeeded();
        refused(&verify(&server, &board, &[HARDWARE]));
        refused(&verify(&server, &board, &[TOKEN]));
        for demanded in [&[FACTORY][..], &[HARDWARE], &[FACTORY, HARDWARE]] {
            refused(&verify(&server, &sensor, demanded));
        }
        if round == "enrolled" {
            sensor.renew();
            board.renew();
        }
    }
}

#[test]
fn a_device_with_a_tpm_passes_where_hardware_is_demanded_and_still_does_once_it_has_renewed() {
    let Some(tpm) = Tpm::start().filter(|_| openssl::command().is_some()) else { return };
    let server = Server::start_with_settings(SETTINGS);
    let device = Device::new(server.scratch().join("valve-1"));
    let ek = run(device.program("show-tpm").arg(tpm.socket())).succeeded();
    server.admin().run(&["fleet", "create", "valves", "--attest", "tpm"]);
    server.admin().run(&["device", "register", "valve-1", "--fleet", "valves", "--ek-hash", ek.trim()]);
    let mut command = device.command("enroll");
    command.args(["--server", &server.url(), "--attest", &format!("tpm:{}", tpm.socket())]);
    run(command.arg("--root").arg(server.control_root())).succeeded();
    for round in ["enrolled", "renewed"] {
        lint(&server, &device);
        verify(&server, &device, &[HARDWARE]).succeeded();
        refused(&verify(&server, &device, &[FACTORY]));
        refused(&verify(&server, &device, &[TOKEN]));
        if round == "enrolled" {
            device.renew();
        }
    }
}

#[test]
fn without_an_arc_no_certificate_says_what_was_proven() {
    if openssl::command().is_none() {
        return;
    }
    let server = Server::start();
    server.admin().create_fleet("sensors");
    let sensor = Device::enroll(&server, "sensors", "sensor-1");
    let certificate = write_certificate(server.scratch(), "sensor", &sensor.chain()[0]);
    let told = openssl::certificate_text(&certificate).expect("it was there");
    assert!(!told.contains("Certificate Policies"), "{told}");
    refused(&verify(&server, &sensor, &[TOKEN]));
}
