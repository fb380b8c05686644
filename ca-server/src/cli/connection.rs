//! The way to a running server: which one, with whose credential.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{
    Args,
    builder::{OsStringValueParser, TypedValueParser},
};
use enroll_client::{
    connect::{Connection, ServerUrl},
    credential::Credential,
    identity::Kind,
    trust::{Roots, Trust},
};
use fleetca_proto::v1::operator_client::OperatorClient;
use http::Uri;
use tonic::transport::Channel;

use super::{
    CommandError, duration,
    output::{Format, Output},
};
use crate::identity::Timestamp;

/// The operators' port, where a URL names none.
const OPERATOR_PORT: u16 = 7444;

/// Before the end of an operator's certificate, how long it is warned of.
const WARNING: Duration = Duration::from_secs(5 * 86_400);

/// Options that every command takes which talks to a server, and `--output`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The server's operators' port: https://HOST:PORT (port 7444 if none is named)
    #[arg(
        long,
        value_name = "URL",
        env = "FLEETCA_SERVER",
        hide_env_values = true,
        global = true,
        help_heading = "Options of every command"
    )]
    server: Option<String>,

    /// The operator's credential folder
    #[arg(
        long,
        value_name = "DIR",
        env = "FLEETCA_CREDENTIAL",
        value_parser = OsStringValueParser::new().map(PathBuf::from),
        hide_env_values = true,
        global = true,
        help_heading = "Options of every command"
    )]
    credential: Option<PathBuf>,

    /// table for people, json for programs
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value_t,
        hide_possible_values = true,
        global = true,
        help_heading = "Options of every command"
    )]
    output: Format,
}

/// How long a call may take: 100,000 devices take their time, and the server allows five minutes.
const PATIENCE: Duration = Duration::from_secs(305);

/// One run of a command: its connection, its output.
#[derive(Debug)]
pub struct Session {
    options: Options,
    output: Output,
}

impl Session {
    /// A session at `now`, by the clock of this machine.
    pub fn new(options: Options, now: Timestamp) -> Self {
        let output = Output::new(options.output, now);
        Self { options, output }
    }

    /// Where the command prints.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// The service `Operator`, reached with the operator's credential.
    pub async fn operator(&self) -> Result<OperatorClient<Channel>, CommandError> {
        Ok(self.open().await?.0)
    }

    /// The same, and the operator's name.
    pub async fn operator_and_name(&self) -> Result<(OperatorClient<Channel>, String), CommandError> {
        let (operator, _, name) = self.open().await?;
        Ok((operator, name))
    }

    /// The same, and the control roots under which the server was accepted.
    pub async fn operator_and_roots(&self) -> Result<(OperatorClient<Channel>, Roots), CommandError> {
        let (operator, roots, _) = self.open().await?;
        Ok((operator, roots))
    }

    async fn open(&self) -> Result<(OperatorClient<Channel>, Roots, String), CommandError> {
        // A variable that is there and empty is none: a shell's way to be without it.
        let missing = |option, variable| CommandError::Usage(format!("{option} (or {variable}) is missing"));
        let server = self.options.server.as_deref().filter(|url| !url.is_empty());
        let server = server.ok_or_else(|| missing("--server URL", "FLEETCA_SERVER"))?;
        let dir = self.options.credential.as_ref().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.ok_or_else(|| missing("--credential DIR", "FLEETCA_CREDENTIAL"))?;
        let server = operator_url(server)?;
        let credential = Credential::load(dir)?;
        if credential.state().kind != Kind::Operator {
            let reason = format!("the credential of a {}, not of an operator", credential.state().kind);
            return Err(CommandError::Content { path: dir.clone(), reason });
        }
        let not_after = Timestamp::from_secs(i64::try_from(credential.leaf().not_after().unix()).unwrap_or(i64::MAX));
        if let Some(warning) = expiry_warning(credential.id().as_str(), not_after, dir, self.output.now()) {
            eprintln!("{warning}");
        }
        let roots = credential.control_roots().clone();
        let trust = Trust::Roots(roots.clone());
        let connection = Connection::open_with_patience(&server, &trust, Some(&credential), PATIENCE).await?;
        Ok((connection.operator(), roots, credential.id().as_str().to_owned()))
    }
}

/// Reads a server's URL; where it names no port, the operators' is meant.
fn operator_url(text: &str) -> Result<ServerUrl, CommandError> {
    let uri: Option<Uri> = text.parse().ok();
    let has_port = uri.and_then(|uri| uri.port().map(|_| ())).is_some();
    let text = if has_port { text.to_owned() } else { format!("{}:{OPERATOR_PORT}", text.trim_end_matches('/')) };
    text.parse().map_err(|_| CommandError::Usage("--server takes a URL of the form https://HOST:PORT".into()))
}

fn expiry_warning(name: &str, not_after: Timestamp, dir: &Path, now: Timestamp) -> Option<String> {
    let left = not_after.since(now);
    if left > WARNING {
        return None;
    }
    let end = if left.is_zero() {
        format!("ended at {not_after}")
    } else {
        format!("ends in {} (at {not_after})", duration::display(left))
    };
    Some(format!("warning: the certificate of operator {name} {end}; run: enroll-client renew --dir {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_port_means_the_operators_port() {
        for (text, url) in [
            ("https://ca.example", "https://ca.example:7444"),
            ("https://ca.example/", "https://ca.example:7444"),
            ("https://ca.example:9", "https://ca.example:9"),
            ("https://[::1]", "https://[::1]:7444"),
            ("https://127.0.0.1:7443", "https://127.0.0.1:7443"),
        ] {
            assert_eq!(operator_url(text).unwrap().to_string(), url);
        }
    }

    #[test]
    fn other_urls_are_a_mistake_in_usage() {
        for text in ["", "ca.example", "http://ca.example:7444", "https://ca.example/x"] {
            assert!(matches!(operator_url(text), Err(CommandError::Usage(_))), "{text}");
        }
    }

    #[tokio::test]
    async fn an_empty_variable_is_none_and_only_who_needs_it_misses_it() {
        #[derive(clap::Parser)]
        struct Command {
            #[command(flatten)]
            options: Options,
        }
        for (server, credential, named) in
            [("", "ana", "FLEETCA_SERVER"), ("https://ca.example", "", "FLEETCA_CREDENTIAL")]
        {
            let args = ["x", "--server", server, "--credential", credential];
            let command = <Command as clap::Parser>::try_parse_from(args).expect("a local command has to begin");
            let session = Session::new(command.options, Timestamp::from_secs(0));
            let outcome = session.operator().await.map(|_| ());
            assert!(matches!(&outcome, Err(CommandError::Usage(text)) if text.contains(named)), "{outcome:?}");
        }
    }

    #[test]
    fn a_certificate_near_its_end_is_warned_of() {
        let warning = |days: u64| {
            let (end, dir) = (Timestamp::from_secs(1_800_000_000), Path::new("ana"));
            expiry_warning("ana", end, dir, end - Duration::from_secs(days * 86_400))
        };
        assert_eq!(warning(6), None);
        let expected = "warning: the certificate of operator ana ends in 4d (at 2027-01-15T08:00:00Z); run: \
                        enroll-client renew --dir ana";
        assert_eq!(warning(4).as_deref(), Some(expected));
        assert!(warning(0).is_some_and(|warning| warning.contains("ended at")));
    }
}
