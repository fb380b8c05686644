//! The binary `ca-server`: reads the command line and runs it.

use std::process::ExitCode;

use ca_server::cli::Cli;
use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    Cli::parse().run().await
}
