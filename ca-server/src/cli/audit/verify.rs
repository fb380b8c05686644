//! `ca-server audit verify`: walks the whole log, and proves it with keys and heads that the server can't change.

use std::{collections::VecDeque, path::Path};

use fleetca_proto::v1::{self, ListAuditRecordsRequest, ListAuditSealsRequest, operator_client::OperatorClient};
use serde::Serialize;
use tonic::transport::Channel;

use super::{head::KnownHead, issuers::Sealers};
use crate::{
    audit::{Broken, Head, Kept, Record, Seal, Verifier},
    cli::{
        CommandError, Session,
        output::{Details, Instant, count},
    },
    identity::Timestamp,
};

/// Runs the command.
pub(super) async fn run(head_file: Option<&Path>, session: &Session) -> Result<(), CommandError> {
    let known = head_file.map(KnownHead::read).transpose()?.flatten();
    let (mut operator, roots) = session.operator_and_roots().await?;
    let sealers = Sealers::fetch(&mut operator, &roots).await?;
    let seals = Seals { operator: operator.clone(), read: VecDeque::new(), next: 1 };
    let walk = Walk { operator, sealers, seals, known, verifier: Verifier::default(), sealed_at: None };
    let verified = walk.run().await?;
    if let Some(path) = head_file {
        let at = session.output().now().to_string();
        KnownHead { sequence: verified.records, head: verified.head.clone(), at }.write(path)?;
    }
    session.output().details(&verified)
}

struct Walk {
    operator: OperatorClient<Channel>,
    sealers: Sealers,
    seals: Seals,
    known: Option<KnownHead>,
    verifier: Verifier,
    sealed_at: Option<i64>,
}

impl Walk {
    async fn run(mut self) -> Result<Verified, CommandError> {
        self.check_known(0, Head::EMPTY)?;
        loop {
            let from_sequence = self.verifier.counts().0 + 1;
            let request = ListAuditRecordsRequest { from_sequence, ..Default::default() };
            let page = self.operator.list_audit_records(request).await?.into_inner();
            let at_end = page.next_sequence == 0;
            if page.records.is_empty() {
                break;
            }
            for record in page.records {
                self.record(record).await?;
            }
            // A seal that is already there though its records are not: they were written after this page was read.
            if at_end && self.seals.first().await?.is_none() {
                break;
            }
        }
        self.finish().await
    }

    async fn record(&mut self, wire: v1::AuditRecord) -> Result<(), CommandError> {
        let sequence = wire.sequence;
        let head = self.verifier.record(&kept(wire)?)?;
        self.check_known(sequence, head)?;
        while let Some(seal) = self.seals.first().await? {
            if seal.last_sequence > sequence {
                break;
            }
            self.verifier.seal(seal, self.sealers.have_signed(seal))?;
            self.sealed_at = Some(seal.at_millis);
            self.seals.pass();
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
        if let Some(seal) = self.seals.first().await? {
            return Err(Broken::Truncated { sealed: seal.last_sequence, last: records }.into());
        }
        let sealed_at = self.sealed_at.map(Instant::from_millis);
        let known = self.known.map(|known| known.sequence);
        Ok(Verified { records, sealed, head: hex(self.verifier.head()), sealed_at, known })
    }
}

/// The seals in order, page by page.
struct Seals {
    operator: OperatorClient<Channel>,
    read: VecDeque<Seal>,
    /// 0: there are no more.
    next: u64,
}

impl Seals {
    /// The first that was not passed yet.
    async fn first(&mut self) -> Result<Option<&Seal>, CommandError> {
        while self.read.is_empty() && self.next != 0 {
            let request = ListAuditSealsRequest { from_sequence: self.next, page_size: 0 };
            let page = self.operator.list_audit_seals(request).await?.into_inner();
            if page.next_sequence != 0 && page.next_sequence <= self.next {
                return Err(CommandError::Answer("a page of seals follows itself"));
            }
            self.next = page.next_sequence;
            self.read = page.seals.into_iter().map(seal).collect::<Result<_, _>>()?;
        }
        Ok(self.read.front())
    }

    fn pass(&mut self) {
        self.read.pop_front();
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

/// What was proven.
#[derive(Debug, Serialize)]
struct Verified {
    records: u64,
    sealed: u64,
    head: String,
    sealed_at: Option<Instant>,
    /// The last record under the head seen before: the log only grew since.
    #[serde(rename = "grown_since")]
    known: Option<u64>,
}

impl Details for Verified {
    fn lines(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        let mut lines = vec![("records", format!("{}, all in their chain", self.records))];
        let open = self.records - self.sealed;
        let note = if open == 0 { "all".into() } else { format!("{} since then", count(open, "record")) };
        let at = self.sealed_at.map(|at| format!(", {}", at.relative_to(now))).unwrap_or_default();
        lines.push(("sealed", format!("{} ({note}){at}", self.sealed)));
        lines.push(("head", self.head.clone()));
        lines.extend(self.known.map(|known| ("grown", format!("only, since record {known}"))));
        lines
    }
}
