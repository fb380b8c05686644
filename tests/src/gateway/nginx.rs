//! nginx as a gateway: `ssl_crl`, and neither session cache nor tickets, which would let a revoked device resume.

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

use super::{Admission, Gateway, Presented, identity::Identity, start_on_free_port};
use crate::{process::Running, require, tls};

/// nginx, with a folder of its own for everything.
#[derive(Debug)]
pub struct Nginx {
    process: Running,
    port: u16,
    identity: Identity,
    _folder: TempDir,
}

impl Nginx {
    /// Starts nginx, or gives `None` where it is not installed (a failure under `CI=true`).
    pub fn start(device_root: &Path, crls: &Path) -> Option<Nginx> {
        let program = require::program("nginx")?;
        let folder = TempDir::new().expect("a temporary folder");
        let identity = Identity::make(folder.path());
        let (process, port) = start_on_free_port("nginx", &folder, |port| {
            let settings = folder.path().join("nginx.conf");
            fs::write(&settings, configuration(port, &identity, device_root, crls)).expect("nginx.conf is written");
            let mut command = Command::new(&program);
            command.arg("-p").arg(folder.path()).arg("-c").arg(settings).args(["-e", "stderr"]);
            command
        });
        Some(Nginx { process, port, identity, _folder: folder })
    }
}

impl Gateway for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// nginx finishes the handshake with everybody, and answers those whose certificate it refuses with status 400.
    fn admit(&self, device: &Presented) -> Admission {
        match tls::get(self.port, &self.identity.ca, Some(device)) {
            Ok(response) if response.status == 200 => Admission::Admitted,
            Ok(response) => {
                let page = String::from_utf8_lossy(&response.body).into_owned();
                Admission::Refused(format!("{} {page}", response.status))
            }
            Err(error) => Admission::Refused(error.to_string()),
        }
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

fn configuration(port: u16, identity: &Identity, device_root: &Path, crls: &Path) -> String {
    format!(
        r#"daemon off;
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
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_client_certificate {device_root};
        ssl_verify_client on;
        ssl_verify_depth 2;
        ssl_crl {crls};
        ssl_session_cache none;
        ssl_session_tickets off;
        location / {{ return 200 "admitted\n"; }}
    }}
}}
"#,
        certificate = identity.certificate.display(),
        key = identity.key.display(),
        device_root = device_root.display(),
        crls = crls.display(),
    )
}
