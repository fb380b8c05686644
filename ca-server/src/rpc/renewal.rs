//! `Renewal`: the certificate of the connection says who calls.

use std::sync::Arc;

use fleetca_proto::v1::{
    ConfirmRequest, ConfirmResponse, GetRenewalInfoRequest, Issued, RenewRequest, RenewalInfo, renewal_server::Renewal,
};
use tonic::{Request, Response, Status};

use super::{
    Caller,
    convert::{issued, timestamp, window},
};
use crate::{
    authority::{Authority, Refusal, Refused},
    inventory::lineage::Position,
};

/// The service.
pub struct Service {
    authority: Arc<Authority>,
}

impl Service {
    /// Over this CA.
    pub fn new(authority: Arc<Authority>) -> Self {
        Self { authority }
    }
}

#[tonic::async_trait]
impl Renewal for Service {
    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<Issued>, Status> {
        let outcome = async {
            let presented = Caller::certificate(&request)?;
            let RenewRequest { csr, trust_bundle_sequence } = request.get_ref();
            self.authority.renew(&presented, csr).await.map(|grant| issued(grant, *trust_bundle_sequence))
        };
        Ok(Response::new(outcome.await.map_err(|refused| self.authority.status(refused))?))
    }

    async fn confirm(&self, request: Request<ConfirmRequest>) -> Result<Response<ConfirmResponse>, Status> {
        let outcome = async {
            let presented = Caller::certificate(&request)?;
            self.authority.confirm(&presented).await
        };
        let confirmed = outcome.await.map_err(|refused| self.authority.status(refused))?;
        Ok(Response::new(ConfirmResponse {
            generation: confirmed.generation,
            server_time: Some(timestamp(confirmed.now)),
        }))
    }

    async fn get_renewal_info(&self, request: Request<GetRenewalInfoRequest>) -> Result<Response<RenewalInfo>, Status> {
        let peer = match self.authority.caller(&request).await {
            // The store has forgotten it: where it may be taken in, that happens when it renews, which is to be now.
            Err(Refused { why: Refusal::CertificateUnknown, .. }) => {
                let outcome = async { self.authority.may_be_taken_in(&*Caller::certificate(&request)?).await };
                outcome.await.map_err(|refused| self.authority.status(refused))?;
                let now = self.authority.now();
                return Ok(Response::new(RenewalInfo {
                    renewal_window: Some(window((now, now))),
                    server_time: Some(timestamp(now)),
                    confirm_required: false,
                }));
            }
            peer => peer.map_err(|refused| self.authority.status(refused))?,
        };
        let certificate = peer.certificate;
        Ok(Response::new(RenewalInfo {
            renewal_window: Some(window(self.authority.window(certificate.not_before, certificate.not_after))),
            server_time: Some(timestamp(self.authority.now())),
            confirm_required: certificate.position == Position::Pending,
        }))
    }
}
