//! mosquitto as a gateway: an MQTT broker that lets in clients by certificate, with a `crlfile`.

use std::{path::PathBuf, process::Command};

use super::{
    Admission, Gateway, Presented,
    place::Place,
    start_on_free_port,
    visitor::{Manners, NOTHING, Visitor},
};
use crate::{
    process::{Running, run},
    require,
};

/// `user` keeps a broker that root starts from becoming another user, who could not read its key.
const OURS: &str = "user root\npersistence false\nlog_dest stderr\nlog_type all\nallow_anonymous true\n";

/// MQTT 3.1.1: CONNECT without a client ID and its acknowledgement, PINGREQ and PINGRESP.
const MQTT: Manners = Manners {
    before_tls: NOTHING,
    hello: b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
    welcome: b"\x20\x02\x00\x00",
    again: b"\xc0\x00",
    still: b"\xd0\x00",
};

/// mosquitto, which ends with its place.
#[derive(Debug)]
pub struct Mosquitto {
    process: Running,
    port: u16,
    place: Place,
    publisher: PathBuf,
}

impl Mosquitto {
    /// Starts mosquitto, or gives `None` where it or its client is not installed (a failure under `CI=true`).
    pub fn start(place: Place) -> Option<Mosquitto> {
        let program = require::program("mosquitto")?;
        let publisher = require::program("mosquitto_pub")?;
        let (process, port) = start_on_free_port("mosquitto", &place, |port| {
            let [listener] = place.recipe("mosquitto", &[("listener 8883", &format!("listener {port} 127.0.0.1"))]);
            let mut command = Command::new(&program);
            command.arg("-c").arg(place.write("mosquitto.conf", &(OURS.to_owned() + &listener)));
            command
        });
        Some(Mosquitto { process, port, place, publisher })
    }
}

impl Gateway for Mosquitto {
    fn name(&self) -> &'static str {
        "mosquitto"
    }

    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn visitor(&self, device: &Presented) -> Visitor {
        Visitor::new(self, self.port, &self.place.identity().ca, device, MQTT)
    }

    /// Publishes one message, acknowledged by the broker.
    fn admit(&self, device: &Presented) -> Admission {
        let mut command = Command::new(&self.publisher);
        command.args(["-h", "localhost", "-p", &self.port.to_string(), "-t", "fleet", "-m", "here", "-q", "1"]);
        command
            .arg("--cafile")
            .arg(&self.place.identity().ca)
            .arg("--cert")
            .arg(&device.chain)
            .arg("--key")
            .arg(&device.key);
        let finished = run(&mut command);
        match finished.code {
            0 => Admission::Admitted,
            _ => Admission::Refused(finished.stderr),
        }
    }
}
