//! `ca-server certificate`: certificates that were issued.

use clap::{Args, Subcommand};
use fleetca_proto::v1::{self, GetCertificateRequest};
use serde::Serialize;

use super::{
    CommandError, Session,
    output::{Details, Format, Instant, Row, or_dash, present, when},
    words::{parse_serial, reason_word},
};
use crate::{
    identity::{SerialNumber, Timestamp},
    pki::{PemLabel, to_pem},
};

/// Certificates that were issued
#[derive(Args, Debug)]
pub struct Certificate {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Show a certificate by its serial number
    Show {
        /// Serial number: 32 hexadecimal digits, with or without colons
        #[arg(value_parser = parse_serial)]
        serial: SerialNumber,
        /// Print the certificate itself, in PEM
        #[arg(long)]
        pem: bool,
    },
}

/// Runs the command.
pub async fn run(args: Certificate, session: &Session) -> Result<(), CommandError> {
    let Command::Show { serial, pem } = args.command;
    let request = GetCertificateRequest { serial: serial.to_string() };
    let certificate = session.operator().await?.get_certificate(request).await?.into_inner();
    if pem && session.output().format() == Format::Table {
        return session.output().write(&to_pem(PemLabel::Certificate, &certificate.der));
    }
    session.output().details(&View::from(certificate))
}

/// A certificate as it is shown.
#[derive(Debug, Serialize)]
pub struct View {
    serial: String,
    subject: String,
    issuer: String,
    not_before: Option<Instant>,
    not_after: Option<Instant>,
    position: Option<String>,
    method: Option<String>,
    tier: Option<String>,
    revoked: bool,
    revoked_at: Option<Instant>,
    revocation_reason: Option<&'static str>,
    spki_sha256: String,
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pem: Option<String>,
}

impl From<v1::Certificate> for View {
    fn from(wire: v1::Certificate) -> Self {
        Self {
            serial: wire.serial,
            subject: wire.subject,
            issuer: wire.issuer,
            not_before: Instant::from_wire(wire.not_before),
            not_after: Instant::from_wire(wire.not_after),
            position: present(wire.position),
            method: present(wire.method),
            tier: present(wire.tier),
            revoked: wire.revoked,
            revoked_at: Instant::from_wire(wire.revoked_at),
            revocation_reason: wire.revoked.then(|| reason_word(wire.revocation_reason)),
            spki_sha256: enroll_client::certificate::hex(&wire.spki_sha256),
            sha256: enroll_client::certificate::hex(&wire.sha256),
            pem: (!wire.der.is_empty()).then(|| to_pem(PemLabel::Certificate, &wire.der)),
        }
    }
}

impl View {
    fn revocation(&self, now: Timestamp) -> String {
        or_dash(self.revocation_reason.map(|reason| format!("{reason}, {}", when(self.revoked_at, now))))
    }
}

impl Row for View {
    const COLUMNS: &'static [&'static str] = &["SERIAL", "POSITION", "EXPIRES", "REVOKED"];

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![self.serial.clone(), or_dash(self.position.clone()), when(self.not_after, now), self.revocation(now)]
    }
}

impl Details for View {
    fn lines(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        vec![
            ("serial", self.serial.clone()),
            ("subject", self.subject.clone()),
            ("issuer", self.issuer.clone()),
            ("valid from", when(self.not_before, now)),
            ("valid until", when(self.not_after, now)),
            ("position", or_dash(self.position.clone())),
            ("method", or_dash(self.method.clone())),
            ("tier", or_dash(self.tier.clone())),
            ("revoked", self.revocation(now)),
            ("key (SHA-256)", self.spki_sha256.clone()),
            ("SHA-256", self.sha256.clone()),
        ]
    }
}
