//! Simulated devices for load: each proves itself by one method, with the client's own attesters over the raw protocol,
//! from memory and not from a folder. By `previous` comes back who has enrolled and slept ([`Ready::sleep`]).

use std::{fmt, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use enroll_client::{
    attester::{
        Attester,
        evidence_key::EvidenceKey,
        factory::FactoryIdentity,
        previous::Previous,
        token::JoinToken,
        tpm::{TpmAttester, TpmMethod},
    },
    certificate::Certificate,
    connect::Connection,
    keys::{
        Key,
        tpm::{Chip, Credential, TpmKey},
    },
    wall_time::WallTime,
};
use fleetca_proto::{
    transcript::{Role, enrollment},
    v1::{Issued, Kind, Proof, Start, enroll_request::Step},
};
use prost::Message;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, DnValue, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    date_time_ymd,
};
use ring::{digest, rand::SystemRandom};
use serde_json::{Value, json};
use tonic::Status;

use crate::{server::TRUST_DOMAIN, stranger::Exchange, tpm::Tpm};

/// How a simulated device proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// By a join token that all have in common.
    Token,
    /// By a P-256 key that is registered.
    RegisteredKey,
    /// By an IDevID with a P-256 key, below a maker's intermediate.
    Factory,
    /// By a TPM of its own, with a P-256 endorsement key.
    Tpm,
    /// By a certificate that has expired, as one who has slept.
    Previous,
}

impl Method {
    /// All of them.
    pub const ALL: [Method; 5] = [Method::Token, Method::RegisteredKey, Method::Factory, Method::Tpm, Method::Previous];

    /// The method of the device with this number: of each ten one has a TPM, one has slept, and the others take turns at
    /// the other three.
    pub fn of(number: usize) -> Method {
        match number % 10 {
            9 => Method::Tpm,
            8 => Method::Previous,
            rest => Method::ALL[rest % 3],
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Method::Token => "token",
            Method::RegisteredKey => "registered-key",
            Method::Factory => "factory",
            Method::Tpm => "tpm",
            Method::Previous => "previous",
        })
    }
}

/// Whoever provides devices with what they prove.
pub struct Factory {
    token: String,
    root: String,
    intermediate: String,
    issuer: Issuer<'static, KeyPair>,
    issuer_hash: String,
}

impl Factory {
    /// A maker of boards with a root and an intermediate, who has this join token.
    pub fn new(token: &JoinToken) -> Factory {
        let authority = |name: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2045, 1, 1);
            (params, KeyPair::generate().expect("a key"))
        };
        let (params, key) = authority("Root");
        let root = params.self_signed(&key).expect("a root").pem();
        let above = Issuer::new(params, key);
        let (params, key) = authority("Factory");
        let intermediate = params.signed_by(&key, &above).expect("an intermediate").pem();
        let issuer_hash = sha256(&key.subject_public_key_info());
        let token = token.text().to_string();
        Factory { token, root, intermediate, issuer: Issuer::new(params, key), issuer_hash }
    }

    /// The root (PEM), which a fleet pins.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// A new device that can prove itself, and the row by which an operator registers it; `None` where there are no TPMs.
    /// None is made for `previous`: [`Ready::sleep`] gives those.
    pub fn device(&self, id: String, method: Method) -> Option<(Device, Option<Value>)> {
        let (attester, row, tpm) = match method {
            Method::Token => (Attester::Token(JoinToken::parse(&self.token).expect("its own token")), None, None),
            Method::RegisteredKey => {
                let key = KeyPair::generate().expect("a key");
                let row = json!({"id": id, "spki": BASE64_STANDARD.encode(key.subject_public_key_info())});
                let key = EvidenceKey::from_pem(key.serialize_pem().as_bytes()).expect("a key");
                (Attester::RegisteredKey(key), Some(row), None)
            }
            Method::Factory => {
                let row = json!({"id": id, "idevid": format!("{}:{id}", self.issuer_hash)});
                (Attester::Factory(self.idevid(&id)), Some(row), None)
            }
            Method::Tpm => {
                let tpm = Tpm::start()?;
                let location = tpm.socket().parse().expect("a location");
                let mut chip = Chip::open(&location).expect("a TPM");
                let hash = chip.endorsement(None).expect("a key").fingerprint().expect("a key");
                chip.close().expect("it is let go");
                let row = json!({"id": id, "ek_sha256": hex(&hash)});
                (Attester::Tpm(Box::new(TpmMethod::new(location, None))), Some(row), Some(tpm))
            }
            Method::Previous => panic!("{id} is new, and has no certificate to come back by"),
        };
        Some((Device { id, method, attester, tpm }, row))
    }

    /// An IDevID with this serial number.
    pub fn idevid(&self, serial: &str) -> FactoryIdentity {
        let mut params = CertificateParams::default();
        let serial = DnValue::PrintableString(serial.try_into().expect("an ID is printable"));
        params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), serial);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(9999, 12, 31);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("an IDevID").pem();
        let chain = format!("{certificate}{}", self.intermediate);
        FactoryIdentity::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes()).expect("an IDevID")
    }
}

/// A device without a key for its certificate.
pub struct Device {
    id: String,
    method: Method,
    attester: Attester,
    tpm: Option<Tpm>,
}

impl Device {
    /// Its TPM, where it has one.
    pub fn tpm(&self) -> Option<&Tpm> {
        self.tpm.as_ref()
    }

    /// Makes the key, which takes a TPM long.
    pub fn prepare(self) -> Ready {
        let key = self.attester.new_key().expect("a key");
        self.attester.make_ready(&key).expect("it is ready");
        Ready { device: self, key }
    }
}

/// A device that is ready to enroll.
pub struct Ready {
    device: Device,
    key: Key,
}

impl Ready {
    /// How it proves itself.
    pub fn method(&self) -> Method {
        self.device.method
    }

    /// One enrollment.
    pub async fn enroll(self, connection: &Connection) -> Result<Issued, Status> {
        self.exchange(connection).await.map(|(issued, _)| issued)
    }

    /// Enrolls, and does nothing until the certificate has expired: then the device that this gives comes back by it.
    pub async fn sleep(self, connection: &Connection) -> Result<Device, Status> {
        let (issued, Ready { device, key }) = self.exchange(connection).await?;
        let leaf = Certificate::parse(&issued.chain[0]).expect("a certificate");
        Ok(Device { method: Method::Previous, attester: Attester::Previous(Previous::new(&leaf, key)), ..device })
    }

    /// One enrollment, and who enrolled.
    async fn exchange(self, connection: &Connection) -> Result<(Issued, Ready), Status> {
        let start = Start {
            trust_domain: TRUST_DOMAIN.to_owned(),
            kind: Kind::Device.into(),
            id: self.device.id.clone(),
            csr: self.key.csr().expect("a CSR"),
            evidence: Some(self.device.attester.evidence()),
        };
        let start = start.encode_to_vec();
        let mut exchange = Exchange::start(connection, &start).await?;
        let challenge = exchange.challenge().await?;
        // A TPM takes its time, and other devices go on meanwhile.
        let prove = tokio::task::spawn_blocking(move || (self.prove(&start, &challenge), self));
        let (proof, ready) = prove.await.expect("a proof");
        exchange.send(Step::Proof(proof));
        Ok((exchange.issued().await?, ready))
    }

    fn prove(&self, start: &[u8], challenge: &[u8]) -> Proof {
        let transcript = enrollment(self.device.attester.method(), Role::Subject, start, challenge);
        let subject_signature = self.key.sign(&transcript).expect("the key signs");
        let proof = self.device.attester.prove(start, challenge, WallTime::now()).expect("a proof");
        Proof { subject_signature, ..proof }
    }
}

/// What a whole enrollment has a TPM do, without anybody who asks for it: makes the keys, unwraps a secret, certifies,
/// and signs the CSR and the transcript. The time is the TPM's and that of the commands' way there and back.
pub fn commands_alone(tpm: &Tpm) -> Duration {
    let location = tpm.socket().parse().expect("a location");
    let begun = std::time::Instant::now();
    let attester = TpmAttester::prepare(TpmKey::generate(&location).expect("a key"), None).expect("a TPM");
    attester.key().csr().expect("a CSR");
    let prepared = begun.elapsed();
    // The server's part, which is not measured.
    let key = &attester.key().wrapped().public;
    let evidence =
        ca_server::attestation::tpm::Evidence::read(attester.endorsement_key(), attester.attestation_key(), key);
    let (credential, _) = evidence.expect("evidence").challenge(&SystemRandom::new()).expect("a challenge");
    let credential = Credential { blob: &credential.blob, encrypted_secret: &credential.encrypted_secret };
    let begun = std::time::Instant::now();
    attester.answer(b"start", b"challenge", credential).expect("an answer");
    attester.key().sign(b"transcript").expect("a signature");
    prepared + begun.elapsed()
}

fn sha256(octets: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, octets).as_ref())
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
