//! What the store keeps of a past that was restored, and of what it is noticed by.

use super::{CrlHead, Cutoff, Domain, EnrollmentHolder, IssuerRow, NewCertificate};
use crate::{
    audit::Draft,
    identity::{FleetName, IssuerId, SerialNumber, Subject, Timestamp},
    inventory::lineage::Lineage,
    pki::CrlEntry,
};

/// A time that the store has lost: between its first and its last instant certificates may have been made, revoked and
/// renewed of which it knows nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restoration {
    /// Its row.
    pub key: i64,
    /// When somebody noticed.
    pub noticed_at: Timestamp,
    /// The first instant that may be lost.
    pub lost_from: Timestamp,
    /// The last one.
    pub lost_until: Timestamp,
    /// By what it was noticed: for people.
    pub evidence: String,
    /// The fleets that took devices that nobody registered, and have refused them since.
    pub closed_fleets: Vec<FleetName>,
    /// What an operator decided; `None`: nobody has yet, and the CA stands still.
    pub resumption: Option<Resumption>,
}

/// The decision to go on after a restoration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumption {
    /// Since when.
    pub at: Timestamp,
    /// Until when certificates of the lost time are taken in.
    pub window_until: Timestamp,
    /// Nobody had a CRL of the lost time: what was revoked in it is given up for lost.
    pub loss_accepted: bool,
}

impl Restoration {
    /// Whether this instant lies in the lost time.
    pub fn covers(&self, at: Timestamp) -> bool {
        (self.lost_from..=self.lost_until).contains(&at)
    }

    /// Whether this instant lies in the lost time, and somebody has decided upon it.
    pub fn is_settled(&self, at: Timestamp) -> bool {
        self.resumption.is_some() && self.covers(at)
    }

    /// Whether certificates of the lost time are taken in now.
    pub fn is_open(&self, now: Timestamp) -> bool {
        // Also before the decision, by a clock that was ahead then.
        self.resumption.is_some_and(|resumption| now <= resumption.window_until)
    }
}

/// A restoration that was noticed: every unspent token ends and every operator's certificate is withdrawn with it, since
/// they may have been spent and revoked in the lost time; and no fleet takes devices any more that nobody registered, since
/// they may have been closed in it, and have forgotten whom they had.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Now.
    pub at: Timestamp,
    /// The first instant that may be lost.
    pub lost_from: Timestamp,
    /// The last instant that is known to be lost: after `at` where the clock is behind.
    pub lost_until: Timestamp,
    /// By what it was noticed.
    pub evidence: String,
    /// The record of it; the store adds what it ended.
    pub audit: Draft,
}

/// A CRL that somebody holds, as its signed head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimedCrl {
    /// Whose.
    pub issuer: IssuerId,
    /// Its number.
    pub number: u64,
    /// Its thisUpdate.
    pub this_update: Timestamp,
    /// SHA-256 of its DER.
    pub sha256: [u8; 32],
}

/// What the store knows of a CRL that somebody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CrlMemory {
    /// It was published here, byte for byte, or taken back.
    pub is_known: bool,
    /// One of a number at least as high was taken back.
    pub is_behind_taken: bool,
    /// The horizon of the issuer's CRL: what was good before this only is forgotten.
    pub horizon: Timestamp,
    /// thisUpdate of the newest CRL known that is not newer than this one.
    pub last_known: Option<Timestamp>,
}

/// A CRL of a lost time, verified, whose entries are to be in force again.
#[derive(Clone, Debug)]
pub struct TakenCrl {
    /// Kept whole where it is newer than ours: it is served until the next one is published.
    pub head: CrlHead,
    /// Who is cut off by it.
    pub cutoffs: Vec<Cutoff>,
    /// Its entries, with the latest instant at which each certificate can be valid.
    pub entries: Vec<(CrlEntry, Timestamp)>,
    /// The record of it; the store adds numbers.
    pub audit: Draft,
}

/// What a CRL that was taken back did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Taken {
    /// Certificates whose revocation changed.
    pub certificates: u32,
    /// Entries of certificates that are not known here, and were not on our CRL.
    pub orphans: u32,
}

/// A certificate of the lost time that becomes its holder's head.
#[derive(Clone, Debug)]
pub struct Adoption {
    /// Out of which lost time.
    pub restoration: i64,
    /// Whose it is: new where the holder was first enrolled in the lost time.
    pub holder: EnrollmentHolder,
    /// The lineage after it.
    pub lineage: Lineage,
    /// A pending certificate that it replaces: revoked as superseded.
    pub superseded: Option<SerialNumber>,
    /// The certificate.
    pub certificate: NewCertificate,
    /// Now.
    pub at: Timestamp,
    /// The record of it.
    pub audit: Draft,
}

/// A certificate of which only the revocation was known, and which its holder has shown: it is one of his from here on,
/// revoked as it was, so that he is cut off with it and a release decides upon it.
#[derive(Clone, Debug)]
pub struct Recognition {
    /// Out of which lost time, if that is known: no other is taken in out of it.
    pub restoration: Option<i64>,
    /// The certificate.
    pub certificate: NewCertificate,
    /// What its revocation says of its holder. The record of it is written even where he is cut off already.
    pub cutoff: Cutoff,
}

/// A gateway in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayRow {
    /// Which.
    pub subject: Subject,
    /// Since when it has been known.
    pub created_at: Timestamp,
    /// When the last certificate ends that it may come with; unknown where it has none.
    pub expires_at: Option<Timestamp>,
    /// What it has loaded, as it said last.
    pub loaded: Vec<Acknowledged>,
}

/// The CRL that a gateway has loaded, as it said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Whose.
    pub issuer: IssuerId,
    /// Its number.
    pub number: u64,
    /// When it was said.
    pub at: Timestamp,
}

/// What a copy of a store says of the CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// What `init` fixed for ever.
    pub domain: Domain,
    /// Every issuer, oldest first.
    pub issuers: Vec<IssuerRow>,
}
