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

    /// Where the devices stand after it; one that has never enrolled is `Registered` after a release.
    pub fn status(self) -> Status {
        match self {
            BulkAction::Revoke(_) => Status::Revoked,
            BulkAction::Hold => Status::Held,
            BulkAction::Release => Status::Active,
        }
    }

    /// What it does to a device in this state, of which there is something `left` or not: a way back, a token, a certificate
    /// or a key that it would end though the device is cut off already. A state of `None` can't be read: it is cut off by
    /// whatever cuts off, and nobody comes back by it.
    pub fn fate(self, status: Option<Status>, status_reason: Option<&str>, needs_choice: &[&str], left: bool) -> Fate {
        let changes = match self {
            BulkAction::Revoke(_) => left || !matches!(status, Some(Status::Revoked | Status::Decommissioned)),
            BulkAction::Hold => status.is_none_or(|status| match status {
                Status::Registered | Status::Active => true,
                Status::Held => left,
                Status::Pending | Status::Revoked | Status::Decommissioned => false,
            }),
            BulkAction::Release => {
                let may_be_held = status.is_none_or(|status| status == Status::Held);
                if may_be_held && (status.is_none() || status_reason.is_none_or(|why| needs_choice.contains(&why))) {
                    return Fate::Undecided;
                }
                may_be_held
            }
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
    /// Counts certificates of a device of this fleet: those that change, and those that can't be read.
    pub fn add_certificates(&mut self, fleet: &FleetName, (changed, unreadable): (u64, u64)) {
        let counts = self.fleets.entry(fleet.clone()).or_default();
        counts.certificates += changed;
        counts.unreadable += unreadable;
    }

    /// Of all fleets together.
    pub fn total(&self) -> BulkCounts {
        self.fleets.values().fold(BulkCounts::default(), |sum, counts| BulkCounts {
            devices: sum.devices + counts.devices,
            certificates: sum.certificates + counts.certificates,
            unchanged: sum.unchanged + counts.unchanged,
            undecided: sum.undecided + counts.undecided,
            unreadable: sum.unreadable + counts.unreadable,
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
    /// Devices of the fleet, and certificates of those that change, whose rows can't be read: they are passed over.
    pub unreadable: u64,
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
            (BulkAction::Revoke(_), Revoked | Decommissioned) => Stays,
            (BulkAction::Revoke(_), _) | (BulkAction::Hold, Registered | Active) => Changes,
            (BulkAction::Release, Held) => Changes,
            (
                BulkAction::Hold | BulkAction::Release,
                Registered | Pending | Active | Held | Revoked | Decommissioned,
            ) => Stays,
        };
        let actions =
            [BulkAction::Revoke(Unspecified), BulkAction::Revoke(KeyCompromise), BulkAction::Hold, BulkAction::Release];
        for action in actions {
            for status in Status::ALL {
                let fate = |needs_choice| action.fate(Some(status), Some("lost"), needs_choice, false);
                assert_eq!(fate(&["fork"]), expected(action, status), "{action:?} {status}");
                let changes = fate(&[]) == Changes;
                assert!(!changes || status.may_become(action.status()) || status.is_cut_off(), "{action:?} {status}");
            }
        }
        let fate = |action: BulkAction, status, why, left| action.fate(Some(status), Some(why), &["fork"], left);
        assert_eq!(fate(BulkAction::Release, Held, "fork", false), Undecided);
        assert_eq!(fate(BulkAction::Revoke(Unspecified), Held, "fork", false), Changes);
        // Who is cut off already changes where something is left to be ended.
        for (action, status) in [
            (BulkAction::Revoke(Unspecified), Revoked),
            (BulkAction::Revoke(KeyCompromise), Decommissioned),
            (BulkAction::Hold, Held),
        ] {
            assert_eq!(fate(action, status, "lost", true), Changes, "{action:?}");
        }
        assert_eq!(fate(BulkAction::Hold, Revoked, "lost", true), Stays);
    }

    #[test]
    fn what_cannot_be_read_is_cut_off_and_released_by_nobody() {
        use Fate::{Changes, Stays, Undecided};
        for action in [BulkAction::Revoke(Unspecified), BulkAction::Revoke(KeyCompromise), BulkAction::Hold] {
            assert_eq!(action.fate(None, Some("lost"), &[], false), Changes, "{action:?}");
        }
        assert_eq!(BulkAction::Release.fate(None, Some("lost"), &[], false), Undecided);
        assert_eq!(BulkAction::Release.fate(Some(Status::Held), None, &[], false), Undecided);
        assert_eq!(BulkAction::Release.fate(Some(Status::Active), None, &[], false), Stays);
    }
}
