//! `ca-server issuer create` and `rotate`: one more issuing CA of devices, or one in the place of another, on the CA's own
//! folder and with the root keys at hand.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::super::{CommandError, Session, local, output::Instant};
use super::ceremony::{Ceremony, Place};
use crate::{
    audit::Draft,
    identity::{IssuerId, Timestamp},
    inventory::partition::Standing,
    store::{IssuerChange, IssuerRow, StoreError},
};

/// What a new issuing CA needs.
#[derive(Args, Debug)]
pub struct Create {
    #[command(flatten)]
    place: Place,
}

/// The same, and the one before it.
#[derive(Args, Debug)]
pub struct Rotate {
    /// The ID of the one that it takes over from
    #[arg(value_name = "ISSUER")]
    issuer: IssuerId,
    #[command(flatten)]
    place: Place,
}

/// What was made, for programs.
#[derive(Debug, Serialize)]
struct Made {
    issuer: String,
    replaces: Option<String>,
    name: String,
    not_after: Instant,
    key: PathBuf,
    /// How long it waits at most, once the server runs, before it signs for devices.
    wait_seconds: u64,
}

/// Makes one more.
pub async fn create(args: Create, session: &Session) -> Result<(), CommandError> {
    make(&Ceremony::open(&args.place).await?, None, session).await
}

/// Makes one that takes over from another.
pub async fn rotate(args: Rotate, session: &Session) -> Result<(), CommandError> {
    let ceremony = Ceremony::open(&args.place).await?;
    let before = ceremony.issuer(args.issuer).await?;
    match before.standing {
        Standing::Active | Standing::Revoked => make(&ceremony, Some(&before), session).await,
        standing => Err(local(format!("{} is {}: nothing takes over from it", before.id, standing.as_str()))),
    }
}

async fn make(ceremony: &Ceremony, before: Option<&IssuerRow>, session: &Session) -> Result<(), CommandError> {
    let now = ceremony.now;
    let (key, public) = ceremony.new_key()?;
    let made = async {
        let bundle = ceremony.store.trust_bundle().await.map_err(local)?;
        let dates = (now - ceremony.config.backdate, now);
        let (row, bundle) = ceremony.roots.create_issuer(&ceremony.domain, &bundle, &public, dates).map_err(local)?;
        let certificate = ceremony.read(&row)?;
        let mut audit = Draft::done(now, "local", "issuer.created", format!("issuer/{}", row.id))
            .serial(certificate.serial())
            .fact("name", certificate.subject_text())
            .fact("not_after", certificate.not_after().to_string())
            .fact("trust_bundle", bundle.sequence);
        if let Some(before) = before {
            audit = audit.fact("replaces", before.id.to_string());
        }
        let retires = before.filter(|before| before.standing == Standing::Active);
        let change = IssuerChange {
            new: Some(IssuerRow { replaces: before.map(|before| before.id), ..row }),
            standing: retires.map(|before| (before.id, Standing::Retired)),
            root_crl: None,
            trust_bundle: Some(bundle),
            at: now,
            audit,
        };
        let recorded = ceremony.store.record_issuer_change(change).await;
        recorded.map_err(|error| match error {
            StoreError::Conflict => local("another has taken over from it already: see `ca-server issuer list`"),
            other => local(other),
        })?;
        Ok(certificate)
    };
    let certificate = match made.await {
        Ok(certificate) => certificate,
        Err(error) => {
            // Where nobody knows of it. The first fault is the one to tell.
            let id = IssuerId::of(&public.fingerprint());
            if ceremony.store.issuers().await.is_ok_and(|rows| rows.iter().all(|row| row.id != id)) {
                let _ = std::fs::remove_file(&key);
            }
            return Err(error);
        }
    };
    let made = Made {
        issuer: certificate.id().to_string(),
        replaces: before.map(|before| before.id.to_string()),
        name: certificate.subject_text().to_owned(),
        not_after: Instant::from_millis(Timestamp::millis(certificate.not_after())),
        key,
        wait_seconds: ceremony.config.issuer_wait.as_secs(),
    };
    session.output().told(&made, |_| {
        format!(
            "a new issuing CA for devices: {}{}\n  name  {}\n  key   {}\nits CRL goes out when the server is started; it signs \
             for devices {} s later, or as soon as every enrolled gateway has loaded that CRL\n\
             next: start the server, and make a backup: one from before does not know this CA",
            made.issuer,
            made.replaces.as_deref().map(|before| format!(", which takes over from {before}")).unwrap_or_default(),
            made.name,
            made.key.display(),
            made.wait_seconds,
        )
    })
}
