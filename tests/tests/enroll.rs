//! Enrollment by join token: what it gives, what is refused with which reason, and what neither races, lost replies nor
//! failed attempts can break.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use der::Decode;
use enroll_client::{
    attester::token::JoinToken,
    certificate::{self, hex},
};
use fleetca_proto::v1::{EnrollRequest, Kind, Proof, Start, enroll_request::Step};
use fleetca_tests::{
    binaries,
    device::Device,
    holder::Holder,
    openssl,
    pem::{read_certificates, write_certificate},
    process::run,
    server::Server,
    stranger::{self, Exchange, Refusal, SubjectKey},
};
use prost::Message;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_cert::Certificate;

/// A server with one fleet.
fn server() -> Server {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    server
}

fn token(server: &Server, device: &str) -> JoinToken {
    read_token(&server.admin().device_token("sensors", device, server.scratch()))
}

fn read_token(path: &std::path::Path) -> JoinToken {
    JoinToken::parse(&std::fs::read_to_string(path).expect("the token file is there")).expect("it holds a token")
}

#[test]
fn a_device_with_a_join_token_gets_its_certificate() {
    let server = server();
    let device = Device::enroll(&server, "sensors", "pump-7");
    let shown = server.admin().run(&["device", "show", "pump-7"]);
    assert_eq!(shown["id"], "pump-7");
    assert_eq!(shown["fleet"], "sensors");
    assert_eq!(shown["status"], "active");
    assert_eq!(shown["head_serial"], device.serial());
    assert_eq!(device.certificate().tbs_certificate().subject().to_string(), "CN=pump-7,O=sensors");
}

#[tokio::test]
async fn a_lost_reply_is_harmless() {
    let server = server();
    let token = token(&server, "pump-7");
    let connection = stranger::connect(&server).await;
    let key = SubjectKey::generate();
    let first = stranger::enroll(&connection, "pump-7", &token, &key).await.expect("a certificate");
    let again = stranger::enroll(&connection, "pump-7", &token, &key).await.expect("the certificate again");
    assert_eq!(again.chain, first.chain);

    let refused = stranger::enroll(&connection, "pump-7", &token, &SubjectKey::generate()).await.expect_err("spent");
    assert_eq!(Refusal::of(&refused).reason, "TOKEN_SPENT");
}

#[tokio::test]
async fn a_failed_attempt_does_not_burn_a_token() {
    let server = server();
    let token = token(&server, "pump-7");
    let connection = stranger::connect(&server).await;
    let key = SubjectKey::generate();
    let start = stranger::start("pump-7", &token, &key).encode_to_vec();

    let mut exchange = Exchange::start(&connection, &start).await.expect("a stream");
    let challenge = exchange.challenge().await.expect("a challenge");
    let other = JoinToken::generate().expect("another token");
    let forged = stranger::proof(&other, &key, &start, &challenge);
    exchange.send(Step::Proof(forged));
    let refused = exchange.answer().await.expect_err("another key's signature");
    assert_eq!(Refusal::of(&refused).reason, "ATTESTATION_FAILED");

    stranger::enroll(&connection, "pump-7", &token, &key).await.expect("the token still works");
}

/// Refuse 20, 23.
#[tokio::test]
async fn a_stream_ends_with_its_one_attempt_and_an_honest_proof_behind_it_gets_nothing() {
    let server = server();
    let token = token(&server, "pump-7");
    let connection = stranger::connect(&server).await;
    let key = SubjectKey::generate();
    let start = stranger::start("pump-7", &token, &key).encode_to_vec();

    let mut exchange = Exchange::start(&connection, &start).await.expect("a stream");
    let challenge = exchange.challenge().await.expect("a challenge");
    let other = JoinToken::generate().expect("another token");
    let honest = || Step::Proof(stranger::proof(&token, &key, &start, &challenge));
    exchange.send(Step::Proof(stranger::proof(&other, &key, &start, &challenge)));
    // One that is on its way already, and one that comes once the first was refused.
    exchange.send(honest());
    let refused = exchange.answer().await.expect_err("another key's signature");
    assert_eq!(Refusal::of(&refused).reason, "ATTESTATION_FAILED");
    exchange.send(honest());
    assert!(!matches!(exchange.answer().await, Ok(Some(_))), "the stream has ended");
    let another = SubjectKey::generate();
    stranger::enroll(&connection, "pump-7", &token, &another).await.expect("the token was not used");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_racing_uses_of_one_token_give_one_certificate() {
    let server = server();
    let token = std::sync::Arc::new(token(&server, "pump-7"));
    // A stranger's connection bears eight streams, and who opens a ninth the moment one ends may come too early.
    let mut connections = Vec::new();
    for _ in 0..10 {
        connections.push(stranger::connect(&server).await);
    }
    let uses: Vec<_> = (0..50)
        .map(|number| {
            let (connection, token) = (connections[number % connections.len()].clone(), token.clone());
            tokio::spawn(async move { stranger::enroll(&connection, "pump-7", &token, &SubjectKey::generate()).await })
        })
        .collect();
    let mut issued = 0;
    for attempt in uses {
        match attempt.await.expect("no attempt panics") {
            Ok(_) => issued += 1,
            Err(status) => assert_eq!(Refusal::of(&status).reason, "TOKEN_SPENT", "{status:?}"),
        }
    }
    assert_eq!(issued, 1);
    let shown = server.admin().run(&["device", "show", "pump-7"]);
    assert_eq!(shown["certificates"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_fleet_token_creates_new_devices_within_its_pattern_and_count() {
    let server = server();
    Device::enroll(&server, "sensors", "north-0");
    let out = server.scratch().join("fleet.token");
    let options = ["--fleet", "sensors", "--pattern", "north-*", "--uses", "2"];
    let token = read_token(&server.admin().token(&options, &out));
    let connection = stranger::connect(&server).await;
    let refusal = async |id: &str| {
        let refused = stranger::enroll(&connection, id, &token, &SubjectKey::generate()).await.expect_err(id);
        Refusal::of(&refused).reason
    };

    assert_eq!(refusal("south-1").await, "ID_REFUSED");
    assert_eq!(refusal("north-0").await, "ID_TAKEN");
    for id in ["north-1", "north-2"] {
        stranger::enroll(&connection, id, &token, &SubjectKey::generate()).await.expect(id);
    }
    assert_eq!(refusal("north-3").await, "TOKEN_SPENT");
}

#[tokio::test]
async fn an_active_device_enrolls_again_only_with_a_token_made_for_that() {
    let server = server();
    let admin = server.admin();
    let connection = stranger::connect(&server).await;
    let early = token(&server, "pump-7");
    let device = Device::enroll(&server, "sensors", "pump-7");
    let refused = stranger::enroll(&connection, "pump-7", &early, &SubjectKey::generate()).await.expect_err("active");
    assert_eq!(Refusal::of(&refused).reason, "ALREADY_ENROLLED");
    let out = server.scratch().join("again.token");
    let options = ["--fleet", "sensors", "--device-id", "pump-7"];
    let path = out.to_str().expect("temporary folders have names in UTF-8");
    let refused = admin.refused(&[&["token", "create", "--out", path], &options[..]].concat());
    assert!(refused.contains("ALREADY_ENROLLED") && !out.exists(), "{refused}");

    let again = read_token(&admin.token(&[&options[..], &["--reenroll"]].concat(), &out));
    let key = SubjectKey::generate();
    let issued = stranger::enroll(&connection, "pump-7", &again, &key).await.expect("a certificate");
    assert!(issued.confirm_required);
    let shown = admin.run(&["device", "show", "pump-7"]);
    assert_eq!(shown["head_serial"], device.serial(), "the old certificate stays the head until Confirm");
    Holder::of(&issued, &key).confirm(&server).await.expect("in force");
    assert_ne!(admin.run(&["device", "show", "pump-7"])["head_serial"], device.serial());
}

#[tokio::test]
async fn a_proof_made_for_other_bytes_is_refused() {
    let server = server();
    let token = token(&server, "pump-7");
    let connection = stranger::connect(&server).await;
    let key = SubjectKey::generate();
    let start = stranger::start("pump-7", &token, &key).encode_to_vec();
    let honest = |challenge: &[u8]| stranger::proof(&token, &key, &start, challenge);
    type Forgery<'a> = (&'a str, &'a str, Box<dyn Fn(&[u8]) -> Proof + 'a>);
    let forgeries: [Forgery<'_>; 8] = [
        ("a stale nonce", "ATTESTATION_FAILED", Box::new(|_| honest(&[10, 0]))),
        (
            "a stale nonce for the evidence",
            "ATTESTATION_FAILED",
            Box::new(|challenge| Proof {
                evidence_signature: honest(&[10, 0]).evidence_signature,
                ..honest(challenge)
            }),
        ),
        (
            "a stale nonce for the subject",
            "CSR_POP_FAILED",
            Box::new(|challenge| Proof { subject_signature: honest(&[10, 0]).subject_signature, ..honest(challenge) }),
        ),
        (
            "another start",
            "ATTESTATION_FAILED",
            Box::new(|challenge| {
                let other = stranger::start("pump-8", &token, &key).encode_to_vec();
                stranger::proof(&token, &key, &other, challenge)
            }),
        ),
        (
            "no evidence",
            "ATTESTATION_FAILED",
            Box::new(|challenge| Proof { evidence_signature: vec![], ..honest(challenge) }),
        ),
        (
            "no proof of possession",
            "CSR_POP_FAILED",
            Box::new(|challenge| Proof { subject_signature: vec![], ..honest(challenge) }),
        ),
        (
            "another subject key",
            "CSR_POP_FAILED",
            Box::new(|challenge| {
                let other = stranger::proof(&token, &SubjectKey::generate(), &start, challenge);
                Proof { subject_signature: other.subject_signature, ..honest(challenge) }
            }),
        ),
        (
            "the token's role swapped",
            "ATTESTATION_FAILED",
            Box::new(|challenge| {
                let transcript = fleetca_proto::transcript::enrollment(
                    "token",
                    fleetca_proto::transcript::Role::Subject,
                    &start,
                    challenge,
                );
                Proof { evidence_signature: token.sign(&transcript), ..honest(challenge) }
            }),
        ),
    ];
    for (name, reason, forge) in forgeries {
        let mut exchange = Exchange::start(&connection, &start).await.expect("a stream");
        let challenge = exchange.challenge().await.expect("a challenge");
        exchange.send(Step::Proof(forge(&challenge)));
        let refused = exchange.answer().await.expect_err(name);
        assert_eq!(Refusal::of(&refused).reason, reason, "{name}: {refused:?}");
    }
}

/// Refuse 18: `Start`s that are other octets once they were read and encoded anew.
#[tokio::test]
async fn what_is_signed_is_the_octets_that_were_sent() {
    let server = server();
    let connection = stranger::connect(&server).await;
    let unknown = |start: Vec<u8>| [&start[..], stranger::UNKNOWN_FIELD].concat();
    // The first of two is overridden by the second.
    let twice = |start: Vec<u8>| [Start { id: "pump-9".into(), ..Start::default() }.encode_to_vec(), start].concat();
    for (id, odd) in [("pump-7", &unknown as &dyn Fn(Vec<u8>) -> Vec<u8>), ("pump-8", &twice)] {
        let (token, key) = (token(&server, id), SubjectKey::generate());
        let sent = odd(stranger::start(id, &token, &key).encode_to_vec());
        let anew = Start::decode(&*sent).expect("a Start").encode_to_vec();
        assert_ne!(sent, anew);
        let attempt = async |evidence: &[u8], subject: &[u8]| {
            let mut exchange = Exchange::start(&connection, &sent).await?;
            let challenge = exchange.challenge().await?;
            let [evidence, subject] = [evidence, subject].map(|start| stranger::proof(&token, &key, start, &challenge));
            exchange.send(Step::Proof(Proof { subject_signature: subject.subject_signature, ..evidence }));
            exchange.issued().await
        };
        assert_eq!(stranger::reason(attempt(&anew, &sent).await), "ATTESTATION_FAILED", "{id}");
        assert_eq!(stranger::reason(attempt(&sent, &anew).await), "CSR_POP_FAILED", "{id}");
        attempt(&sent, &sent).await.expect("a certificate");
    }
}

#[tokio::test]
async fn messages_out_of_order_are_refused() {
    let server = server();
    let token = token(&server, "pump-7");
    let connection = stranger::connect(&server).await;
    let key = SubjectKey::generate();
    let start = stranger::start("pump-7", &token, &key).encode_to_vec();

    let proof = Step::Proof(stranger::proof(&token, &key, &start, b""));
    for first in [Some(proof), None] {
        let opened = Exchange::open(&connection, EnrollRequest { step: first }).await;
        let refused = match opened {
            Ok(mut exchange) => exchange.answer().await.expect_err("no Start first"),
            Err(status) => status,
        };
        assert_eq!(Refusal::of(&refused).reason, "PROTOCOL_ERROR", "{refused:?}");
    }

    let mut exchange = Exchange::start(&connection, &start).await.expect("a stream");
    exchange.challenge().await.expect("a challenge");
    exchange.send(Step::Start(start.clone()));
    let refused = exchange.answer().await.expect_err("a second Start");
    assert_eq!(Refusal::of(&refused).reason, "PROTOCOL_ERROR", "{refused:?}");
}

#[tokio::test]
async fn a_start_for_somebody_else_is_refused() {
    let server = server();
    let token = token(&server, "pump-7");
    let connection = stranger::connect(&server).await;
    let key = SubjectKey::generate();
    let honest = stranger::start("pump-7", &token, &key);
    let starts = [
        ("TRUST_DOMAIN_MISMATCH", Start { trust_domain: "other.test".into(), ..honest.clone() }),
        ("ID_REFUSED", Start { id: "pump-8".into(), ..honest.clone() }),
        // In another case.
        ("ID_REFUSED", Start { id: "PUMP-7".into(), ..honest.clone() }),
        ("ID_REFUSED", Start { kind: Kind::Operator.into(), ..honest.clone() }),
        ("PROTOCOL_ERROR", Start { evidence: None, ..honest.clone() }),
        ("CSR_REFUSED", Start { csr: vec![], ..honest.clone() }),
    ];
    for (reason, start) in starts {
        let start = start.encode_to_vec();
        let attempt = async {
            let mut exchange = Exchange::start(&connection, &start).await?;
            let challenge = exchange.challenge().await?;
            exchange.send(Step::Proof(stranger::proof(&token, &key, &start, &challenge)));
            exchange.issued().await
        };
        assert_eq!(stranger::reason(attempt.await), reason);
    }
    stranger::enroll(&connection, "pump-7", &token, &key).await.expect("the token still works");
}

#[tokio::test]
async fn nothing_but_the_key_of_a_csr_is_taken() {
    let server = server();
    let token = token(&server, "pump-7");
    let connection = stranger::connect(&server).await;
    let key = SubjectKey::generate();
    let mut wishes = CertificateParams::new(["root.fleet.test".to_owned()]).expect("a name");
    wishes.distinguished_name.push(DnType::CommonName, "control root");
    wishes.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    wishes.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let start = Start { csr: key.csr_that_asks_for(wishes), ..stranger::start("pump-7", &token, &key) };
    let start = start.encode_to_vec();
    let mut exchange = Exchange::start(&connection, &start).await.expect("a stream");
    let challenge = exchange.challenge().await.expect("a challenge");
    exchange.send(Step::Proof(stranger::proof(&token, &key, &start, &challenge)));
    let issued = exchange.issued().await.expect("a certificate");

    let certificate = Certificate::from_der(&issued.chain[0]).expect("a certificate");
    assert_eq!(certificate.tbs_certificate().subject().to_string(), "CN=pump-7,O=sensors");
    for wish in [&b"root.fleet.test"[..], b"control root"] {
        assert!(!issued.chain[0].windows(wish.len()).any(|window| window == wish));
    }
    let text = openssl::certificate_text(&write_certificate(server.scratch(), "leaf", &issued.chain[0]));
    if let Some(text) = text {
        assert!(text.contains("URI:spiffe://fleet.test/device/pump-7\n"), "{text}");
        assert!(text.contains("TLS Web Client Authentication\n") && !text.contains("Server Authentication"), "{text}");
        assert!(!text.contains("Certificate Sign"), "{text}");
    }
}

#[test]
fn the_fingerprint_of_the_control_root_is_enough_to_know_the_server_by() {
    let server = server();
    let root = CertificateDer::from_pem_file(server.control_root()).expect("a certificate");
    let other = CertificateDer::from_pem_file(server.device_root()).expect("a certificate");
    let token = server.admin().device_token("sensors", "pump-7", server.scratch());
    let device = Device::new(server.scratch().join("pump-7"));
    let enroll = |root: &CertificateDer<'_>| {
        let mut command = device.command("enroll");
        command.args(["--server", &server.url(), "--device-id", "pump-7"]);
        let root = certificate::Certificate::parse(root).expect("a root");
        command.args(["--root-fingerprint", &hex(&root.fingerprint())]);
        run(command.arg("--attest").arg(format!("token:{}", token.display())))
    };
    let refused = enroll(&other);
    assert!(refused.code == 1 && refused.stderr.contains("--root-fingerprint"), "{refused:?}");
    assert!(!device.folder().join("current").exists());
    enroll(&root).succeeded();
    assert_eq!(read_certificates(&device.folder().join("current/trust.pem")), [root], "from now on it is pinned whole");
    device.renew();
}

#[test]
fn a_credential_folder_can_be_changed_by_its_owner_only_whatever_the_umask_is() {
    let server = server();
    let token = server.admin().device_token("sensors", "pump-7", server.scratch());
    let folder = server.scratch().join("pump-7");
    let mut command = Command::new("sh");
    command.args(["-c", "umask 0; exec \"$0\" \"$@\""]).arg(binaries::enroll_client());
    command.args(["enroll", "--server", &server.url(), "--device-id", "pump-7", "--root"]).arg(server.control_root());
    command.arg("--attest").arg(format!("token:{}", token.display())).arg("--dir").arg(&folder);
    run(&mut command).succeeded();
    let (mut open, mut seen) = (vec![folder], Vec::new());
    while let Some(path) = open.pop() {
        let mode = fs::metadata(&path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode & 0o022, 0, "{}: {mode:o}", path.display());
        if path.is_dir() {
            open.extend(fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
        }
        seen.push((path.file_name().expect("a name").to_owned(), mode));
    }
    for (name, mode) in [("key.pem", 0o600), ("credential.pem", 0o644), ("generations", 0o755), ("lock", 0o600)] {
        assert!(seen.contains(&(name.into(), mode)), "{name}: {seen:?}");
    }
}
