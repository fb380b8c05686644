//! Whom a leaf certificate is for.

use crate::identity::{DeviceId, FleetName, HostName, Kind, Subject};

/// Who a leaf certificate is for, with what else its profile takes.
#[derive(Clone, Copy, Debug)]
pub enum Holder<'a> {
    /// A device of a fleet.
    Device {
        /// Its ID.
        id: &'a DeviceId,
        /// Its fleet, the certificate's organization.
        fleet: &'a FleetName,
    },
    /// A gateway.
    Gateway(&'a DeviceId),
    /// An operator.
    Operator(&'a DeviceId),
    /// The CA's own server.
    Server {
        /// Its name in its SPIFFE ID.
        id: &'a DeviceId,
        /// What clients reach it by. At least one.
        hosts: &'a [HostName],
    },
}

impl Holder<'_> {
    /// Kind and ID.
    pub fn subject(&self) -> Subject {
        let (kind, id) = match *self {
            Holder::Device { id, .. } => (Kind::Device, id),
            Holder::Gateway(id) => (Kind::Gateway, id),
            Holder::Operator(id) => (Kind::Operator, id),
            Holder::Server { id, .. } => (Kind::Server, id),
        };
        Subject::new(kind, id.clone())
    }
}
