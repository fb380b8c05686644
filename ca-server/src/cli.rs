//! The command line of `ca-server`: one file a command.
//!
//! Commands that run a CA on this machine stand beside those that talk to a running server as an operator, through a
//! [`Session`]. What they share: how they print ([`output`]), how they fail ([`CommandError`]), and their exit codes:
//! 0 done, 1 refused or failed, 2 usage, 3 server out of reach.

mod accept_clock;
pub mod audit;
mod backup;
mod certificate;
mod connection;
mod crl;
mod device;
pub mod duration;
mod failure;
mod fleet;
mod foreign;
mod gateway;
mod init;
mod issuer;
mod key;
mod key_passphrase;
mod loaded;
mod operator;
mod operator_folder;
pub mod output;
mod paging;
mod peer;
mod quickstart;
mod receipt;
mod recover;
mod requests;
mod restore;
mod root;
mod secret_file;
mod serve;
mod sheet;
mod token;
pub mod words;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
pub use connection::{Options, Session};
pub use failure::CommandError;

use crate::clock::{Clock, SystemClock};
use output::Format;

/// A certificate authority for device fleets
#[derive(Parser, Debug)]
#[command(name = "ca-server", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Quickstart(quickstart::Quickstart),
    Init(init::Init),
    /// Serve a CA that `init` made
    Serve(serve::Serve),
    /// Print the settings in force
    ShowConfig(serve::Serve),
    Root(root::Root),
    Backup(backup::Backup),
    Restore(restore::Restore),
    Fleet(fleet::Fleet),
    Device(device::Device),
    Certificate(certificate::Certificate),
    Token(token::Token),
    Crl(crl::Crl),
    Issuer(issuer::Issuer),
    Key(key::Key),
    Gateway(gateway::Gateway),
    Operator(operator::Operator),
    Audit(audit::Audit),
}

impl Cli {
    /// Reads this process's command line. What makes no sense has been told by then, and so has help.
    pub fn read() -> Result<Self, ExitCode> {
        let line = || std::env::args_os().skip(1);
        if let Some(apart) = failure::value_apart(line()) {
            return Err(apart.report(Format::asked_for(line())));
        }
        Self::try_parse().map_err(|error| failure::report_usage(&error, Format::asked_for(line())))
    }

    /// Runs the command to its end, and says what went wrong, if anything.
    pub async fn run(self) -> ExitCode {
        let session = Session::new(self.options, SystemClock.now());
        match self.command.run(&session).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => error.report(session.output().format()),
        }
    }
}

impl Command {
    async fn run(self, session: &Session) -> Result<(), CommandError> {
        match self {
            Command::Quickstart(args) => quickstart::run(args, session).await,
            Command::Init(args) => init::run(args, session).await,
            Command::Serve(args) => serve::run(args, session).await,
            Command::ShowConfig(args) => serve::show_config(&args, session),
            Command::Root(args) => root::run(args, session),
            Command::Backup(args) => backup::run(args, session),
            Command::Restore(args) => restore::run(args, session).await,
            Command::Fleet(args) => fleet::run(args, session).await,
            Command::Device(args) => device::run(args, session).await,
            Command::Certificate(args) => certificate::run(args, session).await,
            Command::Token(args) => token::run(args, session).await,
            Command::Crl(args) => crl::run(args, session).await,
            Command::Key(args) => key::run(args, session).await,
            Command::Issuer(args) => issuer::run(args, session).await,
            Command::Gateway(args) => gateway::run(args, session).await,
            Command::Operator(args) => operator::run(args, session).await,
            Command::Audit(args) => audit::run(args, session).await,
        }
    }
}

/// A fault of this machine's own CA, told as it is.
fn local(error: impl ToString) -> CommandError {
    CommandError::Local(error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_tree_of_commands_is_sound() {
        Cli::command().debug_assert();
    }

    fn parses(line: &str) -> bool {
        Cli::try_parse_from(line.split(' ')).is_ok()
    }

    #[test]
    fn documented_commands_are_understood() {
        for line in [
            "ca-server fleet create sensors --attest token --validity 24h --key-types p256,p384",
            "ca-server fleet set sensors --on-fork alert --crl-scope device",
            "ca-server token create --fleet sensors --device-id pump-7 --reenroll --out pump-7.token",
            "ca-server token create --fleet sensors --pattern pump-* --uses 5 --lifetime 8h --out batch.token",
            "ca-server device list --fleet sensors --status lapsed --sort expires --descending --limit 5",
            "ca-server device list --expiring-within 6h --output json",
            "ca-server device revoke pump-7 --wait",
            "ca-server device hold --wait=5m pump-7",
            "ca-server device decommission --wait pump-7",
            "ca-server device release --wait=5m pump-7",
            "ca-server device hold --fleet pumps --all --yes",
            "ca-server device revoke pump-7 --reason keyCompromise --server https://ca:7444 --credential dir",
            "ca-server device release pump-7 --keep 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF",
            "ca-server --output json crl publish --root-crl root.crl",
            "ca-server operator create ana --role revoker --out ana.token",
            "ca-server gateway create eu-7 --out eu-7.token",
            "ca-server audit list --security --action lineage.fork --subject device/pump-7",
            "ca-server audit verify --head head.json",
            "ca-server backup --dir ca --out copy --passphrase-file phrase",
            "ca-server restore --from copy --dir ca --keys keys --crl crls.pem --crl control.crl --resume --window 3d",
            "ca-server restore --dir ca --resume --accept-loss 0123456789abcdef --accept-loss 00000000000000aa",
        ] {
            assert!(parses(line), "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_a_mistake_in_usage() {
        for line in [
            "ca-server fleet set sensors",
            "ca-server fleet create sensors --validity 24",
            "ca-server token create --fleet sensors --out a.token",
            "ca-server token create --fleet sensors --device-id pump-7",
            "ca-server token create --fleet sensors --device-id pump-7 --uses 2 --out a.token",
            "ca-server token create --fleet sensors --pattern pump-* --out a.token",
            "ca-server token create --fleet sensors --pattern pump-* --uses 2 --reenroll --out a.token",
            "ca-server device revoke pump-7 --reason certificateHold",
            "ca-server device release pump-7 --keep 0011",
            "ca-server device revoke pump-7 --wait=soon",
            "ca-server device revoke --from stolen.csv --yes=",
            "ca-server device hold --from stolen.csv --yes=",
            "ca-server device release --from stolen.csv --yes=",
            "ca-server device revoke --fleet pumps --all --yes=",
            "ca-server device revoke --fleet pumps --all --yes=null",
            "ca-server operator create ana --out ana.token",
            "ca-server restore --dir ca --accept-loss 0123456789abcdef",
            "ca-server restore --dir ca --resume --accept-loss",
            "ca-server restore --dir ca --keys keys",
        ] {
            assert!(!parses(line), "{line}");
        }
    }
}
