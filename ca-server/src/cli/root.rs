//! `ca-server root`: ceremonies with the root keys, on the machine where these are.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{CommandError, Session, local};
use crate::{
    authority::{RootKey, is_dated_ahead, root_crl},
    clock::{Clock, SystemClock},
    folder,
    identity::Timestamp,
    pki::{CaRole, IssuerCertificate, ParsedCrl, PemLabel, from_pem},
    signer::{Passphrase, Signer, SoftwareSigner},
};

/// Offline ceremonies with the root keys
#[derive(Args, Debug)]
pub struct Root {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Sign fresh CRLs of the roots that are there, good for 13 months: written to DIR, then `crl publish --root-crl FILE`
    SignCrl {
        /// Where the root keys are
        #[arg(long, value_name = "DIR")]
        root_dir: PathBuf,
        /// Decrypts the root keys
        #[arg(long, value_name = "FILE")]
        root_passphrase_file: Option<PathBuf>,
    },
}

/// A CRL that was signed, for programs.
#[derive(Debug, Serialize)]
struct Signed {
    file: PathBuf,
    issuer: String,
    number: u64,
    this_update: String,
    next_update: String,
}

/// Runs the command.
pub fn run(args: Root, session: &Session) -> Result<(), CommandError> {
    let Command::SignCrl { root_dir, root_passphrase_file } = args.command;
    let passphrase = root_passphrase_file.as_deref().map(Passphrase::read).transpose().map_err(local)?;
    // Somebody else's root of devices is not here.
    let is_here = |root: &CaRole| *root == CaRole::ControlRoot || folder::root_file(&root_dir, *root, "pem").exists();
    let signed = [CaRole::ControlRoot, CaRole::DeviceRoot]
        .into_iter()
        .filter(is_here)
        .map(|root| sign(&root_dir, root, passphrase.as_ref()))
        .collect::<Result<Vec<_>, _>>()?;
    session.output().told(&signed, |_| {
        let line =
            |crl: &Signed| format!("{} number {}, good until {}\n", crl.file.display(), crl.number, crl.next_update);
        let lines: String = signed.iter().map(line).collect();
        lines + "next, for each file: ca-server crl publish --root-crl FILE"
    })
}

/// A root and its key, from the folder where they are.
pub(super) fn open(root_dir: &Path, root: CaRole, passphrase: Option<&Passphrase>) -> Result<RootKey, CommandError> {
    let file = |extension| folder::root_file(root_dir, root, extension);
    let path = file("pem");
    let text = std::fs::read_to_string(&path).map_err(CommandError::file(&path))?;
    let ders = from_pem(PemLabel::Certificate, &text).map_err(|error| content(&path, error.to_string()))?;
    let [der] = ders.as_slice() else { return Err(content(&path, "not one certificate".into())) };
    let certificate = IssuerCertificate::parse(der).map_err(|error| content(&path, error.to_string()))?;
    let signer = SoftwareSigner::load(&file("key.pem"), passphrase).map_err(local)?;
    if signer.public_key().fingerprint() != certificate.public_key().fingerprint() {
        return Err(content(&file("key.pem"), "not the key of the certificate beside it".into()));
    }
    Ok(RootKey { certificate, signer: Arc::new(signer) })
}

/// The CRL that a root has signed last, and where it is. Its entries and its number are needed: without it, revoked CAs
/// would be let in again.
pub(super) fn newest_crl(
    root_dir: &Path,
    root: CaRole,
    certificate: &IssuerCertificate,
    now: Timestamp,
) -> Result<(PathBuf, ParsedCrl), CommandError> {
    let path = folder::root_file(root_dir, root, "crl");
    let before = std::fs::read(&path).map_err(CommandError::file(&path))?;
    let before = ParsedCrl::parse(before.into()).map_err(|error| content(&path, error.to_string()))?;
    before.verify(certificate).map_err(|error| content(&path, error.to_string()))?;
    if is_dated_ahead(&before, now) {
        let reason = format!(
            "is dated ahead ({}), and what follows on it would be, too: set this machine's clock right; or, if it was another \
             one that was wrong when it signed, put the CRL in its place that the CA serves (/crl/{}/full.crl)",
            before.this_update(),
            certificate.id()
        );
        return Err(content(&path, reason));
    }
    Ok((path, before))
}

pub(super) fn content(path: &Path, reason: String) -> CommandError {
    CommandError::Content { path: path.to_owned(), reason }
}

fn sign(root_dir: &Path, root: CaRole, passphrase: Option<&Passphrase>) -> Result<Signed, CommandError> {
    let RootKey { certificate, signer } = open(root_dir, root, passphrase)?;
    let now = SystemClock.now();
    let (path, before) = newest_crl(root_dir, root, &certificate, now)?;
    let (der, head) = root_crl(&certificate, signer.as_ref(), Some(&before), None, now).map_err(local)?;
    folder::write(&path, &der, 0o644).map_err(CommandError::file(&path))?;
    Ok(Signed {
        file: path,
        issuer: head.issuer.to_string(),
        number: head.number,
        this_update: head.this_update.to_string(),
        next_update: head.next_update.to_string(),
    })
}
