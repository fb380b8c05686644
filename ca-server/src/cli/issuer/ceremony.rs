//! What every ceremony about issuing CAs needs: the CA's folder, where no server runs meanwhile, and the root keys.

use std::{fs::File, path::PathBuf, sync::Arc};

use clap::Args;

use super::super::{CommandError, accept_clock::AcceptClock, key_passphrase::KeyPassphrase, local, root};
use crate::{
    authority::{Issuers, RootKey, Roots},
    clock::{Clock, SystemClock},
    config::Config,
    folder::Folder,
    identity::{IssuerId, Timestamp},
    pki::{CaRole, IssuerCertificate, PublicKey},
    server::{self, Opened},
    signer::{Passphrase, Signer, SoftwareSigner},
    store::{Domain, IssuerRow, Store},
};

/// Where the CA and its root keys are.
#[derive(Args, Clone, Debug)]
pub struct Place {
    /// The CA's folder, on this machine; its server must not run meanwhile
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where the root keys are
    #[arg(long, value_name = "DIR")]
    root_dir: PathBuf,
    /// Decrypts the root keys
    #[arg(long, value_name = "FILE")]
    root_passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    key_passphrase: KeyPassphrase,
    #[command(flatten)]
    clock: AcceptClock,
}

/// A CA whose folder nobody else serves, and its roots.
pub struct Ceremony {
    /// Its store.
    pub store: Arc<dyn Store>,
    /// Its settings.
    pub config: Config,
    /// What `init` fixed.
    pub domain: Domain,
    /// The roots whose keys are at hand.
    pub roots: Roots,
    /// The root of devices.
    pub device_root: IssuerCertificate,
    /// All issuers.
    pub issuers: Issuers,
    /// What the clock says.
    pub now: Timestamp,
    /// Where the root keys are.
    pub root_dir: PathBuf,
    /// The CA's folder.
    pub folder: Folder,
    /// Of the keys that stay with the server.
    pub passphrase: Option<Passphrase>,
    _lock: File,
}

impl Ceremony {
    /// Takes the folder, and holds the roots to be the CA's own.
    ///
    /// `device_root`: what its key is needed for, if it is; else what somebody else's root or one that is elsewhere has
    /// signed is at hand.
    pub async fn open(place: &Place, device_root: Option<&str>) -> Result<Self, CommandError> {
        let folder = Folder::new(&place.dir);
        let config = Config::read(&folder.config()).map_err(local)?;
        let passphrase = place.key_passphrase.read(&config)?;
        // A server takes in who signs when it starts, and the trust bundle goes with what it publishes.
        let lock = server::lock(&folder).map_err(local)?;
        let Opened { store, issuers, .. } =
            server::open_without_keys(&folder, SystemClock.now()).await.map_err(local)?;
        let now = place.clock.now(store.as_ref(), None).await?;
        let root_passphrase = place.root_passphrase_file.as_deref().map(Passphrase::read).transpose().map_err(local)?;
        let open = |role| root::open(&place.root_dir, role, root_passphrase.as_ref());
        let device_certificate = issuers.device_root().cloned().ok_or_else(|| local("there is no device root"))?;
        if let Some(instead) = device_root.filter(|_| issuers.has_foreign_root()) {
            let root = device_certificate.subject_text();
            return Err(local(format!(
                "the device root {root} is somebody else's, and its key is not here: {instead}"
            )));
        }
        let device = device_root.map(|_| open(CaRole::DeviceRoot)).transpose()?;
        let roots = Roots { control: open(CaRole::ControlRoot)?, device };
        for root in [Some(&roots.control), roots.device.as_ref()].into_iter().flatten() {
            is_ours(root, &issuers, place)?;
        }
        let domain = store.domain().await.map_err(local)?;
        let root_dir = place.root_dir.clone();
        Ok(Self {
            store,
            config,
            domain,
            roots,
            device_root: device_certificate,
            issuers,
            now,
            root_dir,
            folder,
            passphrase,
            _lock: lock,
        })
    }

    /// A new key, in its file: nobody knows of it until its issuer is recorded.
    pub fn new_key(&self) -> Result<(PathBuf, PublicKey), CommandError> {
        let signer = SoftwareSigner::generate().map_err(local)?;
        let path = self.folder.issuer_key(IssuerId::of(&signer.public_key().fingerprint()));
        signer.save(&path, self.passphrase.as_ref()).map_err(local)?;
        Ok((path, signer.public_key().clone()))
    }

    /// An issuing CA of devices, as it stands.
    pub async fn issuer(&self, id: IssuerId) -> Result<IssuerRow, CommandError> {
        let rows = self.store.issuers().await.map_err(local)?;
        let found = rows.into_iter().find(|row| row.id == id && row.role == CaRole::DeviceIssuing);
        found.ok_or_else(|| local(format!("{id} is no issuing CA of devices: see `ca-server issuer list`")))
    }

    /// An issuer's certificate.
    pub fn read(&self, row: &IssuerRow) -> Result<IssuerCertificate, CommandError> {
        IssuerCertificate::parse(&row.certificate).map_err(local)
    }
}

fn is_ours(root: &RootKey, issuers: &Issuers, place: &Place) -> Result<(), CommandError> {
    match issuers.certificate(&root.certificate.id()) {
        Some(known) if known.der() == root.certificate.der() => Ok(()),
        _ => Err(CommandError::Content {
            path: place.root_dir.clone(),
            reason: format!("{} is no root of the CA in {}", root.certificate.subject_text(), place.dir.display()),
        }),
    }
}
