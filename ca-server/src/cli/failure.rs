//! How a command fails: what people and programs are told on stderr, and the exit code.

use std::{
    ffi::OsString,
    io::{self, ErrorKind},
    path::PathBuf,
    process::ExitCode,
};

use enroll_client::{
    attester::token::TokenError, connect::ConnectError, credential::CredentialError, refusal::Refusal, renewal::Action,
};
use serde::Serialize;
use tonic::Code;

use super::{
    duration,
    output::{Format, count},
};
use crate::audit::Broken;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Options that don't go together, or that are missing.
    #[error("{0}")]
    Usage(String),
    /// The server can't be reached, or is not the one that we trust.
    #[error("{0}")]
    Connect(Box<ConnectError>),
    /// The operator's credential can't be used.
    #[error("{0}")]
    Credential(Box<CredentialError>),
    /// The server answered, and said no.
    #[error("{}", .0.message)]
    Refused(Box<Refusal>),
    /// The server answered what this command can't understand.
    #[error("the server's answer makes no sense: {0}")]
    Answer(&'static str),
    /// A file can't be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{}: {reason}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is a file already, where a secret should go.
    #[error("{} exists already, and is not overwritten", .0.display())]
    Exists(PathBuf),
    /// No join token could be made.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// The audit log is not what it was.
    #[error("the audit log is broken: {0}")]
    Audit(#[from] Broken),
    /// A command of this machine's own CA failed.
    #[error("{0}")]
    Local(String),
    /// What was asked is done, and some gateways have not loaded it in the time that was given them.
    #[error("{missing} of {} not loaded it yet; what was asked is done", gateways_have(*gateways))]
    Behind {
        /// How many.
        missing: u32,
        /// Of how many.
        gateways: u32,
    },
    /// What was asked is done but for this many rows, which the CA can't read.
    #[error(
        "what was asked is done but for {} of the CA's database that can't be read: these stay as they are, and may not be \
         on a CRL",
        count(*.0, "row")
    )]
    PassedOver(u64),
    /// The output can't be written.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

impl From<tonic::Status> for CommandError {
    fn from(status: tonic::Status) -> Self {
        CommandError::Refused(Box::new(Refusal::from(status)))
    }
}

impl From<ConnectError> for CommandError {
    fn from(error: ConnectError) -> Self {
        CommandError::Connect(Box::new(error))
    }
}

impl From<CredentialError> for CommandError {
    fn from(error: CredentialError) -> Self {
        CommandError::Credential(Box::new(error))
    }
}

impl CommandError {
    /// A failure to read or write this file.
    pub fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> CommandError {
        let path = path.into();
        move |source| CommandError::File { path, source }
    }

    /// 1 refused or failed, 2 usage, 3 server or gateways out of reach. A reader of our output that has had enough is no failure.
    pub fn exit_code(&self) -> u8 {
        match self {
            CommandError::Output(error) if error.kind() == ErrorKind::BrokenPipe => 0,
            CommandError::Usage(_) => 2,
            CommandError::Behind { .. } => 3,
            CommandError::Connect(error) if is_out_of_reach(error) => 3,
            CommandError::Refused(refusal) if refusal.reason.is_none() && is_broken_off(refusal.code) => 3,
            _ => 1,
        }
    }

    /// Tells it on stderr, and gives the exit code.
    pub fn report(&self, format: Format) -> ExitCode {
        let code = self.exit_code();
        if code != 0 {
            match format {
                Format::Table => eprintln!("{}", self.line()),
                Format::Json => eprintln!("{}", self.json()),
            }
        }
        ExitCode::from(code)
    }

    /// `error: what happened (REASON): what to do next`
    fn line(&self) -> String {
        let reason = self.reason().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let next = self.next_step().map(|next| format!("; {next}")).unwrap_or_default();
        format!("error: {self}{reason}{next}")
    }

    fn json(&self) -> String {
        #[derive(Serialize)]
        struct Report<'a> {
            message: String,
            reason: Option<&'a str>,
            next: Option<String>,
            exit_code: u8,
        }
        let report = Report {
            message: self.to_string(),
            reason: self.reason(),
            next: self.next_step(),
            exit_code: self.exit_code(),
        };
        serde_json::json!({ "error": report }).to_string()
    }

    /// The stable code of a refusal.
    fn reason(&self) -> Option<&str> {
        match self {
            CommandError::Refused(refusal) => refusal.reason.as_deref(),
            CommandError::Audit(_) => Some("AUDIT_BROKEN"),
            _ => None,
        }
    }

    fn next_step(&self) -> Option<String> {
        match self {
            CommandError::Refused(refusal) => after_refusal(refusal),
            CommandError::Connect(error) if is_out_of_reach(error) => {
                Some("is the server running, and is --server its operators' port (7444 by default)?".into())
            }
            CommandError::Connect(error) if matches!(**error, ConnectError::NotTls(_)) => {
                Some("--server takes the operators' port (7444 by default)".into())
            }
            CommandError::Credential(error) if matches!(**error, CredentialError::Absent(_)) => {
                Some("--credential takes a credential folder, such as DIR/operator of `ca-server init`".into())
            }
            CommandError::PassedOver(_) => Some(
                "the database is damaged: keep a gateway's newest CRLs, and restore the last backup with them (`restore --crl`)"
                    .into(),
            ),
            CommandError::Behind { .. } => Some("`gateway list` tells what each has loaded".into()),
            CommandError::Exists(_) => Some("choose another file for --out, or remove this one".into()),
            CommandError::Audit(_) => Some("keep a copy of the database, and find out who could write to it".into()),
            _ => None,
        }
    }
}

/// Tells on stderr why a command line makes no sense, or on stdout the help that it asks for, and gives the exit code.
pub fn report_usage(error: &clap::Error, format: Format) -> ExitCode {
    if format == Format::Table || !error.use_stderr() {
        // If nobody can be told, the exit code has to do.
        let _ = error.print();
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    }
    CommandError::Usage(first_paragraph(error)).report(format)
}

/// A value that stands apart from an option which may go without one: there it would be taken for a device's ID.
pub fn value_apart(line: impl Iterator<Item = OsString>) -> Option<CommandError> {
    let words: Vec<String> = line.map(|word| word.to_string_lossy().into_owned()).collect();
    let apart = words.windows(2).find(|pair| match pair[0].as_str() {
        "--wait" => duration::parse(&pair[1]).is_ok(),
        "--yes" => pair[1].len() == 64 && pair[1].bytes().all(|octet| octet.is_ascii_hexdigit()),
        _ => false,
    })?;
    Some(CommandError::Usage(format!("{0} and its value belong together: write {0}={1}", apart[0], apart[1])))
}

fn first_paragraph(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let (reason, _) = text.split_once("\n\n").unwrap_or((&text, ""));
    let words: Vec<&str> = reason.trim_start_matches("error: ").split_whitespace().collect();
    words.join(" ")
}

fn gateways_have(count: u32) -> String {
    if count == 1 { "1 gateway has".into() } else { format!("{count} gateways have") }
}

fn is_out_of_reach(error: &ConnectError) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error {
        ConnectError::Unreachable { .. } | ConnectError::TimedOut(_) | ConnectError::Transport { .. } => true,
        ConnectError::Tls { source, .. } => {
            [BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof].contains(&source.kind())
        }
        _ => false,
    }
}

/// What comes of a connection that ends in the middle of a call, where the server itself says nothing.
fn is_broken_off(code: Code) -> bool {
    [Code::Unavailable, Code::Unknown, Code::Cancelled].contains(&code)
}

fn after_refusal(refusal: &Refusal) -> Option<String> {
    if refusal.reason.is_none() && refusal.code == Code::Unimplemented {
        return Some("is --server the operators' port (7444 by default), and not that of devices?".into());
    }
    let known = match refusal.reason.as_deref() {
        Some("CERTIFICATE_EXPIRED" | "CERTIFICATE_REVOKED") => Some(
            "an admin makes a new token with `ca-server operator create`; if there is none left, run `ca-server operator \
             recover` on the server",
        ),
        Some("CERTIFICATE_UNKNOWN") => Some("is --credential a folder of this CA's, and not of another environment's?"),
        Some("CERTIFICATE_REQUIRED" | "KIND_REFUSED") => Some("use an operator's credential, on the operators' port"),
        Some("ROLE_REQUIRED") => Some("ask an operator with that role"),
        Some("ALREADY_EXISTS" | "ID_TAKEN") => Some("choose another name, or use what there is"),
        Some("DEVICE_REVOKED" | "DEVICE_DECOMMISSIONED") => Some("`audit list --subject` tells when, and by whom"),
        Some("CRL_NOT_PUBLISHED") => Some("run the same command again: repeating it changes nothing more"),
        _ => None,
    };
    known.map(str::to_owned).or_else(|| where_to_look(refusal)).or_else(|| after_action(refusal))
}

/// Where what there is can be seen, of what there is not.
fn where_to_look(refusal: &Refusal) -> Option<String> {
    if refusal.reason.as_deref() != Some("NOT_FOUND") {
        return None;
    }
    let (_, what) = refusal.message.split_once("no such ")?;
    let what = what.split(|character: char| !character.is_ascii_alphabetic()).next()?;
    match what {
        "device" | "fleet" | "token" | "gateway" | "operator" | "issuer" => {
            Some(format!("`{what} list` shows what there is"))
        }
        "certificate" => Some("`device show ID` has the serial numbers of a device".into()),
        _ => None,
    }
}

fn after_action(refusal: &Refusal) -> Option<String> {
    match refusal.action {
        Action::Retry { after: Some(after) } => Some(format!("try again in {}", duration::display(after))),
        Action::Retry { after: None } => Some("try again".into()),
        Action::Reattest => Some("this credential is of no use any more: enroll again with a new token".into()),
        Action::Stop => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use tonic::Status;
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    fn refusal(reason: &str, action: &str) -> CommandError {
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, "fleetca", HashMap::from([("action".to_owned(), action.to_owned())]));
        details.set_retry_info(Some(Duration::from_secs(90)));
        Status::with_error_details(Code::FailedPrecondition, "no such luck", details).into()
    }

    #[test]
    fn a_refusal_is_one_line_with_its_reason_and_the_next_step() {
        assert_eq!(refusal("BUSY", "retry").line(), "error: no such luck (BUSY); try again in 1m 30s");
        assert_eq!(refusal("GONE", "stop").line(), "error: no such luck (GONE)");
    }

    #[test]
    fn who_asks_for_what_there_is_not_hears_where_to_look_and_of_no_command_that_there_is_not() {
        for (message, next) in [
            ("no such device", Some("`device list` shows what there is")),
            ("a.csv: line 3: no such device of this fleet: pump-1", Some("`device list` shows what there is")),
            ("no such certificate", Some("`device show ID` has the serial numbers of a device")),
            ("no such page", None),
        ] {
            let mut refused = Refusal::from(Status::not_found(message));
            refused.reason = Some("NOT_FOUND".into());
            assert_eq!(where_to_look(&refused).as_deref(), next, "{message}");
        }
    }

    #[test]
    fn a_value_that_stands_apart_from_its_option_is_told_and_ids_are_left_alone() {
        let told = |line: &str| value_apart(line.split(' ').map(OsString::from)).map(|error| error.to_string());
        let plan = "0a".repeat(32);
        let expected = "--wait and its value belong together: write --wait=5m";
        assert_eq!(told("ca-server device revoke --wait 5m").as_deref(), Some(expected));
        let expected = format!("--yes and its value belong together: write --yes={plan}");
        assert_eq!(told(&format!("ca-server device hold --fleet a --all --yes {plan}")), Some(expected));
        for good in ["device revoke --wait pump-7", "device revoke 5m --wait", "device hold --yes --from a.csv"] {
            assert_eq!(told(&format!("ca-server {good}")), None, "{good}");
        }
    }

    #[test]
    fn programs_get_the_same_in_json() {
        let json: serde_json::Value = serde_json::from_str(&refusal("GONE", "stop").json()).unwrap();
        let expected = serde_json::json!({
            "error": { "message": "no such luck", "reason": "GONE", "next": null, "exit_code": 1 }
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn exit_codes_tell_usage_refusal_and_a_server_out_of_reach_apart() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let server = "https://localhost:1".parse().unwrap();
        let unreachable = CommandError::from(ConnectError::Unreachable { server, source: refused });
        assert_eq!(unreachable.exit_code(), 3);
        assert_eq!(CommandError::from(Status::unavailable("connection closed")).exit_code(), 3);
        assert_eq!(refusal("GONE", "stop").exit_code(), 1);
        assert_eq!(CommandError::Usage("x".into()).exit_code(), 2);
        assert_eq!(CommandError::Output(io::ErrorKind::BrokenPipe.into()).exit_code(), 0);
    }
}
