//! `ca-server token`: join tokens for devices, which are made here: the server gets their public halves.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use enroll_client::attester::token::JoinToken;
use fleetca_proto::v1::{self, CreateTokenRequest, ListTokensRequest, RevokeTokenRequest};
use serde::Serialize;

use super::{
    CommandError, Session, duration,
    output::{Details, Instant, Output, Row, or_dash, present, when},
    paging,
    secret_file::SecretFile,
    words::{Kind, Role},
};
use crate::identity::Timestamp;

/// Join tokens for devices
#[derive(Args, Debug)]
pub struct Token {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Make a join token: for one device, or for a number of new ones
    Create(Create),
    /// List tokens, the newest first
    List {
        /// Only tokens of this fleet
        #[arg(long)]
        fleet: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
    },
    /// Make a token useless
    Revoke {
        /// Its ID: 16 hexadecimal digits
        id: String,
    },
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("whom").required(true).args(["device_id", "pattern"]))]
struct Create {
    /// The fleet that its devices belong to
    #[arg(long)]
    fleet: String,
    /// The one device that it is for
    #[arg(long, value_name = "ID")]
    device_id: Option<String>,
    /// Though that device is active: it enrolls again
    #[arg(long, requires = "device_id", conflicts_with = "pattern")]
    reenroll: bool,
    /// The IDs of new devices that it is for: `*` stands for any run of characters
    #[arg(long, requires = "uses")]
    pattern: Option<String>,
    /// How many new devices may use it
    #[arg(long, value_name = "N", requires = "pattern", conflicts_with = "device_id")]
    uses: Option<u32>,
    #[command(flatten)]
    file: TokenFile,
}

/// Where a new token goes, and how long it lives.
#[derive(Args, Debug)]
pub struct TokenFile {
    /// How long it can be used
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration::parse)]
    lifetime: Duration,
    /// The new file that the token's text is written to: a secret
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl TokenFile {
    /// The lifetime, for the wire.
    pub fn lifetime(&self) -> Option<prost_types::Duration> {
        Some(duration::wire(self.lifetime))
    }

    /// Makes a token, writes its text, and has its public half recorded by `record`. The file stays only if that
    /// succeeds. `options` are what `enroll-client enroll` needs beside the token.
    pub async fn make(
        &self,
        output: &Output,
        options: &str,
        record: impl AsyncFnOnce(Vec<u8>) -> Result<v1::Token, CommandError>,
    ) -> Result<(), CommandError> {
        let token = JoinToken::generate()?;
        let file = SecretFile::create(&self.out, &token.text())?;
        let recorded = record(token.public_key().to_vec()).await?;
        if recorded.id != token.id() {
            return Err(CommandError::Answer("it recorded another token than ours"));
        }
        file.keep()?;
        let made = Made { token: View::from(recorded), file: &self.out };
        output.told(&made, |now| made.words(options, now))
    }
}

/// Runs the command.
pub async fn run(args: Token, session: &Session) -> Result<(), CommandError> {
    match args.command {
        Command::Create(create) => create.run(session).await,
        Command::List { fleet, limit } => list(session, fleet.unwrap_or_default(), limit).await,
        Command::Revoke { id } => {
            let token = session.operator().await?.revoke_token(RevokeTokenRequest { id }).await?;
            session.output().details(&View::from(token.into_inner()))
        }
    }
}

impl Create {
    async fn run(self, session: &Session) -> Result<(), CommandError> {
        let mut operator = session.operator().await?;
        let options = format!("--device-id {}", self.device_id.as_deref().unwrap_or("ID"));
        let record = async |public_key| {
            let request = CreateTokenRequest {
                public_key,
                fleet: self.fleet.clone(),
                device_id: self.device_id.clone().unwrap_or_default(),
                id_pattern: self.pattern.clone().unwrap_or_default(),
                uses: self.uses.unwrap_or(1),
                lifetime: self.file.lifetime(),
                reenroll: self.reenroll,
            };
            Ok(operator.create_token(request).await?.into_inner())
        };
        self.file.make(session.output(), &options, record).await
    }
}

async fn list(session: &Session, fleet: String, limit: Option<u32>) -> Result<(), CommandError> {
    let mut operator = session.operator().await?;
    let tokens = paging::all(limit, async |page_size, page_token| {
        let request = ListTokensRequest { page_size, page_token, fleet: fleet.clone() };
        let page = operator.list_tokens(request).await?.into_inner();
        Ok((page.tokens, page.next_page_token))
    });
    let tokens: Vec<View> = tokens.await?.into_iter().map(View::from).collect();
    session.output().list(&tokens)
}

/// A token as it is shown. There is nothing secret to show: the server has no more than this.
#[derive(Debug, Serialize)]
struct View {
    id: String,
    kind: Option<Kind>,
    fleet: Option<String>,
    subject_id: Option<String>,
    id_pattern: Option<String>,
    role: Option<Role>,
    uses: u32,
    uses_left: u32,
    state: String,
    reenroll: bool,
    expires_at: Option<Instant>,
    created_at: Option<Instant>,
    created_by: Option<String>,
}

impl From<v1::Token> for View {
    fn from(wire: v1::Token) -> Self {
        Self {
            id: wire.id,
            kind: Kind::from_wire(wire.kind),
            fleet: present(wire.fleet),
            subject_id: present(wire.subject_id),
            id_pattern: present(wire.id_pattern),
            role: Role::from_wire(wire.role),
            uses: wire.uses,
            uses_left: wire.uses_left,
            state: wire.state,
            reenroll: wire.reenroll,
            expires_at: Instant::from_wire(wire.expires_at),
            created_at: Instant::from_wire(wire.created_at),
            created_by: present(wire.created_by),
        }
    }
}

impl View {
    /// `device pump-7`, `devices pump-*`, `operator ana (revoker)`.
    fn whom(&self) -> String {
        let kind = or_dash(self.kind.map(Kind::as_str));
        let role = self.role.map(|role| format!(" ({})", role.as_str())).unwrap_or_default();
        match (&self.subject_id, &self.id_pattern) {
            (Some(id), _) => format!("{kind} {id}{role}"),
            (None, Some(pattern)) => format!("{kind}s {pattern}"),
            (None, None) => kind,
        }
    }
}

impl Row for View {
    const COLUMNS: &'static [&'static str] = &["ID", "STATE", "FOR", "FLEET", "USES LEFT", "EXPIRES", "MADE BY"];

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.clone(),
            self.state.clone(),
            self.whom(),
            or_dash(self.fleet.clone()),
            format!("{} of {}", self.uses_left, self.uses),
            when(self.expires_at, now),
            or_dash(self.created_by.clone()),
        ]
    }
}

impl Details for View {
    fn lines(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        let mut lines = vec![("token", self.id.clone()), ("state", self.state.clone()), ("for", self.whom())];
        lines.extend(self.fleet.clone().map(|fleet| ("fleet", fleet)));
        lines.push(("uses left", format!("{} of {}", self.uses_left, self.uses)));
        lines.push(("expires", when(self.expires_at, now)));
        lines
    }
}

/// A token that was made, and the file that its text is in.
#[derive(Debug, Serialize)]
struct Made<'a> {
    #[serde(flatten)]
    token: View,
    file: &'a Path,
}

impl Made<'_> {
    fn words(&self, options: &str, now: Timestamp) -> String {
        let file = self.file.display();
        format!(
            "{}\nThe token is in {file}: a secret. Whoever is to enroll runs, with their own --dir:\n  \
             enroll-client enroll --server URL --root control-root.pem --dir DIR {options} --attest token:{file}\n",
            super::output::details(&self.token.lines(now)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> v1::Token {
        v1::Token {
            id: "00ff".into(),
            kind: v1::Kind::Device.into(),
            fleet: "pumps".into(),
            subject_id: "pump-7".into(),
            uses: 1,
            uses_left: 1,
            state: "live".into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_token_says_whom_it_is_for() {
        assert_eq!(View::from(token()).whom(), "device pump-7");
        let fleet = v1::Token { subject_id: String::new(), id_pattern: "pump-*".into(), ..token() };
        assert_eq!(View::from(fleet).whom(), "devices pump-*");
        let (kind, role) = (v1::Kind::Operator.into(), v1::Role::Revoker.into());
        let operator = v1::Token { kind, role, subject_id: "ana".into(), ..token() };
        assert_eq!(View::from(operator).whom(), "operator ana (revoker)");
    }

    #[tokio::test]
    async fn the_file_stays_only_if_the_server_has_recorded_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let file = TokenFile { lifetime: Duration::from_secs(60), out: folder.path().join("a.token") };
        let output = Output::new(Default::default(), Timestamp::from_secs(0));
        let refused = file.make(&output, "", async |_| Err(tonic::Status::not_found("no such fleet").into())).await;
        assert!(matches!(refused, Err(CommandError::Refused(_))));
        let other = file.make(&output, "", async |_| Ok(token())).await;
        assert!(matches!(other, Err(CommandError::Answer(_))));
        assert!(!file.out.exists());
    }
}
