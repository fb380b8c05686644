//! Where the passphrase of the CA's keys comes from, for every command that opens them.

use std::{env, path::PathBuf};

use clap::Args;

use super::{CommandError, local};
use crate::{config::Config, signer::Passphrase};

/// What a service manager's credential with the passphrase is called.
const CREDENTIAL: &str = "key-passphrase";

/// The option that names the file.
#[derive(Args, Clone, Debug)]
pub struct KeyPassphrase {
    /// Decrypts the CA's keys [default: as the settings say, or the credential `key-passphrase` of systemd]
    #[arg(long = "key-passphrase-file", value_name = "FILE")]
    file: Option<PathBuf>,
}

impl KeyPassphrase {
    /// Has the option win over what the settings say.
    pub fn put_into(&self, config: &mut Config) {
        if self.file.is_some() {
            config.key_passphrase_file.clone_from(&self.file);
        }
    }

    /// The passphrase, if one is given: by the option, by the settings, or by the service manager.
    pub fn read(&self, config: &Config) -> Result<Option<Passphrase>, CommandError> {
        let named = self.file.clone().or_else(|| config.key_passphrase_file.clone()).or_else(credential);
        named.as_deref().map(Passphrase::read).transpose().map_err(local)
    }
}

/// What `LoadCredential=` and `LoadCredentialEncrypted=` hand over, if they do.
fn credential() -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os("CREDENTIALS_DIRECTORY")?).join(CREDENTIAL);
    path.exists().then_some(path)
}
