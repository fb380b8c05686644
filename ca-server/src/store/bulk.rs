//! Many devices cut off or released in one transaction: who is meant, what would come of it, and what did.

use std::collections::BTreeMap;

use crate::{
    identity::{DeviceId, FleetName, IssuerId, RevocationReason, Timestamp},
    inventory::device::Status,
};

/// How many devices one call changes at most: all of them are held in memory, and others wait while they are recorded.
pub const MOST_AT_ONCE: usize = 200_000;

/// What is to become of many devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkAction {
    /// Cut off for this reason.
    Revoke(RevocationReason),
    /// Cut off until they are released.
    Hold,
    /// Their holds end.
    Release,
}

impl BulkAction {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            BulkAction::Revoke(_) => "revoke",
            BulkAction::Hold => "hold",
            BulkAction::Release => "release",
        }
    }

    /// The reason that stands on the CRL; that of a release is the one which leaves it.
    pub fn reason(self) -> RevocationReason {
        match self {
            BulkAction::Revoke(reason) => reason,
            BulkAction::Hold | BulkAction::Release => RevocationReason::CertificateHold,
        }
    }

    /// Where the devices stand after it.
    pub fn status(self) -> Status {
        match self {
            BulkAction::Revoke(_) => Status::Revoked,
            BulkAction::Hold => Status::Held,
            BulkAction::Release => Status::Active,
        }
    }

    /// What it does to a device in this state.
    pub fn fate(self, status: Status, status_reason: &str, needs_choice: &[&str]) -> Fate {
        let changes = match self {
            BulkAction::Revoke(reason @ RevocationReason::KeyCompromise) => {
                !matches!(status, Status::Revoked | Status::Decommissioned) || status_reason != reason.as_str()
            }
            BulkAction::Revoke(_) => !matches!(status, Status::Revoked | Status::Decommissioned),
            BulkAction::Hold => status == Status::Active,
            BulkAction::Release if status == Status::Held && needs_choice.contains(&status_reason) => {
                return Fate::Undecided;
            }
            BulkAction::Release => status == Status::Held,
        };
        if changes { Fate::Changes } else { Fate::Stays }
    }
}

/// What an action does to one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It changes.
    Changes,
    /// It stays as it is: it is so already, or more is in force, or there is no hold to end.
    Stays,
    /// It stays on hold, until somebody says which of its certificates is genuine.
    Undecided,
}

/// One of many devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its ID.
    pub id: DeviceId,
    /// The fleet that it must be of, where that is said.
    pub fleet: Option<FleetName>,
    /// Where it stands in what the operator gave, for errors; 0: nowhere.
    pub line: u32,
}

/// Which devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// These. Who is named twice counts once.
    Listed(Vec<Listed>),
    /// All of a fleet.
    Fleet(FleetName),
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Bulk {
    /// What becomes of them.
    pub action: BulkAction,
    /// Whom it is about.
    pub devices: Selection,
    /// The status reasons of holds that no release of many ends.
    pub needs_choice: &'static [&'static str],
    /// Now.
    pub at: Timestamp,
}

/// What would come of it, or did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BulkPlan {
    /// SHA-256 over the action, the reason, and every device that changes. Their certificates are not in it: devices renew
    /// all the time, and what a device has by then is what is cut off.
    pub digest: [u8; 32],
    /// By fleet.
    pub fleets: BTreeMap<FleetName, BulkCounts>,
}

impl BulkPlan {
    /// Of all fleets together.
    pub fn total(&self) -> BulkCounts {
        self.fleets.values().fold(BulkCounts::default(), |sum, counts| BulkCounts {
            devices: sum.devices + counts.devices,
            certificates: sum.certificates + counts.certificates,
            unchanged: sum.unchanged + counts.unchanged,
            undecided: sum.undecided + counts.undecided,
        })
    }
}

/// How many of a fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkCounts {
    /// Devices that change.
    pub devices: u64,
    /// Their certificates whose revocation changes.
    pub certificates: u64,
    /// Devices that [stay](Fate::Stays) as they are.
    pub unchanged: u64,
    /// Devices that are [undecided](Fate::Undecided).
    pub undecided: u64,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BulkReceipt {
    /// What came of it.
    pub plan: BulkPlan,
    /// Tokens ended or suspended.
    pub tokens: u64,
    /// As in [`CutoffReceipt`](super::CutoffReceipt), of all devices together.
    pub watermarks: Vec<(IssuerId, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use RevocationReason::{KeyCompromise, Unspecified};

    #[test]
    fn what_becomes_of_a_device_follows_from_where_it_stands() {
        use Fate::{Changes, Stays, Undecided};
        use Status::{Active, Decommissioned, Held, Pending, Registered, Revoked};
        let expected = |action: BulkAction, status: Status| match (action, status) {
            (BulkAction::Revoke(Unspecified), Revoked | Decommissioned) => Stays,
            (BulkAction::Revoke(_), _) | (BulkAction::Hold, Active) | (BulkAction::Release, Held) => Changes,
            (
                BulkAction::Hold | BulkAction::Release,
                Registered | Pending | Active | Held | Revoked | Decommissioned,
            ) => Stays,
        };
        let actions =
            [BulkAction::Revoke(Unspecified), BulkAction::Revoke(KeyCompromise), BulkAction::Hold, BulkAction::Release];
        for action in actions {
            for status in Status::ALL {
                assert_eq!(action.fate(status, "lost", &["fork"]), expected(action, status), "{action:?} {status}");
                let changes = action.fate(status, "lost", &[]) == Changes;
                assert!(!changes || status.may_become(action.status()) || status.is_cut_off(), "{action:?} {status}");
            }
        }
        assert_eq!(BulkAction::Release.fate(Held, "fork", &["fork"]), Undecided);
        assert_eq!(BulkAction::Revoke(Unspecified).fate(Held, "fork", &["fork"]), Changes);
        // Said again, it bans nothing more.
        assert_eq!(BulkAction::Revoke(KeyCompromise).fate(Revoked, "keyCompromise", &[]), Stays);
        assert_eq!(BulkAction::Revoke(KeyCompromise).fate(Held, "keyCompromise", &[]), Changes);
    }
}
