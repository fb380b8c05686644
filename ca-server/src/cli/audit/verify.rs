//! `ca-server audit verify`: walks the whole log, and proves it with keys and heads that the server can't change.

use std::path::Path;

use fleetca_proto::v1::{
    ListAuditRecordsRequest, ListAuditRecordsResponse, ListAuditSealsRequest, ListAuditSealsResponse,
    operator_client::OperatorClient,
};
use serde::Serialize;
use tonic::transport::Channel;

use super::{
    head::KnownHead,
    issuers::Sealers,
    walk::{Pages, Walk},
};
use crate::{
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
    let verified = Walk::new(operator, sealers, known).run().await?;
    if let Some(path) = head_file {
        let at = session.output().now().to_string();
        KnownHead { sequence: verified.records, head: verified.head.clone(), at }.write(path)?;
    }
    session.output().details(&verified)
}

impl Pages for OperatorClient<Channel> {
    async fn records(&mut self, from: u64) -> Result<ListAuditRecordsResponse, CommandError> {
        let request = ListAuditRecordsRequest { from_sequence: from, ..Default::default() };
        Ok(self.list_audit_records(request).await?.into_inner())
    }

    async fn seals(&mut self, from: u64) -> Result<ListAuditSealsResponse, CommandError> {
        let request = ListAuditSealsRequest { from_sequence: from, page_size: 0 };
        Ok(self.list_audit_seals(request).await?.into_inner())
    }
}

/// What was proven.
#[derive(Debug, Serialize)]
pub struct Verified {
    /// How many records, all in their chain.
    pub records: u64,
    /// How many of them, from the first on, are under a seal.
    pub sealed: u64,
    /// The chain's head after the last one, in hexadecimal.
    pub head: String,
    /// When the last seal was made.
    pub sealed_at: Option<Instant>,
    /// The last record under the head seen before: the log only grew since.
    #[serde(rename = "grown_since")]
    pub known: Option<u64>,
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
