//! `enroll-client status`: what a credential folder holds.

use std::{io::Write, path::PathBuf};

use clap::Args;

use super::{CliError, Output};
use crate::{credential::Credential, status, wall_time::WallTime};

/// Show what the credential folder holds
#[derive(Debug, Args)]
pub(super) struct Status {
    /// The credential folder
    #[arg(long)]
    dir: PathBuf,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Status {
    pub(super) fn run(self) -> Result<(), CliError> {
        let status = status::Status::of(&Credential::load(&self.dir)?, WallTime::now());
        let text = match self.output {
            Output::Text => status.to_string(),
            Output::Json => serde_json::to_string_pretty(&status).map_err(std::io::Error::from)? + "\n",
        };
        match std::io::stdout().write_all(text.as_bytes()) {
            // A reader who has had enough is no failure.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        }
    }
}
