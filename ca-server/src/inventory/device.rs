//! The states of a device (and, without fleets and forks, of a gateway and an operator).

use std::{fmt, str::FromStr};

/// Where a device stands. *Lapsed* (no valid certificate) is derived from its dates, never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Known, never enrolled.
    Registered,
    /// Waits for an operator's approval.
    Pending,
    /// Has, or may renew, a certificate.
    Active,
    /// Cut off until released.
    Held,
    /// Cut off.
    Revoked,
    /// Cut off for good.
    Decommissioned,
}

/// A word that is no status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown status; known are registered, pending, active, held, revoked, decommissioned")]
pub struct UnknownStatus;

impl Status {
    /// Every status.
    pub const ALL: [Status; 6] =
        [Self::Registered, Self::Pending, Self::Active, Self::Held, Self::Revoked, Self::Decommissioned];

    /// Its word in the store, in lists and in audit records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Registered => "registered",
            Status::Pending => "pending",
            Status::Active => "active",
            Status::Held => "held",
            Status::Revoked => "revoked",
            Status::Decommissioned => "decommissioned",
        }
    }

    /// Whether a device may go from this status to `next`. Staying where it is counts as allowed: repeating a change is
    /// no error.
    pub fn may_become(self, next: Status) -> bool {
        use Status::*;
        match (self, next) {
            (from, to) if from == to => true,
            (Registered | Pending, Active) | (Active, Held) | (Held, Active) => true,
            // Before it has enrolled, too: then it is where it was when the hold ends.
            (Registered, Held) | (Held, Registered) => true,
            (Registered, Pending) => true,
            (Decommissioned, _) => false,
            (_, Revoked | Decommissioned) => true,
            _ => false,
        }
    }

    /// Whether certificates of this device must be on the CRL.
    pub fn is_cut_off(self) -> bool {
        matches!(self, Status::Held | Status::Revoked | Status::Decommissioned)
    }
}

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(UnknownStatus)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Status::{self, *};

    #[test]
    fn only_the_documented_transitions_are_allowed() {
        let allowed = [
            (Registered, Pending),
            (Registered, Active),
            (Registered, Held),
            (Registered, Revoked),
            (Registered, Decommissioned),
            (Pending, Active),
            (Pending, Revoked),
            (Pending, Decommissioned),
            (Active, Held),
            (Active, Revoked),
            (Active, Decommissioned),
            (Held, Active),
            (Held, Registered),
            (Held, Revoked),
            (Held, Decommissioned),
            (Revoked, Decommissioned),
        ];
        for from in Status::ALL {
            for to in Status::ALL {
                assert_eq!(from.may_become(to), from == to || allowed.contains(&(from, to)), "{from} -> {to}");
            }
        }
    }
}
