//! Instants on the wall clock, in whole seconds: what certificates, windows and state files speak of.

use std::{fmt, ops, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Seconds since 1970-01-01T00:00:00Z; between the years 1970 and 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(i64);

const LAST: i64 = 253_402_300_799;

impl WallTime {
    /// The clock of this machine, which may be wrong.
    pub fn now() -> Self {
        Self::from_unix(OffsetDateTime::now_utc().unix_timestamp())
    }

    /// An instant by its Unix seconds, clamped to what can be written as a date.
    pub fn from_unix(seconds: i64) -> Self {
        Self(seconds.clamp(0, LAST))
    }

    /// Unix seconds, never negative.
    pub fn unix(self) -> u64 {
        self.0.unsigned_abs()
    }

    /// How long from `self` until `later`; zero if it has passed.
    pub fn until(self, later: WallTime) -> Duration {
        Duration::from_secs(later.0.saturating_sub(self.0).max(0).unsigned_abs())
    }

    fn date(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.0).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl ops::Add<Duration> for WallTime {
    type Output = WallTime;

    fn add(self, span: Duration) -> WallTime {
        Self::from_unix(self.0.saturating_add(i64::try_from(span.as_secs()).unwrap_or(i64::MAX)))
    }
}

impl From<prost_types::Timestamp> for WallTime {
    fn from(wire: prost_types::Timestamp) -> Self {
        Self::from_unix(wire.seconds)
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.date().format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let date = OffsetDateTime::parse(&text, &Rfc3339).map_err(de::Error::custom)?;
        Ok(Self::from_unix(date.unix_timestamp()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn instants_are_written_as_dates() {
        assert_eq!(WallTime::from_unix(1_800_000_000).to_string(), "2027-01-15T08:00:00Z");
    }

    proptest! {
        #[test]
        fn every_instant_survives_json(seconds: i64) {
            let instant = WallTime::from_unix(seconds);
            let json = serde_json::to_string(&instant).unwrap();
            prop_assert_eq!(serde_json::from_str::<WallTime>(&json).unwrap(), instant);
        }

        #[test]
        fn no_span_overflows(seconds: i64, span: u64) {
            prop_assert!(WallTime::from_unix(seconds) + Duration::from_secs(span) >= WallTime::from_unix(seconds));
        }
    }
}
