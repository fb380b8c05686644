//! `ca-server audit`: who did what, and the proof that nobody changed it since.

mod head;
mod issuers;
mod verify;
mod view;
mod walk;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use fleetca_proto::v1::{ListAuditRecordsRequest, ListSecurityEventsRequest};

use super::{CommandError, Session, paging};

pub use head::KnownHead;
pub use issuers::Sealers;
pub use verify::Verified;
pub use walk::{Pages, Walk};

/// The audit log: reading it, and proving it
#[derive(Args, Debug)]
pub struct Audit {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List records, in order, or security events, the newest first
    List(List),
    /// Prove chain and seals, from the first record on
    Verify {
        /// Prove also that the log only grew since the head kept in this file; then keep the new one there
        #[arg(long, value_name = "FILE")]
        head: Option<PathBuf>,
    },
}

#[derive(Args, Debug)]
struct List {
    /// Only those about this subject, such as device/pump-7
    #[arg(long)]
    subject: Option<String>,
    /// Only this action, such as device.revoked; or this kind of security event, such as lineage.fork
    #[arg(long)]
    action: Option<String>,
    /// The newest record first
    #[arg(long)]
    newest_first: bool,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// Refusals and other events of strangers, aggregated, in place of records
    #[arg(long)]
    security: bool,
}

/// Runs the command.
pub async fn run(args: Audit, session: &Session) -> Result<(), CommandError> {
    match args.command {
        Command::List(list) if list.security => list.security_events(session).await,
        Command::List(list) => list.records(session).await,
        Command::Verify { head } => verify::run(head.as_deref(), session).await,
    }
}

impl List {
    async fn records(self, session: &Session) -> Result<(), CommandError> {
        let mut operator = session.operator().await?;
        let records = paging::all(self.limit, async |page_size, token: String| {
            let request = ListAuditRecordsRequest {
                from_sequence: token.parse().unwrap_or(0),
                page_size,
                subject: self.subject.clone().unwrap_or_default(),
                action: self.action.clone().unwrap_or_default(),
                newest_first: self.newest_first,
            };
            let page = operator.list_audit_records(request).await?.into_inner();
            let next = if page.next_sequence == 0 { String::new() } else { page.next_sequence.to_string() };
            Ok((page.records, next))
        });
        let records: Vec<view::Record> = records.await?.into_iter().map(view::Record::from).collect();
        session.output().list(&records)
    }

    async fn security_events(self, session: &Session) -> Result<(), CommandError> {
        let mut operator = session.operator().await?;
        let events = paging::all(self.limit, async |page_size, page_token| {
            let request = ListSecurityEventsRequest {
                page_size,
                page_token,
                kind: self.action.clone().unwrap_or_default(),
                subject: self.subject.clone().unwrap_or_default(),
            };
            let page = operator.list_security_events(request).await?.into_inner();
            Ok((page.events, page.next_page_token))
        });
        let events: Vec<view::Event> = events.await?.into_iter().map(view::Event::from).collect();
        session.output().list(&events)
    }
}
