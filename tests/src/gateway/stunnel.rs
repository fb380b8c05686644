//! stunnel as a gateway, in front of a program that gives back what it is told.

use std::process::Command;

use super::{
    Gateway, Presented,
    place::Place,
    start_on_free_port,
    visitor::{Manners, NOTHING, Visitor},
};
use crate::{process::Running, require};

const ECHO: Manners =
    Manners { before_tls: NOTHING, hello: b"hello\n", welcome: b"hello\n", again: b"again\n", still: b"again\n" };

/// stunnel, which ends with its place.
#[derive(Debug)]
pub struct Stunnel {
    process: Running,
    port: u16,
    place: Place,
}

impl Stunnel {
    /// Starts stunnel, or gives `None` where it is not installed (a failure under `CI=true`).
    pub fn start(place: Place) -> Option<Stunnel> {
        let program = require::program("stunnel")?;
        let (process, port) = start_on_free_port("stunnel", &place, |port| {
            let accept = format!("127.0.0.1:{port}");
            let [service] =
                place.recipe("stunnel", &[("8443", &accept), ("connect = 127.0.0.1:8080", "exec = /bin/cat")]);
            let mut command = Command::new(&program);
            command.arg(place.write("stunnel.conf", &format!("foreground = yes\nsyslog = no\npid =\n{service}")));
            command
        });
        Some(Stunnel { process, port, place })
    }
}

impl Gateway for Stunnel {
    fn name(&self) -> &'static str {
        "stunnel"
    }

    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn visitor(&self, device: &Presented) -> Visitor {
        Visitor::new(self, self.port, &self.place.identity().ca, device, ECHO)
    }
}
