//! gRPC: decode, authenticate, call one use case, map its error. Nothing is decided here.
//!
//! [`serve`] is the accept loop of a port: it bounds connections and handshakes, and hands every connection's
//! certificate to the services as a [`Caller`].

mod caller;
mod connection;
mod convert;
mod enrollment;
mod operator;
mod renewal;
mod revocation;
mod status;

use std::{future::Future, sync::Arc, time::Duration};

use fleetca_proto::{
    DESCRIPTOR_SET, MAX_MESSAGE_BYTES,
    v1::{
        enrollment_server::EnrollmentServer, operator_server::OperatorServer, renewal_server::RenewalServer,
        revocation_server::RevocationServer,
    },
};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tonic::{service::Routes, transport::Server};

pub use caller::Caller;

use crate::{authority::Authority, config::Limits};

/// Which services a port has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Enrollment, Renewal, Revocation.
    Devices,
    /// Operator.
    Operators,
}

/// A gRPC port could not be set up or broke.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// The recorded descriptors can't be read.
    #[error("gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The server ended with an error.
    #[error("gRPC: {0}")]
    Transport(#[from] tonic::transport::Error),
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
    let connections = connection::accept(listener, tls, authority.clone(), limits);
    let streams = u32::try_from(limits.requests_per_connection).unwrap_or(u32::MAX);
    Server::builder()
        .concurrency_limit_per_connection(limits.requests_per_connection)
        .max_concurrent_streams(streams)
        .http2_keepalive_interval(Some(Duration::from_secs(60)))
        .http2_max_header_list_size(16 * 1024)
        .add_routes(routes(port, authority, limits).await?)
        .serve_with_incoming_shutdown(connections, shutdown)
        .await?;
    Ok(())
}

async fn routes(port: Port, authority: Arc<Authority>, limits: Limits) -> Result<Routes, RpcError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let mut routes = Routes::new(health_service);
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
            let enrollment = enrollment::Service::new(authority.clone(), limits.enrollments);
            add!(EnrollmentServer::new(enrollment), "fleetca.v1.Enrollment");
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
    Ok(routes.add_service(reflection().build_v1()?).add_service(reflection().build_v1alpha()?))
}
