//! `ca-server device hardware`: what a device was made with, and what takes its place.

use clap::{Args, Subcommand};
use fleetca_proto::v1::{
    GetDeviceRequest, RegisterHardwareRequest, RetireHardwareRequest, operator_client::OperatorClient,
};
use tonic::transport::Channel;

use super::{idevid, register::show};
use crate::{
    cli::{CommandError, Session},
    identity::Timestamp,
};

#[derive(Subcommand, Debug)]
pub(super) enum Hardware {
    /// Register more hardware for a device, beside what it has
    Add {
        /// The device's ID
        id: String,
        #[command(flatten)]
        identity: Identity,
    },
    /// End a device's hardware: it enrolls nothing any more, and stays the device's for ever
    Retire {
        /// The device's ID
        id: String,
        /// The hardware, `ek:…` or `idevid:…`, as `device show` has it
        identity: String,
    },
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct Identity {
    /// SHA-256 of its TPM's endorsement key (SubjectPublicKeyInfo, DER), in hexadecimal
    #[arg(long, value_name = "SHA256")]
    ek_hash: Option<String>,
    /// Its IDevID: SHA-256 of the issuer's SubjectPublicKeyInfo, and the subject's serial number; or its certificate, in PEM
    #[arg(long, value_name = "ISSUER-SPKI-SHA256:SERIAL|FILE")]
    idevid: Option<String>,
}

impl Identity {
    async fn wire(
        self,
        operator: &mut OperatorClient<Channel>,
        device: &str,
        now: Timestamp,
    ) -> Result<String, CommandError> {
        if let Some(hash) = self.ek_hash {
            return Ok(format!("ek:{hash}"));
        }
        let known = operator.get_device(GetDeviceRequest { id: device.to_owned() }).await?.into_inner();
        let idevid = idevid::read(operator, &known.fleet, &self.idevid.unwrap_or_default(), now).await?;
        Ok(format!("idevid:{idevid}"))
    }
}

impl Hardware {
    pub(super) async fn run(
        self,
        mut operator: OperatorClient<Channel>,
        session: &Session,
    ) -> Result<(), CommandError> {
        let device = match self {
            Hardware::Add { id, identity } => {
                let identity = identity.wire(&mut operator, &id, session.output().now()).await?;
                let request = RegisterHardwareRequest { device_id: id, identity };
                operator.register_hardware(request).await?
            }
            Hardware::Retire { id, identity } => {
                operator.retire_hardware(RetireHardwareRequest { device_id: id, identity }).await?
            }
        };
        show(session, device.into_inner())
    }
}
