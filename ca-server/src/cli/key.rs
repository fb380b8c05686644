//! `ca-server key`: the keys that stay with the server, on its own folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{CommandError, Session, accept_clock::AcceptClock, key_passphrase::KeyPassphrase, local};
use crate::{
    audit::Draft,
    config::Config,
    folder::{self, Folder},
    server,
    signer::{Passphrase, encrypted_anew},
    store::{Store, sqlite::SqliteStore},
};

/// The keys that stay with the server: its issuing CAs', and its own
#[derive(Args, Debug)]
pub struct Key {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Encrypt the keys with a passphrase, or with another one than before; the server must not run
    Encrypt(Encrypt),
}

#[derive(Args, Debug)]
struct Encrypt {
    /// The CA's folder, on this machine
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Encrypts them from now on
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: PathBuf,
    #[command(flatten)]
    key_passphrase: KeyPassphrase,
    #[command(flatten)]
    clock: AcceptClock,
}

#[derive(Debug, Serialize)]
struct Encrypted {
    changed: Vec<PathBuf>,
}

/// Runs the command.
pub async fn run(args: Key, session: &Session) -> Result<(), CommandError> {
    let Command::Encrypt(args) = args.command;
    let folder = Folder::new(&args.dir);
    let config = Config::read(&folder.config()).map_err(local)?;
    let old = args.key_passphrase.read(&config)?;
    let new = Passphrase::read(&args.new_passphrase_file).map_err(local)?;
    // A server that runs would write its next key with the passphrase that it was started with.
    let _lock = server::lock(&folder).map_err(local)?;
    let store = SqliteStore::open_existing(&folder.database()).map_err(local)?;
    let mut texts = Vec::new();
    for path in key_files(&folder)? {
        if let Some(text) = encrypted_anew(&path, old.as_ref(), &new).map_err(local)? {
            texts.push((path, text));
        }
    }
    let changed: Vec<PathBuf> = texts.iter().map(|(path, _)| path.clone()).collect();
    if !changed.is_empty() {
        // Before the files: a command that is cut short behind the last of them finds nothing left to do.
        let files = changed.iter().map(|path| file_name(path)).collect::<Vec<_>>();
        let audit = Draft::done(args.clock.now(&store, None).await?, "local", "keys.encrypted", "keys".into())
            .fact("files", files);
        store.record_audit(audit).await.map_err(local)?;
    }
    // Cut short here, the same command goes on: it knows what is encrypted with the new passphrase already.
    for (path, text) in &texts {
        folder::write(path, text.as_bytes(), 0o600).map_err(CommandError::file(path))?;
    }
    let told = Encrypted { changed };
    session.output().told(&told, |_| {
        format!(
            "{} keys are encrypted anew; copies that were made before are not\nnext: ca-server serve --dir {} \
             --key-passphrase-file {}",
            told.changed.len(),
            args.dir.display(),
            args.new_passphrase_file.display()
        )
    })
}

/// Every file with a key that a server uses.
pub(super) fn key_files(folder: &Folder) -> Result<Vec<PathBuf>, CommandError> {
    let keys = folder.keys();
    let entries = fs::read_dir(&keys).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut files: Vec<PathBuf> = entries.map_err(CommandError::file(&keys))?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "pem"));
    files.sort();
    files.extend(Some(folder.server()).filter(|path| path.exists()));
    Ok(files)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
