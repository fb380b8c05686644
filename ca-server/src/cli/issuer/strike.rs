//! `ca-server issuer end` and `revoke`: an issuing CA of devices goes onto its root's CRL, and out of bundles and trust
//! bundle, with the root keys at hand. Which of the two it is says the reason, and whether devices still need it.

use clap::Args;
use serde::Serialize;

use super::super::{CommandError, Session, local, root};
use super::{
    bereft::{bereft, cures},
    ceremony::{Ceremony, Place},
};
use crate::{
    audit::Draft,
    authority::root_crl,
    folder,
    identity::{IssuerId, RevocationReason, Timestamp},
    inventory::partition::Standing,
    pki::{CaRole, CrlEntry, IssuerCertificate, ParsedCrl, RETENTION, check_successor},
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
}

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
    let ceremony = Ceremony::open(&args.place).await?;
    let (id, now) = (args.issuer, ceremony.now);
    let row = ceremony.issuer(id).await?;
    let certificate = ceremony.read(&row)?;
    let live = may_be_struck(&ceremony, id, row.standing, standing).await?;
    let entry = CrlEntry { serial: certificate.serial(), revoked_at: now, reason };
    let (head, previous) = sign_root_crl(&ceremony, entry).await?;
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
        fleets_without_issuer: bereft(ceremony.store.as_ref(), id, standing).await?,
    };
    let change = IssuerChange {
        new: None,
        standing: Some((id, standing)),
        root_crl: Some((head, previous)),
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

/// Their root's CRL with this entry, written beside its key; its head, and the number of the one that the CA has.
async fn sign_root_crl(ceremony: &Ceremony, entry: CrlEntry) -> Result<(CrlHead, Option<u64>), CommandError> {
    let key = &ceremony.roots.device;
    let certificate: &IssuerCertificate = &key.certificate;
    let (path, before) = root::newest_crl(&ceremony.root_dir, CaRole::DeviceRoot, certificate)?;
    let now: Timestamp = ceremony.now;
    let (der, head) = root_crl(certificate, key.signer.as_ref(), Some(&before), Some(entry), now).map_err(local)?;
    let known = ceremony.store.crl_head(certificate.id()).await.map_err(local)?;
    if let Some(known) = known.as_ref().and_then(|head| head.der.clone()) {
        let older = |why: String| root::content(&path, format!("is older than the one that the CA has: {why}"));
        let known = ParsedCrl::parse(known.into()).map_err(local)?;
        let new = ParsedCrl::parse(der.clone().into()).map_err(local)?;
        if let Some(lost) = check_successor(&known, &new).map_err(|error| older(error.to_string()))?.first() {
            return Err(older(format!("it lacks the entry of {lost}")));
        }
    }
    // Before the record: what follows on it must never lack this entry. The same command goes on from here.
    folder::write(&path, &der, 0o644).map_err(CommandError::file(&path))?;
    Ok((head, known.map(|head| head.number)))
}
