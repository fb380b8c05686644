//! A client of the raw protocol that sends what the test tells it to: for races and for hostile cases.
//!
//! The connection itself is the real client's, with its checks of the server.

use std::path::Path;

use anyhow::Context;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use enroll_client::{
    attester::{Attester, token::JoinToken},
    certificate::hex,
    connect::Connection,
    trust::{Roots, Trust},
    wall_time::WallTime,
};
use fleetca_proto::{
    transcript::{Role, enrollment},
    v1::{
        Challenge, EnrollRequest, EnrollResponse, Issued, Kind, Proof, Start, TokenEvidence, enroll_request::Step,
        enroll_response, enrollment_client::EnrollmentClient, start::Evidence,
    },
};
use prost::Message;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SigningKey};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_types::StatusExt;

use crate::server::{Server, TRUST_DOMAIN};

/// Connects to the devices' port, without a certificate.
pub async fn connect(server: &Server) -> Connection {
    connect_to(&server.url(), &server.control_root()).await
}

/// The same, where the port is not that of a [`Server`].
pub async fn connect_to(url: &str, control_root: &Path) -> Connection {
    let open = async {
        let roots = Roots::from_pem(&std::fs::read(control_root)?)?;
        anyhow::Ok(Connection::open(&url.parse()?, &Trust::Roots(roots), None).await?)
    };
    open.await.context("the server takes a connection").expect("a connection")
}

/// The key that a certificate is asked for, P-256.
#[derive(Debug)]
pub struct SubjectKey(KeyPair);

impl SubjectKey {
    /// A new key.
    pub fn generate() -> SubjectKey {
        SubjectKey(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key pair is generated"))
    }

    /// A PKCS#10 request (DER) for it. No two are equal: ECDSA signatures are random.
    pub fn csr(&self) -> Vec<u8> {
        self.csr_that_asks_for(CertificateParams::default())
    }

    /// A PKCS#10 request (DER) that asks for a subject, names and usages of its own.
    pub fn csr_that_asks_for(&self, wishes: CertificateParams) -> Vec<u8> {
        wishes.serialize_request(&self.0).expect("the key signs its request").der().to_vec()
    }

    /// The public key: a SubjectPublicKeyInfo (DER).
    pub fn spki(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    /// The private key.
    pub fn to_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialize_der()).into()
    }

    /// A signature, ASN.1 DER.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).expect("the key signs")
    }
}

/// What a device with this token and key would begin with.
pub fn start(id: &str, token: &JoinToken, key: &SubjectKey) -> Start {
    Start {
        trust_domain: TRUST_DOMAIN.to_owned(),
        kind: Kind::Device.into(),
        id: id.to_owned(),
        csr: key.csr(),
        evidence: Some(Evidence::Token(TokenEvidence { token_id: token.id().to_owned() })),
    }
}

/// A field that no message has, as it stands behind the others: number 100, with the number 1.
pub const UNKNOWN_FIELD: &[u8] = &[0xa0, 0x06, 1];

/// The honest proof for these messages, as they travelled.
pub fn proof(token: &JoinToken, key: &SubjectKey, start: &[u8], challenge: &[u8]) -> Proof {
    Proof {
        evidence_signature: token.sign(&enrollment("token", Role::Evidence, start, challenge)),
        subject_signature: key.sign(&enrollment("token", Role::Subject, start, challenge)),
        ..Proof::default()
    }
}

/// One `Enroll` stream, message by message.
#[derive(Debug)]
pub struct Exchange {
    requests: mpsc::UnboundedSender<EnrollRequest>,
    answers: Streaming<EnrollResponse>,
}

impl Exchange {
    /// Opens the stream with its first message, whatever that is.
    pub async fn open(connection: &Connection, first: EnrollRequest) -> Result<Exchange, Status> {
        Exchange::over(connection.enrollment(), first).await
    }

    /// The same, over a connection of one's own.
    pub async fn over(mut client: EnrollmentClient<Channel>, first: EnrollRequest) -> Result<Exchange, Status> {
        let (requests, receiver) = mpsc::unbounded_channel();
        requests.send(first).expect("the receiver is alive");
        let answers = client.enroll(UnboundedReceiverStream::new(receiver)).await?.into_inner();
        Ok(Exchange { requests, answers })
    }

    /// Opens the stream with a `Start`.
    pub async fn start(connection: &Connection, start: &[u8]) -> Result<Exchange, Status> {
        Exchange::open(connection, EnrollRequest { step: Some(Step::Start(start.to_vec())) }).await
    }

    /// Sends one more message. That the stream has ended shows in the answer.
    pub fn send(&self, step: Step) {
        let _ = self.requests.send(EnrollRequest { step: Some(step) });
    }

    /// The next answer; `None` where the stream has ended.
    pub async fn answer(&mut self) -> Result<Option<enroll_response::Step>, Status> {
        let answer = self.answers.message().await?;
        Ok(answer.map(|answer| answer.step.expect("an answer says something")))
    }

    /// The next answer, which must be a challenge: its bytes as they travelled.
    pub async fn challenge(&mut self) -> Result<Vec<u8>, Status> {
        match self.answer().await? {
            Some(enroll_response::Step::Challenge(bytes)) => {
                let challenge = Challenge::decode(&*bytes).expect("a challenge is a Challenge");
                assert_eq!(challenge.nonce.len(), 32);
                Ok(bytes)
            }
            other => panic!("not a challenge: {other:?}"),
        }
    }

    /// The next answer, which must be a certificate.
    pub async fn issued(&mut self) -> Result<Issued, Status> {
        match self.answer().await? {
            Some(enroll_response::Step::Issued(issued)) => Ok(issued),
            other => panic!("not a certificate: {other:?}"),
        }
    }
}

/// A whole honest enrollment.
pub async fn enroll(connection: &Connection, id: &str, token: &JoinToken, key: &SubjectKey) -> Result<Issued, Status> {
    let start = start(id, token, key).encode_to_vec();
    let mut exchange = Exchange::start(connection, &start).await?;
    let challenge = exchange.challenge().await?;
    exchange.send(Step::Proof(proof(token, key, &start, &challenge)));
    exchange.issued().await
}

/// A whole enrollment by a method of the client's, for a new key; what is proven by the method is proven over the `Start` that
/// `shown` makes of the one that is sent.
pub async fn enroll_by(
    connection: &Connection,
    id: &str,
    attester: &Attester,
    shown: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Result<Issued, Status> {
    let key = SubjectKey::generate();
    let (trust_domain, evidence) = (TRUST_DOMAIN.to_owned(), Some(attester.evidence()));
    let start = Start { trust_domain, kind: Kind::Device.into(), id: id.to_owned(), csr: key.csr(), evidence };
    let start = start.encode_to_vec();
    let mut exchange = Exchange::start(connection, &start).await?;
    let challenge = exchange.challenge().await?;
    let subject_signature = key.sign(&enrollment(attester.method(), Role::Subject, &start, &challenge));
    let proof = attester.prove(&shown(&start), &challenge, WallTime::now()).expect("a proof");
    exchange.send(Step::Proof(Proof { subject_signature, ..proof }));
    exchange.issued().await
}

/// Panics where something that came with a refusal, its text, its details or its metadata, has one of these values in it: as
/// it is, in hexadecimal or in base64url.
pub fn tells_none_of(refused: &Status, values: &[&[u8]]) {
    let metadata = refused.metadata().clone().into_headers();
    let told = metadata.values().map(|value| value.as_bytes());
    let told: Vec<_> = told.chain([refused.message().as_bytes(), refused.details()]).collect();
    assert!(told.iter().any(|told| holds(told, Refusal::of(refused).reason.as_bytes())), "what it does tell is found");
    for value in values {
        let forms = [value.to_vec(), hex(value).into_bytes(), BASE64_URL_SAFE_NO_PAD.encode(value).into_bytes()];
        for form in &forms {
            assert!(!told.iter().any(|told| holds(told, form)), "{refused:?} tells {}", String::from_utf8_lossy(form));
        }
    }
}

fn holds(whole: &[u8], part: &[u8]) -> bool {
    assert!(!part.is_empty(), "it is nothing");
    whole.windows(part.len()).any(|window| window == part)
}

/// The reason of a call that must be refused.
pub fn reason<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    Refusal::of(&answer.expect_err("a refusal")).reason
}

/// What a refusal says for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The gRPC status code.
    pub code: Code,
    /// The reason, of the domain `fleetca`.
    pub reason: String,
    /// `retry`, `reattest` or `stop`.
    pub action: String,
}

impl Refusal {
    /// Reads it, and panics where a part is missing.
    pub fn of(status: &Status) -> Refusal {
        let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
        assert_eq!(info.domain, fleetca_proto::ERROR_DOMAIN);
        let action = info.metadata.get("action").unwrap_or_else(|| panic!("no action in {info:?}")).clone();
        Refusal { code: status.code(), reason: info.reason, action }
    }
}
