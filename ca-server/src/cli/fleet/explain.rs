//! What would happen if a device came now, as it is shown.

use fleetca_proto::v1;
use serde::Serialize;

use crate::{
    cli::{
        output::{Row, or_dash, present, table},
        words::Status,
    },
    identity::Timestamp,
};

/// A device and all its ways.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    device: String,
    fleet: String,
    status: Option<Status>,
    tier: Option<String>,
    ways: Vec<Way>,
}

#[derive(Debug, Serialize)]
struct Way {
    way: String,
    identity: Option<String>,
    admitted: bool,
    waits: bool,
    confirm_required: bool,
    reason: Option<String>,
    because: Option<String>,
    provided: Option<String>,
}

impl From<v1::Explanation> for Explanation {
    fn from(wire: v1::Explanation) -> Self {
        let device = wire.device.unwrap_or_default();
        let ways = wire.ways.into_iter().map(|way| Way {
            way: way.way,
            identity: present(way.identity),
            admitted: way.admitted,
            waits: way.waits,
            confirm_required: way.confirm_required,
            reason: present(way.reason),
            because: present(way.because),
            provided: present(way.provided),
        });
        Self {
            device: device.id,
            fleet: device.fleet,
            status: Status::from_wire(device.status),
            tier: present(device.tier),
            ways: ways.collect(),
        }
    }
}

impl Explanation {
    pub(super) fn words(&self, now: Timestamp) -> String {
        table(&self.ways, now)
    }
}

impl Row for Way {
    const COLUMNS: &'static [&'static str] = &["WAY", "IDENTITY", "ANSWER", "BECAUSE"];

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let answer = match self {
            Way { admitted: true, confirm_required: true, .. } => "a certificate, to be confirmed".to_owned(),
            Way { admitted: true, .. } => "a certificate".to_owned(),
            Way { waits: true, .. } => "waits for an operator's approval".to_owned(),
            refused => refused.reason.clone().unwrap_or_default(),
        };
        let because = self.because.as_ref().or(self.provided.as_ref());
        vec![self.way.clone(), or_dash(self.identity.clone()), answer, because.cloned().unwrap_or_default()]
    }
}
