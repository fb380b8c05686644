//! A device: a credential folder, and the `enroll-client` commands that work on it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use der::Decode;
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use x509_cert::Certificate;

use crate::{
    binaries,
    gateway::Presented,
    pem,
    process::{Finished, run},
    server::Server,
};

/// A device, or whoever else keeps a credential in a folder: gateways and operators do it alike.
#[derive(Clone, Debug)]
pub struct Device {
    folder: PathBuf,
}

impl Device {
    /// A device that keeps its credential in that folder, which need not exist yet.
    pub fn new(folder: PathBuf) -> Device {
        Device { folder }
    }

    /// Enrolls a new device: its token is made by the server's admin, its folder lies beside the CA's.
    pub fn enroll(server: &Server, fleet: &str, id: &str) -> Device {
        let token = server.admin().device_token(fleet, id, server.scratch());
        let device = Device::new(server.scratch().join(id));
        device.try_enroll(server, id, &token).succeeded();
        device
    }

    /// Enrolls a new gateway, as [`Device::enroll`] does it.
    pub fn enroll_gateway(server: &Server, id: &str) -> Device {
        Device::enroll_peer(server, "gateway", id, &[])
    }

    /// Enrolls a new operator, as [`Device::enroll`] does it.
    pub fn enroll_operator(server: &Server, name: &str, role: &str) -> Device {
        Device::enroll_peer(server, "operator", name, &["--role", role])
    }

    fn enroll_peer(server: &Server, kind: &str, id: &str, options: &[&str]) -> Device {
        let token = server.scratch().join(format!("{id}.token"));
        let out = token.to_str().expect("temporary folders have names in UTF-8");
        server.admin().run(&[&[kind, "create", id, "--out", out], options].concat());
        let peer = Device::new(server.scratch().join(id));
        peer.try_enroll_as(kind, server, id, &token).succeeded();
        peer
    }

    /// Runs `enroll-client enroll` with a join token, whatever comes of it.
    pub fn try_enroll(&self, server: &Server, id: &str, token: &Path) -> Finished {
        self.try_enroll_as("device", server, id, token)
    }

    /// As [`Device::try_enroll`], for a gateway or an operator.
    pub fn try_enroll_as(&self, kind: &str, server: &Server, id: &str, token: &Path) -> Finished {
        let mut command = self.command("enroll");
        command.args(["--server", &server.url(), "--kind", kind, "--device-id", id]);
        command.arg("--root").arg(server.control_root()).arg("--attest").arg(format!("token:{}", token.display()));
        run(&mut command)
    }

    /// An `enroll-client` command that needs no folder.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(binaries::enroll_client());
        command.arg(name);
        command
    }

    /// An `enroll-client` command on this folder, to which more options can be added.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(binaries::enroll_client());
        command.arg(name).arg("--dir").arg(&self.folder);
        command
    }

    /// Renews now, which must succeed.
    pub fn renew(&self) {
        run(self.command("renew").arg("--force")).succeeded();
    }

    /// As if its time had come: the instant at which it renews has passed.
    pub fn make_due(&self) {
        let path = self.folder.join("current/state.json");
        let text = std::fs::read_to_string(&path).expect("it has a credential");
        let mut state: Value = serde_json::from_str(&text).expect("JSON");
        state["renew_at"] = "2026-01-01T00:00:00Z".into();
        std::fs::write(&path, state.to_string()).expect("it is written");
    }

    /// What `status --output json` says.
    pub fn status(&self) -> Value {
        let output = run(self.command("status").args(["--output", "json"])).succeeded();
        serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}, in: {output}"))
    }

    /// The credential folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it presents to a gateway.
    pub fn presented(&self) -> Presented {
        Presented::of(&self.folder)
    }

    /// Its chain, as it is on disk now: leaf, issuing CA.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        pem::read_certificates(&self.presented().chain)
    }

    /// Its certificate, as it is on disk now.
    pub fn certificate(&self) -> Certificate {
        Certificate::from_der(&self.chain()[0]).expect("the leaf is a certificate")
    }

    /// The serial number of its certificate: 32 lower-case hexadecimal digits.
    pub fn serial(&self) -> String {
        pem::serial(&self.chain()[0])
    }
}
