//! `ca-server device register` and `device key`: what devices will prove.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use fleetca_proto::v1::{
    self, RegisterDeviceRequest, RegisterDevicesRequest, RegisterKeyRequest, RetireKeyRequest,
    operator_client::OperatorClient,
};
use prost::Message;
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tonic::transport::Channel;

use super::{idevid, rows, view::View};
use crate::{
    cli::{CommandError, Session, fleet::pem, output::count, sheet},
    pki::{PemLabel, PublicKey, from_jwk, from_pem},
};

type Operator = OperatorClient<Channel>;

/// How large a message of many devices may become; one device more fits into 64 KiB.
const BATCH: usize = 32 * 1024;

#[derive(Args, Debug)]
pub(super) struct Register {
    /// Its ID
    #[arg(required_unless_present = "from", conflicts_with = "from")]
    id: Option<String>,
    /// Its fleet; with --from, the fleet of rows that name none
    #[arg(long, required_unless_present = "from")]
    fleet: Option<String>,
    /// SHA-256 of its TPM's endorsement key (SubjectPublicKeyInfo, DER), in hexadecimal
    #[arg(long, value_name = "SHA256", conflicts_with = "from")]
    ek_hash: Option<String>,
    /// Its IDevID: SHA-256 of the issuer's SubjectPublicKeyInfo, and the subject's serial number; or its certificate, in PEM
    #[arg(long, value_name = "ISSUER-SPKI-SHA256:SERIAL|FILE", conflicts_with = "from")]
    idevid: Option<String>,
    /// Its public keys: PEM, a JWK or a JWK set; may be given several times
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    key: Vec<PathBuf>,
    /// Many devices, all or none: CSV with a head, or JSON lines; - is the standard input
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub(super) enum Key {
    /// Register one more key for a device
    Add {
        /// The device's ID
        id: String,
        /// The public key: PEM, or a JWK
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// From when on it counts, in RFC 3339; now where nothing is said
        #[arg(long, value_name = "INSTANT", value_parser = instant)]
        active_from: Option<prost_types::Timestamp>,
        /// From when on it counts no more, in RFC 3339
        #[arg(long, value_name = "INSTANT", value_parser = instant)]
        retires_at: Option<prost_types::Timestamp>,
    },
    /// End a registered key
    Retire {
        /// The device's ID
        id: String,
        /// The key's JWK thumbprint, as `device show` has it
        #[arg(allow_hyphen_values = true)]
        thumbprint: String,
        /// From when on, in RFC 3339; now where nothing is said
        #[arg(long, value_name = "INSTANT", value_parser = instant)]
        at: Option<prost_types::Timestamp>,
    },
}

#[derive(Debug, Serialize)]
struct Registered {
    registered: u64,
}

impl Register {
    pub(super) async fn run(self, mut operator: Operator, session: &Session) -> Result<(), CommandError> {
        if let Some(file) = &self.from {
            return many(file, self.fleet.as_deref().unwrap_or_default(), operator, session).await;
        }
        let mut keys = Vec::new();
        for file in &self.key {
            keys.extend(public_keys(file)?.iter().map(wire));
        }
        let fleet = self.fleet.unwrap_or_default();
        let idevid = match self.idevid {
            Some(text) => idevid::read(&mut operator, &fleet, &text, session.output().now()).await?,
            None => String::new(),
        };
        let request = RegisterDeviceRequest {
            id: self.id.unwrap_or_default(),
            fleet,
            ek_sha256: self.ek_hash.unwrap_or_default(),
            idevid,
            keys,
            line: 0,
        };
        let device = operator.register_device(request).await?;
        show(session, device.into_inner())
    }
}

impl Key {
    pub(super) async fn run(self, mut operator: Operator, session: &Session) -> Result<(), CommandError> {
        let device = match self {
            Key::Add { id, key, active_from, retires_at } => {
                let found = public_keys(&key)?;
                let [public] = found.as_slice() else {
                    let reason = format!("has {}, and one is asked for", count(found.len() as u64, "key"));
                    return Err(CommandError::Content { path: key, reason });
                };
                let key = v1::RegisteredKey { active_from, retires_at, ..wire(public) };
                let request = RegisterKeyRequest { device_id: id, key: Some(key) };
                operator.register_key(request).await?
            }
            Key::Retire { id, thumbprint, at } => {
                let request = RetireKeyRequest { device_id: id, thumbprint, at };
                operator.retire_key(request).await?
            }
        };
        show(session, device.into_inner())
    }
}

pub(super) fn show(session: &Session, device: v1::Device) -> Result<(), CommandError> {
    let device = View::whole(device);
    session.output().told(&device, |now| device.words(now))
}

async fn many(file: &Path, fleet: &str, mut operator: Operator, session: &Session) -> Result<(), CommandError> {
    let messages = batches(rows::read(file, fleet)?).into_iter().map(|devices| RegisterDevicesRequest { devices });
    let stream = tokio_stream::iter(messages.collect::<Vec<_>>());
    let answer = operator.register_devices(stream).await.map_err(sheet::name_file(file))?.into_inner();
    let registered = Registered { registered: answer.registered };
    session.output().told(&registered, |_| format!("registered {}\n", count(registered.registered, "device")))
}

/// What fits into one message each, in order; at least one.
pub(super) fn batches<T: Message>(rows: Vec<T>) -> Vec<Vec<T>> {
    let mut batches = Vec::new();
    let (mut batch, mut size) = (Vec::new(), 0);
    for row in rows {
        size += row.encoded_len() + 8;
        batch.push(row);
        if size > BATCH {
            batches.push(std::mem::take(&mut batch));
            size = 0;
        }
    }
    batches.push(batch);
    batches
}

/// Reads PEM, a JWK or a JWK set.
fn public_keys(file: &Path) -> Result<Vec<PublicKey>, CommandError> {
    let text = pem(file, "pkey -pubin")?;
    let content = |reason: String| CommandError::Content { path: file.into(), reason };
    if text.contains("PRIVATE KEY") {
        return Err(content("this is a private key: it belongs on the device, and its public half here".into()));
    }
    if text.trim_start().starts_with('{') {
        return from_jwk(&text).map_err(|error| content(error.to_string()));
    }
    let blocks = from_pem(PemLabel::PublicKey, &text).map_err(|_| content("neither PEM nor a JWK".into()))?;
    let keys = blocks.iter().map(|spki| PublicKey::from_spki_der(spki).map_err(|error| content(error.to_string())));
    keys.collect()
}

/// For the wire, in force from now on.
pub(super) fn wire(key: &PublicKey) -> v1::RegisteredKey {
    v1::RegisteredKey { spki: key.spki_der().to_vec(), ..Default::default() }
}

/// Reads RFC 3339.
pub(super) fn instant(text: &str) -> Result<prost_types::Timestamp, String> {
    let at =
        OffsetDateTime::parse(text, &Rfc3339).map_err(|_| "an instant is written 2027-01-31T12:00:00Z".to_owned())?;
    Ok(prost_types::Timestamp { seconds: at.unix_timestamp(), nanos: 0 })
}
