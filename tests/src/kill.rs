//! Commands of `ca-server` that die at a durable step, at each that there is.

use std::{fs, path::Path, process::Command};

use ca_server::step::Step;

use crate::{
    binaries,
    process::{Finished, run},
};

/// A command of `ca-server` that dies at the nth time that it reaches a step. `None`: it never does, and has ended well.
/// The folder is for the order to die.
pub fn killed_at(step: Step, times: usize, folder: &Path, arguments: &[&str]) -> Option<Finished> {
    let order = folder.join("kill");
    fs::write(&order, format!("{step:?} {times}")).expect("a file");
    let finished = run(Command::new(binaries::helper("killed-server")).args(arguments).env("FLEETCA_KILL", &order));
    if fs::remove_file(order).is_ok() {
        assert_eq!(finished.code, 0, "it died of something else: {finished:?}");
        return None;
    }
    assert_eq!(finished.code, -1, "{finished:?}");
    Some(finished)
}

/// Every moment at which a command can be killed: calls `attempt` with step and number until it says that the step did
/// not come so often.
pub fn at_every_step(mut attempt: impl FnMut(Step, usize) -> bool) {
    let mut kills = 0;
    for step in Step::ALL {
        let times = (1..).take_while(|times| attempt(step, *times)).count();
        kills += times;
    }
    assert!(kills > 3, "the command hardly reached any step");
}
