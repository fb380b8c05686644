//! Quotas: how many devices a fleet may have, and how many of them may enroll in an hour. Renewals are never counted: what
//! is out there goes on.

use serde::{Deserialize, Serialize};

use crate::identity::Timestamp;

/// A minute, in milliseconds.
const MINUTE: i64 = 60_000;
/// How many minutes before this one count: then there is no hour, wherever it begins, with more than the quota.
const COUNTED: i64 = 60;

/// A fleet's quotas. Where there is none, nothing is counted against it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quotas {
    /// Devices, whatever their state; those that are decommissioned aside.
    #[serde(default)]
    pub max_devices: Option<u32>,
    /// Enrollments, the first and those again; renewals and what comes back by `previous` aside.
    #[serde(default)]
    pub max_enrollments_per_hour: Option<u32>,
}

/// What has been used of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Devices that are there.
    pub devices: u64,
    /// Minutes of the last hour in which devices enrolled, oldest first, and how many.
    pub enrollments: Vec<(Minute, u64)>,
}

/// A minute since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minute(pub i64);

/// Which quota is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    /// There are as many devices as there may be.
    #[error("the fleet has as many devices as it may have")]
    Devices,
    /// As many have enrolled as may in an hour.
    #[error("as many devices of the fleet have enrolled as may in an hour")]
    Enrollments {
        /// When the next one may.
        again_at: Timestamp,
    },
}

impl Minute {
    /// The one that this moment is in.
    pub const fn of(at: Timestamp) -> Self {
        Self(at.millis().div_euclid(MINUTE))
    }

    /// The oldest that counts now.
    pub const fn oldest(now: Timestamp) -> Self {
        Self(Self::of(now).0 - COUNTED)
    }

    /// The newest that counts now: a clock that was set back by an hour or less does not let everybody in twice. What was
    /// counted further ahead counts for nothing, so that a clock that was far ahead stops nobody for longer than an hour.
    pub const fn newest(now: Timestamp) -> Self {
        Self(Self::of(now).0 + COUNTED)
    }

    /// When it counts no more.
    const fn ends(self) -> Timestamp {
        Timestamp::from_millis((self.0 + COUNTED + 1) * MINUTE)
    }
}

impl Quotas {
    /// Whether one may enroll, who was not there before or was.
    pub fn admit(&self, usage: &Usage, new: bool) -> Result<(), Exceeded> {
        if new {
            self.admit_devices(usage.devices + 1)?;
        }
        self.admit_enrollment(usage)
    }

    /// Whether so many devices may be there.
    pub fn admit_devices(&self, devices: u64) -> Result<(), Exceeded> {
        if self.devices_too_many(devices) > 0 { Err(Exceeded::Devices) } else { Ok(()) }
    }

    /// How many of so many devices are too many.
    pub fn devices_too_many(&self, devices: u64) -> u64 {
        self.max_devices.map_or(0, |most| devices.saturating_sub(most.into()))
    }

    /// Whether one more may enroll.
    pub fn admit_enrollment(&self, usage: &Usage) -> Result<(), Exceeded> {
        let Some(most) = self.max_enrollments_per_hour else { return Ok(()) };
        let mut used: u64 = usage.enrollments.iter().map(|(_, count)| count).sum();
        if used < most.into() {
            return Ok(());
        }
        // The first minute after whose end one has room.
        for (minute, count) in &usage.enrollments {
            used -= count;
            if used < most.into() {
                return Err(Exceeded::Enrollments { again_at: minute.ends() });
            }
        }
        // A quota of nothing: ask again in an hour.
        let last = usage.enrollments.last().map_or(Timestamp::default(), |(minute, _)| minute.ends());
        Err(Exceeded::Enrollments { again_at: last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(enrollments: &[(i64, u64)]) -> Usage {
        Usage { devices: 0, enrollments: enrollments.iter().map(|(at, count)| (Minute(*at), *count)).collect() }
    }

    #[test]
    fn there_are_never_more_devices_than_there_may_be() {
        let quotas = Quotas { max_devices: Some(3), ..Quotas::default() };
        assert_eq!(quotas.admit_devices(3), Ok(()));
        assert_eq!(quotas.admit_devices(4), Err(Exceeded::Devices));
        assert_eq!(Quotas::default().admit_devices(u64::MAX), Ok(()));
    }

    #[test]
    fn who_is_refused_is_told_when_there_is_room() {
        let quotas = Quotas { max_enrollments_per_hour: Some(3), ..Quotas::default() };
        assert_eq!(quotas.admit_enrollment(&usage(&[(7, 1), (9, 1)])), Ok(()));
        let again_at = |minute: i64| Err(Exceeded::Enrollments { again_at: Timestamp::from_secs(minute * 60) });
        assert_eq!(quotas.admit_enrollment(&usage(&[(7, 1), (9, 2)])), again_at(7 + 61));
        assert_eq!(quotas.admit_enrollment(&usage(&[(7, 1), (9, 3)])), again_at(9 + 61), "the quota was lowered");
        assert_eq!(Quotas::default().admit_enrollment(&usage(&[(7, 1_000_000)])), Ok(()));
    }

    #[test]
    fn a_minute_counts_until_an_hour_has_passed_since_its_end() {
        let minute = Minute::of(Timestamp::from_millis(7 * MINUTE + 59_999));
        assert_eq!(minute, Minute(7));
        assert!(Minute::oldest(Timestamp::from_millis(minute.ends().millis() - 1)) <= minute);
        assert!(Minute::oldest(minute.ends()) > minute);
    }
}
