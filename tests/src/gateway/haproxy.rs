//! HAProxy as a gateway: told of a new list by a reload, or on its run-time socket.

use std::{fs, process::Command};

use super::{
    Gateway, Presented,
    place::Place,
    start_on_free_port,
    visitor::{HTTP, Visitor},
};
use crate::{process::Running, require};

/// How it comes to know of a new list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// A new process reads the file.
    Reload,
    /// `set ssl crl-file` and `commit ssl crl-file`.
    Commit,
}

/// HAProxy, a master with its worker, which end with its place.
#[derive(Debug)]
pub struct Haproxy {
    process: Running,
    port: u16,
    place: Place,
    news: News,
}

impl Haproxy {
    /// Starts HAProxy, or gives `None` where it or socat is not installed (a failure under `CI=true`).
    pub fn start(place: Place, news: News) -> Option<Haproxy> {
        let program = require::program("haproxy")?;
        require::program("socat")?;
        let read = |name| fs::read_to_string(place.path().join(name)).expect("the gateway has a certificate");
        place.write("gateway-and-key.pem", &(read("gateway.pem") + &read("gateway.key")));
        let socket = place.path().join("admin.sock").display().to_string();
        let (process, port) = start_on_free_port("haproxy", &place, |port| {
            let changes = [("bind :8443", &*format!("bind 127.0.0.1:{port}")), ("/run/haproxy/admin.sock", &socket)];
            let [settings, hook] = place.recipe("HAProxy", &changes);
            place.write("commit-crls", &hook);
            let mut command = Command::new(&program);
            command.arg("-W").arg("-f").arg(place.write("haproxy.cfg", &settings));
            command
        });
        Some(Haproxy { process, port, place, news })
    }
}

impl Gateway for Haproxy {
    fn name(&self) -> &'static str {
        match self.news {
            News::Reload => "HAProxy, reload",
            News::Commit => "HAProxy, commit",
        }
    }

    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn reload(&self) -> String {
        match self.news {
            News::Reload => format!("kill -USR2 {}", self.pid()),
            News::Commit => format!("sh {}", self.place.path().join("commit-crls").display()),
        }
    }

    fn closes_connections(&self) -> bool {
        self.news == News::Reload
    }

    fn visitor(&self, device: &Presented) -> Visitor {
        Visitor::new(self, self.port, &self.place.identity().ca, device, HTTP)
    }
}

impl Drop for Haproxy {
    /// The master ends its workers when it is asked to end; killed, it would leave them behind.
    fn drop(&mut self) {
        if self.process.ended().is_none() {
            self.process.stop();
        }
    }
}
