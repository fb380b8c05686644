//! The conformance vectors, `tests/fixtures/transcript.json`, held against the client's join tokens and against a second
//! implementation in Python. The transcripts themselves are held to them in `proto/tests/vectors.rs`.

use std::{fs, path::PathBuf};

use enroll_client::attester::token::JoinToken;
use fleetca_tests::{process::run, python};
use serde_json::Value;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/transcript.json")
}

#[test]
fn a_join_token_is_read_and_signs_as_in_the_vectors() {
    let vectors: Value = serde_json::from_slice(&fs::read(path()).expect("the vectors are there")).expect("JSON");
    let hex = |bytes: &[u8]| bytes.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    let text = vectors["join_token"]["text"].as_str().expect("a text");
    let token = JoinToken::parse(text).expect("a join token");
    assert_eq!(token.text().as_str(), text);
    assert_eq!(token.id(), vectors["join_token"]["id"]);
    assert_eq!(hex(&token.public_key()), vectors["join_token"]["public_key"]);
    for vector in vectors["enrollments"].as_array().expect("a list") {
        let transcript = vector["evidence_transcript"].as_str().expect("digits");
        let bytes: Vec<u8> = (0..transcript.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&transcript[at..at + 2], 16).expect("digits"))
            .collect();
        assert_eq!(hex(&token.sign(&bytes)), vector["evidence_signature"]);
    }
}

#[test]
fn the_vectors_hold_in_python() {
    let Some(mut command) = python::script("vectors.py") else { return };
    assert_eq!(run(command.arg("check").arg(path())).succeeded(), "all vectors hold\n");
}
