//! The walk of `audit verify`: page by page through records and seals, from wherever they come.

use std::collections::VecDeque;

use fleetca_proto::v1::{self, ListAuditRecordsResponse, ListAuditSealsResponse};

use super::{head::KnownHead, issuers::Sealers, verify::Verified};
use crate::{
    audit::{Broken, Head, Kept, Record, Seal, Verifier},
    cli::{CommandError, output::Instant},
};

/// Where the log comes from: a server, of which nothing is believed.
pub trait Pages {
    /// Records from this one on.
    fn records(&mut self, from: u64) -> impl Future<Output = Result<ListAuditRecordsResponse, CommandError>>;
    /// Seals whose last record is this one or a later one.
    fn seals(&mut self, from: u64) -> impl Future<Output = Result<ListAuditSealsResponse, CommandError>>;
}

/// A walk through the whole log.
pub struct Walk<P> {
    pages: P,
    sealers: Sealers,
    known: Option<KnownHead>,
    verifier: Verifier,
    sealed_at: Option<i64>,
    /// Seals that were read and not passed yet.
    seals: VecDeque<Seal>,
    /// From where on there are more; 0: there are none.
    next_seal: u64,
}

impl<P: Pages> Walk<P> {
    /// A walk from the first record on. Seals must be by `sealers`, and the log must have grown from `known`.
    pub fn new(pages: P, sealers: Sealers, known: Option<KnownHead>) -> Self {
        let (verifier, seals) = (Verifier::default(), VecDeque::new());
        Self { pages, sealers, known, verifier, sealed_at: None, seals, next_seal: 1 }
    }

    /// Walks to the end.
    pub async fn run(mut self) -> Result<Verified, CommandError> {
        self.check_known(0, Head::EMPTY)?;
        loop {
            let from_sequence = self.verifier.counts().0 + 1;
            let page = self.pages.records(from_sequence).await?;
            let at_end = page.next_sequence == 0;
            if page.records.is_empty() {
                break;
            }
            for record in page.records {
                self.record(record).await?;
            }
            // A seal that is already there though its records are not: they were written after this page was read.
            if at_end && self.first_seal().await?.is_none() {
                break;
            }
        }
        self.finish().await
    }

    async fn record(&mut self, wire: v1::AuditRecord) -> Result<(), CommandError> {
        let sequence = wire.sequence;
        let head = self.verifier.record(&kept(wire)?)?;
        self.check_known(sequence, head)?;
        while self.first_seal().await?.is_some_and(|seal| seal.last_sequence <= sequence) {
            let Some(seal) = self.seals.pop_front() else { break };
            self.verifier.seal(&seal, self.sealers.have_signed(&seal))?;
            self.sealed_at = Some(seal.at_millis);
        }
        Ok(())
    }

    /// The head seen before must stand where it stood.
    fn check_known(&self, sequence: u64, head: Head) -> Result<(), Broken> {
        match &self.known {
            Some(known) if known.sequence == sequence && known.head != hex(head) => Err(Broken::NotGrown { sequence }),
            _ => Ok(()),
        }
    }

    async fn finish(mut self) -> Result<Verified, CommandError> {
        let (records, sealed) = self.verifier.counts();
        if let Some(known) = self.known.as_ref().filter(|known| known.sequence > records) {
            return Err(Broken::NotGrown { sequence: known.sequence }.into());
        }
        if let Some(seal) = self.first_seal().await? {
            return Err(Broken::Truncated { sealed: seal.last_sequence, last: records }.into());
        }
        let sealed_at = self.sealed_at.map(Instant::from_millis);
        let known = self.known.map(|known| known.sequence);
        Ok(Verified { records, sealed, head: hex(self.verifier.head()), sealed_at, known })
    }
    /// The first seal that was not passed yet.
    async fn first_seal(&mut self) -> Result<Option<&Seal>, CommandError> {
        while self.seals.is_empty() && self.next_seal != 0 {
            let page = self.pages.seals(self.next_seal).await?;
            if page.next_sequence != 0 && page.next_sequence <= self.next_seal {
                return Err(CommandError::Answer("a page of seals follows itself"));
            }
            self.next_seal = page.next_sequence;
            self.seals = page.seals.into_iter().map(seal).collect::<Result<_, _>>()?;
        }
        Ok(self.seals.front())
    }
}

fn kept(wire: v1::AuditRecord) -> Result<Kept, CommandError> {
    let hash = wire.hash.try_into().map_err(|_| CommandError::Answer("a record's hash has not 32 octets"))?;
    let record = Record {
        sequence: wire.sequence,
        at_millis: wire.at_millis,
        actor: wire.actor,
        action: wire.action,
        subject: wire.subject,
        serial: wire.serial,
        outcome: wire.outcome,
        detail: wire.detail,
    };
    Ok(Kept { record, hash })
}

fn seal(wire: v1::AuditSeal) -> Result<Seal, CommandError> {
    let head = wire.head.try_into().map_err(|_| CommandError::Answer("a seal's head has not 32 octets"))?;
    let issuer = wire.issuer.parse().map_err(|_| CommandError::Answer("a seal's issuer is none"))?;
    Ok(Seal {
        first_sequence: wire.first_sequence,
        last_sequence: wire.last_sequence,
        head: Head(head),
        at_millis: wire.at_millis,
        signature: wire.signature,
        issuer,
    })
}

fn hex(head: Head) -> String {
    enroll_client::certificate::hex(&head.0)
}
