//! What the store keeps of devices before they enroll: who they are, and what they will prove.

use super::NewHolder;
use crate::{
    identity::{HardwareId, Thumbprint, Timestamp},
    pki::PublicKey,
};

/// A key to be registered for a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRegisteredKey {
    /// The public half.
    pub key: PublicKey,
    /// From when on it counts.
    pub active_from: Timestamp,
    /// From when on it counts no more.
    pub retires_at: Option<Timestamp>,
}

/// A key that was registered for a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredKey {
    /// Its name.
    pub thumbprint: Thumbprint,
    /// The public half: a SubjectPublicKeyInfo (DER).
    pub spki: Vec<u8>,
    /// From when on it counts.
    pub active_from: Timestamp,
    /// From when on it counts no more.
    pub retires_at: Option<Timestamp>,
}

impl RegisteredKey {
    /// Whether it counts now.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.active_from <= now && self.retires_at.is_none_or(|end| now < end)
    }
}

/// Hardware that was registered for a device: the device's for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hardware {
    /// What it is.
    pub id: HardwareId,
    /// Since when it enrolls nothing any more.
    pub retired_at: Option<Timestamp>,
}

/// A holder to be, and what it will prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Who.
    pub holder: NewHolder,
    /// Its hardware.
    pub hardware: Vec<HardwareId>,
    /// Its keys.
    pub keys: Vec<NewRegisteredKey>,
    /// Where it stands in what the operator gave, for errors; 0: nowhere.
    pub line: u32,
}

impl From<NewHolder> for Registration {
    fn from(holder: NewHolder) -> Self {
        Self { holder, hardware: Vec::new(), keys: Vec::new(), line: 0 }
    }
}
