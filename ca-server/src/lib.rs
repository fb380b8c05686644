//! Fleet CA: a certificate authority for device fleets.
//!
//! Rooms, and which way the arrows go between them, are drawn in `docs/architecture.md`.

pub mod accept;
pub mod attestation;
pub mod audit;
pub mod authority;
pub mod backup;
pub mod cli;
pub mod clock;
pub mod config;
pub mod folder;
pub mod http;
pub mod identity;
pub mod inventory;
pub mod open_files;
pub mod paced;
pub mod pki;
pub mod places;
pub mod rpc;
pub mod server;
pub mod signer;
pub mod step;
pub mod store;
pub mod telemetry;
pub mod tls;
