//! What the CA remembers: one method a whole transaction, named for the fact that it records.
//!
//! Every method of [`Store`] is atomic and durable when it returns, audit record included; nothing is answered to
//! anybody before. [`ReadStore`] is all that `http` and `rpc/revocation` get. [`sqlite`] is the embedded store.

mod bulk;
#[cfg(test)]
mod contract;
mod devices;
mod newcomers;
mod past;
mod queries;
mod rows;
pub mod sqlite;

use async_trait::async_trait;

use crate::{
    audit::{Draft, Kept, Seal},
    identity::{
        FleetName, HardwareId, IssuerId, KeyFingerprint, Kind, SerialNumber, Subject, Thumbprint, Timestamp, TokenId,
    },
    inventory::{
        device::Status,
        fleet::Policy,
        lineage::Lineage,
        partition::Standing,
        quota::{Exceeded, Usage},
    },
};

pub use bulk::*;
pub use devices::*;
pub use newcomers::*;
pub use past::*;
pub use queries::*;
pub use rows::*;

/// How many unexpired certificates a holder may have. An honest one has two to four; whoever renews in a loop would
/// fill the disk, and the CRL once it is revoked.
pub const MAX_LIVE: u32 = 64;

/// Why the store did not do it. Whatever it says, nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// What the caller decided upon has changed since: read again, decide again.
    #[error("changed meanwhile")]
    Conflict,
    /// There is no such thing.
    #[error("{0} does not exist")]
    NotFound(&'static str),
    /// There is such a thing already.
    #[error("{0} exists already")]
    Exists(&'static str),
    /// What is to be registered is another's already: whose, is in the text.
    #[error("{0}")]
    Taken(String),
    /// A fleet's quota is used up.
    #[error("{0}")]
    Quota(Exceeded),
    /// The disk is full: revocations still find the space that is kept for them.
    #[error("the disk is full, or takes nothing more: only revocations are recorded")]
    Full,
    /// As many wait as may.
    #[error("too many wait for approval")]
    Crowded,
    /// The store can't be used: what to do is in the text.
    #[error("{0}")]
    Unusable(String),
    /// What is stored is damaged: it can't be read, however often one asks.
    #[error("{0}")]
    Damaged(String),
    /// One of many rows, by its line, could not be recorded; so none was.
    #[error("line {0}: {1}")]
    Line(u32, Box<StoreError>),
    /// The database answered with an error of its own, which may pass.
    #[error("database: {0}")]
    Database(String),
}

/// Reading. Each call sees one consistent state, of everything that was committed before it.
#[async_trait]
pub trait ReadStore: Send + Sync {
    /// What `init` fixed for ever. `NotFound` before.
    async fn domain(&self) -> Result<Domain, StoreError>;
    /// The trust bundle in force.
    async fn trust_bundle(&self) -> Result<TrustBundleRow, StoreError>;
    /// Every issuer, roots included, oldest first.
    async fn issuers(&self) -> Result<Vec<IssuerRow>, StoreError>;

    /// The issuers whose certificates for this fleet's devices have not all expired at this moment.
    async fn issuers_needed_by(&self, fleet: &FleetName, at: Timestamp) -> Result<Vec<IssuerId>, StoreError>;
    /// What every issuing CA of devices still answers for.
    async fn issuers_in_use(&self, now: Timestamp) -> Result<Vec<IssuerUse>, StoreError>;

    /// A fleet's policy: cheap, unlike a fleet with its devices counted.
    async fn policy(&self, name: &FleetName) -> Result<Option<Policy>, StoreError>;
    /// What a fleet has used of its quotas.
    async fn usage(&self, fleet: &FleetName, now: Timestamp) -> Result<Usage, StoreError>;
    /// Grows with each fleet and each change of a policy: cheap, unlike what is read of all fleets.
    async fn fleets_revision(&self) -> Result<u64, StoreError>;
    /// The makers' roots of every fleet together (DER).
    async fn factory_roots(&self) -> Result<Vec<Vec<u8>>, StoreError>;
    /// The fleets that do not refuse devices that nobody registered.
    async fn open_fleets(&self) -> Result<Vec<(FleetName, Policy)>, StoreError>;
    /// A fleet by its name.
    async fn fleet(&self, name: &FleetName) -> Result<Option<FleetRow>, StoreError>;
    /// Fleets by name, after the one named.
    async fn fleets(&self, after: &str, limit: u32) -> Result<Vec<FleetRow>, StoreError>;

    /// A device, gateway, operator or server.
    async fn holder(&self, subject: &Subject) -> Result<Option<Holder>, StoreError>;
    /// One whose ID is the same in lower case, so that nobody is given a look-alike.
    async fn holder_folded(&self, kind: Kind, folded: &str) -> Result<Option<Holder>, StoreError>;
    /// Registered hardware and whose it is.
    async fn holder_of_hardware(&self, id: &HardwareId) -> Result<Option<(Hardware, Holder)>, StoreError>;
    /// The hardware that was registered for a holder.
    async fn hardware_of(&self, holder: &Subject) -> Result<Vec<Hardware>, StoreError>;
    /// A device that nobody registered, and that waits for an operator. It may have expired.
    async fn newcomer(&self, id: &HardwareId) -> Result<Option<NewcomerRow>, StoreError>;
    /// Devices that wait, as the query asks.
    async fn newcomers(&self, query: &NewcomerQuery) -> Result<Vec<NewcomerRow>, StoreError>;
    /// A registered key, and whose it is.
    async fn registered_key(&self, key: &Thumbprint) -> Result<Option<(RegisteredKey, Holder)>, StoreError>;
    /// The keys that were registered for a holder, oldest first.
    async fn registered_keys(&self, holder: &Subject) -> Result<Vec<RegisteredKey>, StoreError>;
    /// Whether an assertion was used.
    async fn is_assertion_used(&self, hash: &[u8; 32]) -> Result<bool, StoreError>;
    /// Devices, as the query asks.
    async fn devices(&self, query: &DeviceQuery) -> Result<DevicePage, StoreError>;
    /// What would come of cutting many devices off, or releasing them. Fails as [`Store::record_bulk`] would.
    async fn plan_bulk(&self, bulk: Bulk) -> Result<BulkPlan, StoreError>;
    /// Gateways or operators by ID, after the one named.
    async fn holders(&self, kind: Kind, after: &str, limit: u32) -> Result<Vec<Holder>, StoreError>;
    /// The unexpired certificates of a holder, newest first.
    async fn live_certificates(&self, holder: &Subject, now: Timestamp) -> Result<Vec<CertificateRow>, StoreError>;

    /// Who presents the certificate with this serial: the row and its holder, in one look.
    async fn peer(&self, serial: SerialNumber) -> Result<Option<Peer>, StoreError>;
    /// A certificate and its bytes (DER).
    async fn certificate(&self, serial: SerialNumber) -> Result<Option<(CertificateRow, Vec<u8>)>, StoreError>;
    /// What decides the renewal of the certificate with this serial by one for this key, in one look.
    async fn renewal(&self, serial: SerialNumber, key: &KeyFingerprint) -> Result<Option<RenewalFacts>, StoreError>;
    /// What is known of a key: whether it is banned, and every certificate that carries it.
    async fn key_use(&self, key: &KeyFingerprint) -> Result<KeyUse, StoreError>;

    /// A join token.
    async fn token(&self, id: &TokenId) -> Result<Option<TokenRow>, StoreError>;
    /// Tokens, newest first: those made before the one named (`None`: from the newest on).
    async fn tokens(
        &self,
        fleet: Option<&FleetName>,
        before: Option<&TokenId>,
        limit: u32,
    ) -> Result<Vec<TokenRow>, StoreError>;

    /// Changes of an issuer's revocations with a sequence number above `after`, in order.
    async fn changes(&self, issuer: IssuerId, after: u64, limit: u32) -> Result<Vec<Change>, StoreError>;
    /// What is left of an issuer's changes above `after` (and up to `until`), where [`Self::changes`] can't read them all or
    /// one is missing: what can be read, and what the certificates themselves say.
    async fn changes_left(&self, issuer: IssuerId, after: u64, until: Option<u64>) -> Result<ChangesLeft, StoreError>;
    /// Of these certificates, those that are revoked or on hold by a change up to this one, and do not expire before
    /// `horizon`: their entries must not leave a CRL.
    async fn listed_of(
        &self,
        serials: Vec<SerialNumber>,
        watermark: u64,
        horizon: Timestamp,
    ) -> Result<Vec<SerialNumber>, StoreError>;
    /// The serials of an issuer's certificates that were ever revoked or on hold, and expired at `from` or later and before
    /// `until`.
    async fn expired(
        &self,
        issuer: IssuerId,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<SerialNumber>, StoreError>;
    /// The last number of that sequence.
    async fn last_change(&self, issuer: IssuerId) -> Result<u64, StoreError>;
    /// The CRL published last.
    async fn crl_head(&self, issuer: IssuerId) -> Result<Option<CrlHead>, StoreError>;
    /// The holder with this CRL handle, if it has one of this issuer's certificates.
    async fn holder_by_handle(&self, issuer: IssuerId, handle: &str) -> Result<Option<Subject>, StoreError>;
    /// The serials that a holder ever had from this issuer, in order: to pick its entries out of the issuer's CRL.
    async fn serials_of(&self, holder: &Subject, issuer: IssuerId) -> Result<Vec<SerialNumber>, StoreError>;

    /// Audit records from a sequence number on; a filter leaves gaps.
    async fn audit_records(&self, query: &AuditQuery) -> Result<Vec<Kept>, StoreError>;
    /// Seals whose last record is at or after a sequence number, in order.
    async fn audit_seals(&self, from: u64, limit: u32) -> Result<Vec<Seal>, StoreError>;
    /// The newest seal.
    async fn last_seal(&self) -> Result<Option<Seal>, StoreError>;
    /// Sequence number and time of the newest audit record.
    async fn last_audit(&self) -> Result<Option<(u64, Timestamp)>, StoreError>;
    /// Security events, newest first: those before the position named.
    async fn security_events(&self, query: &EventQuery) -> Result<Vec<SecurityEventRow>, StoreError>;

    /// Every time that this store has lost, oldest first.
    async fn restorations(&self) -> Result<Vec<Restoration>, StoreError>;
    /// What is known of a CRL that somebody holds.
    async fn crl_memory(&self, claimed: &ClaimedCrl) -> Result<CrlMemory, StoreError>;
    /// The revocation of a certificate of which nothing else is known.
    async fn orphan(&self, serial: SerialNumber) -> Result<Option<Revoked>, StoreError>;
    /// The certificate of a holder that was taken in out of a lost time.
    async fn adopted(&self, restoration: i64, holder: &Subject) -> Result<Option<SerialNumber>, StoreError>;
    /// Every gateway in force, by ID, and the CRLs that it said it has loaded.
    async fn gateways(&self) -> Result<Vec<GatewayRow>, StoreError>;
    /// thisUpdate of the CRL that was published after the one with this number.
    async fn published_after(&self, issuer: IssuerId, number: u64) -> Result<Option<Timestamp>, StoreError>;
    /// The number of the first CRL known to hold this change.
    async fn first_to_hold(&self, issuer: IssuerId, change: u64) -> Result<Option<u64>, StoreError>;
    /// Every issuer of a holder's certificates that belong on a CRL, with the last of their changes, where there was one.
    async fn last_changes(&self, holder: &Subject, now: Timestamp) -> Result<Vec<(IssuerId, u64)>, StoreError>;

    /// How many of each, for metrics and lists.
    async fn counts(&self, now: Timestamp) -> Result<Counts, StoreError>;
    /// Whether the store can be written, for readiness. Cheap: takes the writer's turn and changes nothing.
    async fn check_writable(&self) -> Result<(), StoreError>;
}

/// Recording. Each call is one transaction with its audit record; it is on disk when the call returns.
#[async_trait]
pub trait Store: ReadStore {
    /// A new CA: domain, issuers, trust bundle, the roots' CRLs, and the first holders. Refused if there is one.
    async fn record_initialization(&self, record: Initialization) -> Result<(), StoreError>;
    /// A change among the issuing CAs of devices, all of it or none. `Conflict` where one of them does not stand as it must
    /// for it, or is needed still: an issuer ends when none of its certificates has been live for as long as its entry would
    /// stay. Or where the trust bundle's sequence number is not above that of the one in force; it has to follow the clock, to
    /// be above every one of a past that was lost too: who says that he holds a number is not sent that bundle again.
    async fn record_issuer_change(&self, change: IssuerChange) -> Result<(), StoreError>;

    /// A new fleet. `Exists`, in whatever case its name is written.
    async fn record_fleet(&self, name: &FleetName, policy: &Policy, audit: Draft) -> Result<(), StoreError>;
    /// A fleet's new policy; `Conflict` if it isn't `was` any more.
    async fn record_policy(
        &self,
        name: &FleetName,
        was: &Policy,
        policy: &Policy,
        audit: Draft,
    ) -> Result<(), StoreError>;

    /// Devices, gateways or operators that have not enrolled yet, all or none: `Line` with the first that can't be.
    /// `Exists` in whatever case an ID is written, and for a hardware identity or key that is registered.
    async fn record_registrations(&self, rows: Vec<Registration>, audit: Vec<Draft>) -> Result<(), StoreError>;
    /// One more key for a device. `Exists` if it is registered, for whatever device.
    async fn record_registered_key(
        &self,
        holder: &Subject,
        key: NewRegisteredKey,
        audit: Draft,
    ) -> Result<(), StoreError>;
    /// The end of a registered key, or another one: the holder has changed by it, so that no enrollment decided before goes
    /// through. `NotFound` if the device has no such key.
    async fn record_key_retirement(
        &self,
        holder: &Subject,
        key: &Thumbprint,
        at: Timestamp,
        audit: Draft,
    ) -> Result<(), StoreError>;
    /// More hardware for a device. `Exists` if it is registered, for whatever device.
    async fn record_hardware(&self, holder: &Subject, id: HardwareId, audit: Draft) -> Result<(), StoreError>;
    /// The end of a device's hardware: the holder has changed by it, so that no enrollment decided before goes through. No
    /// error, and no record, if it ended before. `NotFound` if the device has no such hardware.
    async fn record_hardware_retirement(
        &self,
        holder: &Subject,
        id: &HardwareId,
        at: Timestamp,
        audit: Draft,
    ) -> Result<(), StoreError>;
    /// A join token; `register` first registers the holder that it is for, if it does not exist.
    async fn record_token(&self, token: TokenRow, register: Option<NewHolder>, audit: Draft) -> Result<(), StoreError>;
    /// A token revoked. No error if it can't be used any more anyway.
    async fn record_token_revocation(&self, id: &TokenId, audit: Draft) -> Result<TokenRow, StoreError>;

    /// A device that nobody registered asks to be let in. `Conflict` where it is known by now, or was rejected, or the name
    /// is taken; `Exists` where another asks with its key; `Crowded` where too many wait, or it has come with too many keys.
    /// Nobody else's row is touched.
    async fn record_ask(&self, ask: Ask) -> Result<(), StoreError>;
    /// What an operator says of a device that waits; the row as it is now. `NotFound` unless it is just what he has seen;
    /// `Exists` where the name has been taken.
    async fn record_verdict(&self, verdict: Verdict) -> Result<NewcomerRow, StoreError>;

    /// An enrollment: the certificate, its holder (new, or as it was read), the token's use.
    /// `Conflict` if the holder, the token, the key or the policy is not as it was read, where the hardware was rejected
    /// meanwhile, and where nobody has decided upon a restored past. Where the holder is revoked and may enroll once more,
    /// that is used up, and what it had before stays or becomes revoked.
    async fn record_enrollment(&self, record: Enrollment) -> Result<(), StoreError>;
    /// A renewal's pending certificate. `Conflict` if the holder is not as it was read, or the key came into use.
    async fn record_renewal(&self, record: Renewal) -> Result<(), StoreError>;
    /// A pending certificate in force. `Conflict` as above.
    async fn record_confirmation(&self, record: Confirmation) -> Result<(), StoreError>;

    /// A holder cut off: its state, all its unexpired certificates, its tokens and the fleet token that it came by.
    /// Wins every race: whatever was read, it is done. Doing it again is no error and changes nothing.
    async fn record_cutoff(&self, record: Cutoff) -> Result<CutoffReceipt, StoreError>;
    /// Many devices cut off or released, all or none, as if each were alone: `Line` with the first that can't be. `Conflict`
    /// where another plan is `expected`. Refused on a full disk, unlike a single one.
    async fn record_bulk(
        &self,
        bulk: Bulk,
        expected: Option<[u8; 32]>,
        audit: Draft,
    ) -> Result<BulkReceipt, StoreError>;
    /// A revoked holder may enroll once more. `Conflict` if the holder is not as it was read, or not revoked.
    async fn record_reenrollment(
        &self,
        holder: HolderVersion,
        until: Timestamp,
        audit: Draft,
    ) -> Result<(), StoreError>;
    /// A hold ended. `Conflict` if the holder is not as it was read.
    async fn record_release(&self, record: Release) -> Result<CutoffReceipt, StoreError>;

    /// A CRL's head. `Conflict` unless the number recorded last is `previous` and the new one is greater.
    async fn put_crl(&self, head: CrlHead, previous: Option<u64>, audit: Option<Draft>) -> Result<(), StoreError>;
    /// A lost time that was noticed: from here on the CA stands still. Where one is not decided yet that one grows; the
    /// restoration as it is now.
    async fn record_notice(&self, notice: Notice) -> Result<Restoration, StoreError>;
    /// A CRL of a lost time, whose entries are in force from here on. Where it is newer than ours, it takes its place.
    async fn record_taken_crl(&self, taken: TakenCrl) -> Result<Taken, StoreError>;
    /// The decision to go on. `NotFound` where there is nothing to decide.
    async fn record_resumption(&self, resumption: Resumption, audit: Draft) -> Result<(), StoreError>;
    /// A certificate of a lost time as its holder's head. `Conflict` if the holder is not as it was read, or has adopted
    /// one already, or the key came into use.
    async fn record_adoption(&self, adoption: Adoption) -> Result<(), StoreError>;
    /// A certificate that was revoked in a lost time and shown by its holder, who is cut off. `Conflict` where its
    /// revocation is not known, or it is known as his already, or its key is another's.
    async fn record_recognition(&self, recognition: Recognition) -> Result<CutoffReceipt, StoreError>;
    /// The CRLs that gateways have loaded, all of each: its last word counts, and takes the place of the one before. No audit
    /// record: it changes nothing for anybody. Of whom the store does not know nothing is written.
    async fn record_acknowledgements(&self, loaded: Vec<(Subject, Vec<Acknowledged>)>) -> Result<(), StoreError>;

    /// A seal; `Conflict` unless it begins right after the last one.
    async fn record_seal(&self, seal: Seal) -> Result<(), StoreError>;
    /// Security events: counted up where there is one of the same kind, subject and hour; the oldest are dropped where
    /// there are too many. Outside the audit chain.
    async fn record_security_events(&self, events: Vec<SecurityEventRow>) -> Result<(), StoreError>;
    /// An audit record of something that changed nothing else in the store, such as a key file.
    async fn record_audit(&self, audit: Draft) -> Result<(), StoreError>;
}

/// A holder as it was read: what a transaction compares before it swaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HolderVersion {
    /// The holder's row.
    pub key: i64,
    /// Grows with every change of the holder.
    pub version: u64,
}

/// What a new CA starts with.
#[derive(Debug)]
pub struct Initialization {
    /// Fixed for ever.
    pub domain: Domain,
    /// Both roots and both CAs.
    pub issuers: Vec<IssuerRow>,
    /// Signed by the control root.
    pub trust_bundle: TrustBundleRow,
    /// The roots' CRLs.
    pub crls: Vec<CrlHead>,
    /// The server and the first operator, each with its certificate.
    pub enrollments: Vec<Enrollment>,
    /// The record of it all, first of the log.
    pub audit: Draft,
}

/// A change among the issuing CAs of devices.
#[derive(Clone, Debug)]
pub struct IssuerChange {
    /// A new one.
    pub new: Option<IssuerRow>,
    /// One that stands otherwise from now on.
    pub standing: Option<(IssuerId, Standing)>,
    /// Their root's CRL, and the number of the one before it.
    pub root_crl: Option<(CrlHead, Option<u64>)>,
    /// The trust bundle that names them, signed by the control root.
    pub trust_bundle: Option<TrustBundleRow>,
    /// Now.
    pub at: Timestamp,
    /// The record of it.
    pub audit: Draft,
}

/// Who a new certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnrollmentHolder {
    /// Nobody of this name may exist, in whatever case.
    New(NewHolder),
    /// As it was read.
    Known(HolderVersion),
}

/// A certificate made from an attestation.
#[derive(Clone, Debug)]
pub struct Enrollment {
    /// Who it is for.
    pub holder: EnrollmentHolder,
    /// The lineage after it.
    pub lineage: Lineage,
    /// A pending certificate that this one replaces: revoked as superseded.
    pub superseded: Option<SerialNumber>,
    /// What was proven. The holder becomes active.
    pub attested: Attested,
    /// The hardware of a device that nobody registered: its own from here on. `Conflict` if it is somebody's.
    pub hardware: Option<HardwareId>,
    /// An operator's approval of that hardware, for this name and key, is used up. `Conflict` if there is none.
    pub approved: bool,
    /// The fleet, and its policy by which the holder was let in. `Conflict` if it is another one by now.
    pub policy: Option<(FleetName, Policy)>,
    /// Made on the server's own folder: nothing that a restored past stops.
    pub local: bool,
    /// The token used, of which one use is taken. `Conflict` unless it is live, unexpired at `at`, and has a use left.
    pub token: Option<TokenId>,
    /// The assertion used, and until when that is remembered. `Conflict` if it was used before.
    pub assertion: Option<([u8; 32], Timestamp)>,
    /// The holder came by a fleet token, which is suspended when the holder is revoked.
    pub came_by: Option<TokenId>,
    /// The certificate.
    pub certificate: NewCertificate,
    /// Now.
    pub at: Timestamp,
    /// The record of it.
    pub audit: Draft,
}

/// A certificate made from another.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// As it was read. It must be active.
    pub holder: HolderVersion,
    /// The lineage after it.
    pub lineage: Lineage,
    /// A pending certificate that this one replaces: revoked as superseded.
    pub superseded: Option<SerialNumber>,
    /// The certificate.
    pub certificate: NewCertificate,
    /// Now.
    pub at: Timestamp,
    /// The record of it.
    pub audit: Draft,
}

/// A pending certificate put in force.
#[derive(Clone, Debug)]
pub struct Confirmation {
    /// As it was read. It must be active.
    pub holder: HolderVersion,
    /// The lineage after it.
    pub lineage: Lineage,
    /// Now.
    pub at: Timestamp,
    /// The record of it.
    pub audit: Draft,
}

/// A holder to be cut off.
#[derive(Clone, Debug)]
pub struct Cutoff {
    /// Who.
    pub subject: Subject,
    /// `Held`, `Revoked` or `Decommissioned`.
    pub status: Status,
    /// Goes into the CRL entries; `KeyCompromise` also bans every key that the holder ever had a certificate for.
    pub reason: crate::identity::RevocationReason,
    /// For people: why.
    pub status_reason: String,
    /// Now.
    pub at: Timestamp,
    /// The record of it; the store adds serials and tokens. Not written where nothing changes.
    pub audit: Draft,
}

/// A hold to be ended.
#[derive(Clone, Debug)]
pub struct Release {
    /// As it was read. It must be held.
    pub holder: HolderVersion,
    /// After a fork: the one certificate that stays. All other unexpired ones are revoked as `privilegeWithdrawn`, those
    /// superseded before, too. `None`: every certificate that was on hold is in force again.
    pub keep: Option<SerialNumber>,
    /// The lineage after it.
    pub lineage: Lineage,
    /// Now.
    pub at: Timestamp,
    /// The record of it; the store adds serials.
    pub audit: Draft,
}

/// The status reason of a device that was put on hold out of a state that could not be read: nobody knows whether it may
/// ever come back, so that somebody has to decide.
pub const UNREADABLE: &str = "state unreadable";

/// What a cutoff or a release did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutoffReceipt {
    /// The state after it.
    pub status: Status,
    /// Certificates whose revocation changed.
    pub certificates: u32,
    /// Tokens ended or suspended.
    pub tokens: u32,
    /// Every issuer of the holder's unexpired certificates, with the last change that the holder's revocation needs in
    /// force: where this call changed nothing, that of the earlier one.
    pub watermarks: Vec<(IssuerId, u64)>,
    /// Certificates of the holder whose rows can't be read: they were passed over.
    pub unreadable: u32,
}
