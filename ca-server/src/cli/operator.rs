//! `ca-server operator`: who may run the CA, and as what.

use clap::{Args, Subcommand};
use fleetca_proto::v1::{
    self, CreateOperatorRequest, ListOperatorsRequest, RevokeOperatorRequest, operator_client::OperatorClient,
};
use tonic::transport::Channel;

use super::{
    CommandError, Session, paging, peer,
    receipt::{InForce, Receipt},
    recover,
    token::TokenFile,
    words::{Role, parse_reason, reason_wire},
};
use crate::identity::{RevocationReason, Timestamp};

/// Operators: who may run the CA, and as what
#[derive(Args, Debug)]
pub struct Operator {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// The way back in, on the server's own folder: a new credential for an admin
    Recover(recover::Recover),
    #[command(flatten)]
    Remote(Remote),
}

#[derive(Subcommand, Debug)]
enum Remote {
    /// Make a join token for an operator, new or enrolled before
    Create {
        /// The operator's name
        name: String,
        /// What the operator may do
        #[arg(long, value_enum)]
        role: Role,
        #[command(flatten)]
        file: TokenFile,
    },
    /// List all operators
    List {
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
    },
    /// Cut an operator off
    Revoke {
        /// The operator's name
        name: String,
        /// Why, by the names of RFC 5280: unspecified, keyCompromise, affiliationChanged, cessationOfOperation
        #[arg(long, value_parser = parse_reason, default_value = "unspecified")]
        reason: RevocationReason,
        /// Even if it is the last admin
        #[arg(long)]
        yes: bool,
    },
}

/// Runs the command.
pub async fn run(args: Operator, session: &Session) -> Result<(), CommandError> {
    match args.command {
        Command::Recover(args) => recover::run(args, session).await,
        Command::Remote(command) => run_remote(command, session).await,
    }
}

async fn run_remote(command: Remote, session: &Session) -> Result<(), CommandError> {
    let (mut operator, own_name) = session.operator_and_name().await?;
    match command {
        Remote::Create { name, role, file } => {
            let options = format!("--kind operator --operator-name {name}");
            let record = async |public_key| {
                let (role, lifetime) = (role.wire().into(), file.lifetime());
                let request = CreateOperatorRequest { name, role, public_key, lifetime };
                Ok(operator.create_operator(request).await?.into_inner())
            };
            file.make(session.output(), &options, record).await
        }
        Remote::List { limit } => {
            let operators = list(&mut operator, limit).await?;
            let operators: Vec<peer::Operator> = operators.into_iter().map(peer::Operator::from).collect();
            session.output().list(&operators)
        }
        Remote::Revoke { name, reason, yes } => {
            let operators = if yes { Vec::new() } else { list(&mut operator, None).await? };
            // Who is no admin is refused all the same, and hears that from the server.
            let may = operators.iter().any(|peer| peer.id == own_name && peer.role == i32::from(v1::Role::Admin));
            if may && is_last_admin(&operators, &name, session.output().now()) {
                return Err(CommandError::Usage(format!(
                    "{name} is the last admin, and nobody could make another over the network: make one first, or say \
                     --yes (the way back in is `ca-server operator recover`, on the server)"
                )));
            }
            let receipt = operator.revoke_operator(RevokeOperatorRequest { name, reason: reason_wire(reason) }).await?;
            let receipt = Receipt::from(receipt.into_inner());
            session.output().told(&receipt, |_| receipt.words())
        }
    }
}

async fn list(operator: &mut OperatorClient<Channel>, limit: Option<u32>) -> Result<Vec<v1::Peer>, CommandError> {
    paging::all(limit, async |page_size, page_token| {
        let page = operator.list_operators(ListOperatorsRequest { page_size, page_token }).await?.into_inner();
        Ok((page.operators, page.next_page_token))
    })
    .await
}

/// Whether nobody but `name` could make an admin. One who has not enrolled, or whose certificate has ended, can't.
fn is_last_admin(operators: &[v1::Peer], name: &str, now: Timestamp) -> bool {
    let is_admin = |peer: &&v1::Peer| {
        let is_active = peer.status == i32::from(v1::DeviceStatus::Active);
        let is_valid = peer.expires_at.as_ref().is_some_and(|at| at.seconds >= now.secs());
        is_active && is_valid && peer.role == i32::from(v1::Role::Admin)
    };
    let mut admins = operators.iter().filter(is_admin).map(|peer| peer.id.as_str());
    admins.next() == Some(name) && admins.next().is_none()
}
