//! `enroll-client enroll`: the first certificate.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use clap::Args;
use zeroize::Zeroizing;

use super::CliError;
use crate::{
    attester::{
        Attester,
        evidence_key::EvidenceKey,
        factory::{FactoryError, FactoryIdentity},
        previous::Previous,
        token::JoinToken,
        tpm::TpmMethod,
    },
    connect::ServerUrl,
    credential::{Credential, LockedFolder},
    enroll::{Enrollment, enroll, recover},
    flow::{FlowError, Observer},
    identity::{Id, Kind},
    keys::{
        KeyError,
        pkcs11::{Pkcs11Error, Uri},
        tpm::{EndorsementKind, Location, TpmError},
    },
    trust::{Roots, Trust},
};

/// Get the first certificate, or a new one by new evidence
///
/// After a failure or a lost answer the same command goes on where it was: it asks with the same key.
#[derive(Debug, Args)]
pub(super) struct Enroll {
    /// The CA's server, https://HOST:PORT; may be left out for a folder with a credential
    #[arg(long, value_name = "URL")]
    server: Option<ServerUrl>,
    /// The control root, in PEM: the server is accepted under it only
    #[arg(long, value_name = "FILE", conflicts_with = "root_fingerprint")]
    root: Option<PathBuf>,
    /// SHA-256 of the control root's DER, in hexadecimal; the server sends the root
    #[arg(long, value_name = "SHA256")]
    root_fingerprint: Option<String>,
    /// The credential folder
    #[arg(long)]
    dir: PathBuf,
    /// Whom the certificate is for
    #[arg(long, value_enum, default_value_t)]
    kind: Kind,
    /// Its ID; may be left out with a token that is bound to one
    #[arg(long, value_name = "ID", visible_aliases = ["gateway-id", "operator-name"])]
    device_id: Option<Id>,
    /// The evidence: token:FILE (- for standard input); factory:CERT,KEY, the maker's certificate with its intermediates,
    /// and its key in PKCS#8 PEM or as pkcs11: URI; registered-key:FILE, a private key in PKCS#8 PEM; tpm[:DEVICE[,KIND]], a TPM (/dev/tpmrm0,
    /// a socket, or tcp:HOST:PORT) and the kind of its endorsement key (rsa-2048, p-256, p-384); previous, the folder's own
    /// certificate, which has expired
    #[arg(long, value_name = "METHOD[:WHERE]")]
    attest: String,
}

/// What `--attest` says.
#[derive(Clone, Debug)]
enum Evidence {
    Token(PathBuf),
    Factory(PathBuf, FactoryKey),
    RegisteredKey(PathBuf),
    Tpm(Location, Option<EndorsementKind>),
    Previous,
}

/// Where the maker's key is.
#[derive(Clone, Debug)]
enum FactoryKey {
    File(PathBuf),
    Token(Uri),
}

impl Evidence {
    /// Reads `token:FILE`. What is wrong is never repeated: it may be a token, put where its file belongs.
    fn read(text: &str) -> Result<Self, CliError> {
        match text.split_once(':') {
            Some(("token", file)) if !file.is_empty() && !file.contains("fleetca-join-") => {
                Ok(Evidence::Token(file.into()))
            }
            Some(("factory", files)) => match files.split_once(',') {
                Some((chain, key)) if !chain.is_empty() && !key.is_empty() => {
                    Ok(Evidence::Factory(chain.into(), FactoryKey::read(key)?))
                }
                _ => Err(CliError::Usage("a factory's identity is written factory:CERT,KEY".into())),
            },
            Some(("registered-key", file)) if !file.is_empty() => Ok(Evidence::RegisteredKey(file.into())),
            Some(("tpm", device)) => read_tpm(device).map(|(location, kind)| Evidence::Tpm(location, kind)),
            None if text == "tpm" => Ok(Evidence::Tpm(Location::default(), None)),
            None if text == "previous" => Ok(Evidence::Previous),
            _ => Err(CliError::Usage(
                "the evidence is written token:FILE (a token is given in a file only), factory:CERT,KEY, \
                 registered-key:FILE, tpm[:DEVICE[,KIND]], or previous"
                    .into(),
            )),
        }
    }
}

impl FactoryKey {
    fn read(text: &str) -> Result<Self, CliError> {
        if !Uri::is_meant(text) {
            return Ok(FactoryKey::File(text.into()));
        }
        text.parse().map(FactoryKey::Token).map_err(|error: Pkcs11Error| CliError::Usage(error.to_string()))
    }
}

impl Enroll {
    pub(super) async fn run(self) -> Result<(), CliError> {
        let folder;
        let credential = match Evidence::read(&self.attest)? {
            Evidence::Previous => {
                if self.server.is_some() || self.root.is_some() || self.root_fingerprint.is_some() {
                    let text = "with --attest previous, server and root are those that the folder knows";
                    return Err(CliError::Usage(text.into()));
                }
                // A folder without credential is said to be so before anything is made in it.
                Credential::load(&self.dir)?;
                folder = LockedFolder::open(&self.dir)?;
                recover(&folder, Observer::none()).await?
            }
            evidence => {
                let (server, trust, attester) = (self.server()?, self.trust()?, self.attester(&evidence)?);
                folder = LockedFolder::open(&self.dir)?;
                let enrollment = Enrollment { server, trust, kind: self.kind, id: self.device_id, attester };
                enroll(&folder, &enrollment, Observer::none()).await?
            }
        };
        let (state, leaf) = (credential.state(), credential.leaf());
        eprintln!("enrolled: {} {} in {}, valid until {}", state.kind, state.id, state.trust_domain, leaf.not_after());
        eprintln!("  certificate and key: {}", folder.dir().join("current").display());
        eprintln!(
            "  what now: enroll-client run --dir {} renews it from {} on",
            folder.dir().display(),
            state.renew_at
        );
        Ok(())
    }

    fn attester(&self, evidence: &Evidence) -> Result<Attester, CliError> {
        match evidence {
            Evidence::Token(file) => token(file),
            Evidence::Factory(chain, key) => factory(chain, key),
            Evidence::RegisteredKey(_) if self.device_id.is_none() => {
                Err(CliError::Usage("a registered key needs --device-id".into()))
            }
            Evidence::RegisteredKey(file) => Ok(Attester::RegisteredKey(evidence_key(file)?)),
            Evidence::Previous => {
                Ok(Attester::Previous(Previous::of(&Credential::load(&self.dir)?).map_err(FlowError::from)?))
            }
            Evidence::Tpm(location, kind) => Ok(Attester::Tpm(Box::new(TpmMethod::new(location.clone(), *kind)))),
        }
    }

    fn server(&self) -> Result<ServerUrl, CliError> {
        let kept = || Credential::load(&self.dir).ok().map(|kept| kept.state().server.clone());
        let server = self.server.clone().or_else(kept);
        server.ok_or_else(|| CliError::Usage("a new folder needs --server URL".into()))
    }

    fn trust(&self) -> Result<Trust, CliError> {
        let usage = |error: &dyn std::fmt::Display| CliError::Usage(error.to_string());
        match (&self.root, &self.root_fingerprint) {
            (Some(file), _) => {
                let pem = read(file)?;
                let roots = Roots::from_pem(&pem);
                Ok(Trust::Roots(roots.map_err(|error| CliError::Usage(format!("{}: {error}", file.display())))?))
            }
            (None, Some(fingerprint)) => Trust::from_fingerprint(fingerprint).map_err(|error| usage(&error)),
            (None, None) => match Credential::load(&self.dir) {
                Ok(kept) => Ok(Trust::Roots(kept.control_roots().clone())),
                Err(_) => Err(CliError::Usage(
                    "a new folder needs --root FILE or --root-fingerprint SHA256 to know the server by".into(),
                )),
            },
        }
    }
}

fn token(file: &Path) -> Result<Attester, CliError> {
    let bytes = Zeroizing::new(if file.as_os_str() == "-" { read_stdin()? } else { read(file)? });
    let text = std::str::from_utf8(&bytes).map_err(|_| CliError::Usage("the join token is no text".into()))?;
    let token = JoinToken::parse(text);
    Ok(Attester::Token(token.map_err(|error| CliError::Usage(format!("{}: {error}", file.display())))?))
}

fn factory(chain: &Path, key: &FactoryKey) -> Result<Attester, CliError> {
    let usage = |files: &str, error: &dyn std::fmt::Display| CliError::Usage(format!("{files}: {error}"));
    let identity = match key {
        FactoryKey::File(file) => FactoryIdentity::from_pem(&read(chain)?, &Zeroizing::new(read(file)?))
            .map_err(|error| usage(&format!("{}, {}", chain.display(), file.display()), &error))?,
        FactoryKey::Token(uri) => FactoryIdentity::in_token(&read(chain)?, uri).map_err(|error| match error {
            FactoryError::Token(error @ Pkcs11Error::NotBuiltIn) => CliError::Usage(error.to_string()),
            FactoryError::Token(error) => FlowError::from(KeyError::from(error)).into(),
            error => usage(&chain.display().to_string(), &error),
        })?,
    };
    Ok(Attester::Factory(identity))
}

/// `DEVICE,KIND`, both of which may be left out.
pub(super) fn read_tpm(text: &str) -> Result<(Location, Option<EndorsementKind>), CliError> {
    let usage = |error: TpmError| CliError::Usage(error.to_string());
    let (device, kind) = text.split_once(',').map_or((text, None), |(device, kind)| (device, Some(kind)));
    let location = if device.is_empty() { Location::default() } else { device.parse().map_err(usage)? };
    Ok((location, kind.map(str::parse).transpose().map_err(usage)?))
}

fn evidence_key(file: &Path) -> Result<EvidenceKey, CliError> {
    let key = EvidenceKey::from_pem(&Zeroizing::new(read(file)?));
    key.map_err(|error| CliError::Usage(format!("{}: {error}", file.display())))
}

fn read(file: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(file).map_err(|error| CliError::Usage(format!("{}: {error}", file.display())))
}

fn read_stdin() -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::with_capacity(4096);
    std::io::stdin().take(4096).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_given_as_an_argument_is_refused_and_not_repeated() {
        for text in ["fleetca-join-00.secret.11", "token:fleetca-join-00.secret.11", "token:", "rubbish:x"] {
            let CliError::Usage(message) = Evidence::read(text).unwrap_err() else { panic!("{text}") };
            assert!(!message.contains("secret"), "{message}");
        }
        assert!(matches!(Evidence::read("token:pump-7.token"), Ok(Evidence::Token(_))));
        assert!(matches!(Evidence::read("previous"), Ok(Evidence::Previous)));
    }
}
