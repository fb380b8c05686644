//! `ca-server issuer create` and `rotate`: one more issuing CA of devices, or one in the place of another, on the CA's own
//! folder and with the root keys at hand.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::super::{CommandError, Session, local, output::Instant};
use super::answer::Answer;
use super::ceremony::{Ceremony, Place};
use crate::{
    audit::Draft,
    identity::{IssuerId, Timestamp},
    inventory::partition::Standing,
    pki::IssuerCertificate,
    store::{IssuerChange, IssuerRow, StoreError, TrustBundleRow},
};

/// What a new issuing CA needs.
#[derive(Args, Debug)]
pub struct Create {
    #[command(flatten)]
    place: Place,
    /// What the device root has signed for an `issuer request`, where its key is not at hand
    #[arg(long, value_name = "FILE")]
    issuer_cert: Option<PathBuf>,
}

/// The same, and the one before it.
#[derive(Args, Debug)]
pub struct Rotate {
    /// The ID of the one that it takes over from
    #[arg(value_name = "ISSUER")]
    issuer: IssuerId,
    #[command(flatten)]
    place: Place,
    /// What the device root has signed for an `issuer request`, where its key is not at hand
    #[arg(long, value_name = "FILE")]
    issuer_cert: Option<PathBuf>,
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

/// What to do where the device root's key is not to be had.
const ASK: &str =
    "ask it for a certificate with `ca-server issuer request --csr-out FILE`, and give that with --issuer-cert";

/// Makes one more.
pub async fn create(args: Create, session: &Session) -> Result<(), CommandError> {
    let ceremony = Ceremony::open(&args.place, args.issuer_cert.is_none().then_some(ASK)).await?;
    made_of(&ceremony, None, args.issuer_cert.as_deref(), session).await
}

/// Makes one that takes over from another.
pub async fn rotate(args: Rotate, session: &Session) -> Result<(), CommandError> {
    let ceremony = Ceremony::open(&args.place, args.issuer_cert.is_none().then_some(ASK)).await?;
    let before = ceremony.issuer(args.issuer).await?;
    made_of(&ceremony, Some(&before), args.issuer_cert.as_deref(), session).await
}

async fn made_of(
    ceremony: &Ceremony,
    before: Option<&IssuerRow>,
    issuer_cert: Option<&Path>,
    session: &Session,
) -> Result<(), CommandError> {
    let answer = issuer_cert.map(|path| Answer::read(ceremony, path)).transpose()?;
    // Cut short behind its record, the same command goes on.
    let known = answer.as_ref().map(|answer| answer.known(ceremony, before)).transpose()?.flatten();
    if known.is_none()
        && let Some(IssuerRow { id, standing: standing @ (Standing::Retired | Standing::Ended), .. }) = before
    {
        return Err(local(format!("{id} is {}: nothing takes over from it", standing.as_str())));
    }
    let certificate = match (known, &answer) {
        (Some(certificate), _) => certificate,
        (None, Some(answer)) => answer.take_in(ceremony, before).await?,
        (None, None) => make(ceremony, before).await?,
    };
    if let Some(answer) = answer {
        answer.request.discard()?;
    }
    tell(ceremony, before, &certificate, session)
}

/// With a key and a certificate that are made here.
async fn make(ceremony: &Ceremony, before: Option<&IssuerRow>) -> Result<IssuerCertificate, CommandError> {
    let (key, public) = ceremony.new_key()?;
    let made = async {
        let bundle = ceremony.store.trust_bundle().await.map_err(local)?;
        let dates = (ceremony.now - ceremony.config.backdate, ceremony.now);
        let made = ceremony.roots.create_issuer(&ceremony.domain, &bundle, &public, dates).map_err(local)?;
        record(ceremony, before, made).await
    };
    match made.await {
        Ok(certificate) => Ok(certificate),
        Err(error) => {
            forget_key(ceremony, IssuerId::of(&public.fingerprint()), &key).await;
            Err(error)
        }
    }
}

/// Removes a key where nobody knows of it.
pub(super) async fn forget_key(ceremony: &Ceremony, id: IssuerId, key: &Path) {
    if ceremony.store.issuers().await.is_ok_and(|rows| rows.iter().all(|row| row.id != id)) {
        // The fault before this one is the one to tell.
        let _ = std::fs::remove_file(key);
    }
}

pub(super) async fn record(
    ceremony: &Ceremony,
    before: Option<&IssuerRow>,
    (row, bundle): (IssuerRow, TrustBundleRow),
) -> Result<IssuerCertificate, CommandError> {
    let (now, certificate) = (ceremony.now, ceremony.read(&row)?);
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
}

fn tell(
    ceremony: &Ceremony,
    before: Option<&IssuerRow>,
    certificate: &IssuerCertificate,
    session: &Session,
) -> Result<(), CommandError> {
    let made = Made {
        issuer: certificate.id().to_string(),
        replaces: before.map(|before| before.id.to_string()),
        name: certificate.subject_text().to_owned(),
        not_after: Instant::from_millis(Timestamp::millis(certificate.not_after())),
        key: ceremony.folder.issuer_key(certificate.id()),
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
