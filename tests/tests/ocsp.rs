//! OCSP: what the responder says of certificates, as OpenSSL, GnuTLS and pkilint read it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use fleetca_tests::{
    device::Device,
    http, openssl, pem, pkilint,
    process::{Finished, run},
    require,
    server::{PUBLIC_URL, Server},
};

/// A serial number that nobody has.
const NOBODY: &str = "0x01920000000001020304050607080910";

/// A server with a fleet; who asks it has files for OpenSSL.
struct World {
    server: Server,
    device: Device,
    issuing: PathBuf,
    /// Root and issuing CA.
    trust: PathBuf,
}

impl World {
    fn new(server: Server) -> World {
        server.admin().create_fleet("sensors");
        let device = Device::enroll(&server, "sensors", "pump-7");
        let issuing = pem::write_certificate(server.scratch(), "issuing", &device.chain()[1]);
        let trust = server.scratch().join("trust.pem");
        let both = [&server.device_root(), &issuing].map(|path| fs::read_to_string(path).expect("PEM"));
        fs::write(&trust, both.concat()).expect("a file");
        World { server, device, issuing, trust }
    }

    fn url(&self) -> String {
        self.server.http_url("/ocsp")
    }

    /// `openssl ocsp`, which verifies what it is told.
    fn openssl(&self, options: &[&str]) -> Option<Finished> {
        let mut command = openssl::command()?;
        command.args(["ocsp", "-issuer"]).arg(&self.issuing).arg("-CAfile").arg(&self.trust);
        Some(run(command.args(options)))
    }

    /// What OpenSSL is told of one serial number, and believes.
    fn says(&self, serial: &str, options: &[&str]) -> Option<String> {
        let url = self.url();
        let answer = self.openssl(&[&["-url", url.as_str()], options, &["-serial", serial]].concat())?;
        assert!(answer.stderr.contains("Response verify OK"), "{answer:?}");
        assert!(!answer.stderr.contains("onc"), "a nonce is repeated: {answer:?}");
        Some(answer.succeeded())
    }
}

fn hex(serial: &str) -> String {
    format!("0x{serial}")
}

#[test]
fn openssl_believes_what_is_said_of_good_held_revoked_and_unknown_certificates() {
    let world = World::new(Server::start());
    let admin = world.server.admin();
    let others = ["held", "gone"].map(|id| hex(&Device::enroll(&world.server, "sensors", id).serial()));
    let [held, gone] = &others;
    let good = hex(&world.device.serial());
    admin.run(&["device", "hold", "held"]);
    admin.run(&["device", "revoke", "gone", "--reason", "keyCompromise"]);
    for options in [&[][..], &["-no_nonce"], &["-sha256"], &["-sha256", "-no_nonce"]] {
        let Some(says) = world.says(&good, options) else { return };
        assert!(says.contains(&format!("{good}: good")), "{options:?}: {says}");
        let says = |serial: &str| world.says(serial, options).expect("openssl is there");
        let revoked = says(gone);
        assert!(revoked.contains(": revoked") && revoked.contains("Reason: keyCompromise"), "{revoked}");
        let on_hold = says(held);
        assert!(on_hold.contains(": revoked") && on_hold.contains("Reason: certificateHold"), "{on_hold}");
        assert!(says(NOBODY).contains(": unknown"), "never issued");
    }
    // Once the command has returned, nobody is told anything else.
    admin.run(&["device", "release", "held"]);
    assert!(world.says(held, &["-no_nonce"]).expect("openssl is there").contains(": good"));
    admin.run(&["device", "revoke", "held"]);
    let revoked = world.says(held, &["-no_nonce"]).expect("openssl is there");
    assert!(revoked.contains(": revoked") && !revoked.contains("Reason:"), "{revoked}");

    let all = world.openssl(&["-url", &world.url(), "-serial", &good, "-serial", gone, "-serial", NOBODY]);
    let all = all.expect("openssl is there");
    assert!(all.stderr.contains("Response verify OK"), "{all:?}");
    let said: Vec<_> = all.stdout.lines().filter(|line| line.starts_with("0x")).collect();
    assert_eq!(said.len(), 3, "{all:?}");
    for (line, status) in said.iter().zip(["good", "revoked", "unknown"]) {
        assert!(line.ends_with(status), "{line}");
    }
}

#[test]
fn what_is_asked_in_a_path_is_answered_alike_and_no_other_ca_can_have_signed_it() {
    let world = World::new(Server::start());
    let (request, answer) = (world.server.scratch().join("request.der"), world.server.scratch().join("answer.der"));
    let path = |path: &Path| path.to_str().expect("temporary folders have names in UTF-8").to_owned();
    let good = hex(&world.device.serial());
    let asked = ["-serial", good.as_str(), "-no_nonce", "-reqout", &path(&request)].map(str::to_owned);
    let Some(asked) = world.openssl(&asked.each_ref().map(String::as_str)) else { return };
    asked.succeeded();
    let text = BASE64_STANDARD.encode(fs::read(&request).expect("a request")).replace('/', "%2f");
    let got = http::get(&format!("{}/{text}", world.url()));
    assert_eq!(got.header("content-type"), Some("application/ocsp-response"));
    assert_eq!(got.header("cache-control"), Some("max-age=5, public, no-transform, must-revalidate"));
    for header in ["etag", "last-modified", "expires"] {
        assert!(got.header(header).is_some(), "{header}");
    }
    fs::write(&answer, got.ok()).expect("a file");
    let read = |trust: &Path| {
        let mut command = openssl::command().expect("openssl is there");
        command.args(["ocsp", "-issuer"]).arg(&world.issuing).args(["-serial", &good]).arg("-CAfile").arg(trust);
        run(command.args(["-no_nonce", "-respin"]).arg(&answer))
    };
    let believed = read(&world.trust);
    assert!(believed.stderr.contains("Response verify OK") && believed.stdout.contains(": good"), "{believed:?}");
    let refused = read(&world.server.control_root());
    assert!(!refused.stderr.contains("Response verify OK"), "{refused:?}");
    let mut changed = fs::read(&answer).expect("an answer");
    let at = changed.len() / 3;
    changed[at] ^= 1;
    fs::write(&answer, changed).expect("a file");
    let refused = read(&world.trust);
    assert!(!refused.stderr.contains("Response verify OK"), "{refused:?}");
}

#[test]
fn gnutls_believes_it_too() {
    let world = World::new(Server::start());
    let Some(program) = require::program("ocsptool") else { return };
    let leaf = pem::write_certificate(world.server.scratch(), "leaf", &world.device.chain()[0]);
    let ask = || {
        let mut command = Command::new(&program);
        command.arg(format!("--ask={}", world.url())).arg("--nonce").arg("--load-cert").arg(&leaf);
        run(command.arg("--load-issuer").arg(&world.issuing).arg("--load-trust").arg(&world.trust))
    };
    let good = ask();
    assert!(good.stdout.contains("Certificate Status: good"), "{good:?}");
    assert!(good.stdout.contains("Verifying OCSP Response: Success"), "{good:?}");
    world.server.admin().run(&["device", "revoke", "pump-7"]);
    let revoked = ask();
    assert!(revoked.stdout.contains("Certificate Status: revoked"), "{revoked:?}");
}

#[test]
fn pkilint_has_nothing_to_say_against_an_answer_and_its_signer_is_no_device() {
    let world = World::new(Server::start());
    let answer = world.server.scratch().join("answer.der");
    let name = answer.to_str().expect("temporary folders have names in UTF-8");
    let Some(says) = world.says(&hex(&world.device.serial()), &["-respout", name, "-resp_text"]) else { return };
    if let Some(findings) = pkilint::findings(pkilint::Subject::OcspResponse, &answer) {
        assert_eq!(findings, [""; 0]);
    }
    let signer = world.server.scratch().join("signer.pem");
    let begin = says.find("-----BEGIN").expect("the signer's certificate");
    const END: &str = "-----END CERTIFICATE-----\n";
    let end = says.find(END).expect("the whole of it") + END.len();
    fs::write(&signer, &says[begin..end]).expect("a file");
    if let Some(findings) = pkilint::findings(pkilint::Subject::Certificate, &signer) {
        assert_eq!(findings, [""; 0]);
    }
    let text = openssl::certificate_text(&signer).expect("openssl is there");
    assert!(text.contains("OCSP Signing") && text.contains("OCSP No Check"), "{text}");
    assert!(!text.contains("TLS Web Client") && !text.contains("spiffe:"), "{text}");
    // A gateway that asks for a client's certificate does not take it.
    let mut verify = openssl::command().expect("openssl is there");
    verify.args(["verify", "-purpose", "sslclient", "-CAfile"]).arg(&world.trust).arg(&signer);
    let refused = run(&mut verify);
    assert_ne!(refused.code, 0, "{refused:?}");
}

#[test]
fn each_start_has_a_signer_of_its_own_which_the_audit_log_names() {
    let mut world = World::new(Server::start());
    let good = hex(&world.device.serial());
    let signers = |world: &World| {
        let records = world.server.admin().run(&["audit", "list", "--action", "certificate.issued", "--limit", "100"]);
        let records = records.as_array().expect("a list");
        records.iter().filter(|record| record.to_string().contains("ocsp")).count()
    };
    assert_eq!(signers(&world), 0, "nobody has asked");
    let Some(says) = world.says(&good, &["-no_nonce"]) else { return };
    assert!(says.contains(": good"), "{says}");
    world.says(&good, &[]);
    assert_eq!(signers(&world), 1);
    world.server.kill();
    world.server.start_again();
    assert!(world.says(&good, &["-no_nonce"]).expect("openssl is there").contains(": good"));
    assert_eq!(signers(&world), 2);
    for file in fs::read_dir(world.server.dir().join("keys")).expect("keys") {
        let name = file.expect("a file").file_name().to_string_lossy().into_owned();
        assert!(!name.contains("ocsp"), "{name}");
    }
    let metrics = String::from_utf8(http::get(&world.server.metrics_url("/metrics")).ok()).expect("text");
    assert!(metrics.contains("fleetca_ocsp_answers_total{status=\"good\",signature=\"signed\"} 1"), "{metrics}");
}

#[test]
fn certificates_say_who_answers_only_where_the_settings_say_so() {
    let uri = |world: &World| {
        let leaf = pem::write_certificate(world.server.scratch(), "leaf", &world.device.chain()[0]);
        Some(run(openssl::command()?.args(["x509", "-noout", "-ocsp_uri", "-in"]).arg(leaf)).succeeded())
    };
    let Some(unsaid) = uri(&World::new(Server::start())) else { return };
    assert_eq!(unsaid, "");
    let told = World::new(Server::start_with_settings("ocsp_in_certificates = true\n"));
    assert_eq!(uri(&told), Some(format!("{PUBLIC_URL}/ocsp\n")));
    let leaf = pem::write_certificate(told.server.scratch(), "leaf", &told.device.chain()[0]);
    if let Some(findings) = pkilint::findings(pkilint::Subject::Certificate, &leaf) {
        assert_eq!(findings, [""; 0]);
    }
}
