//! Delta CRLs, where the settings have them: read by OpenSSL and pkilint, and taken for a CRL by nobody who fetches for a
//! gateway.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    thread,
};

use fleetca_tests::{
    binaries,
    device::Device,
    http, openssl, pem,
    pkilint::{self, Subject},
    process::run,
    server::Server,
};
use rustls_pki_types::{CertificateRevocationListDer, pem::PemObject};

fn server() -> Server {
    let server = Server::start_with_settings("delta_crls = true\n");
    server.admin().create_fleet("sensors");
    server
}

fn issuer(server: &Server, hierarchy: &str) -> String {
    let issuers = server.admin().run(&["issuer", "list"]);
    let found = issuers.as_array().expect("a list").iter().find(|issuer| issuer["hierarchy"] == hierarchy);
    found.expect("it is there")["id"].as_str().expect("an ID").to_owned()
}

fn full(server: &Server, issuer: &str) -> Vec<u8> {
    http::get(&server.http_url(&format!("/crl/{issuer}/full.crl"))).ok()
}

/// As OpenSSL reads it: serial numbers, each with its reason (`-` where there is none).
fn read(text: &str) -> BTreeMap<String, String> {
    let entries = text.split("Serial Number: ").skip(1);
    let reason = |entry: &str| {
        entry.split("Reason Code:").nth(1).and_then(|rest| rest.lines().nth(1)).map(str::trim).map(str::to_owned)
    };
    let serial = |entry: &str| entry.lines().next().unwrap_or_default().trim().to_owned();
    entries.map(|entry| (serial(entry), reason(entry).unwrap_or("-".to_owned()))).collect()
}

#[test]
fn base_and_delta_are_the_complete_crl_as_openssl_reads_them() {
    let server = server();
    let admin = server.admin();
    let shown = run(Command::new(binaries::ca_server()).arg("show-config").arg("--dir").arg(server.dir())).succeeded();
    assert!(shown.contains("delta_crls = true"), "{shown}");
    let id = issuer(&server, "device");
    for device in ["before", "held", "gone", "twice"] {
        Device::enroll(&server, "sensors", device);
    }
    admin.run(&["device", "revoke", "before"]);
    admin.run(&["device", "hold", "held"]);
    let text = |name: &str, der: &[u8]| openssl::crl_text(&pem::write_crl(server.scratch(), name, der));
    let old = full(&server, &id);
    let Some(base) = text("base", &old) else { return };
    admin.run(&["device", "release", "held"]);
    admin.run(&["device", "revoke", "gone", "--reason", "keyCompromise"]);
    admin.run(&["device", "hold", "twice"]);
    admin.run(&["device", "revoke", "twice"]);

    let new = full(&server, &id);
    let answer = http::get(&server.http_url(&format!("/crl/{id}/delta.crl")));
    assert_eq!(answer.header("content-type"), Some("application/pkix-crl"));
    let delta = answer.ok();
    let (complete, changes) = (text("complete", &new).expect("text"), text("delta", &delta).expect("text"));
    assert!(changes.contains("X509v3 Delta CRL Indicator: critical"), "{changes}");
    let number =
        |text: &str| text.split("X509v3 CRL Number:").nth(1).and_then(|rest| rest.lines().nth(1)).map(str::to_owned);
    assert_eq!(number(&changes), number(&complete), "published together");
    assert_ne!(number(&changes), number(&base));
    let mut listed = read(&base);
    assert_eq!(listed.len(), 2);
    for (serial, reason) in read(&changes) {
        match reason.as_str() {
            "Remove From CRL" => drop(listed.remove(&serial)),
            _ => drop(listed.insert(serial, reason)),
        }
    }
    assert_eq!(listed, read(&complete));
    assert_eq!(listed.len(), 3, "{complete}");
    assert!(!complete.contains("Delta") && !complete.contains("Freshest"), "{complete}");

    let issuing = http::get(&server.http_url(&format!("/issuers/{id}.cer"))).ok();
    let issuing = pem::write_certificate(server.scratch(), "issuing", &issuing);
    let file = pem::write_crl(server.scratch(), "delta", &delta);
    let mut verify = openssl::command().expect("openssl is there");
    let verified = run(verify.args(["crl", "-noout", "-in"]).arg(&file).arg("-CAfile").arg(&issuing));
    assert!(verified.stderr.contains("verify OK"), "{verified:?}");
    if let Some(findings) = pkilint::findings(Subject::Crl, &file) {
        assert_eq!(findings, [""; 0]);
    }
    let bundle = http::get(&server.http_url("/crl/bundle.pem")).ok();
    assert_eq!(CertificateRevocationListDer::pem_slice_iter(&bundle).count(), 2, "the root's and the issuing CA's");
    let without = Server::start();
    without.admin().create_fleet("sensors");
    Device::enroll(&without, "sensors", "pump-7");
    without.admin().run(&["device", "revoke", "pump-7"]);
    let path = format!("/crl/{}/delta.crl", issuer(&without, "device"));
    assert_eq!(http::get(&without.http_url(&path)).status, 404, "off unless it is said");
}

/// Passes on what the server says, but for the bundle.
fn in_the_way(server: &Server, bundle: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let real = server.http_url("");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let path = path_of(&mut stream);
            let body = if path == "/crl/bundle.pem" {
                bundle.clone().into_bytes()
            } else {
                http::get(&format!("{real}{path}")).ok()
            };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            // Who has seen enough may be gone.
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    url
}

fn path_of(stream: &mut TcpStream) -> String {
    let (mut request, mut octet) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut octet).is_ok_and(|read| read == 1) {
        request.push(octet[0]);
    }
    String::from_utf8_lossy(&request).split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn no_delta_gets_into_a_gateways_file() {
    let server = server();
    let admin = server.admin();
    for device in ["before", "after"] {
        Device::enroll(&server, "sensors", device);
        admin.run(&["device", "revoke", device]);
    }
    let id = issuer(&server, "device");
    let pem = |name: &str, der: &[u8]| fs::read_to_string(pem::write_crl(server.scratch(), name, der)).expect("PEM");
    let delta = http::get(&server.http_url(&format!("/crl/{id}/delta.crl"))).ok();
    let root = pem("root", &full(&server, &issuer(&server, "device-root")));
    let (complete, delta) = (pem("complete", &full(&server, &id)), pem("delta", &delta));
    let file = server.scratch().join("crls.pem");
    let sync = |bundle: &str, out: &Path| {
        let url = in_the_way(&server, bundle.to_owned());
        let mut command = Device::new(server.scratch().join("none")).program("sync-crls");
        command.args(["--http-url", &url, "--trust"]).arg(server.device_root()).arg("--out").arg(out);
        run(&mut command)
    };
    let whole = format!("{root}{complete}");
    sync(&whole, &file).succeeded();
    assert_eq!(fs::read_to_string(&file).expect("a file"), whole);
    for (what, bundle) in [("alone", format!("{root}{delta}")), ("beside it", format!("{whole}{delta}"))] {
        let refused = sync(&bundle, &file);
        assert_ne!(refused.code, 0, "{what}: {refused:?}");
        assert_eq!(fs::read_to_string(&file).expect("a file"), whole, "{what}");
        let fresh = server.scratch().join("fresh.pem");
        assert_ne!(sync(&bundle, &fresh).code, 0, "{what}");
        assert!(!fresh.exists(), "{what}");
    }
}
