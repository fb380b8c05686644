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
    pub taken: &'a Taken,
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

/// A folder for a credential to be.
pub struct Taken {
    folder: LockedFolder,
    /// There was nothing at its path.
    made: bool,
}

/// Takes the folder for a credential to be: there is nothing at this path, or an empty folder, or what a command left that
/// was cut short before it made one. An enrollment that waits for its answer keeps a key there: that is somebody else's.
pub fn take(dir: &Path) -> Result<Taken, CommandError> {
    let is_absent = |name: &str| fs::symlink_metadata(dir.join(name)).is_err();
    let begun = dir.join("generations").is_dir() && is_absent("current") && is_absent("next");
    if !begun && !folder::is_vacant(dir).map_err(CommandError::file(dir))? {
        return Err(CommandError::Exists(dir.to_owned()));
    }
    let made = fs::symlink_metadata(dir).is_err();
    Ok(Taken { folder: LockedFolder::open(dir)?, made })
}

/// Leaves nothing of what [`take`] has made.
pub fn give_back(taken: Taken) {
    let dir = taken.folder.dir().to_owned();
    // One after the other, so that what can't be removed is taken again by the next one.
    let emptied = fs::remove_dir(dir.join("generations")).and_then(|()| fs::remove_file(dir.join("lock")));
    if emptied.is_ok() && taken.made {
        let _ = fs::remove_dir(dir);
    }
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
    Ok(material.taken.folder.install(&contents, Observer::none())?)
}
