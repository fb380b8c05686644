//! The CRLs of roots: signed where a root's key is at hand, or taken from whoever has it.

use std::time::Duration;

use super::{PublishError, Refusal, publish::sha256};
use crate::{
    identity::{AuthoritySerial, Timestamp},
    pki::{CrlEntry, CrlTemplate, IssuerCertificate, ParsedCrl, check_root_successor},
    signer::Signer,
    store::CrlHead,
};

/// How long a root's CRL is good: 13 months, renewed once a year.
pub const ROOT_CRL_LIFETIME: Duration = Duration::from_secs(396 * 24 * 3600);

/// How far ahead of ours the clock may be on which a root's CRL was signed.
const SKEW: Duration = Duration::from_secs(300);

/// A root's CRL (DER) and its head: the entries of the one before it stay, and there may be another.
pub fn root_crl(
    root: &IssuerCertificate,
    signer: &dyn Signer,
    before: Option<&ParsedCrl>,
    entry: Option<CrlEntry>,
    now: Timestamp,
) -> Result<(Vec<u8>, CrlHead), Refusal> {
    let this_update = before.map_or(now, |crl| now.max(crl.this_update())).floor_secs();
    let number = before.map_or(0, |crl| crl.number() + 1).max(u64::try_from(now.millis()).unwrap_or(0));
    let template = CrlTemplate {
        issuer: root,
        number,
        this_update,
        next_update: this_update + ROOT_CRL_LIFETIME,
        distribution_point: None,
    };
    let prepared = template.prepare(before, entry.map(|entry| (entry.serial, Some(entry))));
    let signature = signer.sign(prepared.tbs())?;
    let der = prepared.assemble(&signature).to_vec();
    let head = CrlHead {
        issuer: root.id(),
        number,
        this_update,
        next_update: template.next_update,
        watermark: 0,
        horizon: Timestamp::default(),
        sha256: sha256(&der),
        signature,
        der: Some(der.clone()),
    };
    Ok((der, head))
}

/// Whether a CRL was signed by a clock that is ahead of ours: what follows on it would be dated ahead, too, and gateways take
/// none that is.
pub fn is_dated_ahead(crl: &ParsedCrl, now: Timestamp) -> bool {
    crl.this_update() > now + SKEW
}

/// The head of a root's CRL that was signed elsewhere, if it may be taken in after the one before it: signed by the root, one
/// that gateways take today, and no step back. `keeps`: whether this entry must never be lost.
pub fn judge_root_crl(
    root: &IssuerCertificate,
    crl: &ParsedCrl,
    before: Option<&ParsedCrl>,
    keeps: impl Fn(&AuthoritySerial) -> bool,
    now: Timestamp,
) -> Result<CrlHead, PublishError> {
    crl.verify(root)?;
    if is_dated_ahead(crl, now) || crl.next_update() <= now {
        return Err(PublishError::NotNow { this_update: crl.this_update(), next_update: crl.next_update() });
    }
    if let Some(before) = before
        && let Some(lost) = check_root_successor(before, crl)?.into_iter().find(keeps)
    {
        return Err(PublishError::LosesEntry(lost));
    }
    Ok(CrlHead {
        issuer: root.id(),
        number: crl.number(),
        this_update: crl.this_update(),
        next_update: crl.next_update(),
        watermark: 0,
        horizon: Timestamp::default(),
        sha256: sha256(crl.der()),
        signature: crl.signature().to_vec(),
        der: Some(crl.der().to_vec()),
    })
}
