//! A CA of devices that asks a corporation for its issuing CA's certificate, and what is looked at of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ca_server::step::Step;
use serde_json::Value;
use tempfile::TempDir;

use super::Corporation;
use crate::{
    binaries,
    device::Device,
    http, openssl,
    process::{Finished, run},
    server::{PUBLIC_URL, Server, TRUST_DOMAIN},
};

/// A folder in which a request waits.
#[derive(Debug)]
pub struct Asked {
    /// All of it is below this.
    pub folder: TempDir,
    /// Who is asked.
    pub corporation: Corporation,
}

impl Asked {
    /// `init --csr-out`, and a corporation with a root of this kind; `None` without OpenSSL.
    pub fn new(kind: &str) -> Option<Asked> {
        let folder = TempDir::new().expect("a temporary folder");
        let corporation = Corporation::new(&folder.path().join("corporation"), kind)?;
        let asked = Asked { folder, corporation };
        ca_server(&asked.ask()).succeeded();
        Some(asked)
    }

    /// The command that asks.
    pub fn ask(&self) -> [&'static str; 11] {
        let leak = |path: PathBuf| -> &'static str { Box::leak(path.display().to_string().into_boxed_str()) };
        let (dir, csr) = (leak(self.dir()), leak(self.csr()));
        [
            "init",
            "--dir",
            dir,
            "--trust-domain",
            TRUST_DOMAIN,
            "--public-url",
            PUBLIC_URL,
            "--name",
            "localhost",
            "--csr-out",
            csr,
        ]
    }

    /// The CA's folder.
    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("ca")
    }

    /// The request.
    pub fn csr(&self) -> PathBuf {
        self.folder.path().join("issuing.csr")
    }

    /// Where the root keys go.
    pub fn roots(&self) -> PathBuf {
        self.folder.path().join("roots")
    }

    /// `init` with an answer.
    pub fn answer(&self, issuing: &Path, root: &Path, crl: &Path) -> Finished {
        let (dir, roots) = (self.dir(), self.roots());
        let place = ["init", "--dir", path(&dir), "--root-dir", path(&roots)];
        let files = ["--issuer-cert", path(issuing), "--root-cert", path(root), "--root-crl", path(crl)];
        ca_server(&[&place[..], &files].concat())
    }

    /// The CA, served.
    pub fn served(self) -> (Server, Corporation) {
        let issuing = self.corporation.sign(&self.csr());
        self.answer(&issuing, &self.corporation.root(), &self.corporation.crl()).succeeded();
        (Server::start_made(self.folder), self.corporation)
    }
}

/// A path as an argument.
pub fn path(path: &Path) -> &str {
    path.to_str().expect("temporary folders have names in UTF-8")
}

/// A command of `ca-server`, to its end.
pub fn ca_server(arguments: &[&str]) -> Finished {
    run(Command::new(binaries::ca_server()).args(arguments))
}

/// What is in a folder.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// What the server serves to gateways, in a file.
pub fn bundle(server: &Server) -> PathBuf {
    let file = server.scratch().join("bundle.pem");
    fs::write(&file, http::get(&server.http_url("/crl/bundle.pem")).ok()).expect("a file");
    file
}

/// OpenSSL's opinion of a device, by the root that gateways load and the bundle that is served.
pub fn verified(server: &Server, device: &Device) -> Finished {
    let chain = device.presented().chain;
    openssl::verify(&chain, &server.device_root(), Some(&chain), Some(&bundle(server))).expect("OpenSSL is there")
}

/// `enroll-client sync-crls` with these options.
pub fn sync(options: &[&str], out: &Path) -> Finished {
    run(Command::new(binaries::enroll_client()).arg("sync-crls").args(options).arg("--out").arg(out))
}

/// The issuing CAs of devices, as they are listed.
pub fn device_issuers(server: &Server) -> Vec<Value> {
    let listed = server.admin().run(&["issuer", "list"]);
    let of_devices = |issuer: &&Value| issuer["hierarchy"] == "device";
    listed.as_array().expect("a list").iter().filter(of_devices).cloned().collect()
}

/// Whether a command dies where it reaches this step for the nth time; if not, it succeeds.
pub fn dies(step: Step, times: usize, folder: &Path, arguments: &[&str]) -> bool {
    let order = folder.join("kill");
    fs::write(&order, format!("{step:?} {times}")).expect("a file");
    let finished = run(Command::new(binaries::helper("killed-server")).args(arguments).env("FLEETCA_KILL", &order));
    let died = fs::remove_file(&order).is_err();
    assert_eq!(finished.code, if died { -1 } else { 0 }, "{step:?} {times}: {finished:?}");
    died
}
