//! `ca-server issuer request`: the key of one more issuing CA, and the CSR by which a root that is elsewhere is asked for its
//! certificate.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::super::{CommandError, Session, key_passphrase::KeyPassphrase, local, requests};
use crate::{
    config::Config,
    folder::Folder,
    store::{ReadStore, sqlite::SqliteStore},
};

/// Where to.
#[derive(Args, Debug)]
pub struct Request {
    /// The CA's folder, on this machine; its server may go on running
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where the request (PKCS#10, PEM) goes
    #[arg(long, value_name = "FILE")]
    csr_out: PathBuf,
    #[command(flatten)]
    key_passphrase: KeyPassphrase,
}

/// A request that was made, for programs.
#[derive(Debug, Serialize)]
struct Requested {
    csr: PathBuf,
    key: PathBuf,
}

/// Makes the request.
pub async fn run(args: Request, session: &Session) -> Result<(), CommandError> {
    let folder = Folder::new(&args.dir);
    let config = Config::read(&folder.config()).map_err(local)?;
    let passphrase = args.key_passphrase.read(&config)?;
    let store = SqliteStore::open_existing(&folder.database()).map_err(local)?;
    let domain = store.domain().await.map_err(local)?;
    if args.csr_out.exists() {
        return Err(CommandError::Exists(args.csr_out));
    }
    let request = requests::Request::make(&folder.requests(), &domain.trust_domain, passphrase.as_ref())?;
    request.hand_out(&args.csr_out)?;
    let requested = Requested { csr: args.csr_out, key: request.key() };
    session.output().told(&requested, |_| {
        format!(
            "a request for the certificate of an issuing CA: {}\n  key  {}\n\
             next: have the device root sign it, stop the server, and say `ca-server issuer create --issuer-cert FILE`, or \
             `issuer rotate ISSUER --issuer-cert FILE` for one that takes over from another",
            requested.csr.display(),
            requested.key.display(),
        )
    })
}
