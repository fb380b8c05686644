//! [`ReadStore`] for SQLite: which query answers what, and on which thread.

use async_trait::async_trait;

use super::{
    SqliteStore, audit, bulk, certificates, changes_left, devices, events, fleets, holders, issuers, newcomers,
    partitions, past, proof, quotas, registrations, tokens, writer::Urgency::Ordinary,
};
use crate::{
    audit::{Kept, Seal},
    identity::{
        FleetName, HardwareId, IssuerId, KeyFingerprint, Kind, SerialNumber, Subject, Thumbprint, Timestamp, TokenId,
    },
    inventory::{fleet::Policy, quota::Usage},
    store::{
        AuditQuery, Bulk, BulkPlan, CertificateRow, Change, ChangesLeft, ClaimedCrl, Counts, CrlHead, CrlMemory,
        DevicePage, DeviceQuery, Domain, EventQuery, FleetRow, GatewayRow, Hardware, Holder, IssuerRow, IssuerUse,
        KeyUse, NewcomerQuery, NewcomerRow, Peer, ReadStore, RegisteredKey, RenewalFacts, Restoration, Revoked,
        SecurityEventRow, StoreError, TokenRow, TrustBundleRow,
    },
};

type Result<T> = std::result::Result<T, StoreError>;

#[async_trait]
impl ReadStore for SqliteStore {
    async fn domain(&self) -> Result<Domain> {
        self.look(issuers::domain)
    }

    async fn trust_bundle(&self) -> Result<TrustBundleRow> {
        self.look(issuers::trust_bundle)
    }

    async fn issuers(&self) -> Result<Vec<IssuerRow>> {
        self.look(issuers::list)
    }

    async fn issuers_needed_by(&self, fleet: &FleetName, at: Timestamp) -> Result<Vec<IssuerId>> {
        self.look(|db| partitions::needed_by(db, fleet, at))
    }

    async fn issuers_in_use(&self, now: Timestamp) -> Result<Vec<IssuerUse>> {
        self.scan(move |db| partitions::in_use(db, now)).await
    }

    async fn fleet(&self, name: &FleetName) -> Result<Option<FleetRow>> {
        let name = name.clone();
        self.scan(move |db| fleets::by_name(db, &name)).await
    }

    async fn policy(&self, name: &FleetName) -> Result<Option<Policy>> {
        self.look(|db| fleets::policy(db, name))
    }

    async fn usage(&self, fleet: &FleetName, now: Timestamp) -> Result<Usage> {
        self.look(|db| quotas::usage(db, fleet, now))
    }

    async fn fleets_revision(&self) -> Result<u64> {
        self.look(fleets::revision)
    }

    async fn factory_roots(&self) -> Result<Vec<Vec<u8>>> {
        self.look(fleets::factory_roots)
    }

    async fn open_fleets(&self) -> Result<Vec<(FleetName, Policy)>> {
        self.look(fleets::open)
    }

    async fn fleets(&self, after: &str, limit: u32) -> Result<Vec<FleetRow>> {
        let after = after.to_owned();
        self.scan(move |db| fleets::list(db, &after, limit)).await
    }

    async fn holder(&self, subject: &Subject) -> Result<Option<Holder>> {
        self.look(|db| holders::by_subject(db, subject))
    }

    async fn holder_folded(&self, kind: Kind, folded: &str) -> Result<Option<Holder>> {
        self.look(|db| holders::by_folded(db, kind, folded))
    }

    async fn holder_of_hardware(&self, id: &HardwareId) -> Result<Option<(Hardware, Holder)>> {
        self.look(|db| registrations::holder_of_hardware(db, id))
    }

    async fn plan_bulk(&self, bulk: Bulk) -> Result<BulkPlan> {
        self.scan(move |db| bulk::plan(db, &bulk)).await
    }

    async fn hardware_of(&self, holder: &Subject) -> Result<Vec<Hardware>> {
        self.look(|db| registrations::hardware_of(db, holder))
    }

    async fn newcomer(&self, id: &HardwareId) -> Result<Option<NewcomerRow>> {
        self.look(|db| newcomers::by_hardware(db, id))
    }

    async fn newcomers(&self, query: &NewcomerQuery) -> Result<Vec<NewcomerRow>> {
        let query = query.clone();
        self.scan(move |db| newcomers::list(db, &query)).await
    }

    async fn registered_key(&self, key: &Thumbprint) -> Result<Option<(RegisteredKey, Holder)>> {
        self.look(|db| registrations::registered_key(db, key))
    }

    async fn registered_keys(&self, holder: &Subject) -> Result<Vec<RegisteredKey>> {
        self.look(|db| registrations::registered_keys(db, holder))
    }

    async fn is_assertion_used(&self, hash: &[u8; 32]) -> Result<bool> {
        self.look(|db| registrations::is_assertion_used(db, hash))
    }

    async fn devices(&self, query: &DeviceQuery) -> Result<DevicePage> {
        let query = query.clone();
        self.scan(move |db| devices::list(db, &query)).await
    }

    async fn holders(&self, kind: Kind, after: &str, limit: u32) -> Result<Vec<Holder>> {
        let after = after.to_owned();
        self.scan(move |db| holders::list(db, kind, &after, limit)).await
    }

    async fn live_certificates(&self, holder: &Subject, now: Timestamp) -> Result<Vec<CertificateRow>> {
        self.look(|db| certificates::live(db, holder, now))
    }

    async fn peer(&self, serial: SerialNumber) -> Result<Option<Peer>> {
        self.look(|db| certificates::peer(db, serial))
    }

    async fn certificate(&self, serial: SerialNumber) -> Result<Option<(CertificateRow, Vec<u8>)>> {
        self.look(|db| certificates::with_bytes(db, serial))
    }

    async fn renewal(&self, serial: SerialNumber, key: &KeyFingerprint) -> Result<Option<RenewalFacts>> {
        self.look(|db| certificates::renewal(db, serial, key))
    }

    async fn key_use(&self, key: &KeyFingerprint) -> Result<KeyUse> {
        self.look(|db| certificates::key_use(db, key))
    }

    async fn token(&self, id: &TokenId) -> Result<Option<TokenRow>> {
        self.look(|db| tokens::by_id(db, id))
    }

    async fn tokens(&self, fleet: Option<&FleetName>, before: Option<&TokenId>, limit: u32) -> Result<Vec<TokenRow>> {
        let (fleet, before) = (fleet.cloned(), before.cloned());
        self.scan(move |db| tokens::list(db, fleet.as_ref(), before.as_ref(), limit)).await
    }

    async fn changes(&self, issuer: IssuerId, after: u64, limit: u32) -> Result<Vec<Change>> {
        self.scan_to_publish(move |db| issuers::changes(db, issuer, after, limit)).await
    }

    async fn changes_left(&self, issuer: IssuerId, after: u64, until: Option<u64>) -> Result<ChangesLeft> {
        self.scan_to_publish(move |db| changes_left::changes_left(db, issuer, after, until)).await
    }

    async fn listed_of(
        &self,
        serials: Vec<SerialNumber>,
        watermark: u64,
        horizon: Timestamp,
    ) -> Result<Vec<SerialNumber>> {
        self.scan_to_publish(move |db| changes_left::listed_of(db, &serials, watermark, horizon)).await
    }

    async fn expired(&self, issuer: IssuerId, from: Timestamp, until: Timestamp) -> Result<Vec<SerialNumber>> {
        self.scan_to_publish(move |db| issuers::expired(db, issuer, from, until)).await
    }

    async fn last_change(&self, issuer: IssuerId) -> Result<u64> {
        self.look(|db| issuers::last_change(db, issuer))
    }

    async fn crl_head(&self, issuer: IssuerId) -> Result<Option<CrlHead>> {
        self.look(|db| issuers::crl_head(db, issuer))
    }

    async fn holder_by_handle(&self, issuer: IssuerId, handle: &str) -> Result<Option<Subject>> {
        self.look(|db| holders::by_handle(db, issuer, handle))
    }

    async fn serials_of(&self, holder: &Subject, issuer: IssuerId) -> Result<Vec<SerialNumber>> {
        let holder = holder.clone();
        self.scan_to_publish(move |db| certificates::serials_of(db, &holder, issuer)).await
    }

    async fn audit_records(&self, query: &AuditQuery) -> Result<Vec<Kept>> {
        let query = query.clone();
        self.scan(move |db| audit::list(db, &query)).await
    }

    async fn audit_seals(&self, from: u64, limit: u32) -> Result<Vec<Seal>> {
        self.scan(move |db| audit::seals(db, from, limit)).await
    }

    async fn last_seal(&self) -> Result<Option<Seal>> {
        self.look(audit::last_seal)
    }

    async fn last_audit(&self) -> Result<Option<(u64, Timestamp)>> {
        self.look(audit::last)
    }

    async fn security_events(&self, query: &EventQuery) -> Result<Vec<SecurityEventRow>> {
        let query = query.clone();
        self.scan(move |db| events::list(db, &query)).await
    }

    async fn restorations(&self) -> Result<Vec<Restoration>> {
        self.look(past::list)
    }

    async fn crl_memory(&self, claimed: &ClaimedCrl) -> Result<CrlMemory> {
        self.look(|db| past::crl_memory(db, claimed))
    }

    async fn orphan(&self, serial: SerialNumber) -> Result<Option<Revoked>> {
        self.look(|db| past::orphan(db, serial))
    }

    async fn adopted(&self, restoration: i64, holder: &Subject) -> Result<Option<SerialNumber>> {
        self.look(|db| past::adopted(db, restoration, holder))
    }

    async fn gateways(&self) -> Result<Vec<GatewayRow>> {
        self.scan(proof::gateways).await
    }

    async fn published_after(&self, issuer: IssuerId, number: u64) -> Result<Option<Timestamp>> {
        self.look(|db| proof::published_after(db, issuer, number))
    }

    async fn first_to_hold(&self, issuer: IssuerId, change: u64) -> Result<Option<u64>> {
        self.look(|db| proof::first_to_hold(db, issuer, change))
    }

    async fn last_changes(&self, holder: &Subject, now: Timestamp) -> Result<Vec<(IssuerId, u64)>> {
        self.look(|db| proof::last_changes(db, holder, now))
    }

    async fn counts(&self, now: Timestamp) -> Result<Counts> {
        self.scan(move |db| holders::counts(db, now)).await
    }

    async fn check_writable(&self) -> Result<()> {
        self.writer.write(Ordinary, issuers::touch).await
    }
}
