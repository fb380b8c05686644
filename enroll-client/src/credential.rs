//! The credential folder: what a device, gateway or operator holds, in a shape that any TLS program can be pointed at.
//!
//! ```text
//! DIR/current -> generations/000002     a symlink, swapped atomically
//! DIR/current/key.pem                   0600; where the key is in a TPM there are instead
//! DIR/current/tpm-key.pem               the key as the TPM wrapped it, of use in that TPM only
//! DIR/current/tpm-device                where the TPM is
//! DIR/current/credential.pem            the leaf, then the issuing CA
//! DIR/current/trust.pem                 control roots
//! DIR/current/device-roots.pem          device roots
//! DIR/current/state.json                server, ID, renewal window and instant, whether Confirm is outstanding
//! DIR/next/                             the key of a request that is under way, and what it was made for
//! DIR/lock                              held by the one process that may write here
//! ```
//!
//! Whoever reads ([`Credential::load`]) needs no lock; whoever writes holds a [`LockedFolder`].

mod folder;
mod key_files;
mod state;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use folder::{Contents, LockedFolder, NextKey};
use rustls_pki_types::CertificateDer;
pub use state::{Holder, LastError, State};

use crate::{
    certificate::{Certificate, CertificateError},
    identity::{Id, Role, SpiffeId},
    issued::check_chain,
    keys::{Key, KeyError},
    trust::{Roots, TrustError},
    wall_time::WallTime,
};

/// What can go wrong with a credential folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// There is none yet.
    #[error("{} holds no credential: enroll first", .0.display())]
    Absent(PathBuf),
    /// Another process owns the folder.
    #[error("{} is in use by another process (is the agent running?)", .0.display())]
    Locked(PathBuf),
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `state.json` cannot be read.
    #[error("{}: {source}", path.display())]
    State {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A certificate cannot be read.
    #[error("{}: {source}", path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: CertificateError,
    },
    /// A root cannot be read.
    #[error("{}: {source}", path.display())]
    Trust {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: TrustError,
    },
    /// The key cannot be read or made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Key, certificate and state in one generation do not belong together.
    #[error("{}: key, certificate and state do not belong together", .0.display())]
    Mixed(PathBuf),
}

/// One generation, read whole.
#[derive(Debug)]
pub struct Credential {
    folder: PathBuf,
    key: Key,
    chain: Vec<Certificate>,
    control_roots: Roots,
    device_roots: Roots,
    state: State,
}

impl Credential {
    /// Reads `DIR/current`. Its files are read from one generation, even while another process swaps it.
    ///
    /// ```no_run
    /// use enroll_client::credential::Credential;
    /// let credential = Credential::load("/var/lib/fleetca".as_ref())?;
    /// println!("{} until {}", credential.state().id, credential.leaf().not_after());
    /// # Ok::<(), enroll_client::credential::CredentialError>(())
    /// ```
    pub fn load(dir: &Path) -> Result<Self, CredentialError> {
        let link = dir.join("current");
        match std::fs::read_link(&link) {
            Ok(target) => Self::load_generation(&dir.join(target)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(CredentialError::Absent(dir.to_owned())),
            Err(source) => Err(CredentialError::Io { path: link, source }),
        }
    }

    /// Reads one generation's folder.
    pub(crate) fn load_generation(folder: &Path) -> Result<Self, CredentialError> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path).map_err(|source| CredentialError::Io { path, source })
        };
        let roots = |name: &str| {
            let trust = |source| CredentialError::Trust { path: folder.join(name), source };
            Roots::from_pem(&read(name)?).map_err(trust)
        };
        let state = |source| CredentialError::State { path: folder.join("state.json"), source };
        let certificate = |source| CredentialError::Certificate { path: folder.join("credential.pem"), source };
        let credential = Self {
            key: key_files::read(folder)?,
            chain: Certificate::parse_pem(&read("credential.pem")?).map_err(certificate)?,
            control_roots: roots("trust.pem")?,
            device_roots: roots("device-roots.pem")?,
            state: serde_json::from_slice(&read("state.json")?).map_err(state)?,
            folder: folder.to_owned(),
        };
        if credential.leaf().spki() != credential.key.spki() {
            return Err(CredentialError::Mixed(folder.to_owned()));
        }
        Ok(credential)
    }

    /// Whether all that it holds belongs together: the leaf carries the state's name, and its chain verifies under
    /// its own roots at `now` (moved into the leaf's validity).
    pub fn check(&self, now: WallTime) -> Result<(), CredentialError> {
        let certificate = |source| CredentialError::Certificate { path: self.folder.join("credential.pem"), source };
        let ours = SpiffeId {
            trust_domain: self.state.trust_domain.clone(),
            role: Role::Client(self.state.kind),
            id: self.state.id.clone(),
        };
        if self.leaf().spiffe_id().map_err(certificate)? != ours {
            return Err(CredentialError::Mixed(self.folder.clone()));
        }
        check_chain(&self.chain, self.state.kind, &self.control_roots, &self.device_roots, now).map_err(certificate)
    }

    /// The generation's own folder, for example `DIR/generations/000002`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The private key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The leaf.
    pub fn leaf(&self) -> &Certificate {
        // A chain that parses has at least one certificate.
        &self.chain[0]
    }

    /// The leaf, then its issuing CA.
    pub fn chain(&self) -> &[Certificate] {
        &self.chain
    }

    /// The chain for TLS.
    pub fn chain_der(&self) -> Vec<CertificateDer<'static>> {
        self.chain.iter().map(|certificate| certificate.der().clone()).collect()
    }

    /// The roots under which the server is accepted.
    pub fn control_roots(&self) -> &Roots {
        &self.control_roots
    }

    /// The roots of devices.
    pub fn device_roots(&self) -> &Roots {
        &self.device_roots
    }

    /// What the agent knows beside the certificate.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The ID of its holder.
    pub fn id(&self) -> &Id {
        &self.state.id
    }
}
