//! Ceremonies with the root keys that are killed: whatever the moment, nothing of one is half in force, and the same command
//! does it or says that it is done. What the root has put onto its CRL stays there. (`issuer create` is in `issuers.rs`.)

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use der::Decode;
use fleetca_proto::v1;
use fleetca_tests::{
    binaries,
    crl::Crl,
    device::Device,
    http,
    kill::{at_every_step, killed_at},
    process::{Finished, run},
    server::Server,
};
use prost::Message;
use rusqlite::Connection;
use serde_json::{Value, json};
use x509_cert::Certificate;

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary folders have names in UTF-8")
}

/// A CA that is stopped, and how it was before each attempt.
struct Ca {
    server: Server,
    before: PathBuf,
    /// Its first issuing CA, which the ceremonies are about.
    one: String,
}

/// Where a CA stands: by its store, and by the CRL that its root has signed last.
#[derive(Debug)]
struct State {
    standings: BTreeMap<String, String>,
    /// By ID, as on CRLs.
    serials: BTreeMap<String, String>,
    trust_bundle: BTreeSet<String>,
    stored_crl: Crl,
    roots_crl: Crl,
}

impl State {
    /// What a gateway is told by bundle, trust bundle and root's CRL is one thing, and the root has signed no less.
    fn is_one(&self, when: &str) {
        for (id, standing) in &self.standings {
            let (serial, is_in_force) = (&self.serials[id], matches!(standing.as_str(), "active" | "retired"));
            assert_eq!(self.trust_bundle.contains(id), is_in_force, "{when}: {id} in {self:?}");
            assert_eq!(self.stored_crl.lists(serial), !is_in_force, "{when}: {id} in {self:?}");
        }
        assert!(self.stored_crl.serials().iter().all(|serial| self.roots_crl.lists(serial)), "{when}: {self:?}");
        assert!(self.stored_crl.number() <= self.roots_crl.number(), "{when}: {self:?}");
    }
}

impl Ca {
    /// With a device that has a certificate, and whatever is done to it before the ceremony.
    fn new(prepare: impl FnOnce(&Ca)) -> Ca {
        let mut server = Server::start_with_limits(&[("issuer_wait_seconds", 0)]);
        server.admin().create_fleet("pumps");
        Device::enroll(&server, "pumps", "pump-1");
        let issuers = server.admin().run(&["issuer", "list"]);
        let mut device = issuers.as_array().expect("a list").iter().filter(|one| one["hierarchy"] == "device");
        let one = device.next().expect("there is one")["id"].as_str().expect("an ID").to_owned();
        server.stop();
        let before = server.scratch().join("before");
        let ca = Ca { server, before, one };
        prepare(&ca);
        copy(&ca.server.dir(), &ca.before);
        ca
    }

    fn restore(&self) {
        fs::remove_dir_all(self.server.dir()).expect("it is removed");
        copy(&self.before, &self.server.dir());
    }

    fn db(&self) -> Connection {
        Connection::open(self.server.dir().join("ca.db")).expect("the database")
    }

    /// `ca-server issuer ACTION ONE`, with the root keys at hand.
    fn ceremony(&self, action: &str) -> Finished {
        run(Command::new(binaries::ca_server()).args(self.command(action)))
    }

    fn command(&self, action: &str) -> Vec<String> {
        let (dir, roots) = (self.server.dir(), self.server.dir().join("offline"));
        ["issuer", action, &self.one, "--dir", path(&dir), "--root-dir", path(&roots), "--output", "json"]
            .map(str::to_owned)
            .to_vec()
    }

    fn state(&self) -> State {
        let db = self.db();
        let mut issuers =
            db.prepare("SELECT id, standing, certificate FROM issuers WHERE role = 'device'").expect("a query");
        let rows = issuers.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).expect("rows");
        let rows: Vec<(String, String, Vec<u8>)> = rows.map(|row| row.expect("a row")).collect();
        let signed: Vec<u8> = db
            .query_row("SELECT signed FROM trust_bundles ORDER BY sequence DESC LIMIT 1", [], |row| row.get(0))
            .expect("a trust bundle");
        let signed = v1::SignedTrustBundle::decode(signed.as_slice()).expect("a trust bundle");
        let bundle = v1::TrustBundle::decode(signed.bundle.as_slice()).expect("a trust bundle");
        let root_crl = "SELECT der FROM crl_heads WHERE issuer = (SELECT key FROM issuers WHERE role = 'device-root')";
        let stored: Vec<u8> = db.query_row(root_crl, [], |row| row.get(0)).expect("a CRL");
        State {
            standings: rows.iter().map(|(id, standing, _)| (id.clone(), standing.clone())).collect(),
            serials: rows.iter().map(|(id, _, der)| (id.clone(), serial(der))).collect(),
            trust_bundle: rows
                .iter()
                .filter(|(.., der)| bundle.device_issuers.contains(der))
                .map(|(id, ..)| id.clone())
                .collect(),
            stored_crl: Crl::from_der(&stored),
            roots_crl: self.roots_crl(),
        }
    }

    fn roots_crl(&self) -> Crl {
        Crl::from_der(&fs::read(self.server.dir().join("offline/device-root.crl")).expect("a file"))
    }

    /// What is served is what is in the store: by standing, bundle and root's CRL.
    fn is_served(&mut self, when: &str) {
        self.server.start_again();
        let state = self.state();
        let listed = self.server.admin().run(&["issuer", "list"]);
        for (id, standing) in &state.standings {
            let row = listed.as_array().expect("a list").iter().find(|row| row["id"] == *id).expect("it is listed");
            assert_eq!(row["standing"], *standing, "{when}");
            let is_in_force = state.trust_bundle.contains(id);
            let crl = http::get(&self.server.http_url(&format!("/crl/{id}/full.crl")));
            assert_eq!(crl.status, if is_in_force { 200 } else { 404 }, "{when}: {id}");
        }
        let bundle = http::get(&self.server.http_url("/crl/bundle.pem")).ok();
        let bundle = Crl::all_from_pem(&String::from_utf8(bundle).expect("PEM"));
        assert_eq!(bundle.len(), 1 + state.trust_bundle.len(), "{when}");
        assert!(bundle.iter().any(|crl| crl.serials() == state.stored_crl.serials()), "{when}");
        assert_eq!(http::get(&self.server.metrics_url("/readyz")).status, 200, "{when}");
        self.server.stop();
    }

    /// Kills the ceremony wherever that is possible. Each time it is done then, by itself or by the same command again, whose
    /// answer says so in words of this kind; and the issuing CA stands so.
    fn killed_anywhere(&mut self, action: &str, standing: &str, done: &str) {
        at_every_step(|step, times| {
            self.restore();
            let when = format!("{action}, killed at {step:?} {times}");
            let command = self.command(action);
            let command: Vec<&str> = command.iter().map(String::as_str).collect();
            let is_killed = killed_at(step, times, self.server.scratch(), &command).is_some();
            let state = self.state();
            state.is_one(&when);
            let was_done = state.standings[&self.one] == standing;
            let on_roots_crl = state.roots_crl.serials();
            self.is_served(&when);
            // Whatever else the root signs meanwhile.
            let roots = self.server.dir().join("offline");
            run(Command::new(binaries::ca_server()).args(["root", "sign-crl", "--root-dir", path(&roots)])).succeeded();
            assert_eq!(self.roots_crl().serials(), on_roots_crl, "{when}");

            let again = self.ceremony(action);
            if was_done {
                assert!(again.code == 1 && again.stderr.contains(done), "{when}: {again:?}");
            } else {
                assert!(is_killed && again.code == 0, "{when}: {again:?}");
            }
            let state = self.state();
            state.is_one(&when);
            assert_eq!(state.standings[&self.one], standing, "{when}");
            assert_eq!(state.standings.len(), 2, "{when}: one took over, and no more: {state:?}");
            self.is_served(&when);
            if standing == "ended" || standing == "revoked" {
                let (one, roots_crl) = (&state.serials[&self.one], self.roots_crl());
                assert!(state.stored_crl.lists(one) && roots_crl.lists(one), "{when}");
                assert_eq!(roots_crl.serials().len(), 1, "{when}: once");
            }
            is_killed
        });
    }
}

fn serial(certificate: &[u8]) -> String {
    let certificate = Certificate::from_der(certificate).expect("a certificate");
    let octets = certificate.tbs_certificate().serial_number();
    octets.as_bytes().iter().map(|octet| format!("{octet:02x}")).collect()
}

/// A folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder");
    fs::set_permissions(to, fs::metadata(from).expect("a folder").permissions()).expect("its mode");
    for entry in fs::read_dir(from).expect("a folder") {
        let file = entry.expect("an entry").path();
        let target = to.join(file.file_name().expect("a name"));
        if file.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&file).expect("a link"), target).expect("a link");
        } else if file.is_dir() {
            copy(&file, &target);
        } else {
            fs::copy(&file, &target).expect("a copy");
        }
    }
}

#[test]
fn a_rotation_killed_at_any_step_is_whole_or_none_and_goes_on_by_the_same_command() {
    Ca::new(|_| ()).killed_anywhere("rotate", "retired", "nothing takes over from it");
}

#[test]
fn the_end_of_an_issuing_ca_killed_at_any_step_is_whole_or_none_and_goes_on_by_the_same_command() {
    let prepare = |ca: &Ca| {
        let made: Value = serde_json::from_str(&ca.ceremony("rotate").succeeded()).expect("JSON");
        assert_eq!(made["replaces"], json!(ca.one));
        // As if its last certificate had expired.
        let expired = "UPDATE certificates SET not_after = not_after - 864000000 WHERE issuer = (SELECT key FROM issuers WHERE id = ?1)";
        assert_eq!(ca.db().execute(expired, [&ca.one]).expect("a change"), 1);
        ca.db().execute("UPDATE fleet_issuers SET last_not_after = 0", []).expect("a change");
    };
    Ca::new(prepare).killed_anywhere("end", "ended", "is ended already");
}

#[test]
fn the_revocation_of_an_issuing_ca_killed_at_any_step_is_whole_or_none_and_goes_on_by_the_same_command() {
    let prepare = |ca: &Ca| {
        ca.ceremony("rotate").succeeded();
    };
    Ca::new(prepare).killed_anywhere("revoke", "revoked", "is revoked already");
}
