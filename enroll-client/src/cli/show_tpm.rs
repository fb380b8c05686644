//! `enroll-client show-tpm`: what an operator registers of a device's TPM.

use std::io::Write;

use clap::Args;
use serde::Serialize;

use super::{CliError, Output, enroll::read_tpm};
use crate::{
    certificate::hex,
    flow::FlowError,
    keys::{
        KeyError,
        tpm::{Chip, TpmError},
    },
};

/// Show by what a TPM is registered
///
/// Asks the TPM for its endorsement key, the one that `enroll --attest tpm` proves; no key is kept.
#[derive(Debug, Args)]
pub(super) struct ShowTpm {
    /// The TPM and the kind of its endorsement key, as --attest tpm takes them; /dev/tpmrm0 where nothing is said
    #[arg(value_name = "DEVICE[,KIND]", default_value = "")]
    tpm: String,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Serialize)]
struct Shown {
    /// SHA-256 of the endorsement key's SubjectPublicKeyInfo (DER).
    ek_sha256: String,
    /// Of which kind it is: the one that is proven where `--attest` names none.
    ek_kind: &'static str,
    /// How many certificates the TPM keeps for it.
    certificates: usize,
}

impl ShowTpm {
    pub(super) fn run(self) -> Result<(), CliError> {
        let (location, kind) = read_tpm(&self.tpm)?;
        let ask = || -> Result<Shown, TpmError> {
            let mut chip = Chip::open(&location)?;
            let endorsement = chip.endorsement(kind)?;
            chip.close()?;
            Ok(Shown {
                ek_sha256: hex(&endorsement.fingerprint()?),
                ek_kind: endorsement.kind.as_str(),
                certificates: endorsement.chain.len(),
            })
        };
        let shown = ask().map_err(|error| FlowError::from(KeyError::from(error)))?;
        let text = match self.output {
            Output::Text => {
                let certified =
                    if shown.certificates > 0 { "the TPM keeps its certificate" } else { "without certificate" };
                let Shown { ek_kind, .. } = shown;
                eprintln!("endorsement key {ek_kind}, {certified}: the one that --attest tpm:DEVICE,{ek_kind} proves");
                format!("{}\n", shown.ek_sha256)
            }
            Output::Json => serde_json::to_string_pretty(&shown).map_err(std::io::Error::from)? + "\n",
        };
        Ok(std::io::stdout().write_all(text.as_bytes())?)
    }
}
