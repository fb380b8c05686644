//! `ca-server issuer`: the CAs that sign.

mod answer;
mod bereft;
mod ceremony;
mod create;
mod request;
mod status;
mod strike;

use clap::{Args, Subcommand};
use fleetca_proto::v1::{self, ListIssuersRequest, RetireIssuerRequest};
use serde::Serialize;

use super::{
    CommandError, Session,
    output::{Instant, Row, or_dash, present, when},
};
use crate::{
    identity::Timestamp,
    pki::{PemLabel, to_pem},
};

/// Roots and the CAs under them
#[derive(Args, Debug)]
pub struct Issuer {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List every issuer, roots included
    List,
    /// Ask a root that is elsewhere, or somebody else's, for the certificate of one more issuing CA
    Request(request::Request),
    /// Make one more issuing CA for devices: a ceremony with the root keys; the server must not run
    Create(create::Create),
    /// Make an issuing CA that takes over from another, whose devices move to it with their next renewals: a ceremony
    Rotate(create::Rotate),
    /// Sign no more certificates with one: its devices move to the others with their next renewals
    Retire {
        /// Its ID
        #[arg(value_name = "ISSUER")]
        issuer: String,
    },
    /// Say how many certificates of each have not expired, of which fleets, and until when devices need it
    Status,
    /// End one that is retired and that no device needs any more: a ceremony
    End(strike::Strike),
    /// Cut one off whose key is stolen: its devices have to attest anew; a ceremony
    Revoke(strike::Strike),
}

/// Runs the command.
pub async fn run(args: Issuer, session: &Session) -> Result<(), CommandError> {
    match args.command {
        Command::List => list(session).await,
        Command::Request(args) => request::run(args, session).await,
        Command::Create(args) => create::create(args, session).await,
        Command::Rotate(args) => create::rotate(args, session).await,
        Command::Retire { issuer } => {
            session.operator().await?.retire_issuer(RetireIssuerRequest { id: issuer }).await?;
            status::run(session).await
        }
        Command::Status => status::run(session).await,
        Command::End(args) => strike::end(args, session).await,
        Command::Revoke(args) => strike::revoke(args, session).await,
    }
}

async fn list(session: &Session) -> Result<(), CommandError> {
    let issuers = session.operator().await?.list_issuers(ListIssuersRequest::default()).await?.into_inner().issuers;
    let issuers: Vec<View> = issuers.into_iter().map(View::from).collect();
    session.output().list(&issuers)
}

/// An issuer as it is shown.
#[derive(Debug, Serialize)]
struct View {
    id: String,
    name: String,
    hierarchy: String,
    not_before: Option<Instant>,
    not_after: Option<Instant>,
    standing: Option<String>,
    replaces: Option<String>,
    published_at: Option<Instant>,
    ready_at: Option<Instant>,
    pem: String,
}

impl From<v1::Issuer> for View {
    fn from(wire: v1::Issuer) -> Self {
        Self {
            id: wire.id,
            name: wire.name,
            hierarchy: wire.hierarchy,
            not_before: Instant::from_wire(wire.not_before),
            not_after: Instant::from_wire(wire.not_after),
            standing: present(wire.standing),
            replaces: present(wire.replaces),
            published_at: Instant::from_wire(wire.published_at),
            ready_at: Instant::from_wire(wire.ready_at),
            pem: to_pem(PemLabel::Certificate, &wire.certificate),
        }
    }
}

impl Row for View {
    const COLUMNS: &'static [&'static str] = &["ID", "HIERARCHY", "STANDING", "NAME", "EXPIRES"];

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let standing = or_dash(self.standing.clone());
        vec![self.id.clone(), self.hierarchy.clone(), standing, self.name.clone(), when(self.not_after, now)]
    }
}
