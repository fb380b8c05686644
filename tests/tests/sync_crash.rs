//! A gateway's sync that is killed: whatever the moment, its file is one that was verified, whole, and the next run brings to
//! its end what this one has begun.

use std::{fs, path::Path, process::Command};

use fleetca_tests::{
    binaries,
    device::Device,
    http,
    process::{Finished, run},
    server::Server,
};
use serde_json::Value;

struct Gateway<'a> {
    server: &'a Server,
    folder: tempfile::TempDir,
}

impl Gateway<'_> {
    fn new(server: &Server) -> Gateway<'_> {
        Gateway { server, folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("temporary folders have names in UTF-8").to_owned()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// What the gateway's program takes in, and that it lives.
    fn hooks(&self) -> [String; 2] {
        let [taken, asked] = [self.path("taken"), self.path("asked")];
        [format!("cp \"$FLEETCA_FILE\" {taken}"), format!("cmp -s \"$FLEETCA_FILE\" {taken} && echo >> {asked}")]
    }

    fn sync(&self, [on_change, probe]: &[String; 2]) -> Finished {
        let mut command = Command::new(binaries::enroll_client());
        command.args(["sync-crls", "--http-url", &self.server.http_url(""), "--trust"]).arg(self.server.device_root());
        run(command.args(["--out", &self.path("crls.pem"), "--on-change", on_change, "--probe", probe]))
    }

    fn killed_sync(&self, at: u32) -> Finished {
        let [on_change, probe] = self.hooks();
        let mut command = Command::new(binaries::helper("killed-client"));
        command.args(["sync", &at.to_string(), &self.server.http_url("")]).arg(self.server.device_root());
        run(command.args([&self.path("crls.pem"), &on_change, &probe]))
    }

    /// Nothing of it is left to be done.
    fn is_done(&self, served: &str, what: &str) {
        assert_eq!(self.read("crls.pem"), served, "{what}");
        assert_eq!(self.read("taken"), served, "{what}: the program has taken it in");
        let state: Value = serde_json::from_str(&self.read("crls.pem.state.json")).expect("a state");
        assert_eq!((&state["hook_pending"], &state["refused"]), (&false.into(), &"".into()), "{what}");
        assert!(!self.folder.path().join("crls.pem.before").exists(), "{what}");
    }
}

fn served(server: &Server) -> String {
    String::from_utf8(http::get(&server.http_url("/crl/bundle.pem")).ok()).expect("PEM")
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder") {
        let file = entry.expect("an entry").path();
        fs::copy(&file, to.join(file.file_name().expect("a name"))).expect("a copy");
    }
}

#[test]
fn a_sync_killed_at_any_step_leaves_a_whole_file_and_the_next_one_goes_on() {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    Device::enroll(&server, "sensors", "pump-7");
    let before = Gateway::new(&server);
    before.sync(&before.hooks()).succeeded();
    let old = served(&server);
    before.is_done(&old, "the first one");
    server.admin().run(&["device", "revoke", "pump-7"]);
    let new = served(&server);
    assert_ne!(old, new);
    let mut kills = 0;
    for at in 1.. {
        let gateway = Gateway::new(&server);
        copy(before.folder.path(), gateway.folder.path());
        let killed = gateway.killed_sync(at);
        let file = gateway.read("crls.pem");
        assert!(file == old || file == new, "{at}: neither the one nor the other: {file}");
        let asked = gateway.read("asked").lines().count();
        if killed.code == 0 {
            gateway.is_done(&new, "never killed");
            break;
        }
        assert_eq!(killed.code, -1, "{at}: {killed:?}");
        gateway.sync(&gateway.hooks()).succeeded();
        gateway.is_done(&new, &format!("after a kill at step {at}"));
        assert!(
            gateway.read("asked").lines().count() > asked || asked == 2,
            "{at}: the gateway was asked whether it lives"
        );
        kills += 1;
    }
    assert!(kills >= 9, "three files are replaced, at three steps each: {kills}");

    // The gateway does not live with the new one: it gets the one back with which it did, wherever it was cut short.
    for at in 1..=kills {
        let gateway = Gateway::new(&server);
        copy(before.folder.path(), gateway.folder.path());
        gateway.killed_sync(at);
        if gateway.read("asked").lines().count() == 2 {
            continue;
        }
        let [on_change, _] = gateway.hooks();
        let failed = gateway.sync(&[on_change, "false".into()]);
        assert_eq!(failed.code, 3, "{at}: {failed:?}");
        assert_eq!(gateway.read("crls.pem"), old, "{at}: {failed:?}");
        assert_eq!(gateway.read("taken"), old, "{at}: it was told");
    }

    // From nothing, too.
    for at in 1..=kills {
        let gateway = Gateway::new(&server);
        let killed = gateway.killed_sync(at);
        assert!(gateway.read("crls.pem").is_empty() || gateway.read("crls.pem") == new, "{at}");
        gateway.sync(&gateway.hooks()).succeeded();
        gateway.is_done(&new, &format!("from nothing, {at}"));
        if killed.code == 0 {
            break;
        }
    }
}

#[test]
fn a_sync_killed_in_a_hook_has_it_run_again() {
    let server = Server::start();
    server.admin().create_fleet("sensors");
    Device::enroll(&server, "sensors", "pump-7");
    let gateway = Gateway::new(&server);
    gateway.sync(&gateway.hooks()).succeeded();
    let [on_change, probe] = gateway.hooks();
    for (id, hooks) in [
        ("on-change", ["kill -9 $PPID".to_owned(), probe.clone()]),
        ("probe", [on_change.clone(), "kill -9 $PPID".to_owned()]),
    ] {
        Device::enroll(&server, "sensors", id);
        server.admin().run(&["device", "revoke", id]);
        let new = served(&server);
        let killed = gateway.sync(&hooks);
        assert_eq!(killed.code, -1, "{id}: {killed:?}");
        assert_eq!(gateway.read("crls.pem"), new, "{id}");
        let asked = gateway.read("asked").lines().count();
        gateway.sync(&gateway.hooks()).succeeded();
        gateway.is_done(&new, id);
        assert_eq!(gateway.read("asked").lines().count(), asked + 1, "{id}");
    }
}
