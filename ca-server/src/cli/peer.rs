//! A gateway or an operator as it is shown.

use std::time::Duration;

use fleetca_proto::v1;
use serde::Serialize;

use super::{
    duration,
    output::{Instant, Row, or_dash, present, seconds, when},
    words::{Role, Status},
};
use crate::identity::Timestamp;

/// How many digits of an issuer's ID are shown to people.
const SHORT: usize = 8;

/// What gateways and operators have in common.
#[derive(Debug, Serialize)]
struct Peer {
    id: String,
    status: Option<Status>,
    created_at: Option<Instant>,
    expires_at: Option<Instant>,
    last_seen_at: Option<Instant>,
    head_serial: Option<String>,
}

impl From<v1::Peer> for Peer {
    fn from(wire: v1::Peer) -> Self {
        Self {
            id: wire.id,
            status: Status::from_wire(wire.status),
            created_at: Instant::from_wire(wire.created_at),
            expires_at: Instant::from_wire(wire.expires_at),
            last_seen_at: Instant::from_wire(wire.last_seen_at),
            head_serial: present(wire.head_serial),
        }
    }
}

impl Peer {
    const COLUMNS: [&'static str; 4] = ["STATUS", "EXPIRES", "LAST SEEN", "SERIAL"];

    fn cells(&self, now: Timestamp) -> [String; 4] {
        [
            or_dash(self.status.map(Status::as_str)),
            when(self.expires_at, now),
            when(self.last_seen_at, now),
            or_dash(self.head_serial.clone()),
        ]
    }
}

/// A gateway, and what it has loaded, by its word.
#[derive(Debug, Serialize)]
pub struct Gateway {
    #[serde(flatten)]
    peer: Peer,
    watches: bool,
    heard_at: Option<Instant>,
    loaded: Vec<Loaded>,
}

/// What a gateway has loaded of one issuer.
#[derive(Debug, Serialize)]
struct Loaded {
    issuer: String,
    number: Option<u64>,
    said_at: Option<Instant>,
    is_served: bool,
    behind_seconds: Option<u64>,
}

impl From<v1::LoadedCrl> for Loaded {
    fn from(wire: v1::LoadedCrl) -> Self {
        Self {
            issuer: wire.issuer,
            number: (wire.number > 0).then_some(wire.number),
            said_at: Instant::from_wire(wire.said_at),
            is_served: wire.is_served,
            behind_seconds: seconds(wire.behind),
        }
    }
}

impl Loaded {
    /// `1790000000123`, `1790000000123 (3m behind)`; where there are several: `5f0c2a19: 1790000000123`.
    fn words(&self, several: bool) -> String {
        let issuer =
            if several { self.issuer.chars().take(SHORT).chain(": ".chars()).collect() } else { String::new() };
        let number = issuer + &or_dash(self.number.map(|number| number.to_string()));
        match self.behind_seconds.filter(|_| !self.is_served) {
            None => number,
            Some(behind) => format!("{number} ({} behind)", duration::display(Duration::from_secs(behind))),
        }
    }
}

impl From<v1::Peer> for Gateway {
    fn from(mut wire: v1::Peer) -> Self {
        Self {
            watches: wire.watches,
            heard_at: Instant::from_wire(wire.heard_at),
            loaded: std::mem::take(&mut wire.loaded).into_iter().map(Loaded::from).collect(),
            peer: Peer::from(wire),
        }
    }
}

impl Row for Gateway {
    const COLUMNS: &'static [&'static str] =
        &["ID", Peer::COLUMNS[0], "LOADED CRL", "HEARD", Peer::COLUMNS[1], Peer::COLUMNS[2], Peer::COLUMNS[3]];

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let [status, expires, seen, serial] = self.peer.cells(now);
        let loaded: Vec<String> = self.loaded.iter().map(|crl| crl.words(self.loaded.len() > 1)).collect();
        let loaded = or_dash((!loaded.is_empty()).then(|| loaded.join(", ")));
        let heard = if self.watches { "watches".into() } else { when(self.heard_at, now) };
        vec![self.peer.id.clone(), status, loaded, heard, expires, seen, serial]
    }
}

/// An operator: a role beside what it has in common with gateways.
#[derive(Debug, Serialize)]
pub struct Operator {
    #[serde(flatten)]
    peer: Peer,
    role: Option<Role>,
}

impl From<v1::Peer> for Operator {
    fn from(wire: v1::Peer) -> Self {
        Self { role: Role::from_wire(wire.role), peer: Peer::from(wire) }
    }
}

impl Row for Operator {
    const COLUMNS: &'static [&'static str] =
        &["NAME", "ROLE", Peer::COLUMNS[0], Peer::COLUMNS[1], Peer::COLUMNS[2], Peer::COLUMNS[3]];

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let mut cells = vec![self.peer.id.clone(), or_dash(self.role.map(Role::as_str))];
        cells.extend(self.peer.cells(now));
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(issuers: &[&str]) -> Vec<String> {
        let loaded = |issuer: &&str| v1::LoadedCrl {
            issuer: (*issuer).to_owned(),
            number: 17,
            is_served: true,
            ..Default::default()
        };
        let wire = v1::Peer { loaded: issuers.iter().map(loaded).collect(), ..Default::default() };
        Gateway::from(wire).cells(Timestamp::default())
    }

    #[test]
    fn several_issuers_are_told_apart() {
        let [one, other] = ["df58712233445566", "d939000011112222"];
        assert_eq!(shown(&[one])[2], "17");
        assert_eq!(shown(&[one, other])[2], "df587122: 17, d9390000: 17");
    }
}
