//! `ca-server backup`: a copy of all that a server needs, made beside the server that runs.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{CommandError, Session, key_passphrase::KeyPassphrase, local, output::Instant};
use crate::{
    backup::{self, Keys, Manifest, Passphrases},
    clock::{Clock, SystemClock},
    config::Config,
    folder::Folder,
    signer::Passphrase,
};

/// Copy all that a server needs into a new folder, while the server runs
///
/// Keys go in only when they are encrypted: by --passphrase-file, or as they are in DIR, or else they are left out. Root
/// keys, the first operator's folder and passphrases are never in it.
#[derive(Args, Clone, Debug)]
pub struct Backup {
    /// The CA's folder, on this machine
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where the backup goes: must not exist
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Encrypts all keys in the backup, whatever they are encrypted with in DIR
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    key_passphrase: KeyPassphrase,
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
    let from = Folder::new(&args.dir);
    let mut passphrases = Passphrases::default();
    if let Some(path) = &args.passphrase_file {
        passphrases.backup = Some(Passphrase::read(path).map_err(local)?);
        passphrases.folder = args.key_passphrase.read(&Config::read(&from.config()).map_err(local)?)?;
    }
    let manifest: Manifest = backup::make(&from, &args.out, &passphrases, SystemClock.now()).map_err(local)?;
    let made = Made {
        backup: args.out,
        made_at: Instant::from_millis(manifest.made_at_millis),
        trust_domain: &manifest.trust_domain,
        keys: manifest.keys,
    };
    session.output().told(&made, |_| {
        let keys = match (manifest.keys, &args.passphrase_file) {
            (Keys::Encrypted, Some(path)) => {
                format!("its keys are in it, encrypted: the passphrase in {} opens them", path.display())
            }
            (Keys::Encrypted, None) => format!(
                "its keys are in it, encrypted: nothing opens them but the passphrase that they have in {}, so keep a copy \
                 of it apart, or give --passphrase-file",
                from.keys().display()
            ),
            (Keys::Absent, _) => format!(
                "KEYS ARE NOT IN IT, as they are not encrypted: give --passphrase-file, or keep copies of {} yourself",
                from.keys().display()
            ),
        };
        format!("backup of {} as of {} in {}\n{keys}", made.trust_domain, manifest.made_at(), made.backup.display())
    })
}
