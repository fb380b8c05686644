//! Envoy as a gateway: it looks at its folder, and loads what is put there by a rename.

use std::process::Command;

use super::{
    Gateway, Presented,
    place::Place,
    start_on_free_port,
    visitor::{HTTP, Visitor},
};
use crate::{process::Running, python};

/// Envoy, which ends with its place.
#[derive(Debug)]
pub struct Envoy {
    process: Running,
    port: u16,
    place: Place,
}

impl Envoy {
    /// Starts Envoy, or gives `None` where it is not installed (a failure under `CI=true`).
    pub fn start(place: Place) -> Option<Envoy> {
        let program = python::program("envoy")?;
        let (process, port) = start_on_free_port("envoy", &place, |port| {
            let listen = format!("127.0.0.1, port_value: {port} ");
            let [settings, secret] = place.recipe("Envoy", &[("0.0.0.0, port_value: 8443 ", &listen)]);
            place.write("envoy-devices.yaml", &secret);
            let mut command = Command::new(&program);
            command.arg("-c").arg(place.write("envoy.yaml", &settings));
            command.args(["--disable-hot-restart", "--concurrency", "1", "-l", "warning"]);
            command
        });
        Some(Envoy { process, port, place })
    }
}

impl Gateway for Envoy {
    fn name(&self) -> &'static str {
        "Envoy"
    }

    fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// It needs not be told.
    fn reload(&self) -> String {
        "true".to_owned()
    }

    fn visitor(&self, device: &Presented) -> Visitor {
        Visitor::new(self, self.port, &self.place.identity().ca, device, HTTP)
    }
}
