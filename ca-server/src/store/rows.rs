//! What the store keeps, as the rest of the CA sees it.

use crate::{
    identity::{
        CertificateHash, DeviceId, FleetName, IssuerId, KeyFingerprint, Kind, RevocationReason, SerialNumber, Subject,
        Timestamp, TokenId, TrustDomain,
    },
    inventory::{
        device::Status,
        fleet::{Policy, Tier},
        lineage::{Lineage, Position},
        partition::Standing,
    },
    pki::CaRole,
    store::HolderVersion,
};

/// What `init` fixed for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// The environment.
    pub trust_domain: TrustDomain,
    /// Where CRLs and issuing certificates are served, as certificates say it: `http://HOST:PORT`, no slash at the end.
    pub public_url: String,
}

/// A signed trust bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundleRow {
    /// Only grows.
    pub sequence: u64,
    /// A serialized `SignedTrustBundle`.
    pub signed: Vec<u8>,
}

/// An issuer: a root or an issuing CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerRow {
    /// Names it in URLs.
    pub id: IssuerId,
    /// Its place.
    pub role: CaRole,
    /// Its certificate (DER).
    pub certificate: Vec<u8>,
    /// Since when it is known.
    pub created_at: Timestamp,
    /// Whether it signs.
    pub standing: Standing,
    /// The one that it takes over from.
    pub replaces: Option<IssuerId>,
    /// thisUpdate of its first CRL.
    pub published_at: Option<Timestamp>,
    /// It has signed for a fleet: that gateways had had time for its CRL was found before.
    pub has_signed: bool,
}

impl IssuerRow {
    /// A new one, which has published nothing yet.
    pub fn new(id: IssuerId, role: CaRole, certificate: Vec<u8>, created_at: Timestamp) -> Self {
        let (standing, replaces, published_at) = (Standing::Active, None, None);
        Self { id, role, certificate, created_at, standing, replaces, published_at, has_signed: false }
    }

    /// Whether its key is needed on the server: it signs CRLs, at least.
    pub fn is_online(&self) -> bool {
        !self.role.is_root() && self.standing.publishes()
    }
}

/// What an issuing CA of devices still answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerUse {
    /// Which.
    pub issuer: IssuerId,
    /// How many of its certificates have not expired, revoked ones included.
    pub live: u64,
    /// When the last of them expires.
    pub last_not_after: Option<Timestamp>,
    /// The fleets that they are of, by name, each with when its last one expires.
    pub fleets: Vec<(FleetName, Timestamp)>,
}

/// A fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetRow {
    /// Its name.
    pub name: FleetName,
    /// What it demands and grants.
    pub policy: Policy,
    /// Since when.
    pub created_at: Timestamp,
    /// How many devices it has, whatever their state.
    pub device_count: u64,
    /// How many of them count towards its quota: those that are not decommissioned.
    pub devices_in_use: u64,
}

/// What an operator may do: each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Looks.
    Viewer,
    /// Cuts off and releases.
    Revoker,
    /// All.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Revoker, Self::Admin];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Revoker => "revoker",
            Role::Admin => "admin",
        }
    }
}

/// How a holder proved itself when it enrolled last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attested {
    /// The method's name.
    pub method: String,
    /// The tier's name.
    pub tier: String,
    /// The proven identity, by the method's own form: for `token`, the token's ID.
    pub identity: String,
}

impl Attested {
    /// How much it proved, where that is one of a device's tiers.
    pub fn tier(&self) -> Option<Tier> {
        Tier::named(&self.tier)
    }

    /// What is known of a holder whose enrollment was lost: nothing. The tier is the lowest one.
    pub fn restored() -> Self {
        Self { method: "restored".into(), tier: "token".into(), identity: String::new() }
    }
}

/// A holder to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewHolder {
    /// Who.
    pub subject: Subject,
    /// Of a device.
    pub fleet: Option<FleetName>,
    /// Of an operator.
    pub role: Option<Role>,
    /// Names its own CRL: 32 random hexadecimal digits.
    pub handle: String,
    /// Now.
    pub created_at: Timestamp,
}

/// A device, a gateway, an operator or the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// For compare-and-swap.
    pub version: HolderVersion,
    /// Who.
    pub subject: Subject,
    /// Of a device.
    pub fleet: Option<FleetName>,
    /// Of an operator.
    pub role: Option<Role>,
    /// Where it stands.
    pub status: Status,
    /// Why it is held or revoked; `lineage fork` after a fork.
    pub status_reason: String,
    /// Names its own CRL.
    pub handle: String,
    /// How it enrolled last.
    pub attested: Option<Attested>,
    /// Its certificates that count.
    pub lineage: Lineage,
    /// Since when it is known.
    pub created_at: Timestamp,
    /// Of its head certificate.
    pub expires_at: Option<Timestamp>,
    /// When it enrolled, renewed or confirmed last.
    pub last_seen_at: Option<Timestamp>,
    /// It is revoked, and may enroll once more until then.
    pub reenroll_until: Option<Timestamp>,
}

impl Holder {
    /// Whether it is revoked and may enroll once more now.
    pub fn may_reenroll(&self, now: Timestamp) -> bool {
        self.status == Status::Revoked && self.reenroll_until.is_some_and(|until| now <= until)
    }
}

/// A certificate to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCertificate {
    /// Never used twice.
    pub serial: SerialNumber,
    /// Who signed it.
    pub issuer: IssuerId,
    /// Its key.
    pub key: KeyFingerprint,
    /// Its hash.
    pub hash: CertificateHash,
    /// Its dates.
    pub not_before: Timestamp,
    /// The last instant at which it is valid.
    pub not_after: Timestamp,
    /// The certificate that was presented for it.
    pub presented: Option<SerialNumber>,
    /// The token that was used for it.
    pub token: Option<TokenId>,
    /// DER.
    pub der: Vec<u8>,
}

/// A certificate's revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Since when.
    pub at: Timestamp,
    /// Why.
    pub reason: RevocationReason,
}

impl Revoked {
    /// Whether a CRL that says this says the same: whole seconds count there, and a revocation, unlike a hold, is one
    /// whatever its date.
    pub fn is_listed_as(&self, at: Timestamp, reason: RevocationReason) -> bool {
        let same_date = self.at.floor_secs() == at.floor_secs();
        self.reason == reason && (same_date || reason != RevocationReason::CertificateHold)
    }
}

/// A certificate, but for its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRow {
    /// Its serial.
    pub serial: SerialNumber,
    /// Who holds it.
    pub holder: Subject,
    /// Who signed it.
    pub issuer: IssuerId,
    /// Its key.
    pub key: KeyFingerprint,
    /// Its hash.
    pub hash: CertificateHash,
    /// Its dates.
    pub not_before: Timestamp,
    /// The last instant at which it is valid.
    pub not_after: Timestamp,
    /// What it is to its holder's lineage now.
    pub position: Position,
    /// The certificate that was presented for it.
    pub presented: Option<SerialNumber>,
    /// The token that was used for it.
    pub token: Option<TokenId>,
    /// Whether it is revoked or on hold.
    pub revoked: Option<Revoked>,
    /// What the enrollment proved that it descends from.
    pub attested: Option<Attested>,
}

/// Who presents a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What is presented.
    pub certificate: CertificateRow,
    /// By whom.
    pub holder: Holder,
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct KeyUse {
    /// Revoked for compromise once: refused for ever.
    pub banned: bool,
    /// Certificates that carry it.
    pub certificates: Vec<CertificateRow>,
}

/// What decides a renewal, all of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewalFacts {
    /// Who presents a certificate.
    pub peer: Peer,
    /// What is known of the key for the next one.
    pub key_use: KeyUse,
    /// The policy of the holder's fleet, if it has one.
    pub policy: Option<Policy>,
    /// notAfter of the [`MAX_LIVE`](super::MAX_LIVE)th newest certificate of the holder, if it ever had as many.
    pub oldest_that_counts: Option<Timestamp>,
    /// The sequence number of the trust bundle in force.
    pub trust_bundle: u64,
}

/// What a token is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// Can be used, if it has not expired and has a use left.
    Live,
    /// Revoked by an operator.
    Revoked,
    /// Ended because a holder that came by it, or that it was for, was cut off.
    Suspended,
}

impl TokenState {
    /// Its word in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            TokenState::Live => "live",
            TokenState::Revoked => "revoked",
            TokenState::Suspended => "suspended",
        }
    }
}

/// A join token: its public half, and what it is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// The first 16 hexadecimal digits of its key's SHA-256.
    pub id: TokenId,
    /// Ed25519.
    pub public_key: [u8; 32],
    /// What it lets in.
    pub kind: Kind,
    /// Of a device's token.
    pub fleet: Option<FleetName>,
    /// Of an operator's token.
    pub role: Option<Role>,
    /// The one it is for; `None`: a fleet token.
    pub subject_id: Option<DeviceId>,
    /// Of a fleet token: `*` stands for any run of characters.
    pub id_pattern: Option<String>,
    /// How often it may be used in all.
    pub uses: u32,
    /// How often it still may.
    pub uses_left: u32,
    /// For a device that is active.
    pub reenroll: bool,
    /// Until when.
    pub expires_at: Timestamp,
    /// Whether it was ended before.
    pub state: TokenState,
    /// Since when.
    pub created_at: Timestamp,
    /// By whom: `operator/ana`.
    pub created_by: String,
}

/// One change of an issuer's revocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// 1, 2, 3, … an issuer, without a gap.
    pub sequence: u64,
    /// Which certificate.
    pub serial: SerialNumber,
    /// Its notAfter: 24 h later its entry leaves.
    pub not_after: Timestamp,
    /// Revoked, or `None`: released.
    pub revoked: Option<Revoked>,
}

/// What is left of a change log that is damaged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangesLeft {
    /// Of each certificate the last change that is known, in the order of their numbers.
    pub changes: Vec<Change>,
    /// The last number that was given.
    pub last: u64,
    /// How many numbers the log has no row for that can be read.
    pub lost: u64,
    /// How many changes only the certificates themselves tell of.
    pub recovered: u64,
}

/// What is kept of a published CRL. Its bytes are a pure function of this and of the change log; but a root's, which is
/// signed elsewhere, is kept whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlHead {
    /// Whose.
    pub issuer: IssuerId,
    /// Only grows.
    pub number: u64,
    /// Never goes back.
    pub this_update: Timestamp,
    /// Until when it is good.
    pub next_update: Timestamp,
    /// The last change that it holds.
    pub watermark: u64,
    /// Entries of certificates that expired before this are left out.
    pub horizon: Timestamp,
    /// Of the whole CRL (DER).
    pub sha256: [u8; 32],
    /// The signature's octets.
    pub signature: Vec<u8>,
    /// A root's: the whole (DER).
    pub der: Option<Vec<u8>>,
}

/// Events of one kind, about one subject, in one hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityEventRow {
    /// Its row, once it has one: the position for paging. 0 in what is to be recorded.
    pub position: u64,
    /// `attestation.failed`, `csr.pop_failed`, `lineage.fork`, …
    pub kind: String,
    /// Whom it concerns, or empty.
    pub subject: String,
    /// The first of them.
    pub first_at: Timestamp,
    /// The last of them.
    pub last_at: Timestamp,
    /// How many.
    pub count: u64,
    /// Of the last one.
    pub detail: String,
}

/// How many of each.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// Devices by status.
    pub devices: Vec<(Status, u64)>,
    /// Active devices without a valid certificate.
    pub lapsed: u64,
}
