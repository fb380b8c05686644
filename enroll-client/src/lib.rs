//! The client of Fleet CA: enrolls a device, gateway or operator, renews its credential for years, and fetches CRLs
//! for gateways. The binary `enroll-client` is a thin shell around this library.
//!
//! The way through it: [`connect`] reaches the server; [`enroll`] gets the first certificate with the evidence of an
//! [`attester`]; [`renew`] replaces it, when [`renewal`] (pure) says so; [`agent`] does that for years. All of them keep
//! what they have in a [`credential`] folder, whose every change survives a crash. [`crl_sync`] is what gateways run.

mod adoption;
pub mod agent;
pub mod attester;
pub mod certificate;
pub mod cli;
pub mod connect;
pub mod credential;
pub mod crl_sync;
mod durable;
pub mod enroll;
pub mod flow;
mod hook;
pub mod identity;
pub mod issued;
pub mod keys;
mod lock;
pub mod refusal;
pub mod renew;
pub mod renewal;
pub mod status;
pub mod step;
#[cfg(test)]
mod test_pki;
pub mod trust;
pub mod wall_time;
