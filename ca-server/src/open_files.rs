//! How many files the system lets a server have open. A connection is one: the system's limit is raised to what the
//! settings need, and where that can't be, the settings are lowered to it. So no flood takes the files that the store
//! and the keys need.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Limits;

/// What a server opens besides connections: the database and its readers, logs, listeners, files that are read.
const OTHERS: usize = 256;

/// With fewer, places are so scarce that a fleet which comes at once is told to come again.
const FEW: usize = 8192;

/// Raises the system's limit, and gives the settings that fit within it.
pub fn fit(limits: Limits) -> Limits {
    let needed = limits.all_connections() + OTHERS;
    let given = raise(needed);
    let fitting = limits.within(given.saturating_sub(OTHERS));
    if fitting != limits {
        macro_rules! tell {
            ($level:ident) => {
                tracing::$level!(
                    given,
                    needed,
                    connections = fitting.connections,
                    stranger_connections = fitting.stranger_connections,
                    handshakes = fitting.handshakes,
                    http_connections = fitting.http_connections,
                    "the system gives fewer open files than the limits need: these are in force; raise its limit \
                     (ulimit -n, LimitNOFILE) for all of them"
                )
            };
        }
        if matters(limits, given) { tell!(warn) } else { tell!(info) }
    }
    fitting
}

/// Whether somebody has to hear that limits were lowered: those that he chose, or below what a fleet needs.
fn matters(limits: Limits, given: usize) -> bool {
    limits != Limits::default() || given < FEW
}

/// How many files may be open, once as many as possible of those that are needed may.
fn raise(needed: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // Without a limit it is as many as one wants.
    let files = |limit: Option<u64>| limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    if files(current) >= needed {
        return files(current);
    }
    let wanted = needed.min(files(maximum));
    match setrlimit(Resource::Nofile, Rlimit { current: u64::try_from(wanted).ok(), maximum }) {
        Ok(()) => wanted,
        Err(_) => files(current),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_that_are_lowered_are_no_warning_while_there_is_room_for_a_fleet() {
        let chosen = Limits { connections: 100_000, ..Limits::default() };
        assert!(!matters(Limits::default(), 20_000) && matters(chosen, 20_000) && matters(Limits::default(), 4096));
        let fitting = Limits::default().within(20_000 - OTHERS);
        assert!(fitting.all_connections() <= 20_000 - OTHERS && fitting.connections > 7000, "{fitting:?}");
    }

    #[test]
    fn what_fits_is_left_alone_and_what_does_not_is_lowered() {
        let small = Limits {
            connections: 10,
            stranger_connections: 5,
            handshakes: 5,
            http_connections: 5,
            ..Limits::default()
        };
        assert_eq!(fit(small), small);
        let huge = Limits { connections: 1_000_000_000, ..small };
        let fitting = fit(huge);
        assert!(fitting.connections < huge.connections && fitting.connections > 100, "{fitting:?}");
        assert!(getrlimit(Resource::Nofile).current.is_none_or(|files| files as usize >= fitting.all_connections()));
    }
}
