//! Devices with a TPM: from the first certificate to the next, and everything that a device with another TPM, another
//! key or an old answer tries.

use std::{
    io,
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex},
    thread,
};

use enroll_client::{
    attester::{Attester, tpm::TpmMethod},
    connect::Connection,
    credential::Credential,
    keys::Key,
};
use fleetca_proto::{
    transcript::{Role, enrollment},
    v1::{Kind, Proof, RenewRequest, Start, TpmEvidence, enroll_request::Step, start::Evidence},
};
use fleetca_tests::{
    device::Device,
    pem::write_certificate,
    process::{Finished, run},
    server::{Server, TRUST_DOMAIN},
    stranger::{Exchange, Refusal, SubjectKey, connect},
    tpm::{Tpm, maker::Maker},
    wait::{SOON, until},
};
use prost::Message;
use serde_json::Value;
use tonic::Status;

const KINDS: [&str; 3] = ["rsa-2048", "p-256", "p-384"];

fn server() -> Server {
    let server = Server::start();
    server.admin().run(&["fleet", "create", "pumps", "--attest", "tpm"]);
    server
}

/// What the device's own command says of its TPM.
fn shown(server: &Server, id: &str, tpm: &Tpm, kind: &str) -> String {
    let mut command = Device::new(server.scratch().join(id)).program("show-tpm");
    let shown = run(command.args([&format!("{},{kind}", tpm.socket()), "--output", "json"])).succeeded();
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    shown["ek_sha256"].as_str().expect("a hash").to_owned()
}

/// Registers a device by that.
fn register(server: &Server, id: &str, tpm: &Tpm, kind: &str) {
    let hash = shown(server, id, tpm, kind);
    server.admin().run(&["device", "register", id, "--fleet", "pumps", "--ek-hash", &hash]);
}

fn enroll(server: &Server, folder: &str, id: Option<&str>, tpm: &Tpm, kind: &str) -> (Device, Finished) {
    enroll_at(server, folder, id, &format!("{},{kind}", tpm.socket()))
}

fn enroll_at(server: &Server, folder: &str, id: Option<&str>, location: &str) -> (Device, Finished) {
    let device = Device::new(server.scratch().join(folder));
    let mut command = device.command("enroll");
    command.args(["--server", &server.url(), "--attest", &format!("tpm:{location}")]);
    command.arg("--root").arg(server.control_root());
    if let Some(id) = id {
        command.args(["--device-id", id]);
    }
    let finished = run(&mut command);
    (device, finished)
}

fn enrolled(server: &Server, id: &str, tpm: &Tpm) -> Device {
    register(server, id, tpm, "p-256");
    let (device, finished) = enroll(server, id, Some(id), tpm, "p-256");
    finished.succeeded();
    device
}

fn key_of(device: &Device) -> Vec<u8> {
    Credential::load(device.folder()).expect("a credential").key().spki()
}

/// Copies what comes, until it ends.
fn hand_on<R: io::Read + Send + 'static>(
    mut from: R,
    mut to: impl io::Write + Send + 'static,
    end: impl FnOnce() + Send + 'static,
) {
    thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        end();
    });
}

/// A server ends the connection of a stranger after a minute, and a TPM may take longer for its keys.
#[test]
fn a_tpm_may_take_longer_for_its_keys_than_a_connection_lasts() {
    let server = server();
    let Some(tpm) = Tpm::start() else { return };
    register(&server, "pump-7", &tpm, "p-256");
    let bind = || TcpListener::bind("127.0.0.1:0").expect("a port");
    let (ways, ways_of_tpm) = (bind(), bind());
    let url = format!("https://{}", ways.local_addr().expect("an address"));
    let location = format!("tcp:{},p-256", ways_of_tpm.local_addr().expect("an address"));
    let opened: Arc<Mutex<Vec<TcpStream>>> = Arc::default();

    let (kept, far) = (opened.clone(), server.url().trim_start_matches("https://").to_owned());
    thread::spawn(move || {
        for near in ways.incoming().flatten() {
            let far = TcpStream::connect(&far).expect("the server");
            kept.lock().expect("nobody panics").push(near.try_clone().expect("a socket"));
            for (from, to) in [(&near, &far), (&far, &near)] {
                let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                let ended = to.try_clone().expect("a socket");
                hand_on(from, to, move || drop(ended.shutdown(Shutdown::Both)));
            }
        }
    });
    let (kept, chip) = (opened.clone(), tpm.socket());
    thread::spawn(move || {
        for near in ways_of_tpm.incoming().flatten() {
            // By now the time of the first connection is over.
            kept.lock().expect("nobody panics")[0].shutdown(Shutdown::Both).ok();
            let far = UnixStream::connect(&chip).expect("the TPM");
            let ended = far.try_clone().expect("a socket");
            hand_on(near.try_clone().expect("a socket"), far.try_clone().expect("a socket"), move || {
                drop(ended.shutdown(Shutdown::Both))
            });
            hand_on(far, near, || ());
        }
    });

    let device = Device::new(server.scratch().join("pump-7"));
    let mut command = device.command("enroll");
    command.args(["--server", &url, "--attest", &format!("tpm:{location}"), "--root"]).arg(server.control_root());
    run(&mut command).succeeded();
    assert!(opened.lock().expect("nobody panics").len() > 1);
}

#[test]
fn a_device_enrolls_by_its_tpm_and_renews_with_the_key_in_it() {
    let server = server();
    let Some(tpms) = Tpm::start_many(KINDS.len()) else { return };
    for (kind, tpm) in KINDS.into_iter().zip(&tpms) {
        register(&server, kind, tpm, kind);
        // The TPM is who it is: the device need not know its own ID.
        let (device, finished) = enroll(&server, kind, None, tpm, kind);
        finished.succeeded();
        let shown = server.admin().run(&["device", "show", kind]);
        assert_eq!((&shown["status"], &shown["tier"]), (&"active".into(), &"hardware".into()), "{shown}");
        let current = device.folder().join("current");
        assert!(!current.join("key.pem").exists() && current.join("tpm-key.pem").exists());

        let (serial, key) = (device.serial(), key_of(&device));
        device.renew();
        assert_ne!(device.serial(), serial);
        assert_eq!(key_of(&device), key, "the key stays where it is");
        assert_eq!(server.admin().run(&["device", "show", kind])["generation"], 2);
    }
}

#[test]
fn a_tpm_is_used_by_its_character_device_as_by_its_socket() {
    let server = server();
    let Some(tpm) = Tpm::start() else { return };
    register(&server, "pump-7", &tpm, "p-256");
    let Some(file) = tpm.device_file() else { return };
    let (device, finished) = enroll_at(&server, "pump-7", None, &format!("{},p-256", file.path().display()));
    finished.succeeded();
    let serial = device.serial();
    device.renew();
    assert_ne!(device.serial(), serial);
    assert_eq!(server.admin().run(&["device", "show", "pump-7"])["tier"], "hardware");
}

#[test]
fn a_tpm_that_nobody_has_registered_gets_nothing() {
    let server = server();
    let Some(tpm) = Tpm::start() else { return };
    // What would have passed.
    let registered = "ab".repeat(32);
    let admin = server.admin();
    admin.run(&["device", "register", "pump-7", "--fleet", "pumps", "--ek-hash", &registered]);
    let (device, finished) = enroll(&server, "pump-7", Some("pump-7"), &tpm, "p-256");
    assert_eq!(finished.code, 1, "{}", finished.stderr);
    assert!(finished.stderr.contains("ATTESTATION_FAILED"), "{}", finished.stderr);
    assert!(!device.folder().join("current").exists());
    // The event says who came, and neither to the one nor to the others what they should have come with.
    let told = until(SOON, "the event is told", || {
        let events = admin.run(&["audit", "list", "--security"]);
        let mut events = events.as_array().expect("a list").iter();
        events.find(|event| event["kind"] == "attestation.failed").cloned()
    });
    let own = shown(&server, "pump-7", &tpm, "p-256");
    let detail = told["detail"].as_str().expect("a detail");
    assert_eq!((&told["subject"], &told["count"]), (&"nobody/tpm".into(), &1.into()), "{told}");
    assert!(detail.contains(&format!("proven ek:{own}, asked for pump-7")), "{detail}");
    assert!(!detail.contains(&registered) && !finished.stderr.contains(&registered), "{detail}");
}

#[test]
fn a_known_device_id_with_another_tpm_is_refused() {
    let server = server();
    let Some(tpms) = Tpm::start_many(2) else { return };
    enrolled(&server, "pump-7", &tpms[0]);
    register(&server, "pump-8", &tpms[1], "p-256");
    let (_, finished) = enroll(&server, "other", Some("pump-7"), &tpms[1], "p-256");
    assert_eq!(finished.code, 1);
    assert!(finished.stderr.contains("ID_REFUSED"), "{}", finished.stderr);
}

/// Nobody has pinned a root: that the key is registered is all that speaks for the TPM, and its ban comes before that.
#[test]
fn a_registered_tpm_whose_endorsement_key_is_banned_is_refused_though_no_root_is_pinned() {
    let server = server();
    let Some(tpm) = Tpm::start() else { return };
    register(&server, "pump-7", &tpm, "p-256");
    let ban = |key: &str| _ = server.admin().run(&["fleet", "set", "pumps", "--banned-keys", key]);
    ban(&shown(&server, "pump-7", &tpm, "p-256"));
    let (device, finished) = enroll(&server, "pump-7", Some("pump-7"), &tpm, "p-256");
    assert!(finished.code == 1 && finished.stderr.contains("ATTESTATION_FAILED"), "{finished:?}");
    assert!(!device.folder().join("current").exists());
    assert_eq!(server.admin().run(&["device", "show", "pump-7"])["status"], "registered");
    ban("none");
    enroll(&server, "pump-7", Some("pump-7"), &tpm, "p-256").1.succeeded();
}

#[test]
fn a_fleet_that_pins_makers_of_tpms_takes_theirs_only() {
    let server = server();
    let (Some(tpm), Some(elsewhere)) = (Tpm::manufactured(), Tpm::manufactured()) else { return };
    register(&server, "pump-7", &tpm, "p-384");
    let pin = |tpm: &Tpm| {
        let maker = tpm.folder().join("maker/issuercert.pem").display().to_string();
        server.admin().run(&["fleet", "set", "pumps", "--tpm-roots", &maker]);
    };
    pin(&elsewhere);
    let (_, finished) = enroll(&server, "pump-7", None, &tpm, "p-384");
    assert!(finished.stderr.contains("ATTESTATION_FAILED"), "{}", finished.stderr);
    pin(&tpm);
    enroll(&server, "pump-7", None, &tpm, "p-384").1.succeeded();
}

#[test]
fn a_folder_without_its_tpm_is_of_no_use() {
    let server = server();
    let Some(tpms) = Tpm::start_many(2) else { return };
    let device = enrolled(&server, "pump-7", &tpms[0]);
    // A stolen disk, in a machine with a TPM of its own.
    std::fs::write(device.folder().join("current/tpm-device"), tpms[1].socket()).expect("written");
    let finished = run(device.command("renew").arg("--force"));
    assert_ne!(finished.code, 0);
    assert!(finished.stderr.contains("TPM"), "{}", finished.stderr);
    std::fs::write(device.folder().join("current/tpm-device"), tpms[0].socket()).expect("written");
    device.renew();
}

#[test]
fn a_device_that_lost_its_disk_comes_back_by_its_tpm() {
    let server = server();
    let Some(tpm) = Tpm::start() else { return };
    let lost = enrolled(&server, "pump-7", &tpm);
    let tpm = tpm.restarted();
    let (device, finished) = enroll(&server, "new-disk", Some("pump-7"), &tpm, "p-256");
    finished.succeeded();
    assert_ne!(key_of(&device), key_of(&lost), "a new key, in the same TPM");
    assert_eq!(server.admin().run(&["device", "show", "pump-7"])["head_serial"], device.serial());
}

#[tokio::test]
async fn a_key_in_hardware_is_renewed_for_no_other_key() {
    let server = server();
    let Some(tpm) = Tpm::start() else { return };
    let credential = Credential::load(enrolled(&server, "pump-7", &tpm).folder()).expect("a credential");
    let mut renewal = Connection::with_credential(&credential).await.expect("a connection").renewal();
    let refused = renewal
        .renew(RenewRequest { csr: SubjectKey::generate().csr(), ..Default::default() })
        .await
        .expect_err("another key");
    assert_eq!(Refusal::of(&refused).reason, "ATTESTATION_FAILED");
    let csr = credential.key().csr().expect("the TPM signs");
    let first = renewal.renew(RenewRequest { csr, ..Default::default() }).await.expect("its own key").into_inner();
    // A lost reply: asked again, the same is answered.
    let csr = credential.key().csr().expect("the TPM signs");
    let again = renewal.renew(RenewRequest { csr, ..Default::default() }).await.expect("its own key").into_inner();
    assert_eq!(first.chain, again.chain);
}

/// A device whose every message is in the test's hands.
struct Puppet {
    attester: Attester,
    key: Key,
}

impl Puppet {
    fn over(tpm: &Tpm) -> Puppet {
        let location = tpm.socket().parse().expect("a location");
        let attester = Attester::Tpm(Box::new(TpmMethod::new(location, None)));
        let key = attester.new_key().expect("a key");
        attester.make_ready(&key).expect("a TPM");
        Puppet { attester, key }
    }

    fn evidence(&self) -> TpmEvidence {
        match self.attester.evidence() {
            Evidence::Tpm(evidence) => evidence,
            other => panic!("{other:?}"),
        }
    }

    fn start(&self, csr: Vec<u8>) -> Vec<u8> {
        self.start_by(csr, self.evidence())
    }

    fn start_by(&self, csr: Vec<u8>, evidence: TpmEvidence) -> Vec<u8> {
        self.start_as("pump-7", csr, evidence)
    }

    fn start_as(&self, id: &str, csr: Vec<u8>, evidence: TpmEvidence) -> Vec<u8> {
        let evidence = Some(Evidence::Tpm(evidence));
        let (trust_domain, id) = (TRUST_DOMAIN.to_owned(), id.to_owned());
        Start { trust_domain, kind: Kind::Device.into(), id, csr, evidence }.encode_to_vec()
    }

    fn proof(&self, start: &[u8], challenge: &[u8]) -> Proof {
        let proof = self.attester.prove(start, challenge, enroll_client::wall_time::WallTime::now()).expect("a proof");
        let subject_signature = self.key.sign(&enrollment("tpm", Role::Subject, start, challenge)).expect("signed");
        Proof { subject_signature, ..proof }
    }
}

/// One enrollment whose proof is whatever `prove` makes of `Start` and `Challenge`.
async fn attempt(
    connection: &Connection,
    start: &[u8],
    prove: impl FnOnce(&[u8], &[u8]) -> Proof,
) -> Result<(), Status> {
    let mut exchange = Exchange::start(connection, start).await?;
    let challenge = exchange.challenge().await?;
    exchange.send(Step::Proof(prove(start, &challenge)));
    exchange.issued().await.map(|_| ())
}

#[tokio::test]
async fn a_proof_of_another_stream_key_or_transcript_is_refused() {
    let server = server();
    let Some(tpm) = Tpm::start() else { return };
    register(&server, "pump-7", &tpm, "p-256");
    let (connection, puppet) = (connect(&server).await, Puppet::over(&tpm));
    let start = puppet.start(puppet.key.csr().expect("a CSR"));
    let reason = |outcome: Result<(), Status>| Refusal::of(&outcome.expect_err("a refusal")).reason;

    // Made for the challenge of another stream.
    let mut earlier = Vec::new();
    let kept = attempt(&connection, &start, |start, challenge| {
        earlier = challenge.to_vec();
        Proof { subject_signature: Vec::new(), ..puppet.proof(start, challenge) }
    });
    assert_eq!(reason(kept.await), "CSR_POP_FAILED");
    let stale = attempt(&connection, &start, |start, _| puppet.proof(start, &earlier)).await;
    assert_eq!(reason(stale), "ATTESTATION_FAILED");

    // A CSR for a key outside of the TPM, which signs all that the CSR's key signs.
    let outside = SubjectKey::generate();
    let swapped = puppet.start(outside.csr());
    let swapped = attempt(&connection, &swapped, |start, challenge| {
        let subject_signature = outside.sign(&enrollment("tpm", Role::Subject, start, challenge));
        Proof { subject_signature, ..puppet.proof(start, challenge) }
    });
    assert_eq!(reason(swapped.await), "ATTESTATION_FAILED");

    // Another Start than the one that was sent.
    let other = puppet.start(puppet.key.csr().expect("a CSR"));
    let other = attempt(&connection, &start, |_, challenge| puppet.proof(&other, challenge)).await;
    assert_eq!(reason(other), "ATTESTATION_FAILED");

    // Without its parts.
    let without =
        attempt(&connection, &start, |start, challenge| Proof { tpm: None, ..puppet.proof(start, challenge) });
    assert_eq!(reason(without.await), "PROTOCOL_ERROR");

    attempt(&connection, &start, |start, challenge| puppet.proof(start, challenge)).await.expect("the honest one");
}

/// Refuse 2, 14, 17, 24: nobody has pinned a root, and what is sent is looked at all the same, before a secret is wrapped.
#[tokio::test]
async fn a_certificate_that_is_not_the_endorsement_keys_gets_no_challenge_though_no_root_is_pinned() {
    let server = server();
    let Some(tpms) = Tpm::start_many(2) else { return };
    register(&server, "pump-7", &tpms[0], "p-256");
    let (connection, puppet) = (connect(&server).await, Puppet::over(&tpms[0]));
    let (maker, csr) = (Maker::new(), puppet.key.csr().expect("a CSR"));
    let own = maker.chain(&puppet.evidence().ek_public);
    let foreign = maker.chain(&Puppet::over(&tpms[1]).evidence().ek_public);
    let (leaf, authority) = (own[0].clone(), own[1].clone());
    let start = |ek_chain| puppet.start_by(csr.clone(), TpmEvidence { ek_chain, ..puppet.evidence() });
    for (what, chain) in [
        ("another TPM's", foreign),
        ("its maker's", vec![authority]),
        ("garbage", vec![vec![0x30; 300]]),
        ("nothing", vec![vec![]]),
        ("one cut short", vec![leaf[..leaf.len() - 1].to_vec()]),
        ("one with something behind it", vec![[&leaf[..], &[0]].concat()]),
        ("garbage above it", vec![leaf.clone(), vec![0x30; 300]]),
        ("five", vec![leaf.clone(); 5]),
        ("a long one above it", vec![leaf, vec![0x30; 8193]]),
    ] {
        let refused = attempt(&connection, &start(chain), |_, _| panic!("{what}: a challenge")).await;
        assert_eq!(Refusal::of(&refused.expect_err(what)).reason, "ATTESTATION_FAILED", "{what}");
    }
    let honest = start(own);
    attempt(&connection, &honest, |start, challenge| puppet.proof(start, challenge)).await.expect("its own");
}

/// What comes of it when all of them enroll as this device at once, each with a proof that holds: the last challenge is out
/// before the first proof is sent.
async fn race(server: &Server, id: &str, racers: &[Puppet]) -> Vec<String> {
    let mut connections = Vec::new();
    let mut ready = Vec::new();
    for puppet in racers {
        let start = puppet.start_as(id, puppet.key.csr().expect("a CSR"), puppet.evidence());
        let connection = connect(server).await;
        let mut exchange = Exchange::start(&connection, &start).await.expect("a stream");
        let challenge = exchange.challenge().await.expect("a challenge");
        ready.push((exchange, puppet.proof(&start, &challenge)));
        connections.push(connection);
    }
    let attempts = ready.into_iter().map(|(mut exchange, proof)| async move {
        exchange.send(Step::Proof(proof));
        match exchange.issued().await {
            Ok(_) => "issued".to_owned(),
            Err(status) => Refusal::of(&status).reason,
        }
    });
    futures::future::join_all(attempts).await
}

/// Refuse 22, raced: TPMs of other devices, and some that are nobody's.
#[tokio::test]
async fn of_tpms_that_race_for_a_registered_device_only_its_own_becomes_it() {
    let server = server();
    let Some(tpms) = Tpm::start_many(8) else { return };
    // Its own is neither the first nor the last to come.
    let expected = [
        ("pump-1", "ID_REFUSED"),
        ("", "ATTESTATION_FAILED"),
        ("pump-2", "ID_REFUSED"),
        ("pump-7", "issued"),
        ("", "ATTESTATION_FAILED"),
        ("pump-3", "ID_REFUSED"),
        ("pump-4", "ID_REFUSED"),
        ("", "ATTESTATION_FAILED"),
    ];
    for ((id, _), tpm) in expected.iter().zip(&tpms).filter(|((id, _), _)| !id.is_empty()) {
        register(&server, id, tpm, "p-256");
    }
    let racers: Vec<_> = tpms.iter().map(Puppet::over).collect();
    assert_eq!(race(&server, "pump-7", &racers).await, expected.map(|(_, outcome)| outcome));
    for (id, status, certificates) in [("pump-7", "active", 1), ("pump-1", "registered", 0)] {
        let shown = server.admin().run(&["device", "show", id]);
        assert_eq!(shown["status"], status, "{shown}");
        assert_eq!(shown["certificates"].as_array().map(Vec::len), Some(certificates), "{shown}");
    }
    let own = shown(&server, "pump-7", &tpms[3], "p-256");
    let bound = server.admin().run(&["device", "show", "pump-7"])["hardware"].clone();
    assert_eq!(bound, serde_json::json!([format!("ek:{own}")]));
}

/// Refuse 22, raced, where the fleet takes whatever a maker has certified: each may become the device that it proves.
#[tokio::test]
async fn of_unknown_tpms_that_race_for_the_name_of_one_only_that_one_becomes_it() {
    let server = Server::start();
    let Some(tpms) = Tpm::start_many(6) else { return };
    let maker = Maker::new();
    let root = write_certificate(server.scratch(), "root", maker.root()).display().to_string();
    let create = ["fleet", "create", "pumps", "--attest", "tpm", "--tpm-roots", &root, "--ek-kind", "p-256"];
    let register = ["--unknown-devices", "register", "--accept-any-holder", "--id-template", "tpm-{ek}"];
    server.admin().run(&[&create[..], &register].concat());
    tpms.iter().for_each(|tpm| tpm.deliver(&maker));
    let name = |tpm: &Tpm| format!("tpm-{}", &shown(&server, "any", tpm, "p-256")[..16]);
    let racers: Vec<_> = tpms.iter().map(Puppet::over).collect();
    let outcomes = race(&server, &name(&tpms[3]), &racers).await;
    let expected = ["ID_REFUSED", "ID_REFUSED", "ID_REFUSED", "issued", "ID_REFUSED", "ID_REFUSED"];
    assert_eq!(outcomes, expected);
    let devices = server.admin().run(&["device", "list"]);
    assert_eq!(devices.as_array().map(Vec::len), Some(1), "{devices}");
    assert_eq!(devices[0]["id"], name(&tpms[3]).as_str());
    // Who lost was as good as the winner, but for the name.
    assert_eq!(race(&server, &name(&tpms[0]), &racers[..1]).await, ["issued"]);
}
