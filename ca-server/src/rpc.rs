//! gRPC: decode, authenticate, call one use case, map its error. Nothing is decided here.
//!
//! [`serve`] runs a port: it bounds handshakes, connections and requests, and hands every connection's certificate to
//! the services as a [`Caller`].

mod bounded;
mod caller;
mod connection;
mod convert;
mod enrollment;
mod operator;
mod renewal;
mod revocation;
mod status;

use std::{future::Future, sync::Arc};

use fleetca_proto::{
    DESCRIPTOR_SET, MAX_MESSAGE_BYTES,
    v1::{
        enrollment_server::EnrollmentServer, operator_server::OperatorServer, renewal_server::RenewalServer,
        revocation_server::RevocationServer,
    },
};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tonic::service::Routes;

pub use caller::Caller;

use self::connection::Gate;

use crate::{authority::Authority, config::Limits};

/// Which services a port has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Enrollment, Renewal, Revocation.
    Devices,
    /// Operator.
    Operators,
}

impl Port {
    /// What metrics call it.
    fn name(self) -> &'static str {
        match self {
            Port::Devices => "devices",
            Port::Operators => "operators",
        }
    }
}

/// A gRPC port could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// The recorded descriptors can't be read.
    #[error("gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves a port until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    port: Port,
    tls: Arc<ServerConfig>,
    authority: Arc<Authority>,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RpcError> {
    let routes = routes(port, authority.clone()).await?;
    Gate::new(port, tls, routes, authority, &limits).serve(listener, shutdown).await;
    Ok(())
}

/// The services of a port, without its connections: whoever hands them a request puts its [`Caller`] into the request's
/// extensions.
pub async fn routes(port: Port, authority: Arc<Authority>) -> Result<Routes, RpcError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let mut routes = Routes::new(health_service.max_decoding_message_size(MAX_MESSAGE_BYTES));
    let mut names = vec!["grpc.health.v1.Health"];
    macro_rules! add {
        ($server:expr, $name:literal) => {{
            let server =
                $server.max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES);
            health.set_service_status($name, tonic_health::ServingStatus::Serving).await;
            routes = routes.add_service(server);
            names.push($name);
        }};
    }
    match port {
        Port::Devices => {
            add!(EnrollmentServer::new(enrollment::Service::new(authority.clone())), "fleetca.v1.Enrollment");
            add!(RenewalServer::new(renewal::Service::new(authority.clone())), "fleetca.v1.Renewal");
            add!(RevocationServer::new(revocation::Service::new(authority)), "fleetca.v1.Revocation");
        }
        Port::Operators => add!(OperatorServer::new(operator::Service::new(authority)), "fleetca.v1.Operator"),
    }
    let reflection = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        names.iter().fold(builder, |builder, name| builder.with_service_name(*name))
    };
    let v1 = reflection().build_v1()?.max_decoding_message_size(MAX_MESSAGE_BYTES);
    let v1alpha = reflection().build_v1alpha()?.max_decoding_message_size(MAX_MESSAGE_BYTES);
    Ok(routes.add_service(v1).add_service(v1alpha))
}
