//! `ca-server crl`: the CRLs in force.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use fleetca_proto::v1::{self, ListCrlsRequest, PublishCrlRequest};
use serde::Serialize;

use super::{
    CommandError, Session,
    loaded::LoadedAt,
    output::{Format, Instant, Output, Row, printable, when},
};
use crate::{
    identity::Timestamp,
    pki::{PemLabel, from_pem},
};

/// CRLs: those in force, and publishing now
#[derive(Args, Debug)]
pub struct Crl {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Show every issuer's CRL in force
    Status,
    /// Publish every issuing CA's CRL now, or take in a root's that was signed offline
    Publish {
        /// A root's CRL, signed by `ca-server root sign-crl`: PEM or DER
        #[arg(long, value_name = "FILE")]
        root_crl: Option<PathBuf>,
        /// The server's clock has been checked and is right: removals that stopped when it jumped go on
        #[arg(long)]
        accept_clock: bool,
    },
}

/// Runs the command.
pub async fn run(args: Crl, session: &Session) -> Result<(), CommandError> {
    let crls = match args.command {
        Command::Status => session.operator().await?.list_crls(ListCrlsRequest {}).await?,
        Command::Publish { root_crl, accept_clock } => {
            let root_crl = root_crl.as_deref().map(read_crl).transpose()?.unwrap_or_default();
            session.operator().await?.publish_crl(PublishCrlRequest { root_crl, accept_clock }).await?
        }
    };
    let crls: Vec<View> = crls.into_inner().crls.into_iter().map(View::from).collect();
    session.output().list(&crls)?;
    say_loaded(session.output(), crls)
}

/// For people, behind a table: at how many gateways each CRL is loaded.
pub(super) fn say_loaded(output: &Output, crls: impl IntoIterator<Item = impl Into<View>>) -> Result<(), CommandError> {
    if output.format() == Format::Table {
        for crl in crls.into_iter().map(Into::into) {
            let Some(loaded) = &crl.loaded else { continue };
            output.write(&format!("issuer {}: {}\n", printable(&crl.issuer), loaded.words()))?;
        }
    }
    Ok(())
}

/// Reads one CRL, whichever of the two forms it has. What it says is for the server to judge.
pub(super) fn read_crl(path: &Path) -> Result<Vec<u8>, CommandError> {
    let bytes = fs::read(path).map_err(CommandError::file(path))?;
    if bytes.first() == Some(&0x30) {
        return Ok(bytes);
    }
    let wrong = || CommandError::Content { path: path.into(), reason: "not exactly one CRL in PEM or DER".into() };
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong())?;
    let mut blocks = from_pem(PemLabel::Crl, text).map_err(|_| wrong())?;
    match (blocks.pop(), blocks.is_empty()) {
        (Some(crl), true) => Ok(crl),
        _ => Err(wrong()),
    }
}

/// A CRL as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct View {
    issuer: String,
    issuer_name: String,
    hierarchy: String,
    number: u64,
    this_update: Option<Instant>,
    next_update: Option<Instant>,
    entries: u64,
    size: u64,
    sha256: String,
    url: String,
    loaded: Option<LoadedAt>,
}

impl From<v1::CrlStatus> for View {
    fn from(wire: v1::CrlStatus) -> Self {
        Self {
            issuer: wire.issuer,
            issuer_name: wire.issuer_name,
            hierarchy: wire.hierarchy,
            number: wire.number,
            this_update: Instant::from_wire(wire.this_update),
            next_update: Instant::from_wire(wire.next_update),
            entries: wire.entries,
            size: wire.size,
            sha256: enroll_client::certificate::hex(&wire.sha256),
            url: wire.url,
            loaded: wire.loaded.map(LoadedAt::from),
        }
    }
}

impl Row for View {
    const COLUMNS: &'static [&'static str] =
        &["ISSUER", "HIERARCHY", "NUMBER", "ENTRIES", "THIS UPDATE", "NEXT UPDATE", "URL"];

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.issuer.clone(),
            self.hierarchy.clone(),
            self.number.to_string(),
            self.entries.to_string(),
            when(self.this_update, now),
            when(self.next_update, now),
            self.url.clone(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::to_pem;

    #[test]
    fn a_crl_is_read_in_both_forms_and_only_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.crl");
        let der = [0x30, 0x00];
        let pem = to_pem(PemLabel::Crl, &der);
        for bytes in [der.to_vec(), pem.clone().into_bytes()] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(read_crl(&path).unwrap(), der);
        }
        for text in ["", "nothing", &pem.repeat(2), &to_pem(PemLabel::Certificate, &der)] {
            fs::write(&path, text).unwrap();
            assert!(matches!(read_crl(&path), Err(CommandError::Content { .. })), "{text}");
        }
    }
}
