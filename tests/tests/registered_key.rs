//! Enrollment by a registered key: assertions of our own client, of PyJWT, and of whoever would deceive.

use std::path::{Path, PathBuf};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use enroll_client::{attester::evidence_key::EvidenceKey, connect::Connection};
use fleetca_proto::{
    transcript::{Role, binding, enrollment},
    v1::{Issued, Kind, Proof, RegisteredKeyEvidence, Start, enroll_request::Step, start::Evidence},
};
use fleetca_tests::{
    device::Device,
    openssl,
    process::{Dialogue, Finished, run},
    python,
    server::{Server, TRUST_DOMAIN},
    stranger::{self, Exchange, Refusal, SubjectKey},
    wait::{SOON, until_true},
};
use prost::Message;
use serde_json::{Value, json};
use tonic::Status;

const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
const P384: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
const ED25519: &[&str] = &["-algorithm", "ED25519"];
const RSA: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];

/// A server with a fleet that takes registered keys, unless there is no `openssl` to make keys with.
fn server() -> Option<Server> {
    openssl::command()?;
    let server = Server::start();
    server.admin().run(&["fleet", "create", "pumps", "--attest", "registered-key"]);
    Some(server)
}

/// A key pair as `NAME.pem` and `NAME.pub`.
fn key(server: &Server, name: &str, options: &[&str]) -> PathBuf {
    let path = server.scratch().join(format!("{name}.pem"));
    let openssl = || openssl::command().expect("it was there");
    run(openssl().arg("genpkey").args(options).arg("-out").arg(&path)).succeeded();
    run(openssl().args(["pkey", "-pubout", "-in"]).arg(&path).arg("-out").arg(path.with_extension("pub"))).succeeded();
    path
}

fn public(key: &Path) -> String {
    key.with_extension("pub").to_str().expect("a name in UTF-8").to_owned()
}

fn register(server: &Server, id: &str, key: &Path) -> Value {
    server.admin().run(&["device", "register", id, "--fleet", "pumps", "--key", &public(key)])
}

fn enroll(server: &Server, id: &str, key: &Path) -> (Device, Finished) {
    let device = Device::new(server.scratch().join(id));
    let mut command = device.command("enroll");
    command.args(["--server", &server.url(), "--device-id", id]);
    command.arg("--root").arg(server.control_root()).arg("--attest").arg(format!("registered-key:{}", key.display()));
    let finished = run(&mut command);
    (device, finished)
}

fn read(key: &Path) -> EvidenceKey {
    EvidenceKey::from_pem(&std::fs::read(key).expect("a key")).expect("a key of a kind that is taken")
}

/// What a client sends that puts its assertion together by itself.
struct Attempt<'a> {
    server: &'a Server,
    connection: Connection,
    subject: SubjectKey,
}

impl<'a> Attempt<'a> {
    async fn new(server: &'a Server) -> Attempt<'a> {
        let connection = stranger::connect(server).await;
        Attempt { server, connection, subject: SubjectKey::generate() }
    }

    /// Enrolls as `id` with the assertion that `assert` makes of the binding.
    async fn enroll(&self, id: &str, key_id: &str, assert: impl FnOnce(&str) -> String) -> Result<Issued, Status> {
        let start = self.start(id, key_id);
        self.exchange(&start, &start, assert).await
    }

    fn start(&self, id: &str, key_id: &str) -> Vec<u8> {
        Start {
            trust_domain: TRUST_DOMAIN.into(),
            kind: Kind::Device.into(),
            id: id.into(),
            csr: self.subject.csr(),
            evidence: Some(Evidence::RegisteredKey(RegisteredKeyEvidence { key_id: key_id.into() })),
        }
        .encode_to_vec()
    }

    /// Sends these octets as `Start`, and binds the assertion to those.
    async fn exchange(
        &self,
        start: &[u8],
        bound: &[u8],
        assert: impl FnOnce(&str) -> String,
    ) -> Result<Issued, Status> {
        let mut exchange = Exchange::start(&self.connection, start).await?;
        let challenge = exchange.challenge().await?;
        let bound = BASE64_URL_SAFE_NO_PAD.encode(binding("registered-key", bound, &challenge));
        exchange.send(Step::Proof(Proof {
            subject_signature: self.subject.sign(&enrollment("registered-key", Role::Subject, start, &challenge)),
            assertion: assert(&bound),
            ..Proof::default()
        }));
        exchange.issued().await
    }

    /// The reason of the refusal, which does not tell what the assertion had to be bound to.
    async fn refused(&self, id: &str, key: &EvidenceKey, change: impl FnOnce(&mut Value)) -> String {
        let mut expected = String::new();
        let assert = |bound: &str| {
            expected = bound.to_owned();
            let mut body = body(id, bound);
            change(&mut body);
            sign(key, &body)
        };
        let refused = self.enroll(id, &key.thumbprint(), assert).await.expect_err("refused");
        let octets = BASE64_URL_SAFE_NO_PAD.decode(&expected).expect("a hash");
        stranger::tells_none_of(&refused, &[expected.as_bytes(), &octets]);
        Refusal::of(&refused).reason
    }

    /// How often there was an event of this kind, about this device.
    fn events(&self, kind: &str, id: &str) -> u64 {
        let events = self.server.admin().run(&["audit", "list", "--security"]);
        let of = |event: &&Value| event["kind"] == kind && event["subject"] == format!("device/{id}");
        events.as_array().expect("a list").iter().filter(of).filter_map(|event| event["count"].as_u64()).sum()
    }
}

fn body(id: &str, bound: &str) -> Value {
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    json!({
        "iss": id, "sub": id, "aud": format!("spiffe://{TRUST_DOMAIN}"), "iat": now, "exp": now + 60,
        "jti": "once", "binding": bound,
    })
}

fn sign(key: &EvidenceKey, body: &Value) -> String {
    let header = json!({"alg": key.algorithm(), "typ": "fleetca-enroll+jwt"});
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(body));
    let signature = key.sign_jws(signed.as_bytes()).expect("it signs");
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn a_device_enrolls_by_a_registered_key_of_every_kind() {
    let Some(server) = server() else { return };
    for (id, options) in [("pump-1", P256), ("pump-2", P384), ("pump-3", ED25519), ("pump-4", RSA)] {
        let key = key(&server, id, options);
        register(&server, id, &key);
        let (device, finished) = enroll(&server, id, &key);
        finished.succeeded();
        let shown = server.admin().run(&["device", "show", id]);
        assert_eq!((&shown["method"], &shown["tier"]), (&"registered-key".into(), &"registered".into()));
        device.renew();
        // The very same again would be a second enrollment of an active device.
        let again = Device::new(server.scratch().join(format!("{id}-again")));
        let mut command = again.command("enroll");
        command.args(["--server", &server.url(), "--device-id", id, "--root"]).arg(server.control_root());
        let refused = run(command.arg("--attest").arg(format!("registered-key:{}", key.display())));
        assert!(refused.stderr.contains("ALREADY_ENROLLED"), "{refused:?}");
    }
}

/// The public half as a JWK.
fn jwk(key: &Path) -> Value {
    let der = key.with_extension("der");
    let mut command = openssl::command().expect("it was there");
    run(command.args(["pkey", "-pubout", "-outform", "DER", "-in"]).arg(key).arg("-out").arg(&der)).succeeded();
    let spki = std::fs::read(der).expect("it was written");
    // What a SubjectPublicKeyInfo ends with: the point of P-256, or the key of Ed25519.
    let last = |from: usize, to: usize| BASE64_URL_SAFE_NO_PAD.encode(&spki[spki.len() - from..spki.len() - to]);
    match spki.len() {
        91 => json!({"kty": "EC", "crv": "P-256", "x": last(64, 32), "y": last(32, 0)}),
        44 => json!({"kty": "OKP", "crv": "Ed25519", "x": last(32, 0)}),
        length => panic!("a key of {length} octets"),
    }
}

#[test]
fn both_keys_of_a_jwk_set_enroll_their_device() {
    let Some(server) = server() else { return };
    let admin = server.admin();
    admin.run(&["fleet", "set", "pumps", "--reenroll", "registered"]);
    let keys = [key(&server, "one", P256), key(&server, "two", ED25519)];
    let set = server.scratch().join("keys.json");
    std::fs::write(&set, json!({"keys": keys.each_ref().map(|key| jwk(key))}).to_string()).expect("written");
    let set = set.to_str().expect("a name in UTF-8");
    let shown = admin.run(&["device", "register", "pump-1", "--fleet", "pumps", "--key", set]);
    assert_eq!(shown["keys"].as_array().map(Vec::len), Some(2), "{shown}");
    for (generation, key) in (1..).zip(&keys) {
        let (device, finished) = enroll(&server, "pump-1", key);
        finished.succeeded();
        assert_eq!(admin.run(&["device", "show", "pump-1"])["generation"], generation);
        std::fs::remove_dir_all(device.folder()).expect("it was there");
    }
}

/// Refuse 28: another device's key, a key that nobody registered, another ID.
#[tokio::test]
async fn a_key_speaks_for_its_own_device_only() {
    let Some(server) = server() else { return };
    let (own, other, unknown) = (key(&server, "own", P256), key(&server, "other", P256), key(&server, "unknown", P256));
    register(&server, "pump-1", &own);
    register(&server, "pump-2", &other);
    let attempt = Attempt::new(&server).await;
    assert_eq!(attempt.refused("pump-1", &read(&other), |_| ()).await, "ATTESTATION_FAILED");
    assert_eq!(attempt.refused("pump-1", &read(&unknown), |_| ()).await, "ATTESTATION_FAILED");
    // Named as what it is in the assertion, and as somebody else in Start.
    let renamed = |body: &mut Value| (body["iss"], body["sub"]) = ("pump-2".into(), "pump-2".into());
    assert_eq!(attempt.refused("pump-1", &read(&other), renamed).await, "ID_REFUSED");
    // Signed by one key in the name of the other.
    let (own, other) = (read(&own), read(&other));
    let refused = attempt.enroll("pump-1", &own.thumbprint(), |bound| sign(&other, &body("pump-1", bound))).await;
    assert_eq!(Refusal::of(&refused.expect_err("refused")).reason, "ATTESTATION_FAILED");
}

/// Refuse 20, 28: a ten-year exp, an array as aud, a missing or wrong binding; and what would have passed is not told.
#[tokio::test]
async fn an_assertion_that_says_anything_else_than_it_must_is_refused() {
    let Some(server) = server() else { return };
    let own = key(&server, "own", ED25519);
    register(&server, "pump-1", &own);
    let (own, attempt) = (read(&own), Attempt::new(&server).await);
    let changes: [fn(&mut Value); 6] = [
        |body| body["exp"] = (body["iat"].as_i64().unwrap_or_default() + 10 * 365 * 86_400).into(),
        |body| body["aud"] = json!([body["aud"]]),
        |body| body["aud"] = "spiffe://other.example".into(),
        |body| body["binding"] = Value::Null,
        |body| body["binding"] = BASE64_URL_SAFE_NO_PAD.encode([0; 32]).into(),
        |body| body["jti"] = Value::Null,
    ];
    for change in changes {
        assert_eq!(attempt.refused("pump-1", &own, change).await, "ATTESTATION_FAILED");
    }
    assert_eq!(server.admin().run(&["device", "show", "pump-1"])["status"], "registered");
    attempt.enroll("pump-1", &own.thumbprint(), |bound| sign(&own, &body("pump-1", bound))).await.expect("honest");
}

/// Refuse 18: a field that nobody knows here is lost when what was read is encoded anew.
#[tokio::test]
async fn an_assertion_is_bound_to_the_octets_that_were_sent() {
    let Some(server) = server() else { return };
    let own = key(&server, "own", ED25519);
    register(&server, "pump-1", &own);
    let (own, attempt) = (read(&own), Attempt::new(&server).await);
    let anew = attempt.start("pump-1", &own.thumbprint());
    let sent = [&anew[..], stranger::UNKNOWN_FIELD].concat();
    let assert = |bound: &str| sign(&own, &body("pump-1", bound));
    let refused = attempt.exchange(&sent, &anew, assert).await;
    assert_eq!(stranger::reason(refused), "ATTESTATION_FAILED");
    attempt.exchange(&sent, &sent, assert).await.expect("a certificate");
}

/// Refuse 28: a repeated jti; and a lost answer, which is given again.
#[tokio::test]
async fn a_jti_works_once_and_a_lost_answer_is_given_again() {
    let Some(server) = server() else { return };
    server.admin().run(&["fleet", "set", "pumps", "--reenroll", "registered"]);
    let own = key(&server, "own", P256);
    register(&server, "pump-1", &own);
    let own = read(&own);
    let attempt = Attempt::new(&server).await;
    let honest = |bound: &str| sign(&own, &body("pump-1", bound));
    let first = attempt.enroll("pump-1", &own.thumbprint(), honest).await.expect("a certificate");
    let again = attempt.enroll("pump-1", &own.thumbprint(), honest).await.expect("the same one");
    assert_eq!(first.chain, again.chain);

    let other = Attempt::new(&server).await;
    assert_eq!(other.refused("pump-1", &own, |_| ()).await, "ATTESTATION_FAILED", "the jti was used");
    let fresh = |bound: &str| {
        let mut body = body("pump-1", bound);
        body["jti"] = "another".into();
        sign(&own, &body)
    };
    let second = other.enroll("pump-1", &own.thumbprint(), fresh).await.expect("a new jti");
    assert!(second.confirm_required, "as after a renewal");
}

/// Who was revoked and may enroll once more gets nothing of before, though he asks with a key of before.
#[tokio::test]
async fn a_device_that_is_allowed_back_is_not_given_a_certificate_of_before_again() {
    let Some(server) = server() else { return };
    let admin = server.admin();
    admin.run(&["fleet", "set", "pumps", "--reenroll", "registered"]);
    let own = key(&server, "own", P256);
    register(&server, "pump-1", &own);
    let own = read(&own);
    let assertions = std::cell::Cell::new(0);
    let assert = |bound: &str| {
        assertions.set(assertions.get() + 1);
        let mut body = body("pump-1", bound);
        body["jti"] = assertions.get().to_string().into();
        sign(&own, &body)
    };
    let attempts = [Attempt::new(&server).await, Attempt::new(&server).await, Attempt::new(&server).await];
    for attempt in &attempts {
        attempt.enroll("pump-1", &own.thumbprint(), assert).await.expect("a certificate");
    }
    admin.run(&["device", "revoke", "pump-1", "--reason", "cessationOfOperation"]);
    admin.run(&["device", "allow-reenroll", "pump-1"]);
    // The head, one that was superseded, one that was pending: all of before.
    for attempt in &attempts {
        let refused = attempt.enroll("pump-1", &own.thumbprint(), assert).await.expect_err("refused");
        assert_eq!(Refusal::of(&refused).reason, "KEY_REUSED");
    }
    let fresh = Attempt::new(&server).await;
    let back = fresh.enroll("pump-1", &own.thumbprint(), assert).await.expect("once more");
    let again = fresh.enroll("pump-1", &own.thumbprint(), assert).await.expect("a lost answer is given again");
    assert_eq!(back.chain, again.chain);
}

/// Refuse 28: a retired key; and one whose time has not come.
#[tokio::test]
async fn keys_rotate_on_a_schedule_and_a_retired_one_is_an_event() {
    let Some(server) = server() else { return };
    let (old, new, later) = (key(&server, "old", P256), key(&server, "new", ED25519), key(&server, "later", P256));
    let shown = register(&server, "pump-1", &old);
    let admin = server.admin();
    admin.run(&["device", "key", "add", "pump-1", "--key", &public(&new)]);
    let from = ["--active-from", "2099-01-01T00:00:00Z"];
    admin.run(&[&["device", "key", "add", "pump-1", "--key", &public(&later)][..], &from].concat());
    admin.run(&["device", "key", "retire", "pump-1", shown["keys"][0]["thumbprint"].as_str().expect("one")]);

    // One after the other, so that each is an event by itself.
    let attempt = Attempt::new(&server).await;
    for (times, refused) in (1..).zip([&old, &later]) {
        assert_eq!(attempt.refused("pump-1", &read(refused), |_| ()).await, "ATTESTATION_FAILED");
        until_true(SOON, "the event is told", || attempt.events("attestation.key_not_in_force", "pump-1") == times);
    }
    enroll(&server, "pump-1", &new).1.succeeded();
}

#[tokio::test]
async fn an_assertion_by_pyjwt_is_taken() {
    let Some(server) = server() else { return };
    for (id, options) in [("pump-1", P256), ("pump-2", P384), ("pump-3", ED25519), ("pump-4", RSA)] {
        let own = key(&server, id, options);
        register(&server, id, &own);
        let Some(mut script) = python::script("assertion.py") else { return };
        script.arg("--key").arg(&own).args(["--device-id", id, "--trust-domain", TRUST_DOMAIN]);
        // It starts before the exchange does, which is not held open for as long as Python may take.
        let mut script = Dialogue::start(script);
        assert_eq!(script.line(), "ready");
        let attempt = Attempt::new(&server).await;
        let assert = |bound: &str| script.say(bound).line();
        attempt.enroll(id, &read(&own).thumbprint(), assert).await.expect("a certificate");
    }
}
