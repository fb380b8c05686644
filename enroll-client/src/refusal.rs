//! What the server answered when it did not do what it was asked: a gRPC status with its `google.rpc` details.

use std::{error::Error, fmt};

use fleetca_proto::ERROR_DOMAIN;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::renewal::{Action, Details, classify};

/// A call that failed. Its text is the server's, without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The gRPC code.
    pub code: Code,
    /// The stable reason, for example `TOKEN_SPENT`; absent where the CA's own logic never answered.
    pub reason: Option<String>,
    /// For people.
    pub message: String,
    /// What to do.
    pub action: Action,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == ERROR_DOMAIN);
        let details = Details {
            reason: info.map(|info| printable(&info.reason)),
            action: info.and_then(|info| info.metadata.get("action").cloned()),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        };
        let mut message = printable(status.message());
        if details.reason.is_none() {
            if message.is_empty() {
                message = status.code().description().to_owned();
            }
            let mut source = status.source();
            while let Some(error) = source {
                message = format!("{message}: {}", printable(&error.to_string()));
                source = error.source();
            }
        }
        Self { code: status.code(), action: classify(status.code(), &details), reason: details.reason, message }
    }
}

impl Refusal {
    /// Whether it says that the certificate presented has expired.
    pub fn has_expired(&self) -> bool {
        self.reason.as_deref() == Some("CERTIFICATE_EXPIRED")
    }

    /// Whether it says that the certificate presented is worth nothing any more by itself, for which its holder is not to
    /// blame: it has expired, or its issuing CA was revoked. With it a device may come back within its fleet's grace.
    pub fn may_come_back(&self) -> bool {
        self.has_expired() || self.reason.as_deref() == Some("ISSUER_REVOKED")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Some(reason) => write!(f, "the server refused: {} ({reason})", self.message),
            None => write!(f, "the call failed: {} ({:?})", self.message, self.code),
        }
    }
}

impl Error for Refusal {}

/// At most 1000 characters, no control characters: what a peer sends goes to terminals and logs. Nor such as turn the
/// direction of what follows, or can't be seen: the text would read as another one.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || is_invisible(c) { ' ' } else { c }).take(1000).collect()
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use tonic_types::ErrorDetails;

    use super::*;

    fn status(domain: &str) -> Status {
        let mut details = ErrorDetails::new();
        details.set_error_info("DEVICE_HELD", domain, HashMap::from([("action".to_owned(), "retry".to_owned())]));
        details.set_retry_info(Some(Duration::from_secs(60)));
        Status::with_error_details(Code::FailedPrecondition, "held\u{1b}[2J", details)
    }

    #[test]
    fn reason_action_and_delay_are_read_and_control_characters_are_not_printed() {
        let refusal = Refusal::from(status("fleetca"));
        assert_eq!(refusal.reason.as_deref(), Some("DEVICE_HELD"));
        assert_eq!(refusal.action, Action::Retry { after: Some(Duration::from_secs(60)) });
        assert_eq!(refusal.to_string(), "the server refused: held [2J (DEVICE_HELD)");
    }

    #[test]
    fn a_text_cannot_be_turned_around_or_hold_what_is_not_seen() {
        let refusal = Refusal::from(Status::internal("held\u{202e}desaeler\u{200b}\u{2028}\u{2066}.\u{feff}"));
        assert_eq!(refusal.message, "held desaeler   . ");
    }

    #[test]
    fn reasons_of_other_domains_are_not_ours() {
        assert_eq!(Refusal::from(status("googleapis.com")).reason, None);
    }

    #[test]
    fn details_that_are_garbage_are_no_details() {
        let status = Status::with_details(Code::Unknown, "x", bytes::Bytes::from_static(&[0xff; 40]));
        assert_eq!(Refusal::from(status).action, Action::Retry { after: None });
    }
}
