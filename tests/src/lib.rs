//! The harness of Fleet CA's tests: real servers, real devices and real gateways, in temporary folders.
//!
//! Everything here panics with a message instead of returning errors, since a test has nobody to report to. Nothing
//! sleeps for a fixed time (see [`wait`]), nothing uses a fixed port, nothing leaves the loopback interface, and every
//! process that is started ends with the value that owns it (see [`process`]).

pub mod admin;
pub mod binaries;
pub mod calls;
pub mod corporation;
pub mod crl;
pub mod crowd;
pub mod csr;
pub mod device;
pub mod gateway;
pub mod holder;
pub mod http;
pub mod inside;
pub mod kill;
pub mod ledger;
pub mod maker;
pub mod measure;
pub mod mount;
pub mod newcomers;
pub mod openssl;
pub mod operator;
pub mod pem;
pub mod pkilint;
pub mod process;
pub mod python;
pub mod require;
pub mod secrets;
pub mod server;
pub mod simulator;
pub mod soak;
pub mod softhsm;
pub mod stranger;
pub mod tls;
pub mod tpm;
pub mod wait;
