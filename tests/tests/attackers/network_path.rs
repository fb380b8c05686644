//! Somebody on the network path: poses as the server, and serves other CRLs.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

use enroll_client::{attester::token::JoinToken, keys::tpm::Chip};
use fleetca_proto::v1::enroll_request::Step;
use fleetca_tests::{
    admin::read_token,
    binaries,
    device::Device,
    holder::Holder,
    http,
    process::{Finished, Running, run},
    server::Server,
    stranger::{self, Exchange, SubjectKey, reason},
    tpm::Tpm,
    wait::{SOON, until_true},
};
use prost::Message;
use rustls::{ServerConfig, ServerConnection, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::server;

/// A TLS server with somebody's certificate: what was said to it.
fn impostor(holder: &Holder) -> (u16, Arc<Mutex<Vec<u8>>>) {
    listen(holder.chain().to_vec(), holder.key())
}

fn listen(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> (u16, Arc<Mutex<Vec<u8>>>) {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("the key fits");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").expect("a port"));
    let (port, heard) = (listener.local_addr().expect("an address").port(), Arc::new(Mutex::new(Vec::new())));
    let ear = heard.clone();
    thread::spawn(move || {
        while let Ok((mut socket, _)) = listener.accept() {
            let mut tls = ServerConnection::new(config.clone()).expect("a connection");
            while let Ok((read, _)) = tls.complete_io(&mut socket) {
                let mut said = Vec::new();
                let _ = tls.reader().read_to_end(&mut said);
                ear.lock().expect("alone").extend_from_slice(&said);
                if read == 0 {
                    break;
                }
            }
        }
    });
    (port, heard)
}

fn enroll(server: &Server, port: u16, id: &str, token: &Path) -> Finished {
    run(&mut command(server, port, id, &format!("token:{}", token.display())))
}

fn command(server: &Server, port: u16, id: &str, attest: &str) -> Command {
    let mut command = Device::new(server.scratch().join(id)).command("enroll");
    command.args(["--server", &format!("https://localhost:{port}"), "--device-id", id, "--attest", attest, "--root"]);
    command.arg(server.control_root());
    command
}

#[test]
fn no_certificate_but_the_servers_own_passes_for_the_server() {
    let (server, elsewhere) = (server(), Server::start());
    elsewhere.admin().create_fleet("sensors");
    let token = server.admin().device_token("sensors", "pump-9", server.scratch());
    let of = |server: &Server| Holder::copy(&Device::new(server.admin().credential().to_path_buf()));
    let impostors = [
        ("a device", Holder::copy(&Device::enroll(&server, "sensors", "pump-7"))),
        ("a gateway", Holder::copy(&Device::enroll_gateway(&server, "eu-7"))),
        ("an operator", of(&server)),
        ("another CA's operator", of(&elsewhere)),
        ("another CA's device", Holder::copy(&Device::enroll(&elsewhere, "sensors", "pump-7"))),
    ];
    for (who, holder) in impostors {
        let (port, heard) = impostor(&holder);
        let finished = enroll(&server, port, "pump-9", &token);
        assert_ne!(finished.code, 0, "{who}: {finished:?}");
        assert_eq!(heard.lock().expect("alone").len(), 0, "{who} heard something");
    }
    // Another CA's real server, which would even take the request.
    assert_ne!(enroll(&server, elsewhere.addresses().devices.port(), "pump-9", &token).code, 0);
    enroll(&server, server.addresses().devices.port(), "pump-9", &token).succeeded();
}

/// It tells its device for as long as that lives.
#[test]
fn a_tpm_shows_its_endorsement_key_to_nobody_but_the_server() {
    let Some(tpm) = Tpm::start() else { return };
    let mut chip = Chip::open(&tpm.socket().parse().expect("a location")).expect("a TPM");
    let public = chip.endorsement(None).expect("a key").key.public().to_vec();
    chip.close().expect("it is let go");
    let attest = format!("tpm:{}", tpm.socket());
    let (server, elsewhere) = (server(), Server::start());
    elsewhere.admin().create_fleet("sensors");
    let another = fs::read(elsewhere.dir().join("server.pem")).expect("the other server's key and chain");
    let own = fs::read(server.dir().join("server.pem")).expect("the server's key and chain");
    let read = |pem: &[u8]| {
        let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().expect("a chain");
        listen(chain, PrivateKeyDer::from_pem_slice(pem).expect("a key"))
    };
    let impostors = [
        ("another CA's server", read(&another)),
        ("a device", impostor(&Holder::copy(&Device::enroll(&server, "sensors", "pump-7")))),
        ("another CA's device", impostor(&Holder::copy(&Device::enroll(&elsewhere, "sensors", "pump-7")))),
    ];
    for (who, (port, heard)) in impostors {
        assert_ne!(run(&mut command(&server, port, "pump-9", &attest)).code, 0, "{who}");
        assert_eq!(heard.lock().expect("alone").len(), 0, "{who} heard something");
    }
    // The server's own key is what it takes to hear it.
    let (port, heard) = read(&own);
    let mut device = Running::start("enroll-client", command(&server, port, "pump-9", &attest), server.scratch());
    until_true(SOON, "the server is shown the key", || {
        heard.lock().expect("alone").windows(public.len()).any(|window| window == public)
    });
    device.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_were_recorded_are_worth_nothing_on_another_stream() {
    let server = server();
    let file = server.admin().device_token("sensors", "pump-7", server.scratch());
    let (token, key): (JoinToken, _) = (read_token(&file), SubjectKey::generate());
    let connection = stranger::connect(&server).await;
    let start = stranger::start("pump-7", &token, &key).encode_to_vec();
    let mut exchange = Exchange::start(&connection, &start).await.expect("a stream");
    let challenge = exchange.challenge().await.expect("a challenge");
    // The proof never arrives, and the one who kept it uses it himself.
    let recorded = stranger::proof(&token, &key, &start, &challenge);
    drop(exchange);
    for _ in 0..3 {
        let mut replay = Exchange::start(&connection, &start).await.expect("a stream");
        assert_ne!(replay.challenge().await.expect("a challenge"), challenge);
        replay.send(Step::Proof(recorded.clone()));
        assert_eq!(reason(replay.issued().await), "ATTESTATION_FAILED");
    }
    stranger::enroll(&connection, "pump-7", &token, &key).await.expect("the token has not been used");
}

/// A web server that gives one answer to every request but those for issuing certificates, which it passes on.
fn relay(server: &Server, answer: Arc<Mutex<Vec<u8>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (url, issuers) = (format!("http://{}", listener.local_addr().expect("an address")), server.http_url(""));
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut request = Vec::new();
            let mut octet = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read_exact(&mut octet).is_ok() {
                request.push(octet[0]);
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            let path = request.split(' ').nth(1).unwrap_or("/").to_owned();
            let body = match path.starts_with("/issuers/") {
                true => http::get(&format!("{issuers}{path}")).body,
                false => answer.lock().expect("alone").clone(),
            };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    url
}

#[test]
fn no_crl_that_somebody_put_in_the_way_reaches_the_gateways_file() {
    let (server, elsewhere) = (server(), Server::start());
    let device = Device::enroll(&server, "sensors", "pump-7");
    let bundle = |server: &Server| http::get(&server.http_url("/crl/bundle.pem")).ok();
    let old = bundle(&server);
    server.admin().run(&["device", "revoke", "pump-7", "--reason", "keyCompromise"]);
    let good = bundle(&server);
    let answer = Arc::new(Mutex::new(good.clone()));
    let url = relay(&server, answer.clone());
    let out = server.scratch().join("crls.pem");
    let sync = || {
        let mut command = Command::new(binaries::enroll_client());
        command.args(["sync-crls", "--http-url", &url, "--trust"]).arg(server.device_root());
        run(command.arg("--out").arg(&out))
    };
    sync().succeeded();
    let written = fs::read(&out).expect("the file");

    let text = String::from_utf8(good.clone()).expect("PEM");
    let blocks: Vec<&str> = text.split_inclusive("-----END X509 CRL-----\n").collect();
    assert!(blocks.len() >= 2, "the issuing CA's and the root's: {text}");
    let mut changed = good.clone();
    let middle = changed.len() / 4;
    changed[middle] = if changed[middle] == b'A' { b'B' } else { b'A' };
    let lies: [(&str, Vec<u8>); 9] = [
        ("an old bundle, from before the revocation", old),
        ("nothing", Vec::new()),
        ("another CA's", bundle(&elsewhere)),
        ("the first CRL alone", blocks[0].into()),
        ("the last CRL alone", blocks[blocks.len() - 1].into()),
        ("half of it", good[..good.len() / 2].to_vec()),
        ("a changed octet", changed),
        ("a page of a captive portal", b"<html>log in</html>".to_vec()),
        ("the device's own certificate", fs::read(device.presented().chain).expect("a chain")),
    ];
    for (what, lie) in lies {
        *answer.lock().expect("alone") = lie;
        let finished = sync();
        assert_ne!(finished.code, 0, "{what}: {finished:?}");
        assert_eq!(fs::read(&out).expect("the file"), written, "{what}");
    }
    *answer.lock().expect("alone") = good;
    sync().succeeded();
}
