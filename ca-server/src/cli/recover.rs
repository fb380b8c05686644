//! `ca-server operator recover`: the way back in, for whoever can write in the server's folder.

use std::path::PathBuf;

use enroll_client::keys::Key;
use serde::Serialize;

use super::{
    CommandError, Session, accept_clock::AcceptClock, init::host, key_passphrase::KeyPassphrase, local, operator_folder,
};
use crate::{
    authority::recover_operator,
    clock::{Clock, SystemClock},
    config::Config,
    folder::Folder,
    identity::DeviceId,
    pki::{CaRole, PublicKey},
    server,
};

/// Where, and who.
#[derive(clap::Args, Clone, Debug)]
pub struct Recover {
    /// The CA's folder, on this machine
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The admin to be: a new name, or an admin's who has lost the key
    #[arg(long, value_name = "NAME", default_value = "admin")]
    name: DeviceId,
    /// Where the credential folder goes: must not exist, or be empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    key_passphrase: KeyPassphrase,
    #[command(flatten)]
    clock: AcceptClock,
}

#[derive(Debug, Serialize)]
struct Recovered {
    operator: String,
    credential: PathBuf,
}

/// Runs the command.
pub async fn run(args: Recover, session: &Session) -> Result<(), CommandError> {
    let folder = Folder::new(&args.dir);
    let config = Config::read(&folder.config()).map_err(local)?;
    let passphrase = args.key_passphrase.read(&config)?;
    let opened = server::open(&folder, passphrase.as_ref(), SystemClock.now()).await.map_err(local)?;
    let domain = opened.store.domain().await.map_err(local)?;
    let key = Key::generate().map_err(local)?;
    let public = PublicKey::from_spki_der(&key.spki()).map_err(local)?;
    let now = args.clock.now(opened.store.as_ref(), None).await?;
    // Before the record, which ends what this name had: where nothing can be written, nothing is recovered.
    let out = operator_folder::take(&args.out)?;
    let leaf =
        recover_operator(opened.store.as_ref(), &opened.issuers, &args.name, &public, config.backdate, now).await;
    let leaf = match leaf {
        Ok(leaf) => leaf,
        Err(error) => {
            operator_folder::give_back(out);
            return Err(local(error));
        }
    };
    let root = |wanted| {
        let found = opened.issuers.certificates().find(|(_, role, _)| *role == wanted);
        found.map(|(_, _, certificate)| certificate.der()).ok_or_else(|| local("a root is missing in the store"))
    };
    operator_folder::install(&operator_folder::Material {
        taken: &out,
        key: &key,
        chain: &[&leaf, opened.issuers.control().issuer.certificate().der()],
        control_root: root(CaRole::ControlRoot)?,
        device_root: root(CaRole::DeviceRoot)?,
        server: &format!("https://{}:{}", host(&config.names[0]), config.listen.port()),
        trust_domain: domain.trust_domain.as_str(),
        id: args.name.as_str(),
    })?;
    let recovered = Recovered { operator: args.name.to_string(), credential: args.out };
    session.output().told(&recovered, |_| {
        format!(
            "operator {} is an admin; credential in {}. Credentials that this name had before are of no use any more: \
             don't run a client on them",
            recovered.operator,
            recovered.credential.display()
        )
    })
}
