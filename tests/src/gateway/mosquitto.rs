//! mosquitto as a gateway: an MQTT broker that lets in clients by certificate, with a `crlfile`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::{Admission, Gateway, Presented, identity::Identity, start_on_free_port};
use crate::{
    process::{Running, run},
    require,
};

/// mosquitto, with a folder of its own for everything.
#[derive(Debug)]
pub struct Mosquitto {
    process: Running,
    port: u16,
    identity: Identity,
    publisher: PathBuf,
    _folder: TempDir,
}

impl Mosquitto {
    /// Starts mosquitto, or gives `None` where it or its client is not installed (a failure under `CI=true`).
    pub fn start(device_root: &Path, crls: &Path) -> Option<Mosquitto> {
        let program = require::program("mosquitto")?;
        let publisher = require::program("mosquitto_pub")?;
        let folder = TempDir::new().expect("a temporary folder");
        let identity = Identity::make(folder.path());
        let (process, port) = start_on_free_port("mosquitto", &folder, |port| {
            let settings = folder.path().join("mosquitto.conf");
            fs::write(&settings, configuration(port, &identity, device_root, crls)).expect("mosquitto.conf is written");
            let mut command = Command::new(&program);
            command.arg("-c").arg(settings);
            command
        });
        Some(Mosquitto { process, port, identity, publisher, _folder: folder })
    }
}

impl Gateway for Mosquitto {
    fn name(&self) -> &'static str {
        "mosquitto"
    }

    fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Publishes one message, acknowledged by the broker.
    fn admit(&self, device: &Presented) -> Admission {
        let mut command = Command::new(&self.publisher);
        command.args(["-h", "localhost", "-p", &self.port.to_string(), "-t", "fleet", "-m", "here", "-q", "1"]);
        command.arg("--cafile").arg(&self.identity.ca).arg("--cert").arg(&device.chain).arg("--key").arg(&device.key);
        let finished = run(&mut command);
        match finished.code {
            0 => Admission::Admitted,
            _ => Admission::Refused(finished.stderr),
        }
    }
}

/// `user` keeps a broker that root starts from becoming another user, who could not read the test's folder.
fn configuration(port: u16, identity: &Identity, device_root: &Path, crls: &Path) -> String {
    format!(
        "user root\n\
         persistence false\n\
         log_dest stderr\n\
         log_type all\n\
         allow_anonymous true\n\
         listener {port} 127.0.0.1\n\
         certfile {certificate}\n\
         keyfile {key}\n\
         cafile {device_root}\n\
         crlfile {crls}\n\
         require_certificate true\n",
        certificate = identity.certificate.display(),
        key = identity.key.display(),
        device_root = device_root.display(),
        crls = crls.display(),
    )
}
