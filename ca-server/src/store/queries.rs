//! What lists can be asked for.

use super::Holder;
use crate::{
    identity::{FleetName, Timestamp},
    inventory::device::Status,
};

/// How devices are sorted; ties by ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DeviceSort {
    /// By ID.
    #[default]
    Id,
    /// By the head's notAfter; those without come first.
    ExpiresAt,
    /// By when they became known.
    CreatedAt,
}

/// Which devices.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DeviceQuery {
    /// Of this fleet.
    pub fleet: Option<FleetName>,
    /// In this state.
    pub status: Option<Status>,
    /// Active, with a head that expired before this instant.
    pub lapsed_at: Option<Timestamp>,
    /// With a head that is still valid at the first instant and no longer at the second.
    pub expiring: Option<(Timestamp, Timestamp)>,
    /// In this order.
    pub sort: DeviceSort,
    /// The other way round.
    pub descending: bool,
    /// From [`DevicePage::next`].
    pub page_token: String,
    /// How many.
    pub limit: u32,
}

/// Some devices.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DevicePage {
    /// In order.
    pub devices: Vec<Holder>,
    /// Where the next page begins; empty at the end. Opaque; a wrong one is refused as `NotFound("page")`.
    pub next: String,
}

/// Which audit records.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AuditQuery {
    /// From this sequence number on (downwards where `newest_first`; 0 then means from the end).
    pub from: u64,
    /// How many.
    pub limit: u32,
    /// About this subject.
    pub subject: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// Backwards.
    pub newest_first: bool,
}

/// Which security events.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct EventQuery {
    /// Of this kind.
    pub kind: Option<String>,
    /// About this subject.
    pub subject: Option<String>,
    /// Before this position; 0: from the newest on.
    pub before: u64,
    /// How many.
    pub limit: u32,
}
