//! `ca-server backup`: a copy of all that a server needs, made beside the server that runs.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{CommandError, Session, local, output::Instant};
use crate::{
    backup::{self, Keys, Manifest},
    clock::{Clock, SystemClock},
    folder::Folder,
    signer::Passphrase,
};

/// Copy all that a server needs into a new folder, while the server runs
///
/// Keys go in only when they are encrypted: those that are not yet are encrypted by --passphrase-file, or left out. Root
/// keys, the first operator's folder and passphrases are never in it.
#[derive(Args, Clone, Debug)]
pub struct Backup {
    /// The CA's folder, on this machine
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where the backup goes: must not exist
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Encrypts the keys that are not encrypted in DIR
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Made<'a> {
    backup: PathBuf,
    made_at: Instant,
    trust_domain: &'a str,
    keys: Keys,
}

/// Runs the command.
pub fn run(args: Backup, session: &Session) -> Result<(), CommandError> {
    let passphrase = args.passphrase_file.as_deref().map(Passphrase::read).transpose().map_err(local)?;
    let from = Folder::new(&args.dir);
    let manifest: Manifest = backup::make(&from, &args.out, passphrase.as_ref(), SystemClock.now()).map_err(local)?;
    let made = Made {
        backup: args.out,
        made_at: Instant::from_millis(manifest.made_at_millis),
        trust_domain: &manifest.trust_domain,
        keys: manifest.keys,
    };
    session.output().told(&made, |_| {
        let keys = match manifest.keys {
            Keys::Encrypted => "its keys are in it, encrypted".to_owned(),
            Keys::Absent => format!(
                "KEYS ARE NOT IN IT, as they are not encrypted: give --passphrase-file, or keep copies of {} yourself",
                from.keys().display()
            ),
        };
        format!("backup of {} as of {} in {}\n{keys}", made.trust_domain, manifest.made_at(), made.backup.display())
    })
}
