//! `ca-server gateway`: gateways, which fetch CRLs with credentials of their own.

use clap::{Args, Subcommand};
use fleetca_proto::v1::{CreateGatewayRequest, ListCrlsRequest, ListGatewaysRequest, RevokeGatewayRequest};

use super::{
    CommandError, Session, crl,
    output::Format,
    paging, peer,
    receipt::{InForce, Receipt},
    token::TokenFile,
    words::{parse_reason, reason_wire},
};
use crate::identity::RevocationReason;

/// Gateways, which fetch CRLs with credentials of their own
#[derive(Args, Debug)]
pub struct Gateway {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Make a join token for a gateway, new or enrolled before
    Create {
        /// The gateway's ID
        id: String,
        #[command(flatten)]
        file: TokenFile,
    },
    /// List all gateways
    List {
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
    },
    /// Cut a gateway off
    Revoke {
        /// Its ID
        id: String,
        /// Why, by the names of RFC 5280: unspecified, keyCompromise, affiliationChanged, cessationOfOperation
        #[arg(long, value_parser = parse_reason, default_value = "unspecified")]
        reason: RevocationReason,
    },
}

/// Runs the command.
pub async fn run(args: Gateway, session: &Session) -> Result<(), CommandError> {
    let mut operator = session.operator().await?;
    match args.command {
        Command::Create { id, file } => {
            let options = format!("--kind gateway --gateway-id {id}");
            let record = async |public_key| {
                let request = CreateGatewayRequest { id, public_key, lifetime: file.lifetime() };
                Ok(operator.create_gateway(request).await?.into_inner())
            };
            file.make(session.output(), &options, record).await
        }
        Command::List { limit } => {
            let gateways = paging::all(limit, async |page_size, page_token| {
                let page = operator.list_gateways(ListGatewaysRequest { page_size, page_token }).await?.into_inner();
                Ok((page.gateways, page.next_page_token))
            });
            let gateways: Vec<peer::Gateway> = gateways.await?.into_iter().map(peer::Gateway::from).collect();
            session.output().list(&gateways)?;
            if session.output().format() == Format::Table {
                crl::say_loaded(session.output(), operator.list_crls(ListCrlsRequest {}).await?.into_inner().crls)?;
            }
            Ok(())
        }
        Command::Revoke { id, reason } => {
            let receipt = operator.revoke_gateway(RevokeGatewayRequest { id, reason: reason_wire(reason) }).await?;
            let receipt = Receipt::from(receipt.into_inner());
            session.output().told(&receipt, |_| receipt.words())
        }
    }
}
