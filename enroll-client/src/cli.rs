//! The command line: one file a command. Exit codes: 0 done; 1 refused for good; 2 usage; 3 try again later; 4 must
//! re-attest.

mod enroll;
mod renew;
mod run;
mod show_tpm;
mod status;
mod sync_crls;

use std::{
    future::Future,
    io::{self, IsTerminal},
    process::ExitCode,
};

use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{credential::CredentialError, crl_sync::SyncError, flow::FlowError, renewal::Action};

/// Enrolls a device, gateway or operator with Fleet CA, keeps its certificate alive, and fetches CRLs.
///
/// Exit codes: 0 done; 1 refused for good; 2 usage; 3 try again later; 4 must enroll again.
#[derive(Debug, Parser)]
#[command(name = "enroll-client", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Enroll(enroll::Enroll),
    Renew(renew::Renew),
    Run(run::Run),
    Status(status::Status),
    ShowTpm(show_tpm::ShowTpm),
    SyncCrls(sync_crls::SyncCrls),
}

/// How output is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs; field names are stable.
    Json,
}

#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Flow(#[from] FlowError),
    #[error(transparent)]
    Sync(#[from] SyncError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<CredentialError> for CliError {
    fn from(error: CredentialError) -> Self {
        FlowError::from(error).into()
    }
}

/// The whole program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    log(&cli.command);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&error.into()),
    };
    // Those that present a certificate and do not ask with it by themselves when it has expired.
    let presents = matches!(cli.command, Command::Renew(_) | Command::SyncCrls(_));
    match runtime.block_on(cli.command.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if presents && error.may_come_back() => report_with(&error, COME_BACK),
        Err(error) => report(&error),
    }
}

impl Command {
    async fn run(self) -> Result<(), CliError> {
        match self {
            Command::Enroll(command) => command.run().await,
            Command::Renew(command) => command.run().await,
            Command::Run(command) => command.run().await,
            Command::Status(command) => command.run(),
            Command::ShowTpm(command) => command.run(),
            Command::SyncCrls(command) => command.run().await,
        }
    }
}

/// Ready once this process is told to stop.
fn told_to_stop() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn log(command: &Command) {
    let goes_on = match command {
        Command::Run(_) => true,
        Command::SyncCrls(command) => command.goes_on(),
        _ => false,
    };
    let level = if goes_on { "enroll_client=info" } else { "enroll_client=warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let ansi = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(ansi).with_target(false).init();
}

/// What to do with a credential that may still be enough to enroll by.
const COME_BACK: (u8, &str) = (
    4,
    "the fleet may have a grace: `enroll-client enroll --dir DIR --attest previous` asks; if it has none, or it is over, \
     enroll again with a new token or what else this device can prove",
);

impl CliError {
    /// Whether a certificate was refused that lets its device come back within its fleet's grace.
    fn may_come_back(&self) -> bool {
        match self {
            CliError::Flow(FlowError::Refused(refusal)) | CliError::Sync(SyncError::Refused(refusal)) => {
                matches!(refusal.reason.as_deref(), Some("CERTIFICATE_EXPIRED" | "ISSUER_REVOKED"))
            }
            _ => false,
        }
    }
}

fn report(error: &CliError) -> ExitCode {
    report_with(error, meaning(error))
}

fn report_with(error: &CliError, (code, advice): (u8, &str)) -> ExitCode {
    eprintln!("error: {error}");
    eprintln!("  what now: {advice}");
    ExitCode::from(code)
}

/// The exit code of a failure, and what to do.
fn meaning(error: &CliError) -> (u8, &'static str) {
    match error {
        CliError::Flow(error) if error.lacks_tpm() => {
            (1, "there is no TPM at this place: /dev/tpmrm0 is where the kernel has one; or say another")
        }
        CliError::Usage(_) => (2, "see enroll-client --help"),
        CliError::Flow(FlowError::Credential(CredentialError::Absent(_)))
        | CliError::Sync(SyncError::Credential(CredentialError::Absent(_))) => (4, "enroll-client enroll --help"),
        // Who wants a certificate says so after the handshake only, by closing the connection.
        CliError::Flow(FlowError::Refused(refusal)) if refusal.reason.is_none() => (
            3,
            "is this the devices' port, 7443 by default? if so, the same command goes on later where this one ended",
        ),
        CliError::Flow(error) => match error.action() {
            Action::Retry { .. } => (3, "try again later: the same command goes on where this one ended"),
            Action::Reattest => (4, "this credential is of no use any more: enroll again, with a new token"),
            Action::Stop => {
                (1, "trying the same again will not help; if the message above does not, ask an operator of this CA")
            }
        },
        CliError::Sync(error) => match error.action() {
            Action::Retry { .. } => (3, "try again later; the file kept is the newest that was verified"),
            Action::Reattest => (4, "this credential is of no use any more: enroll again, with a new token"),
            Action::Stop => (1, "nothing unverified was written; somebody has to look"),
        },
        CliError::Io(_) => (1, "look at the message above"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
