//! nginx as a gateway: `ssl_crl`, and neither session cache nor tickets, which would let a revoked device resume.

use std::process::Command;

use super::{
    Gateway, Presented,
    place::Place,
    start_on_free_port,
    visitor::{HTTP, Visitor},
};
use crate::{process::Running, require};

/// nginx, which ends with its place.
#[derive(Debug)]
pub struct Nginx {
    process: Running,
    port: u16,
    place: Place,
}

impl Nginx {
    /// Starts nginx, or gives `None` where it is not installed (a failure under `CI=true`).
    pub fn start(place: Place) -> Option<Nginx> {
        let program = require::program("nginx")?;
        let (process, port) = start_on_free_port("nginx", &place, |port| {
            let [server] = place.recipe("nginx", &[("listen 8443", &format!("listen 127.0.0.1:{port}"))]);
            let settings = place.write("nginx.conf", &configuration(&server));
            let mut command = Command::new(&program);
            command.arg("-p").arg(place.path()).arg("-c").arg(settings).args(["-e", "stderr"]);
            command
        });
        Some(Nginx { process, port, place })
    }
}

impl Gateway for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn closes_connections(&self) -> bool {
        true
    }

    /// nginx finishes the handshake with everybody, and answers those whose certificate it refuses with status 400.
    fn visitor(&self, device: &Presented) -> Visitor {
        Visitor::new(self, self.port, &self.place.identity().ca, device, HTTP)
    }
}

impl Drop for Nginx {
    /// The master ends its workers when it is asked to end; killed, it would leave them behind.
    fn drop(&mut self) {
        if self.process.ended().is_none() {
            self.process.stop();
        }
    }
}

fn configuration(server: &str) -> String {
    format!(
        "daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr info;
events {{ worker_connections 64; }}
http {{
access_log off;
client_body_temp_path temp-body;
proxy_temp_path temp-proxy;
fastcgi_temp_path temp-fastcgi;
uwsgi_temp_path temp-uwsgi;
scgi_temp_path temp-scgi;
{server}}}
"
    )
}
