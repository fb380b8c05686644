//! `ca-server issuer create`: one more issuing CA of devices, on the CA's own folder and with the root keys at hand.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::super::{CommandError, Session, local, output::Instant};
use super::ceremony::{Ceremony, Place};
use crate::{audit::Draft, identity::Timestamp, store::IssuerChange};

/// What a new issuing CA needs.
#[derive(Args, Debug)]
pub struct Create {
    #[command(flatten)]
    place: Place,
}

/// What was made, for programs.
#[derive(Debug, Serialize)]
struct Made {
    issuer: String,
    name: String,
    not_after: Instant,
    key: PathBuf,
    /// How long it waits at most, once the server runs, before it signs for devices.
    wait_seconds: u64,
}

/// Runs the command.
pub async fn run(args: Create, session: &Session) -> Result<(), CommandError> {
    let ceremony = Ceremony::open(&args.place).await?;
    let now = ceremony.now;
    let (key, public) = ceremony.new_key()?;
    let made = async {
        let bundle = ceremony.store.trust_bundle().await.map_err(local)?;
        let dates = (now - ceremony.config.backdate, now);
        let (row, bundle) = ceremony.roots.create_issuer(&ceremony.domain, &bundle, &public, dates).map_err(local)?;
        let certificate = ceremony.read(&row)?;
        let audit = Draft::done(now, "local", "issuer.created", format!("issuer/{}", row.id))
            .serial(certificate.serial())
            .fact("name", certificate.subject_text())
            .fact("not_after", certificate.not_after().to_string())
            .fact("trust_bundle", bundle.sequence);
        let change =
            IssuerChange { new: Some(row), standing: None, root_crl: None, trust_bundle: Some(bundle), at: now, audit };
        ceremony.store.record_issuer_change(change).await.map_err(local)?;
        Ok(certificate)
    };
    let certificate = match made.await {
        Ok(certificate) => certificate,
        Err(error) => {
            // Nobody knows of it. The first fault is the one to tell.
            let _ = std::fs::remove_file(&key);
            return Err(error);
        }
    };
    let made = Made {
        issuer: certificate.id().to_string(),
        name: certificate.subject_text().to_owned(),
        not_after: Instant::from_millis(Timestamp::millis(certificate.not_after())),
        key,
        wait_seconds: ceremony.config.issuer_wait.as_secs(),
    };
    session.output().told(&made, |_| {
        format!(
            "a new issuing CA for devices: {}\n  name  {}\n  key   {}\nits CRL goes out when the server is started; it signs \
             for devices {} s later, or as soon as every gateway that is there has loaded that CRL\n\
             next: start the server, and make a backup: one from before does not know this CA",
            made.issuer,
            made.name,
            made.key.display(),
            made.wait_seconds,
        )
    })
}
