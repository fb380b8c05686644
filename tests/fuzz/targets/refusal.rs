//! What a server says when it refuses: whatever its details hold, the text for people is short and has no control
//! characters.

#![no_main]

use enroll_client::{refusal::Refusal, renewal::Action};
use fleetca_fuzz::split;
use libfuzzer_sys::fuzz_target;
use tonic::{Code, Status};

fuzz_target!(|input: &[u8]| {
    let [code, rest @ ..] = input else { return };
    let (message, details) = split(rest);
    let message = String::from_utf8_lossy(message);
    let status = Status::with_details(Code::from(i32::from(*code)), message, details.to_vec().into());
    let refusal = Refusal::from(status);
    let text = refusal.to_string();
    assert!(!text.chars().any(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c)), "{text:?}");
    assert!(text.chars().count() < 1100, "{text:?}");
    if let Action::Retry { after: Some(after) } = refusal.action {
        assert!(after.as_secs() <= 86_400);
    }
});
