//! The watch: a gateway hears of each new CRL at once, as a patch of the one that it holds, until it is cut off.

use std::{
    fs, io,
    net::{Shutdown, TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use fleetca_proto::{
    patch,
    v1::{
        Bundle, CrlPatch, CurrentCrls, HeldCrl, WatchCrlRequest, WatchCrlResponse, watch_crl_request::Form,
        watch_crl_response::Part,
    },
};
use fleetca_tests::{
    binaries,
    crl::Crl,
    device::Device,
    holder::Holder,
    http,
    process::{Running, run},
    server::Server,
    stranger::reason,
    wait::{SOON, until_true},
};
use prost::Message;
use rustls_pki_types::{CertificateRevocationListDer, pem::PemObject};
use tonic::{Status, Streaming};

fn server() -> Server {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    server
}

/// What a caller holds, in the order of the form.
#[derive(Default)]
struct Holdings {
    crls: Vec<(HeldCrl, Vec<u8>)>,
    patches: usize,
    octets: usize,
}

impl Holdings {
    fn request(&self, form: Form) -> WatchCrlRequest {
        WatchCrlRequest { form: Some(form), held: self.crls.iter().map(|(held, _)| held.clone()).collect() }
    }

    fn of(&self, issuer: &str) -> Option<&[u8]> {
        self.crls.iter().find(|(held, _)| held.issuer == issuer).map(|(_, der)| der.as_slice())
    }

    /// Takes in one publication.
    async fn take(&mut self, answer: &mut Streaming<WatchCrlResponse>) -> Result<(), Status> {
        let (mut whole, mut coming): (Vec<(String, Vec<u8>)>, Vec<u8>) = (Vec::new(), Vec::new());
        let current = loop {
            let response = answer.message().await?.expect("an answer that goes on");
            self.octets += response.encoded_len();
            match response.part.expect("a part") {
                Part::Crl(chunk) if chunk.issuer.is_empty() => {
                    whole.last_mut().expect("a CRL that has begun").1.extend(chunk.data);
                }
                Part::Crl(chunk) => whole.push((chunk.issuer, chunk.data)),
                Part::Patch(chunk) => {
                    coming.extend(chunk.data);
                    if chunk.last {
                        let one = CrlPatch::decode(&std::mem::take(&mut coming)[..]).expect("a patch");
                        let old = self.of(&one.issuer).expect("what it is a patch of");
                        let length = usize::try_from(one.length).expect("a length");
                        whole.push((one.issuer, patch::apply(&one.steps, old, length).expect("it applies")));
                        self.patches += 1;
                    }
                }
                Part::Current(CurrentCrls { crls }) => break crls,
            }
        };
        let der = |held: &HeldCrl| {
            let new = whole.iter().find(|(issuer, _)| *issuer == held.issuer).map(|(_, der)| der.as_slice());
            new.or_else(|| self.of(&held.issuer)).expect("what the form consists of").to_vec()
        };
        self.crls = current.iter().map(|held| (held.clone(), der(held))).collect();
        for (held, der) in &self.crls {
            assert_eq!(ring::digest::digest(&ring::digest::SHA256, der).as_ref(), held.sha256);
        }
        Ok(())
    }

    fn bundle(&self) -> Vec<Vec<u8>> {
        self.crls.iter().map(|(_, der)| der.clone()).collect()
    }
}

fn bundle() -> Form {
    Form::Bundle(Bundle::default())
}

#[tokio::test]
async fn each_new_crl_comes_as_a_patch_of_the_one_before_it() {
    let server = server();
    let admin = server.admin();
    // Enough of them that a CRL is longer than what changes.
    for index in 0..40 {
        Device::enroll(&server, "sensors", &format!("pump-{index}"));
        if index < 35 {
            admin.run(&["device", "revoke", &format!("pump-{index}")]);
        }
    }
    let gateway = Holder::copy(&Device::enroll_gateway(&server, "eu-7"));
    let (mut client, mut holdings) = (gateway.revocation(&server), Holdings::default());
    let served = || -> Vec<Vec<u8>> {
        let pem = http::get(&server.http_url("/crl/bundle.pem")).ok();
        CertificateRevocationListDer::pem_slice_iter(&pem).map(|der| der.expect("a CRL").to_vec()).collect()
    };
    let mut answer = client.watch_crl(holdings.request(bundle())).await.expect("a watch").into_inner();
    holdings.take(&mut answer).await.expect("the first set");
    assert_eq!((holdings.bundle(), holdings.patches), (served(), 0));
    let before = holdings.octets;
    for (index, action) in [(35, "revoke"), (36, "hold"), (36, "release"), (37, "revoke")] {
        admin.run(&["device", action, &format!("pump-{index}")]);
        while holdings.bundle() != served() {
            holdings.take(&mut answer).await.expect("the next set");
        }
    }
    assert!(holdings.patches >= 4, "{}", holdings.patches);
    assert!(holdings.octets - before < holdings.patches * 1300, "{} in {}", holdings.octets, holdings.patches);

    // Who comes back with what it held gets what it missed; who holds something else gets the whole.
    drop(answer);
    admin.run(&["device", "revoke", "pump-38"]);
    admin.run(&["device", "revoke", "pump-39"]);
    let (patches, mut stranger) = (holdings.patches, Holdings::default());
    let mut again = client.watch_crl(holdings.request(bundle())).await.expect("a watch").into_inner();
    holdings.take(&mut again).await.expect("what it missed");
    assert_eq!((holdings.bundle(), holdings.patches), (served(), patches + 1));
    let mut wrong = holdings.request(bundle());
    wrong.held.iter_mut().for_each(|held| held.sha256 = vec![7; 32]);
    let mut other = client.watch_crl(wrong).await.expect("a watch").into_inner();
    stranger.take(&mut other).await.expect("the whole");
    assert_eq!((stranger.bundle(), stranger.patches), (served(), 0));
}

#[tokio::test]
async fn a_gateway_that_is_cut_off_hears_nothing_more() {
    let server = server();
    let gateway = Holder::copy(&Device::enroll_gateway(&server, "eu-7"));
    Device::enroll(&server, "sensors", "pump-7");
    let (mut client, mut holdings) = (gateway.revocation(&server), Holdings::default());
    let mut answer = client.watch_crl(holdings.request(bundle())).await.expect("a watch").into_inner();
    holdings.take(&mut answer).await.expect("the first set");
    server.admin().run(&["gateway", "revoke", "eu-7"]);
    let end = loop {
        if let Err(refusal) = holdings.take(&mut answer).await {
            break refusal;
        }
    };
    assert_eq!(reason(Err::<(), _>(end)), "DEVICE_REVOKED");
    let again = client.watch_crl(holdings.request(bundle())).await.expect("a watch").into_inner().message().await;
    assert_eq!(reason(again), "DEVICE_REVOKED");
}

#[tokio::test]
async fn a_watch_of_what_is_not_there_is_refused() {
    let server = server();
    let gateway = Holder::copy(&Device::enroll_gateway(&server, "eu-7"));
    let mut client = gateway.revocation(&server);
    let held = |count, sha256: usize| {
        let one = HeldCrl { issuer: "0123456789abcdef".into(), number: 1, sha256: vec![0; sha256] };
        WatchCrlRequest { form: Some(bundle()), held: vec![one; count] }
    };
    for (wrong, expected) in [
        (WatchCrlRequest::default(), "INVALID_ARGUMENT"),
        (held(101, 32), "INVALID_ARGUMENT"),
        (held(1, 31), "INVALID_ARGUMENT"),
        (WatchCrlRequest { form: Some(Form::Full("x".into())), held: Vec::new() }, "INVALID_ARGUMENT"),
        (WatchCrlRequest { form: Some(Form::Full("0123456789abcdef".into())), held: Vec::new() }, "NOT_FOUND"),
    ] {
        let outcome = match client.watch_crl(wrong.clone()).await {
            Ok(answer) => answer.into_inner().message().await.map(drop),
            Err(refusal) => Err(refusal),
        };
        assert_eq!(reason(outcome), expected, "{wrong:?}");
    }
}

#[test]
fn a_gateways_file_follows_each_revocation_by_itself() {
    let server = server();
    let admin = server.admin();
    for id in ["pump-1", "pump-2"] {
        Device::enroll(&server, "sensors", id);
    }
    let gateway = Device::enroll_gateway(&server, "eu-7");
    let start = |name: &str, source: &[&str]| {
        let out = server.scratch().join(format!("{name}.pem"));
        let mut command = Command::new(binaries::enroll_client());
        command.arg("sync-crls").args(source).arg("--watch").arg("--out").arg(&out);
        command.args(["--on-change", "echo >> \"$FLEETCA_FILE.reloads\"", "--probe", "test -s \"$FLEETCA_FILE\""]);
        (Running::start(name, command, server.scratch()), out)
    };
    let (url, root) = (server.http_url(""), server.device_root());
    let watches = [
        start("grpc", &["--dir", gateway.folder().to_str().expect("a path")]),
        start("http", &["--http-url", &url, "--trust", root.to_str().expect("a path")]),
    ];
    let revoked = |out: &std::path::Path| {
        let text = fs::read_to_string(out).unwrap_or_default();
        Crl::all_from_pem(&text).iter().map(|crl| crl.serials().len()).sum::<usize>()
    };
    for (id, count) in [("pump-1", 1), ("pump-2", 2)] {
        // The agent renews the gateway's certificate while the watch is open.
        gateway.renew();
        admin.run(&["device", "revoke", id]);
        for (watch, out) in &watches {
            until_true(SOON, &format!("the file follows\n{}", watch.stderr()), || revoked(out) == count);
        }
    }
}

/// A way to the server, and how many connections went it.
fn counted(server: &Server) -> (String, Arc<AtomicUsize>) {
    let far = server.url().trim_start_matches("https://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://{}", listener.local_addr().expect("an address"));
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            counter.fetch_add(1, Ordering::SeqCst);
            let far = TcpStream::connect(&far).expect("the server");
            let ends = |one: &TcpStream, other: &TcpStream| (one.try_clone().ok(), other.try_clone().ok());
            for (from, to) in [ends(&near, &far), ends(&far, &near)] {
                let (mut from, mut to) = (from.expect("a socket"), to.expect("a socket"));
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    (url, count)
}

#[test]
fn a_gateway_whose_probe_fails_stays_on_the_watch_and_takes_the_next_crl() {
    let server = server();
    let admin = server.admin();
    for id in ["pump-1", "pump-2"] {
        Device::enroll(&server, "sensors", id);
    }
    let (url, connections) = counted(&server);
    let (token, out) = (server.scratch().join("eu-7.token"), server.scratch().join("eu-7.pem"));
    admin.run(&["gateway", "create", "eu-7", "--out", token.to_str().expect("a path")]);
    let gateway = Device::new(server.scratch().join("eu-7"));
    let mut enroll = gateway.command("enroll");
    enroll.args(["--server", &url, "--kind", "gateway", "--gateway-id", "eu-7"]);
    enroll.arg("--root").arg(server.control_root()).arg("--attest").arg(format!("token:{}", token.display()));
    run(&mut enroll).succeeded();
    let mut command = gateway.command("sync-crls");
    command.arg("--watch").arg("--out").arg(&out).args(["--probe", "test ! -e \"$FLEETCA_FILE.dead\""]);
    let watch = Running::start("eu-7-watch", command, server.scratch());
    let loaded = || admin.run(&["gateway", "list"])[0]["loaded"][0]["is_served"] == true;
    until_true(SOON, "it has loaded what is served", loaded);

    let (before, dead) = (connections.load(Ordering::SeqCst), server.scratch().join("eu-7.pem.dead"));
    let held = Crl::all_from_pem(&fs::read_to_string(&out).expect("the file"));
    fs::write(&dead, "").expect("a file");
    admin.run(&["device", "revoke", "pump-1"]);
    until_true(SOON, "the probe fails", || watch.stderr().contains("--probe failed"));
    let said = watch.stderr();
    let alarm = said.lines().find(|line| line.contains("--probe failed")).expect("a line");
    let says_held = held.iter().any(|crl| alarm.contains(&format!(": number {}, made 20", crl.number())));
    assert!(alarm.starts_with("error: 20") && says_held, "{alarm}");
    fs::remove_file(&dead).expect("it is there");
    admin.run(&["device", "revoke", "pump-2"]);
    until_true(SOON, &format!("the next one is taken\n{}", watch.stderr()), loaded);
    let text = fs::read_to_string(&out).expect("the file");
    assert_eq!(Crl::all_from_pem(&text).iter().map(|crl| crl.serials().len()).sum::<usize>(), 2);
    assert_eq!(connections.load(Ordering::SeqCst), before, "it never left the watch\n{}", watch.stderr());
}
