//! Patches, of a server or of somebody on the way: what comes out has the length that was announced and bounded before; two one
//! after the other do what the two put together do.

#![no_main]

use fleetca_fuzz::split;
use fleetca_proto::{
    patch::{apply, compose},
    v1::CrlPatch,
};
use libfuzzer_sys::fuzz_target;
use prost::Message;

/// What a client would bound it by: whatever is announced, no more is made.
const MOST: u64 = 1 << 16;

fn bounded(patch: &CrlPatch) -> Option<usize> {
    usize::try_from(patch.length.min(MOST)).ok()
}

fuzz_target!(|input: &[u8]| {
    let (old, rest) = split(input);
    let (first, second) = split(rest);
    let (Ok(first), Ok(second)) = (CrlPatch::decode(first), CrlPatch::decode(second)) else { return };
    let (Some(middle), Some(last)) = (bounded(&first), bounded(&second)) else { return };
    let Ok(made) = apply(&first.steps, old, middle) else { return };
    assert_eq!(made.len(), middle);
    let composed = compose(&first.steps, &second.steps);
    if let Ok(after) = apply(&second.steps, &made, last) {
        assert_eq!(after.len(), last);
        assert_eq!(apply(&composed, old, last).expect("the two together fit where each does"), after);
    }
});
