//! An IDevID as operators give it: what the CA knows it by, or the certificate from which that is read.

use std::path::Path;

use fleetca_proto::v1::{GetFleetRequest, operator_client::OperatorClient};
use tonic::transport::Channel;

use crate::{
    attestation::{
        chain::{Roots, Validity},
        factory::{Expected, identify},
    },
    cli::{CommandError, fleet::certificates},
    identity::{HardwareId, Timestamp},
};

/// The text for the wire. A file has the IDevID and what leads to one of the fleet's roots, which the CA is asked for: who
/// issued an IDevID is part of what it is known by, and does not stand in itself.
pub(super) async fn read(
    operator: &mut OperatorClient<Channel>,
    fleet: &str,
    text: &str,
    now: Timestamp,
) -> Result<String, CommandError> {
    let file = Path::new(text);
    if HardwareId::idevid(text).is_ok() || !file.is_file() {
        return Ok(text.to_owned());
    }
    let chain = certificates(file)?;
    let request = GetFleetRequest { name: fleet.to_owned() };
    let policy = operator.get_fleet(request).await?.into_inner().policy.unwrap_or_default();
    let wrong = |why: String| CommandError::Content { path: file.into(), reason: why };
    let roots =
        Roots::read(policy.factory_roots.iter().map(Vec::as_slice)).map_err(|error| wrong(error.to_string()))?;
    let expected = Expected { roots: &roots, validity: Validity::AtBirth, banned: &Default::default() };
    let identified = identify(&chain, expected, now);
    identified.map(|identified| identified.id.to_string()).map_err(|error| wrong(error.to_string()))
}
