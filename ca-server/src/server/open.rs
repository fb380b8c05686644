//! A CA's folder, opened: by the server, and by those who change something while none runs.

use std::{
    fs::{File, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    sync::Arc,
};

use super::ServerError;
use crate::{
    authority::{IssuerKeys, Issuers, IssuersError, struck},
    folder::Folder,
    identity::{IssuerId, Timestamp},
    inventory::partition::Standing,
    pki::{CaRole, IssuerCertificate},
    signer::{AbsentSigner, Passphrase, Signer, SoftwareSigner},
    store::{Store, sqlite::SqliteStore},
};

/// A CA's folder, opened: its store and the issuers whose keys lie there.
pub struct Opened {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The issuers.
    pub issuers: Issuers,
    /// Those that are to sign no more, and are not known to have ended.
    pub struck: Vec<IssuerId>,
}

/// Opens a folder that `init` made. The passphrase is that of its keys, where they are encrypted.
pub async fn open(folder: &Folder, passphrase: Option<&Passphrase>, now: Timestamp) -> Result<Opened, ServerError> {
    open_with(folder, Some(passphrase), now).await
}

/// The same without the keys, for ceremonies: what is lost or stolen of them keeps nobody from ending their CAs.
pub async fn open_without_keys(folder: &Folder, now: Timestamp) -> Result<Opened, ServerError> {
    open_with(folder, None, now).await
}

async fn open_with(folder: &Folder, keys: Option<Option<&Passphrase>>, now: Timestamp) -> Result<Opened, ServerError> {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open_existing(&folder.database())?);
    let domain = store.domain().await?;
    let mut rows = store.issuers().await?;
    let (struck, over): (Vec<_>, Vec<_>) = struck(store.as_ref()).await?.into_iter().partition(|one| one.counts(now));
    let struck: Vec<IssuerId> = struck.iter().map(|one| one.issuer).collect();
    for row in &mut rows {
        // It has nothing to sign any more, as its root says, and perhaps no key.
        if row.role == CaRole::DeviceIssuing && over.iter().any(|over| over.issuer == row.id) {
            row.standing = Standing::Ended;
        }
    }
    let mut signers = IssuerKeys::new();
    for row in rows.iter().filter(|row| row.is_online()) {
        let path = folder.issuer_key(row.id);
        match keys.filter(|_| !struck.contains(&row.id)) {
            // One that is missing is told of with all that is known of its issuer.
            Some(passphrase) if path.exists() => {
                signers.insert(row.id, Arc::new(SoftwareSigner::load(&path, passphrase)?) as Arc<dyn Signer>);
            }
            Some(_) => {}
            // What can't be read is told of with all that is known of its issuer.
            None => {
                if let Ok(certificate) = IssuerCertificate::parse(&row.certificate) {
                    signers.insert(row.id, Arc::new(AbsentSigner(certificate.public_key().clone())));
                }
            }
        }
    }
    let issuers = Issuers::new(&domain, &rows, signers).map_err(|error| match error {
        IssuersError::Key(issuer) => ServerError::KeyMissing { issuer, path: folder.issuer_key(issuer) },
        error => error.into(),
    })?;
    Ok(Opened { store, issuers, struck })
}

/// One server at a time: two that publish would be in each other's way. Held until the file is dropped.
pub fn lock(folder: &Folder) -> Result<File, ServerError> {
    let path = folder.lock();
    // Whoever could read it could hold the lock.
    let file = File::options().create(true).append(true).mode(0o600).open(&path);
    let file = file.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ServerError::NoFolder { path: folder.path().to_owned() },
        _ => ServerError::Write { path: path.clone(), source },
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ServerError::Locked { path: folder.path().to_owned() }),
        Err(TryLockError::Error(source)) => Err(ServerError::Write { path, source }),
    }
}
