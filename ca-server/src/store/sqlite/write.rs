//! [`Store`] for SQLite: each method is one job of the writer.

use async_trait::async_trait;

use super::{
    SqliteStore, audit, bulk, cutoff, events, fleets, holders, issuance, issuers, newcomers, partitions, past, proof,
    registrations, taken, tokens,
    writer::Urgency::{Ordinary, Urgent},
};
use crate::{
    audit::{Draft, Seal},
    identity::{FleetName, HardwareId, Subject, Thumbprint, Timestamp, TokenId},
    inventory::fleet::Policy,
    store::{
        Acknowledged, Adoption, Ask, Bulk, BulkReceipt, Confirmation, CrlHead, Cutoff, CutoffReceipt, Enrollment,
        HolderVersion, Initialization, IssuerChange, NewHolder, NewRegisteredKey, NewcomerRow, Notice, Recognition,
        Registration, Release, Renewal, Restoration, Resumption, SecurityEventRow, Store, StoreError, Taken, TakenCrl,
        TokenRow, Verdict,
    },
};

type Result<T> = std::result::Result<T, StoreError>;

#[async_trait]
impl Store for SqliteStore {
    async fn record_initialization(&self, record: Initialization) -> Result<()> {
        self.writer.write(Ordinary, move |db| issuance::record_initialization(db, &record)).await
    }

    async fn record_issuer_change(&self, record: IssuerChange) -> Result<()> {
        self.writer.write(Ordinary, move |db| partitions::record(db, &record)).await
    }

    async fn record_fleet(&self, name: &FleetName, policy: &Policy, audit: Draft) -> Result<()> {
        let (name, policy) = (name.clone(), policy.clone());
        self.writer.write(Ordinary, move |db| fleets::record(db, &name, &policy, &audit)).await
    }

    async fn record_policy(&self, name: &FleetName, was: &Policy, policy: &Policy, audit: Draft) -> Result<()> {
        let (name, was, policy) = (name.clone(), was.clone(), policy.clone());
        self.writer.write(Ordinary, move |db| fleets::record_policy(db, &name, &was, &policy, &audit)).await
    }

    async fn record_registrations(&self, rows: Vec<Registration>, audit: Vec<Draft>) -> Result<()> {
        self.writer.write(Ordinary, move |db| registrations::record(db, &rows, &audit)).await
    }

    async fn record_registered_key(&self, holder: &Subject, key: NewRegisteredKey, audit: Draft) -> Result<()> {
        let holder = holder.clone();
        self.writer.write(Ordinary, move |db| registrations::record_key(db, &holder, &key, &audit)).await
    }

    async fn record_key_retirement(
        &self,
        holder: &Subject,
        key: &Thumbprint,
        at: Timestamp,
        audit: Draft,
    ) -> Result<()> {
        let (holder, key) = (holder.clone(), *key);
        let work = move |db: &_| registrations::record_key_retirement(db, &holder, &key, at, &audit);
        self.writer.write(Ordinary, work).await
    }

    async fn record_hardware(&self, holder: &Subject, id: HardwareId, audit: Draft) -> Result<()> {
        let holder = holder.clone();
        self.writer.write(Ordinary, move |db| registrations::record_hardware(db, &holder, &id, &audit)).await
    }

    async fn record_hardware_retirement(
        &self,
        holder: &Subject,
        id: &HardwareId,
        at: Timestamp,
        audit: Draft,
    ) -> Result<()> {
        let (holder, id) = (holder.clone(), id.clone());
        let work = move |db: &_| registrations::record_hardware_retirement(db, &holder, &id, at, &audit);
        self.writer.write(Ordinary, work).await
    }

    async fn record_token(&self, token: TokenRow, register: Option<NewHolder>, audit: Draft) -> Result<()> {
        self.writer.write(Ordinary, move |db| tokens::record(db, &token, register.as_ref(), &audit)).await
    }

    async fn record_token_revocation(&self, id: &TokenId, audit: Draft) -> Result<TokenRow> {
        let id = id.clone();
        self.writer.write(Ordinary, move |db| tokens::record_revocation(db, &id, &audit)).await
    }

    async fn record_ask(&self, ask: Ask) -> Result<()> {
        self.writer.write(Ordinary, move |db| newcomers::record_ask(db, &ask)).await
    }

    async fn record_verdict(&self, verdict: Verdict) -> Result<NewcomerRow> {
        self.writer.write(Ordinary, move |db| newcomers::record_verdict(db, &verdict)).await
    }

    async fn record_enrollment(&self, record: Enrollment) -> Result<()> {
        self.writer.write(Ordinary, move |db| issuance::record_enrollment(db, &record)).await
    }

    async fn record_renewal(&self, record: Renewal) -> Result<()> {
        self.writer.write(Ordinary, move |db| issuance::record_renewal(db, &record)).await
    }

    async fn record_confirmation(&self, record: Confirmation) -> Result<()> {
        self.writer.write(Ordinary, move |db| issuance::record_confirmation(db, &record)).await
    }

    async fn record_cutoff(&self, record: Cutoff) -> Result<CutoffReceipt> {
        self.writer.write(Urgent, move |db| cutoff::record_cutoff(db, &record)).await
    }

    async fn record_bulk(&self, bulk: Bulk, expected: Option<[u8; 32]>, audit: Draft) -> Result<BulkReceipt> {
        // Not urgent: on a full disk it would be tried again with each piece of the reserve, and single ones would wait.
        self.writer.write(Ordinary, move |db| bulk::record(db, &bulk, expected, &audit)).await
    }

    async fn record_release(&self, record: Release) -> Result<CutoffReceipt> {
        self.writer.write(Urgent, move |db| cutoff::record_release(db, &record)).await
    }

    async fn record_reenrollment(&self, holder: HolderVersion, until: Timestamp, audit: Draft) -> Result<()> {
        self.writer.write(Ordinary, move |db| holders::record_reenrollment(db, holder, until, &audit)).await
    }

    async fn put_crl(&self, head: CrlHead, previous: Option<u64>, audit: Option<Draft>) -> Result<()> {
        self.writer.write(Urgent, move |db| issuers::put_crl(db, &head, previous, audit.as_ref())).await
    }

    async fn record_notice(&self, notice: Notice) -> Result<Restoration> {
        self.writer.write(Urgent, move |db| past::record_notice(db, &notice)).await
    }

    async fn record_taken_crl(&self, crl: TakenCrl) -> Result<Taken> {
        self.writer.write(Urgent, move |db| taken::record(db, &crl)).await
    }

    async fn record_resumption(&self, resumption: Resumption, audit: Draft) -> Result<()> {
        self.writer.write(Ordinary, move |db| past::record_resumption(db, &resumption, &audit)).await
    }

    async fn record_adoption(&self, adoption: Adoption) -> Result<()> {
        self.writer.write(Ordinary, move |db| past::record_adoption(db, &adoption)).await
    }

    async fn record_recognition(&self, record: Recognition) -> Result<CutoffReceipt> {
        self.writer.write(Urgent, move |db| taken::record_recognition(db, &record)).await
    }

    async fn record_acknowledgements(&self, loaded: Vec<(Subject, Vec<Acknowledged>)>) -> Result<()> {
        self.writer.write(Ordinary, move |db| proof::record(db, &loaded)).await
    }

    async fn record_seal(&self, seal: Seal) -> Result<()> {
        self.writer.write(Ordinary, move |db| audit::record_seal(db, &seal)).await
    }

    async fn record_security_events(&self, events: Vec<SecurityEventRow>) -> Result<()> {
        self.writer.write(Ordinary, move |db| events::record(db, &events)).await
    }

    async fn record_audit(&self, audit: Draft) -> Result<()> {
        self.writer.write(Ordinary, move |db| audit::append(db, &audit)).await
    }
}
