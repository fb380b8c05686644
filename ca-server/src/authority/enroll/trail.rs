//! What an enrollment has shown of itself when it is refused: for operators, in the event and the log. Who enrolls hears
//! nothing of it.

use std::fmt;

use super::{EnrollmentRequest, request::Evidence, tpm};
use crate::{
    attestation::factory,
    identity::{DeviceId, FleetName, Subject},
    inventory::fleet::Method,
    store::Holder,
};

/// By which method somebody came, as whom, and how far that was proven. All of it is bounded and printable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trail {
    method: Method,
    identity: String,
    is_proven: bool,
    asks: Option<DeviceId>,
    fleet: Option<FleetName>,
    device: Option<Subject>,
}

impl Trail {
    /// What `Start` says: a claim.
    pub(super) fn of(request: &EnrollmentRequest) -> Self {
        Self {
            method: request.evidence().method(),
            identity: claimed(request.evidence()),
            is_proven: false,
            asks: request.id().cloned(),
            fleet: None,
            device: None,
        }
    }

    /// This identity is proven.
    pub(super) fn proven(&mut self, identity: impl fmt::Display) {
        (self.identity, self.is_proven) = (identity.to_string(), true);
    }

    /// It is, or would be, of this fleet.
    pub(super) fn fleet(&mut self, fleet: Option<&FleetName>) {
        self.fleet = fleet.cloned();
    }

    /// What is proven is this device's.
    pub(super) fn device(&mut self, holder: &Holder) {
        self.fleet(holder.fleet.as_ref());
        self.device = Some(holder.subject.clone());
    }

    /// Whom an event is about: a device only where that is proven. What strangers say makes no subjects.
    pub fn subject(&self) -> String {
        self.device.as_ref().map_or_else(|| format!("nobody/{}", self.method.as_str()), Subject::to_string)
    }
}

impl fmt::Display for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.is_proven { "proven" } else { "claimed" };
        write!(f, "by {}, {word} {}", self.method.as_str(), self.identity)?;
        if let Some(id) = &self.asks {
            write!(f, ", asked for {id}")?;
        }
        self.fleet.as_ref().map_or(Ok(()), |fleet| write!(f, ", fleet {fleet}"))
    }
}

fn claimed(evidence: &Evidence) -> String {
    match evidence {
        Evidence::Token(id) => format!("token/{id}"),
        Evidence::Factory(chain) => factory::claimed(chain),
        Evidence::RegisteredKey(key) => format!("key/{key}"),
        Evidence::Tpm(evidence) => {
            let id = tpm::identity(evidence);
            format!("{}:{id}", id.kind())
        }
        Evidence::Previous(certificate) => format!("certificate/{}", certificate.serial),
    }
}
