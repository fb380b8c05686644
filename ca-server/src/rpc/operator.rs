//! `Operator`: each call names the least role that it needs, and does nothing before it is proven.

mod audit;
mod bulk;
mod crls;
mod devices;
mod fleets;
mod newcomers;
mod peers;
mod proof;
mod registrations;
mod tokens;

use std::sync::Arc;

use fleetca_proto::v1::{self, operator_server::Operator};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    authority::{Authority, Refusal},
    store::{Role, StoreError},
};

/// How many rows a page has where nothing is said, and at most: at 64 KiB a message.
const PAGE: u32 = 100;

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

/// How many rows to give.
fn page_size(asked: u32) -> u32 {
    if asked == 0 { PAGE } else { asked.min(PAGE) }
}

/// The token of the next page: the key of the last row, where there may be more.
fn next_page<T>(rows: &[T], limit: u32, key: impl Fn(&T) -> String) -> String {
    if rows.len() < limit as usize { String::new() } else { rows.last().map(key).unwrap_or_default() }
}

/// A page token that the store does not know is a mistake of the caller's, like any other field that can't be what it is.
fn page_refused(error: StoreError) -> Refusal {
    match error {
        StoreError::NotFound("page") => Refusal::invalid("page_token", "is none of this list"),
        other => other.into(),
    }
}

/// Writes each call as: prove the role, run the use case, map its refusal.
macro_rules! calls {
    ($($call:ident($request:ty) -> $response:ty: $role:ident = $module:ident::$function:ident;)*) => {
        #[tonic::async_trait]
        impl Operator for Service {
            $(
                async fn $call(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                    let actor = self.authority.operator(&request, Role::$role).await?;
                    let outcome: Result<$response, Refusal> =
                        $module::$function(&self.authority, request.into_inner(), &actor).await;
                    outcome.map(Response::new).map_err(|refusal| self.authority.status(refusal))
                }
            )*
        }
    };
}

calls! {
    register_devices(Streaming<v1::RegisterDevicesRequest>) -> v1::RegisterDevicesResponse:
        Admin = registrations::register_many;
    create_fleet(v1::CreateFleetRequest) -> v1::Fleet: Admin = fleets::create;
    update_fleet(v1::UpdateFleetRequest) -> v1::Fleet: Admin = fleets::update;
    get_fleet(v1::GetFleetRequest) -> v1::Fleet: Viewer = fleets::get;
    list_fleets(v1::ListFleetsRequest) -> v1::ListFleetsResponse: Viewer = fleets::list;

    explain_device(v1::ExplainDeviceRequest) -> v1::Explanation: Viewer = fleets::explain;

    register_device(v1::RegisterDeviceRequest) -> v1::Device: Admin = registrations::register;
    register_key(v1::RegisterKeyRequest) -> v1::Device: Admin = registrations::register_key;
    retire_key(v1::RetireKeyRequest) -> v1::Device: Admin = registrations::retire_key;
    register_hardware(v1::RegisterHardwareRequest) -> v1::Device: Admin = registrations::register_hardware;
    retire_hardware(v1::RetireHardwareRequest) -> v1::Device: Admin = registrations::retire_hardware;
    list_newcomers(v1::ListNewcomersRequest) -> v1::ListNewcomersResponse: Viewer = newcomers::list;
    approve_device(v1::ApproveDeviceRequest) -> v1::Newcomer: Admin = newcomers::approve;
    reject_device(v1::RejectDeviceRequest) -> v1::Newcomer: Revoker = newcomers::reject;
    get_device(v1::GetDeviceRequest) -> v1::Device: Viewer = devices::get;
    list_devices(v1::ListDevicesRequest) -> v1::ListDevicesResponse: Viewer = devices::list;
    revoke_device(v1::RevokeDeviceRequest) -> v1::RevocationReceipt: Revoker = devices::revoke;
    hold_device(v1::HoldDeviceRequest) -> v1::RevocationReceipt: Revoker = devices::hold;
    release_device(v1::ReleaseDeviceRequest) -> v1::RevocationReceipt: Revoker = devices::release;
    decommission_device(v1::DecommissionDeviceRequest) -> v1::RevocationReceipt: Revoker = devices::decommission;
    revoke_devices(Streaming<v1::ManyDevicesRequest>) -> v1::ManyDevices: Revoker = bulk::revoke;
    hold_devices(Streaming<v1::ManyDevicesRequest>) -> v1::ManyDevices: Revoker = bulk::hold;
    release_devices(Streaming<v1::ManyDevicesRequest>) -> v1::ManyDevices: Revoker = bulk::release;
    allow_reenroll(v1::AllowReenrollRequest) -> v1::Device: Admin = devices::allow_reenroll;
    get_certificate(v1::GetCertificateRequest) -> v1::Certificate: Viewer = devices::certificate;

    create_token(v1::CreateTokenRequest) -> v1::Token: Admin = tokens::create;
    list_tokens(v1::ListTokensRequest) -> v1::ListTokensResponse: Viewer = tokens::list;
    revoke_token(v1::RevokeTokenRequest) -> v1::Token: Revoker = tokens::revoke;

    list_crls(v1::ListCrlsRequest) -> v1::ListCrlsResponse: Viewer = crls::list;
    publish_crl(v1::PublishCrlRequest) -> v1::ListCrlsResponse: Admin = crls::publish;
    wait_for_gateways(v1::WaitForGatewaysRequest) -> v1::LoadedAt: Viewer = proof::wait;
    list_issuers(v1::ListIssuersRequest) -> v1::ListIssuersResponse: Viewer = crls::issuers;
    retire_issuer(v1::RetireIssuerRequest) -> v1::ListIssuersResponse: Admin = crls::retire_issuer;

    create_gateway(v1::CreateGatewayRequest) -> v1::Token: Admin = peers::create_gateway;
    list_gateways(v1::ListGatewaysRequest) -> v1::ListGatewaysResponse: Viewer = peers::list_gateways;
    revoke_gateway(v1::RevokeGatewayRequest) -> v1::RevocationReceipt: Revoker = peers::revoke_gateway;
    create_operator(v1::CreateOperatorRequest) -> v1::Token: Admin = peers::create_operator;
    list_operators(v1::ListOperatorsRequest) -> v1::ListOperatorsResponse: Viewer = peers::list_operators;
    revoke_operator(v1::RevokeOperatorRequest) -> v1::RevocationReceipt: Admin = peers::revoke_operator;

    list_audit_records(v1::ListAuditRecordsRequest) -> v1::ListAuditRecordsResponse: Viewer = audit::records;
    list_audit_seals(v1::ListAuditSealsRequest) -> v1::ListAuditSealsResponse: Viewer = audit::seals;
    list_security_events(v1::ListSecurityEventsRequest) -> v1::ListSecurityEventsResponse: Viewer = audit::events;
}
