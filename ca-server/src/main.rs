//! The binary `ca-server`: reads the command line and runs it. Logs go to stderr; `FLEETCA_LOG` says how much.

use std::{
    io::{IsTerminal, stderr},
    process::ExitCode,
};

use ca_server::cli::Cli;
use mimalloc::MiMalloc;
use tracing_subscriber::EnvFilter;

/// A renewal is a hundred small allocations: glibc's allocator takes a tenth of its time, this one half of that.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let filter =
        EnvFilter::try_from_env("FLEETCA_LOG").unwrap_or_else(|_| EnvFilter::new("warn,h2=error,ca_server=info"));
    tracing_subscriber::fmt().with_writer(stderr).with_ansi(stderr().is_terminal()).with_env_filter(filter).init();
    match Cli::read() {
        Ok(cli) => cli.run().await,
        Err(code) => code,
    }
}
