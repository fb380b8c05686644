//! A gateway or an operator as it is shown.

use fleetca_proto::v1;
use serde::Serialize;

use super::{
    output::{Instant, Row, or_dash, present, when},
    words::{Role, Status},
};
use crate::identity::Timestamp;

fn status(status: Option<Status>) -> String {
    or_dash(status.map(Status::as_str))
}

/// A gateway.
#[derive(Debug, Serialize)]
pub struct Gateway {
    id: String,
    status: Option<Status>,
    created_at: Option<Instant>,
    expires_at: Option<Instant>,
    last_seen_at: Option<Instant>,
    head_serial: Option<String>,
}

impl From<v1::Peer> for Gateway {
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

impl Row for Gateway {
    const COLUMNS: &'static [&'static str] = &["ID", "STATUS", "EXPIRES", "LAST SEEN", "SERIAL"];

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.clone(),
            status(self.status),
            when(self.expires_at, now),
            when(self.last_seen_at, now),
            or_dash(self.head_serial.clone()),
        ]
    }
}

/// An operator: a gateway's fields, and a role.
#[derive(Debug, Serialize)]
pub struct Operator {
    #[serde(flatten)]
    peer: Gateway,
    role: Option<Role>,
}

impl From<v1::Peer> for Operator {
    fn from(wire: v1::Peer) -> Self {
        Self { role: Role::from_wire(wire.role), peer: Gateway::from(wire) }
    }
}

impl Row for Operator {
    const COLUMNS: &'static [&'static str] = &["NAME", "ROLE", "STATUS", "EXPIRES", "LAST SEEN", "SERIAL"];

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let mut cells = self.peer.cells(now);
        cells.insert(1, or_dash(self.role.map(Role::as_str)));
        cells
    }
}
