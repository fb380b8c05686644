//! The wire of Fleet CA: what is spoken between `ca-server`, devices, gateways and operators.
//!
//! The messages and services are generated from `proto/fleetca/v1/*.proto` when this crate is built; the exact bytes
//! that proofs sign are in [`transcript`], one function that both sides call; [`patch`] makes one CRL of another.

pub mod patch;
pub mod transcript;

/// The messages, clients and servers of package `fleetca.v1`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("fleetca.v1");
}

/// The serialized `FileDescriptorSet` of every service here, imports included.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The most bytes that one message of any service may have, in either direction.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// The `domain` of every `google.rpc.ErrorInfo` that the server sends.
pub const ERROR_DOMAIN: &str = "fleetca";
