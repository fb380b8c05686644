//! How much of each thing there may be: every bound that can be set.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::places::Rules;

/// Keys that old files have: each still counts for the one that took its place.
pub(super) const OLD_NAMES: [&str; 1] = ["enrollments"];

/// How much of each thing there may be at once, of each port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections of a gRPC port that present a certificate in force.
    pub connections: usize,
    /// Of these, connections of one device, gateway or operator.
    pub connections_per_holder: usize,
    /// Connections of a gRPC port without such a certificate.
    pub stranger_connections: usize,
    /// Connections of a gRPC port whose handshake is not done yet.
    pub handshakes: usize,
    /// Requests under way, of those who present a certificate in force.
    pub requests: usize,
    /// Requests under way of all others: enrollments.
    #[serde(alias = "enrollments")]
    pub stranger_requests: usize,
    /// Requests under way on one connection.
    pub requests_per_connection: usize,
    /// Connections of an HTTP port.
    pub http_connections: usize,
    /// For how many seconds everybody may keep a place, unless he holds more of them than others.
    pub turn_seconds: u64,
    /// For how many seconds a connection of a holder lasts, before it has to come anew, and is judged anew.
    pub connection_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_holder: 16,
            stranger_connections: 512,
            handshakes: 1024,
            requests: 4096,
            stranger_requests: 256,
            requests_per_connection: 64,
            http_connections: 1024,
            turn_seconds: 3,
            connection_seconds: 3600,
        }
    }
}

impl Limits {
    /// Refuses what is out of bounds.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let numbers = [
            ("limits.connections", self.connections),
            ("limits.connections_per_holder", self.connections_per_holder),
            ("limits.stranger_connections", self.stranger_connections),
            ("limits.handshakes", self.handshakes),
            ("limits.requests", self.requests),
            ("limits.stranger_requests", self.stranger_requests),
            ("limits.requests_per_connection", self.requests_per_connection),
            ("limits.http_connections", self.http_connections),
        ];
        let out = |key, why: &str| Err(ConfigError::Value { key, why: why.into() });
        for (key, limit) in numbers {
            if !(1..=1_000_000).contains(&limit) {
                return out(key, "must be from 1 to 1000000");
            }
        }
        if !(1..=60).contains(&self.turn_seconds) {
            return out("limits.turn_seconds", "must be from 1 to 60");
        }
        if !(1..=86_400).contains(&self.connection_seconds) {
            return out("limits.connection_seconds", "must be from 1 to 86400");
        }
        Ok(())
    }

    /// The rules for places of which there are so many.
    pub fn rules(&self, limit: usize) -> Rules {
        Rules { limit, each: usize::MAX, turn: Duration::from_secs(self.turn_seconds) }
    }

    /// How many connections there can be on all four ports together.
    pub fn all_connections(&self) -> usize {
        2 * (self.connections + self.stranger_connections + self.handshakes + self.http_connections)
    }

    /// The same in proportion, with at most so many connections on all ports together.
    pub fn within(mut self, connections: usize) -> Self {
        let all = self.all_connections();
        if all > connections {
            let limits = [
                &mut self.connections,
                &mut self.stranger_connections,
                &mut self.handshakes,
                &mut self.http_connections,
            ];
            limits.into_iter().for_each(|limit| *limit = (*limit * connections / all).max(1));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_shrink_in_proportion_to_what_the_system_gives() {
        let limits = Limits::default();
        assert_eq!(limits.within(1_000_000), limits);
        let shrunk = limits.within(5000);
        assert!((4900..=5000).contains(&shrunk.all_connections()), "{shrunk:?}");
        assert!(shrunk.handshakes < shrunk.connections && shrunk.requests == limits.requests);
        assert_eq!(limits.within(1).handshakes, 1);
    }
}
