//! Restore: what is recorded in a store whose past was restored, offline, before a server runs on it. `docs/adr/0016`
//! tells why.

mod resume;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use bytes::Bytes;

pub(super) use self::resume::numbers;
pub use self::resume::{LONGEST_WINDOW, resume};
use super::{
    RESTORED, TAKEN_BACK,
    publish::{LIFETIME, Pending, sha256},
    revoke::{LOST_HOLD, action},
};
use crate::{
    audit::Draft,
    identity::{IssuerId, Kind, RevocationReason, Subject, Timestamp},
    inventory::device::Status,
    pki::{CaRole, CrlEntry, CrlError, IssuerCertificate, IssuerError, ParsedCrl, Profile, RETENTION},
    store::{ClaimedCrl, CrlHead, Cutoff, IssuerRow, Notice, Peer, Restoration, Store, StoreError, Taken, TakenCrl},
};

/// What was begun before a backup may be committed after it.
const UNDER_WAY: Duration = Duration::from_secs(60);
/// How many changes are read at once.
const BATCH: u32 = 10_000;

/// Why a restoration does not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is wrong with one of the CRLs that were given.
    #[error("the CRL at {index}: {why}")]
    Given {
        /// Which one, from 0.
        index: usize,
        /// What.
        why: Box<RestoreError>,
    },
    /// A CRL that can't be read.
    #[error("not a CRL of this CA: {0}")]
    Crl(#[from] CrlError),
    /// An issuer of the store that can't be read.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// A CRL of nobody that is known here.
    #[error("a CRL of an issuer that this CA does not have")]
    UnknownIssuer,
    /// A device's own list.
    #[error("the CRL of one device: complete ones are needed")]
    Partial,
    /// Nothing is to be decided.
    #[error(
        "nothing is known of a restored past here: there is nothing to decide. Where an old folder or disk was put back, start \
         `serve`: the first gateway that shows what it holds tells of it"
    )]
    NotRestored,
    /// A decision without the CRLs that it needs: of these issuers.
    #[error(
        "no CRL of the lost time was given of issuer {}: find the newest one that a gateway holds and name it with --crl; or, where \
         there is none, say {}: what that issuer revoked in the lost time is valid again then",
        listed(.0, "", ", "),
        listed(.0, "--accept-loss ", " ")
    )]
    CrlMissing(Vec<IssuerId>),
    /// A loss of what there is not.
    #[error("{0} is no issuer of this CA: see `ca-server issuer list`, or what `restore --resume` asks for")]
    NoIssuer(IssuerId),
}

fn listed(issuers: &[IssuerId], before: &str, between: &str) -> String {
    issuers.iter().map(|id| format!("{before}{id}")).collect::<Vec<_>>().join(between)
}

/// What became of one CRL that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenBack {
    /// Whose.
    pub issuer: IssuerId,
    /// It is a root: somebody signed its CRL in a ceremony.
    pub is_root: bool,
    /// Its number.
    pub number: u64,
    /// When it was made.
    pub this_update: Timestamp,
    /// What it did; `None`: there was nothing new in it.
    pub taken: Option<Taken>,
    /// Who was cut off or put on hold by it.
    pub cut_off: Vec<Subject>,
    /// On hold here, and not on the CRL: released in the lost time, as it seems. They stay on hold.
    pub released: Vec<Subject>,
}

/// What the CRLs that are given tell before anything is taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// The newest thisUpdate of those that are ours.
    pub newest: Option<Timestamp>,
    /// Those of issuers that are not known here: of CAs that were made in the lost time, if they are not somebody else's.
    pub unknown: Vec<UnknownCrl>,
}

/// A CRL that is passed over, since nobody here can tell whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCrl {
    /// The ID of an issuer with the key identifier that it names.
    pub issuer: IssuerId,
    /// The number that it says.
    pub number: u64,
}

/// Records that the past was restored from a backup that was begun at `made_at`.
pub async fn notice_restored(
    store: &dyn Store,
    made_at: Timestamp,
    now: Timestamp,
) -> Result<Restoration, RestoreError> {
    let audit = Draft::done(now, "local", RESTORED, domain(store).await?).fact("made_at", made_at.to_string());
    // By whatever clock the backup was made: what was published before is in it.
    let mut lost_from = made_at;
    for row in store.issuers().await?.iter().filter(|row| row.is_online()) {
        lost_from = store.crl_head(row.id).await?.map_or(lost_from, |head| lost_from.min(head.this_update));
    }
    let (lost_from, evidence) = (lost_from - UNDER_WAY, format!("restored from a backup made at {made_at}"));
    Ok(store.record_notice(Notice { at: now, lost_from, lost_until: now, evidence, audit }).await?)
}

/// What the records are about.
async fn domain(store: &dyn Store) -> Result<String, RestoreError> {
    Ok(format!("domain/{}", store.domain().await?.trust_domain))
}

/// The restoration that nobody has decided upon yet.
pub async fn undecided(store: &dyn Store) -> Result<Restoration, RestoreError> {
    let found = store.restorations().await?.into_iter().find(|restoration| restoration.resumption.is_none());
    found.ok_or(RestoreError::NotRestored)
}

/// The restoration that CRLs are taken back for: the one that nobody has decided upon, or else the last one. What comes
/// to light after the decision is taken back as well.
pub async fn latest(store: &dyn Store) -> Result<Restoration, RestoreError> {
    store.restorations().await?.pop().ok_or(RestoreError::NotRestored)
}

/// Takes revocations back from CRLs (DER) of the lost time: of each issuer the newest one, which holds all that those
/// before it held. Those of issuers that are not known are passed over, unless there is no other.
pub async fn take_back(store: &dyn Store, crls: &[Vec<u8>], now: Timestamp) -> Result<Vec<TakenBack>, RestoreError> {
    let rows = store.issuers().await?;
    let mut newest: BTreeMap<IssuerId, (CaRole, ParsedCrl)> = BTreeMap::new();
    for der in crls {
        let Whose::Ours(row, crl) = verified(&rows, der)? else { continue };
        if newest.get(&row.id).is_none_or(|(_, known)| known.number() < crl.number()) {
            newest.insert(row.id, (row.role, crl));
        }
    }
    if newest.is_empty() && !crls.is_empty() {
        return Err(RestoreError::UnknownIssuer);
    }
    let mut done = Vec::new();
    for (id, (role, crl)) in newest {
        done.push(take_one(store, id, role, &crl, now).await?);
    }
    Ok(done)
}

/// Looks at CRLs (DER): none of them may be broken, or forged. One of ours there must be, if there is any.
pub async fn look_at(store: &dyn Store, crls: &[Vec<u8>]) -> Result<Looked, RestoreError> {
    let rows = store.issuers().await?;
    let mut seen = Looked::default();
    for (index, der) in crls.iter().enumerate() {
        let given = |why| RestoreError::Given { index, why: Box::new(why) };
        match verified(&rows, der).map_err(given)? {
            Whose::Ours(_, crl) => seen.newest = seen.newest.max(Some(crl.this_update())),
            Whose::Unknown(crl) => seen.unknown.push(crl),
        }
    }
    match seen.newest.is_none() && !crls.is_empty() {
        true => Err(RestoreError::Given { index: 0, why: Box::new(RestoreError::UnknownIssuer) }),
        false => Ok(seen),
    }
}

/// A CRL, and who has signed it.
enum Whose<'a> {
    /// An issuer of ours.
    Ours(&'a IssuerRow, ParsedCrl),
    /// Nobody can tell.
    Unknown(UnknownCrl),
}

/// Reads a CRL and proves whose it is, if that is known.
fn verified<'a>(rows: &'a [IssuerRow], der: &[u8]) -> Result<Whose<'a>, RestoreError> {
    let der: Bytes = der.to_vec().into();
    let strict = ParsedCrl::parse(der.clone());
    // Somebody else's root lists what this CA never would.
    let crl = match &strict {
        Ok(crl) => crl.clone(),
        Err(error) => ParsedCrl::parse_root(der).map_err(|_| *error)?,
    };
    if crl.distribution_point().is_some() {
        return Err(RestoreError::Partial);
    }
    for row in rows {
        let issuer = IssuerCertificate::parse(&row.certificate)?;
        if issuer.key_identifier() == crl.authority_key() {
            crl.verify(&issuer)?;
            if !row.role.is_root() {
                strict?;
            }
            return Ok(Whose::Ours(row, crl));
        }
    }
    let issuer = IssuerId::of_key_identifier(&crl.authority_key());
    Ok(Whose::Unknown(UnknownCrl { issuer, number: crl.number() }))
}

async fn take_one(
    store: &dyn Store,
    id: IssuerId,
    role: CaRole,
    crl: &ParsedCrl,
    now: Timestamp,
) -> Result<TakenBack, RestoreError> {
    let ours = store.crl_head(id).await?;
    let mut back = TakenBack {
        issuer: id,
        is_root: role.is_root(),
        number: crl.number(),
        this_update: crl.this_update(),
        taken: None,
        cut_off: Vec::new(),
        released: Vec::new(),
    };
    let claimed =
        ClaimedCrl { issuer: id, number: crl.number(), this_update: crl.this_update(), sha256: sha256(crl.der()) };
    let memory = store.crl_memory(&claimed).await?;
    let older_root = role.is_root() && ours.as_ref().is_some_and(|ours| ours.number >= crl.number());
    // Of so old ones of ours we have no memory, and they are of no lost time that ended after them.
    let too_old = ours.as_ref().is_some_and(|ours| crl.this_update() + LIFETIME < ours.horizon);
    if memory.is_known || memory.is_behind_taken || older_root || !role.is_root() && too_old {
        return Ok(back);
    }
    // By a CRL that is dated ahead, what lives would have expired: its entries would be off the next one.
    let reached = crl.this_update().min(now) - RETENTION;
    let horizon = match role.is_root() {
        true => Timestamp::default(),
        false => ours.map_or(reached, |ours| ours.horizon.max(reached)),
    };
    let head = CrlHead {
        issuer: id,
        number: crl.number(),
        this_update: crl.this_update(),
        next_update: crl.next_update(),
        watermark: 0,
        horizon,
        sha256: claimed.sha256,
        signature: crl.signature().to_vec(),
        der: Some(crl.der().to_vec()),
    };
    let cutoffs = if role.is_root() { Vec::new() } else { cutoffs(store, crl, now).await? };
    back.cut_off = cutoffs.iter().map(|cutoff| cutoff.subject.clone()).collect();
    back.released = if role.is_root() { Vec::new() } else { released(store, id, crl).await? };
    let listed = crl.entries().iter().filter(|_| !role.is_root());
    let entries = listed.map(|entry| (entry, entry.serial.made_at() + longest_life(role))).collect();
    let audit = Draft::done(now, "local", TAKEN_BACK, format!("issuer/{id}"))
        .fact("number", crl.number())
        .fact("entries", crl.entries().len())
        .fact("cut_off", back.cut_off.len());
    back.taken = Some(store.record_taken_crl(TakenCrl { head, cutoffs, entries, audit }).await?);
    Ok(back)
}

/// How long a certificate of this CA lives at most.
fn longest_life(role: CaRole) -> Duration {
    let kinds: &[Kind] = match role.root() {
        CaRole::DeviceRoot => &[Kind::Device],
        _ => &[Kind::Gateway, Kind::Operator, Kind::Server],
    };
    kinds.iter().map(|kind| Profile::Leaf(*kind).longest_validity()).max().unwrap_or_default()
}

/// Who was cut off in the lost time: the holders of the certificates on the CRL that are known here, once each.
async fn cutoffs(store: &dyn Store, crl: &ParsedCrl, now: Timestamp) -> Result<Vec<Cutoff>, RestoreError> {
    let mut found: HashMap<Subject, (Peer, CrlEntry)> = HashMap::new();
    for entry in crl.entries().iter() {
        let Some(peer) = store.peer(entry.serial).await? else { continue };
        if !cuts_off(&peer, &entry) {
            continue;
        }
        match found.get(&peer.holder.subject) {
            // What is revoked is not on hold only.
            Some((_, known)) if known.reason != RevocationReason::CertificateHold => {}
            _ => drop(found.insert(peer.holder.subject.clone(), (peer, entry))),
        }
    }
    let cutoff = |(peer, entry): (Peer, CrlEntry)| {
        let subject = peer.holder.subject;
        let hold = entry.reason == RevocationReason::CertificateHold;
        let status = if hold { Status::Held } else { Status::Revoked };
        let audit = Draft::done(now, "local", action(subject.kind, status), subject.to_string())
            .serial(entry.serial)
            .fact("by", TAKEN_BACK)
            .fact("reason", entry.reason.as_str())
            .fact("number", crl.number());
        Cutoff {
            subject,
            status,
            reason: entry.reason,
            status_reason: if hold { LOST_HOLD.into() } else { entry.reason.to_string() },
            at: entry.revoked_at,
            audit,
        }
    };
    let mut cutoffs: Vec<Cutoff> = found.into_values().map(cutoff).collect();
    cutoffs.sort_by(|left, right| left.subject.cmp(&right.subject));
    Ok(cutoffs)
}

/// Whether an entry says that the certificate's holder was cut off, and not this certificate alone: one that was replaced
/// while it waited is superseded, and one that a release took away is withdrawn; but nothing ever supersedes a head.
fn cuts_off(peer: &Peer, entry: &CrlEntry) -> bool {
    let was_off = peer.certificate.revoked.is_some_and(|revoked| revoked.is_listed_as(entry.revoked_at, entry.reason));
    match entry.reason {
        _ if peer.holder.subject.kind == Kind::Server || was_off => false,
        RevocationReason::PrivilegeWithdrawn => false,
        RevocationReason::Superseded => peer.holder.lineage.head == Some(peer.certificate.serial),
        RevocationReason::CertificateHold => peer.holder.status.may_become(Status::Held),
        _ => true,
    }
}

/// Who is on hold here, and not on a newer CRL.
async fn released(store: &dyn Store, id: IssuerId, crl: &ParsedCrl) -> Result<Vec<Subject>, RestoreError> {
    let mut pending = Pending::default();
    loop {
        let changes = store.changes(id, pending.watermark(), BATCH).await?;
        let taken = changes.iter().take_while(|change| pending.apply(change)).count();
        if taken < BATCH as usize {
            break;
        }
    }
    let turn = pending.until(crl.this_update(), []);
    let listed: BTreeSet<_> = crl.entries().serials().collect();
    let mut found = BTreeSet::new();
    let held = |entry: &CrlEntry| entry.reason == RevocationReason::CertificateHold;
    for entry in turn.edits().filter_map(|(_, entry)| entry).filter(held) {
        if !listed.contains(&entry.serial)
            && entry.revoked_at < crl.this_update()
            && let Some(peer) = store.peer(entry.serial).await?
        {
            found.insert(peer.holder.subject);
        }
    }
    Ok(found.into_iter().collect())
}
