//! Requests for the certificates of issuing CAs that somebody else's root is to sign: each is a key, which never leaves the
//! folder, and a CSR, which is what travels.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{CommandError, local};
use crate::{
    folder,
    identity::{IssuerId, TrustDomain},
    pki::{PemLabel, PublicKey, prepare_csr, to_pem},
    signer::{Passphrase, Signer, SoftwareSigner},
};

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    folder: PathBuf,
    id: IssuerId,
}

impl Request {
    /// A new key in this folder, and the CSR beside it.
    pub fn make(
        folder: &Path,
        trust_domain: &TrustDomain,
        passphrase: Option<&Passphrase>,
    ) -> Result<Self, CommandError> {
        folder::create_private(folder).map_err(CommandError::file(folder))?;
        let signer = SoftwareSigner::generate().map_err(local)?;
        let request = Self::of(folder, signer.public_key());
        let prepared = prepare_csr(trust_domain, signer.public_key());
        let signature = signer.sign(prepared.tbs()).map_err(local)?;
        let csr = to_pem(PemLabel::CertificateRequest, &prepared.assemble(&signature));
        signer.save(&request.key(), passphrase).map_err(local)?;
        folder::write(&request.csr(), csr.as_bytes(), 0o644).map_err(CommandError::file(request.csr()))?;
        Ok(request)
    }

    /// The request of this key.
    pub fn of(folder: &Path, key: &PublicKey) -> Self {
        Self { folder: folder.to_owned(), id: IssuerId::of(&key.fingerprint()) }
    }

    /// All that wait in this folder.
    pub fn all(folder: &Path) -> Result<Vec<Self>, CommandError> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(CommandError::file(folder))?,
        };
        let id = |name: &str| name.strip_suffix(".csr")?.parse::<IssuerId>().ok();
        let ids = entries.iter().filter_map(|entry| id(&entry.file_name().to_string_lossy()));
        Ok(ids.map(|id| Self { folder: folder.to_owned(), id }).collect())
    }

    /// Its key, if it waits here.
    pub fn load(&self, passphrase: Option<&Passphrase>) -> Result<Option<SoftwareSigner>, CommandError> {
        let path = self.key();
        if !path.exists() {
            return Ok(None);
        }
        SoftwareSigner::load(&path, passphrase).map(Some).map_err(local)
    }

    /// Copies the CSR to where it travels from. Another file there is left as it is.
    pub fn hand_out(&self, to: &Path) -> Result<(), CommandError> {
        let csr = fs::read(self.csr()).map_err(CommandError::file(self.csr()))?;
        match fs::read(to) {
            Ok(there) if there == csr => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => return Err(CommandError::Exists(to.to_owned())),
        }
        folder::write(to, &csr, 0o644).map_err(CommandError::file(to))
    }

    /// It is answered: nothing is left of it here.
    pub fn discard(&self) -> Result<(), CommandError> {
        // The key last: without it nothing tells that there was one.
        for path in [self.csr(), self.key()] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(CommandError::file(path)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Where its key is.
    pub fn key(&self) -> PathBuf {
        self.folder.join(format!("{}.pem", self.id))
    }

    /// Where its CSR is.
    pub fn csr(&self) -> PathBuf {
        self.folder.join(format!("{}.csr", self.id))
    }
}
