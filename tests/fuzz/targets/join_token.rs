//! Join tokens: what is taken is written back as it came. Input is what stands before the checksum, which is made here.

#![no_main]

use enroll_client::attester::token::JoinToken;
use libfuzzer_sys::fuzz_target;
use ring::digest::{SHA256, digest};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let checksum: String = digest(&SHA256, input).as_ref()[..4].iter().map(|octet| format!("{octet:02x}")).collect();
    for text in [text.to_owned(), format!("{text}.{checksum}")] {
        if let Ok(token) = JoinToken::parse(&text) {
            assert_eq!(*token.text(), text.trim());
        }
    }
});
