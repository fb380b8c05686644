//! `ca-server issuer end` and `revoke`: an issuing CA of devices goes onto its root's CRL, and out of bundles and trust
//! bundle, with the root keys at hand. Which of the two it is says the reason, and whether devices still need it.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::super::{CommandError, Session, foreign, local, root};
use super::{
    bereft::{bereft, cures},
    ceremony::{Ceremony, Place},
};
use crate::{
    audit::Draft,
    authority::{CeremonyError, judge_root_crl, root_crl},
    folder,
    identity::{AuthoritySerial, IssuerId, RevocationReason, Timestamp},
    inventory::partition::Standing,
    pki::{CaRole, CrlEntry, IssuerCertificate, ParsedCrl, RETENTION, check_root_successor},
    store::{CrlHead, IssuerChange, IssuerRow, StoreError},
};

/// Which, and where.
#[derive(Args, Debug)]
pub struct Strike {
    /// Its ID
    #[arg(value_name = "ISSUER")]
    issuer: IssuerId,
    #[command(flatten)]
    place: Place,
    /// The device root's CRL with this CA on it, PEM or DER, where its key is not at hand
    #[arg(long, value_name = "FILE")]
    root_crl: Option<PathBuf>,
}

/// What to do where the device root's key is not to be had.
const REVOKE: &str = "have it revoke the issuing CA, and give its CRL with --root-crl";

/// What was done, for programs.
#[derive(Debug, Serialize)]
struct Struck {
    issuer: String,
    standing: &'static str,
    reason: &'static str,
    root_crl: u64,
    /// How many of its certificates have not expired.
    live: u64,
    /// The fleets that nobody signs for now.
    fleets_without_issuer: Vec<String>,
}

/// Ends one that no device needs any more.
pub async fn end(args: Strike, session: &Session) -> Result<(), CommandError> {
    strike(args, Standing::Ended, RevocationReason::CessationOfOperation, session).await
}

/// Cuts one off whose key is stolen, whoever needs it.
pub async fn revoke(args: Strike, session: &Session) -> Result<(), CommandError> {
    strike(args, Standing::Revoked, RevocationReason::CaCompromise, session).await
}

async fn strike(
    args: Strike,
    standing: Standing,
    reason: RevocationReason,
    session: &Session,
) -> Result<(), CommandError> {
    let ceremony = Ceremony::open(&args.place, args.root_crl.is_none().then_some(REVOKE)).await?;
    let (id, now) = (args.issuer, ceremony.now);
    let row = ceremony.issuer(id).await?;
    let certificate = ceremony.read(&row)?;
    let live = may_be_struck(&ceremony, id, row.standing, standing).await?;
    let known = ceremony.store.crl_head(ceremony.device_root.id()).await.map_err(local)?;
    let head = match &args.root_crl {
        Some(path) => given_root_crl(&ceremony, path, known.as_ref(), &certificate)?,
        None => sign_root_crl(&ceremony, known.as_ref(), &certificate, reason)?,
    };
    let bundle = ceremony.store.trust_bundle().await.map_err(local)?;
    let bundle = ceremony.roots.control.next_bundle(&ceremony.domain, &bundle, (None, Some(id)), now);
    let bundle = bundle.map_err(local)?;
    let action = if standing == Standing::Ended { "issuer.ended" } else { "issuer.revoked" };
    let audit = Draft::done(now, "local", action, format!("issuer/{id}"))
        .serial(certificate.serial())
        .fact("reason", reason.as_str())
        .fact("root_crl", head.number)
        .fact("live_certificates", live)
        .fact("trust_bundle", bundle.sequence);
    let struck = Struck {
        issuer: id.to_string(),
        standing: standing.as_str(),
        reason: reason.as_str(),
        root_crl: head.number,
        live,
        fleets_without_issuer: bereft(ceremony.store.as_ref(), id, standing, now).await?,
    };
    let previous = known.as_ref().map(|known| known.number);
    let is_known = previous == Some(head.number);
    let change = IssuerChange {
        new: None,
        standing: Some((id, standing)),
        root_crl: (!is_known).then_some((head, previous)),
        trust_bundle: Some(bundle),
        at: now,
        audit,
    };
    ceremony.store.record_issuer_change(change).await.map_err(|error| match error {
        StoreError::Conflict => local("it does not stand as it must for this any more: see `ca-server issuer status`"),
        other => local(other),
    })?;
    let key = ceremony.folder.issuer_key(id);
    // It signs nothing any more. What is cut short here leaves a key that is of no use to us.
    if let Err(error) = std::fs::remove_file(&key) {
        tracing::warn!(key = %key.display(), %error, "the key of no use could not be removed");
    }
    session.output().told(&struck, |_| words(&struck))
}

fn words(struck: &Struck) -> String {
    let Struck { issuer, standing, root_crl, live, fleets_without_issuer, .. } = struck;
    let mut devices = match live {
        0 => String::new(),
        live => format!(
            "{live} of its certificates have not expired: their devices are told to attest anew, and are given others \
             where somebody signs for their fleet\n"
        ),
    };
    devices += &cures(fleets_without_issuer);
    format!(
        "issuing CA {issuer} is {standing}: on the root's CRL number {root_crl}, and in no bundle any more\n{devices}next: \
         start the server, and make a backup; gateways take it in with the next bundle"
    )
}

/// How many of its certificates are live, if it may go.
async fn may_be_struck(ceremony: &Ceremony, id: IssuerId, from: Standing, to: Standing) -> Result<u64, CommandError> {
    let rows = ceremony.store.issuers().await.map_err(local)?;
    if !from.publishes() {
        return Err(local(format!("{id} is {} already", from.as_str())));
    }
    let signs = |row: &&IssuerRow| {
        let is_active = row.role == CaRole::DeviceIssuing && row.id != id && row.standing == Standing::Active;
        is_active && ceremony.read(row).is_ok_and(|certificate| certificate.not_after() >= ceremony.now)
    };
    if !rows.iter().any(|row| signs(&row)) {
        return Err(local(match from {
            Standing::Active => format!(
                "{id} is the only issuing CA that is active: make another first, with `ca-server issuer rotate {id}`"
            ),
            _ => format!("no other issuing CA is active: make one before {id} goes, with `ca-server issuer create`"),
        }));
    }
    // Entries stay for so long after their certificates, and so does the CRL.
    let since = if to == Standing::Ended { ceremony.now - RETENTION } else { ceremony.now };
    let all = ceremony.store.issuers_in_use(since).await.map_err(local)?;
    let found = all.into_iter().find(|one| one.issuer == id);
    let (live, until) = found.map_or((0, None), |one| (one.live, one.last_not_after));
    if to == Standing::Ended && from == Standing::Active {
        return Err(local(format!(
            "{id} is active: `ca-server issuer retire {id}` first, and wait until no device needs it"
        )));
    }
    match (to, until) {
        (Standing::Ended, Some(until)) => Err(local(format!(
            "{live} certificates of {id} have not expired, or not for a day, the last one until {until}: its CRL is needed for a \
             day after that"
        ))),
        _ => Ok(live),
    }
}

/// Their root's CRL as it was signed elsewhere, with this CA on it: in place of the one that the CA has, or that one.
fn given_root_crl(
    ceremony: &Ceremony,
    path: &Path,
    known: Option<&CrlHead>,
    certificate: &IssuerCertificate,
) -> Result<CrlHead, CommandError> {
    let crl = foreign::root_crl(path)?;
    let root = &ceremony.device_root;
    let before = known.and_then(|head| head.der.clone()).map(|der| ParsedCrl::parse_root(der.into()));
    let before = before.transpose().map_err(local)?.filter(|before| before.der() != crl.der());
    let keeps = |serial: &AuthoritySerial| ceremony.issuers.keeps_entry(root, serial);
    let head = foreign::judged(path, judge_root_crl(root, &crl, before.as_ref(), keeps, ceremony.now))?;
    match crl.revoked_authorities().get(&certificate.serial()) {
        Some(entry) if entry.is_final() => Ok(head),
        Some(_) => {
            Err(foreign::wrong(path, &format!("{} is on hold there only, and not revoked", certificate.serial())))
        }
        None => {
            let why = format!("it does not revoke {}, the serial number of {}", certificate.serial(), certificate.id());
            Err(foreign::wrong(path, &why))
        }
    }
}

/// Their root's CRL with this entry, written beside its key.
fn sign_root_crl(
    ceremony: &Ceremony,
    known: Option<&CrlHead>,
    issuing: &IssuerCertificate,
    reason: RevocationReason,
) -> Result<CrlHead, CommandError> {
    let key = ceremony.roots.device.as_ref().ok_or_else(|| local(CeremonyError::NoDeviceRoot))?;
    let certificate: &IssuerCertificate = &key.certificate;
    let serial = issuing.serial().as_ours().ok_or_else(|| local("its serial number is none of this CA's"))?;
    let entry = CrlEntry { serial, revoked_at: ceremony.now, reason };
    let now: Timestamp = ceremony.now;
    let (path, before) = root::newest_crl(&ceremony.root_dir, CaRole::DeviceRoot, certificate, now)?;
    let (der, head) = root_crl(certificate, key.signer.as_ref(), Some(&before), Some(entry), now).map_err(local)?;
    if let Some(known) = known.and_then(|head| head.der.clone()) {
        let older = |why: String| foreign::wrong(&path, &format!("is older than the one that the CA has: {why}"));
        let known = ParsedCrl::parse_root(known.into()).map_err(local)?;
        let new = ParsedCrl::parse_root(der.clone().into()).map_err(local)?;
        if let Some(lost) = check_root_successor(&known, &new).map_err(|error| older(error.to_string()))?.first() {
            return Err(older(format!("it lacks the entry of {lost}")));
        }
    }
    // Before the record: what follows on it must never lack this entry. The same command goes on from here.
    folder::write(&path, &der, 0o644).map_err(CommandError::file(&path))?;
    Ok(head)
}
