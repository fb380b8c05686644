//! An operator at the command line: `ca-server` commands that talk to a running server, and their JSON.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::Value;

use crate::{
    binaries,
    process::{Finished, run},
};

/// An operator, by the server's URL and a credential folder.
#[derive(Clone, Debug)]
pub struct Operator {
    server: String,
    credential: PathBuf,
}

impl Operator {
    /// An operator whose credential is in that folder.
    pub fn new(server: String, credential: PathBuf) -> Operator {
        Operator { server, credential }
    }

    /// The credential folder.
    pub fn credential(&self) -> &Path {
        &self.credential
    }

    /// Runs a command to its end, whatever comes of it.
    pub fn try_run(&self, arguments: &[&str]) -> Finished {
        run(&mut self.command(arguments))
    }

    /// A command, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.plain(arguments);
        command.args(["--output", "json"]);
        command
    }

    fn plain(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binaries::ca_server());
        command.args(arguments).args(["--server", &self.server, "--credential"]).arg(&self.credential);
        command
    }

    /// What a command that must succeed says to people.
    pub fn told(&self, arguments: &[&str]) -> String {
        run(&mut self.plain(arguments)).succeeded()
    }

    /// Runs a command that must succeed, and gives its JSON (`null` where it says nothing).
    pub fn run(&self, arguments: &[&str]) -> Value {
        let output = self.try_run(arguments).succeeded();
        if output.trim().is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&output).unwrap_or_else(|error| panic!("{arguments:?}: {error}, in: {output}"))
    }

    /// Runs a command that must be refused (exit code 1), and gives its error output.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let finished = self.try_run(arguments);
        assert_eq!(finished.code, 1, "{arguments:?}: {finished:?}");
        finished.stderr
    }

    /// Runs a command that must be refused by the server, and gives the reason.
    pub fn reason(&self, arguments: &[&str]) -> String {
        let text = self.refused(arguments);
        let report: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"));
        report["error"]["reason"].as_str().unwrap_or_else(|| panic!("no reason: {text}")).to_owned()
    }

    /// Creates a fleet whose devices enroll by join tokens.
    pub fn create_fleet(&self, name: &str) {
        self.run(&["fleet", "create", name, "--attest", "token"]);
    }

    /// Creates a join token for one device, and gives the file that it is in.
    pub fn device_token(&self, fleet: &str, device: &str, folder: &Path) -> PathBuf {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let file = format!("{device}-{}.token", MADE.fetch_add(1, Ordering::Relaxed));
        self.token(&["--fleet", fleet, "--device-id", device], &folder.join(file))
    }

    /// `token create` with these options, into a file.
    pub fn token(&self, options: &[&str], out: &Path) -> PathBuf {
        let path = out.to_str().expect("temporary folders have names in UTF-8");
        self.run(&[&["token", "create"], options, &["--out", path]].concat());
        out.to_path_buf()
    }
}
