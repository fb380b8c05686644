//! An operator's credential folder made on the server's own machine, in the shape that all credentials have.

use std::{fs, path::Path};

use enroll_client::{
    certificate::Certificate,
    credential::{Contents, Holder, LockedFolder, State},
    flow::Observer,
    identity::Kind,
    keys::Key,
    renewal::Window,
    trust::Roots,
};
use ring::rand::{SecureRandom, SystemRandom};

use super::{CommandError, local};
use crate::folder;

/// What goes into the folder. Certificates are DER.
pub struct Material<'a> {
    /// Where.
    pub folder: &'a LockedFolder,
    /// The operator's key.
    pub key: &'a Key,
    /// The leaf, then the control CA.
    pub chain: &'a [&'a [u8]],
    /// What the operator trusts.
    pub control_root: &'a [u8],
    /// What gateways trust.
    pub device_root: &'a [u8],
    /// Where to renew: `https://HOST:PORT` of the devices' port.
    pub server: &'a str,
    /// The environment.
    pub trust_domain: &'a str,
    /// The operator's name.
    pub id: &'a str,
}

/// Takes the folder for a credential to be: there is nothing at this path, or what a command left that was cut short
/// before it made one.
pub fn take(dir: &Path) -> Result<LockedFolder, CommandError> {
    let begun = dir.join("lock").exists() && dir.join("generations").is_dir() && !dir.join("current").exists();
    if !begun && !folder::is_vacant(dir).map_err(CommandError::file(dir))? {
        return Err(CommandError::Exists(dir.to_owned()));
    }
    Ok(LockedFolder::open(dir)?)
}

/// Leaves nothing of what [`take`] has made.
pub fn give_back(folder: LockedFolder) {
    let dir = folder.dir().to_owned();
    // What can't be removed does no harm: the next one takes it.
    let _ = fs::remove_dir(dir.join("generations"));
    let _ = fs::remove_file(dir.join("lock"));
    let _ = fs::remove_dir(dir);
}

/// Writes a generation and makes it the current one.
pub fn install(material: &Material<'_>) -> Result<(), CommandError> {
    let chain = material.chain.iter().map(|der| Certificate::parse(der)).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(local)?;
    let window = Window::of_validity(chain[0].not_before(), chain[0].not_after());
    let mut random = [0; 8];
    SystemRandom::new().fill(&mut random).map_err(|_| CommandError::Local("no randomness".into()))?;
    let holder = Holder {
        server: material.server.parse().map_err(local)?,
        trust_domain: material.trust_domain.parse().map_err(local)?,
        kind: Kind::Operator,
        id: material.id.parse().map_err(local)?,
    };
    let state = State::new(holder, 1, window, u64::from_be_bytes(random));
    let contents = Contents {
        key: material.key,
        chain: &chain,
        control_roots: &Roots::from_ders(&[material.control_root]).map_err(local)?,
        device_roots: &Roots::from_ders(&[material.device_root]).map_err(local)?,
        state: &state,
    };
    Ok(material.folder.install(&contents, Observer::none())?)
}
