//! Files that a client keeps: what is taken is written back to the same.

#![no_main]

use enroll_client::credential::State;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(state) = serde_json::from_slice::<State>(input) else { return };
    let text = serde_json::to_vec(&state).expect("it is written");
    assert_eq!(serde_json::from_slice::<State>(&text).expect("it is read"), state);
    let _ = (state.server.authority(), state.renewal_window.draw(u64::MAX));
});
