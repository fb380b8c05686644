//! Backups: a folder with all that a server needs, made beside the running server, whole or not at all, and read back
//! only as it was made.
//!
//! Keys go in only when they are encrypted. What is not in it: the server's own TLS key (it makes another), the first
//! operator's folder, root keys, and the passphrase.

mod manifest;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use ring::digest::{Context, SHA256};
use zeroize::Zeroizing;

use crate::{
    folder::{self, Folder},
    identity::{IssuerId, Timestamp, hex},
    pki::IssuerCertificate,
    signer::{Passphrase, SignerError, encrypted_anew, is_encrypted},
    step::{Step, reached},
    store::{Copied, StoreError, sqlite::SqliteStore},
};

pub use manifest::{Keys, Manifest};

/// Why there is no backup, or why it is not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// There is something already, where the backup should go.
    #[error("{} exists already: a backup is a new folder", .0.display())]
    Exists(PathBuf),
    /// A file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No room for the copy.
    #[error("{}: the disk is full: make room there, or choose another --out", .0.display())]
    Full(PathBuf),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The manifest can't be read.
    #[error("{} is no manifest of a backup: {why}", path.display())]
    Manifest {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Made by a version that this one does not know.
    #[error("the backup has format {0}: restore it with the version of ca-server that made it")]
    Format(u32),
    /// A file of the backup is not what it was.
    #[error("{} is not what it was when the backup was made: take another backup", .0.display())]
    Changed(PathBuf),
    /// A key that the CA needs is not in its folder.
    #[error("the key of issuer {issuer} is missing: put {} back from an earlier backup", path.display())]
    NoKey {
        /// Whose.
        issuer: IssuerId,
        /// Where it should be.
        path: PathBuf,
    },
    /// A key that the CA needs.
    #[error("the key of issuer {0} is not in the backup: name the folder where it is with --keys")]
    KeyMissing(IssuerId),
}

impl BackupError {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| BackupError::File { path, source }
    }
}

/// What opens the keys in the folder, and what is to open them in the backup.
#[derive(Clone, Debug, Default)]
pub struct Passphrases {
    /// Opens the keys that are encrypted in the folder.
    pub folder: Option<Passphrase>,
    /// Opens every key in the backup. Without it keys go in as they are, and those that are not encrypted stay out.
    pub backup: Option<Passphrase>,
}

/// Makes a backup of a folder that a server may be running on.
pub fn make(from: &Folder, out: &Path, passphrases: &Passphrases, now: Timestamp) -> Result<Manifest, BackupError> {
    if fs::symlink_metadata(out).is_ok() {
        return Err(BackupError::Exists(out.to_owned()));
    }
    let draft = draft_of(out)?;
    let made = write(from, &draft, passphrases, now)
        .and_then(|manifest| fs::rename(&draft, out).map(|()| manifest).map_err(BackupError::file(out)));
    match made {
        Ok(manifest) => {
            reached(Step::PartMoved);
            folder::sync(parent(out)).map_err(BackupError::file(out))?;
            Ok(manifest)
        }
        Err(error) => {
            // The first fault is the one to tell.
            let _ = fs::remove_dir_all(&draft);
            Err(error)
        }
    }
}

fn write(from: &Folder, draft: &Path, passphrases: &Passphrases, now: Timestamp) -> Result<Manifest, BackupError> {
    match fs::remove_dir_all(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(BackupError::file(draft)(error)),
        _ => {}
    }
    let to = Folder::new(draft);
    let keys = to.keys();
    folder::create_private(&keys).map_err(BackupError::file(&keys))?;
    // Before the copy begins: what is made from here on may not be in it.
    let copied = SqliteStore::copy(&from.database(), &to.database());
    let Copied { domain, issuers } = copied.map_err(|error| match error {
        // The CA's own disk is only read.
        StoreError::Full => BackupError::Full(to.database()),
        error => error.into(),
    })?;
    let mut manifest = Manifest::new(now, domain.trust_domain.as_str());
    manifest.insert(draft, &to.database())?;
    for (source, target) in
        [(from.config(), to.config()), (from.control_root(), to.control_root()), (from.device_root(), to.device_root())]
    {
        copy(&source, &target, 0o644)?;
        manifest.insert(draft, &target)?;
    }
    for issuer in issuers.iter().filter(|issuer| issuer.is_online()) {
        let (source, target) = (from.issuer_key(issuer.id), to.issuer_key(issuer.id));
        let text = fs::read_to_string(&source).map(Zeroizing::new).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => BackupError::NoKey { issuer: issuer.id, path: source.clone() },
            _ => BackupError::file(&source)(error),
        });
        // Its root may have ended it in a time that is lost, and whoever did has removed its key.
        if matches!(text, Err(BackupError::NoKey { .. })) && has_expired(&issuer.certificate, now) {
            continue;
        }
        let text = text?;
        let encrypted = match &passphrases.backup {
            // Each is opened: a passphrase that was never tried may be another's.
            Some(anew) => encrypted_anew(&source, passphrases.folder.as_ref(), anew)?.unwrap_or(text),
            None if is_encrypted(&text) => text,
            None => {
                manifest.keys = Keys::Absent;
                continue;
            }
        };
        folder::write(&target, encrypted.as_bytes(), 0o600).map_err(BackupError::file(&target))?;
        manifest.insert(draft, &target)?;
    }
    manifest.write(draft)?;
    folder::sync(draft).map_err(BackupError::file(draft))?;
    Ok(manifest)
}

/// Reads a backup into an empty folder: every file is held to the manifest.
pub fn unpack(from: &Path, draft: &Folder) -> Result<Manifest, BackupError> {
    let manifest = Manifest::read(from)?;
    folder::create_private(&draft.keys()).map_err(BackupError::file(draft.path()))?;
    for (name, sha256) in &manifest.files {
        let (source, target) = (from.join(name), draft.path().join(name));
        let public = [draft.config(), draft.control_root(), draft.device_root()].contains(&target);
        if copy(&source, &target, if public { 0o644 } else { 0o600 })? != *sha256 {
            return Err(BackupError::Changed(source));
        }
    }
    Ok(manifest)
}

/// Sees to it that the keys of these issuers are there: those that are not in the backup come from `keys`, and nothing
/// else does.
pub fn complete(draft: &Folder, issuers: &[IssuerId], keys: Option<&Path>) -> Result<(), BackupError> {
    for issuer in issuers {
        let target = draft.issuer_key(*issuer);
        if target.exists() {
            continue;
        }
        let named = keys.zip(target.file_name()).map(|(keys, name)| keys.join(name));
        let source = named.filter(|source| source.exists()).ok_or(BackupError::KeyMissing(*issuer))?;
        copy(&source, &target, 0o600)?;
    }
    Ok(())
}

/// Copies a file, and gives its SHA-256. On disk when this returns.
fn copy(from: &Path, to: &Path, mode: u32) -> Result<String, BackupError> {
    let mut source = File::open(from).map_err(BackupError::file(from))?;
    let mut write = || -> io::Result<String> {
        let mut target = OpenOptions::new().write(true).create_new(true).mode(mode).open(to)?;
        target.set_permissions(fs::Permissions::from_mode(mode))?;
        let hash = hash(&mut source, |bytes| target.write_all(bytes))?;
        target.sync_all()?;
        reached(Step::FilePlaced);
        folder::sync(parent(to))?;
        Ok(hash)
    };
    write().map_err(BackupError::file(to))
}

/// SHA-256 of all that comes, in hexadecimal, handed on piece by piece.
fn hash(source: &mut impl Read, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<String> {
    let (mut context, mut buffer) = (Context::new(&SHA256), vec![0; 1 << 20]);
    loop {
        let length = source.read(&mut buffer)?;
        if length == 0 {
            return Ok(hex(context.finish().as_ref()));
        }
        context.update(&buffer[..length]);
        each(&buffer[..length])?;
    }
}

/// Whether nothing is left for a CA to sign.
fn has_expired(certificate: &[u8], now: Timestamp) -> bool {
    IssuerCertificate::parse(certificate).is_ok_and(|certificate| certificate.not_after() < now)
}

fn draft_of(out: &Path) -> Result<PathBuf, BackupError> {
    let nameless = || BackupError::file(out)(io::ErrorKind::InvalidInput.into());
    let mut name = out.file_name().ok_or_else(nameless)?.to_owned();
    name.push(".part");
    Ok(out.with_file_name(name))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
