//! An operator's credential folder made on the server's own machine, in the shape that all credentials have.

use std::path::Path;

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

/// What goes into the folder. Certificates are DER.
pub struct Material<'a> {
    /// Where.
    pub dir: &'a Path,
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
    Ok(LockedFolder::open(material.dir)?.install(&contents, Observer::none())?)
}
