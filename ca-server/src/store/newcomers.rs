//! What the store keeps of devices that nobody registered, while they wait for an operator.

use crate::{
    audit::Draft,
    identity::{DeviceId, FleetName, HardwareId, KeyFingerprint, Timestamp},
};

/// With how many keys one device may ask before it has to wait for its row to expire.
pub const MOST_KEYS: u32 = 16;

/// Where a device stands that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewcomerState {
    /// Nobody has decided.
    Asked,
    /// It may come in, once.
    Approved,
    /// It may not, as long as this is remembered.
    Rejected,
}

impl NewcomerState {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Asked, Self::Approved, Self::Rejected];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            NewcomerState::Asked => "asked",
            NewcomerState::Approved => "approved",
            NewcomerState::Rejected => "rejected",
        }
    }
}

/// What a device that nobody registered asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asking {
    /// What it has proven.
    pub hardware: HardwareId,
    /// Which fleet takes it.
    pub fleet: FleetName,
    /// The name that it is to have.
    pub id: DeviceId,
    /// By which method it came.
    pub method: String,
    /// How much that proves.
    pub tier: String,
    /// The key that it wants certified.
    pub key: KeyFingerprint,
}

/// A device that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewcomerRow {
    /// What it asks for, as it asked last.
    pub asking: Asking,
    /// What was decided.
    pub state: NewcomerState,
    /// When it asked first.
    pub asked_at: Timestamp,
    /// When it is forgotten.
    pub expires_at: Timestamp,
}

/// A device that asks.
#[derive(Clone, Debug)]
pub struct Ask {
    /// For what.
    pub asking: Asking,
    /// How many of its fleet may wait for a decision.
    pub most: u32,
    /// Now.
    pub at: Timestamp,
    /// When it is forgotten, if nothing is decided.
    pub expires_at: Timestamp,
    /// The record of it. Not written where it has asked for just this before.
    pub audit: Draft,
}

/// What an operator says of a device that waits, named by all that he has seen of it.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The name that it asks for.
    pub id: DeviceId,
    /// The fleet that takes it.
    pub fleet: FleetName,
    /// What it has proven.
    pub hardware: HardwareId,
    /// The key that it wants certified.
    pub key: KeyFingerprint,
    /// [`NewcomerState::Approved`] or [`NewcomerState::Rejected`].
    pub state: NewcomerState,
    /// Now.
    pub at: Timestamp,
    /// When it is forgotten.
    pub expires_at: Timestamp,
    /// The record of it; the store adds what was decided upon. Not written where it was decided so before.
    pub audit: Draft,
}

/// Which devices that wait, by name and then by hardware.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewcomerQuery {
    /// Of this fleet.
    pub fleet: Option<FleetName>,
    /// That ask for this name.
    pub id: Option<DeviceId>,
    /// After the row of this name and hardware.
    pub after: Option<(DeviceId, HardwareId)>,
    /// Not forgotten now.
    pub now: Timestamp,
    /// How many.
    pub limit: u32,
}
