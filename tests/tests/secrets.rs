//! No secret of a run is in what its programs print, log, record or answer: every command, the failing ones too, at the
//! most verbose level, and then a search for every key, token and passphrase that was made.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use enroll_client::keys::tpm::Chip;
use fleetca_tests::{
    binaries, http,
    process::{Running, run},
    secrets::{Secrets, files},
    server::{PUBLIC_URL, TRUST_DOMAIN},
    tpm::Tpm,
};
use tempfile::TempDir;

const GRANTED: bool = true;
const REFUSED: bool = false;

/// The files whose purpose is to hold a secret.
fn is_for_a_secret(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let in_folder = |folder| path.components().any(|part| part.as_os_str() == folder);
    // The last: space that the store sets aside, which holds nothing and would take long to search.
    name.ends_with(".token")
        || name.ends_with(".passphrase")
        || name.starts_with("key")
        || name == "tpm-key.pem"
        || name == "server.pem"
        || in_folder("keys")
        || in_folder("roots")
        || in_folder("offline")
        || name == "reserve"
}

/// A run in a folder of its own: what was said, and what must not have been.
struct Run {
    folder: TempDir,
    secrets: Secrets,
    said: Vec<(String, Vec<u8>)>,
}

impl Run {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command in the folder, as verbose as can be, and keeps what it said. Its exit code must be as expected.
    fn run(&mut self, granted: bool, mut command: Command, arguments: &[&str]) {
        command.args(arguments).current_dir(self.folder.path());
        command.env("FLEETCA_LOG", "trace").env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full");
        let finished = run(&mut command);
        let said = format!("{}{}", finished.stdout, finished.stderr);
        assert!((finished.code == 0) == granted && !said.contains("panicked"), "{arguments:?}: {said}");
        self.said.push((arguments.join(" "), said.into_bytes()));
        // Now: a renewal takes the key before the last away.
        self.secrets.collect(self.folder.path());
    }

    fn ca_server(&mut self, granted: bool, arguments: &str) {
        self.run(granted, Command::new(binaries::ca_server()), &arguments.split(' ').collect::<Vec<_>>())
    }

    fn client(&mut self, granted: bool, arguments: &str) {
        self.run(granted, Command::new(binaries::enroll_client()), &arguments.split(' ').collect::<Vec<_>>())
    }

    fn write(&mut self, name: &str, content: &str) {
        let path = self.path(name);
        let written =
            fs::write(&path, content).and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o600)));
        written.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Nothing of what was said, and no file that is not for it, holds a secret.
    fn holds_none(&self) {
        assert!(self.secrets.count() > 20, "{}", self.secrets.count());
        assert!(self.said.iter().any(|(_, said)| String::from_utf8_lossy(said).contains("TRACE")), "all is said");
        let said = self.said.iter().map(|(what, said)| (what.as_str(), said.as_slice()));
        if let Some((what, name)) = self.secrets.find(said) {
            panic!("`{what}` tells the secret of {name}");
        }
        let others = files(self.folder.path()).into_iter().filter(|path| !is_for_a_secret(path));
        let others = others.map(|path| (path.display().to_string(), fs::read(&path).expect("a file of ours")));
        let others: Vec<_> = others.collect();
        assert!(others.iter().any(|(path, _)| path.ends_with("ca.db")));
        let found = self.secrets.find(others.iter().map(|(path, content)| (path.as_str(), content.as_slice())));
        assert_eq!(found, None, "a file holds a secret that is not for it");
    }
}

/// Serves the CA, with its output among the folder's files.
fn serve(run: &Run) -> (Running, String, String, String) {
    let mut command = Command::new(binaries::ca_server());
    command.current_dir(run.folder.path()).env("FLEETCA_LOG", "trace").args(["serve", "--dir", "ca"]);
    command.args(["--key-passphrase-file", "key.passphrase"]);
    for port in ["--listen", "--operator-listen", "--http-listen", "--metrics-listen"] {
        command.args([port, "127.0.0.1:0"]);
    }
    let mut process = Running::start("serve", command, run.folder.path());
    let line = process.until("it is ready", |process| {
        process.stdout().lines().find(|line| line.starts_with("ready: ")).map(str::to_owned)
    });
    let port = |name: &str| {
        let address = line.split(&format!("{name}=")).nth(1).and_then(|rest| rest.split(' ').next());
        address.and_then(|address| address.rsplit(':').next()).expect("an address").to_owned()
    };
    let (devices, operators) = (port("devices"), port("operators"));
    let ports = format!("{} {}", port("http"), port("metrics"));
    (process, format!("https://localhost:{devices}"), format!("https://localhost:{operators}"), ports)
}

#[test]
fn no_secret_of_a_run_is_in_its_logs_errors_records_or_answers() {
    let mut run = Run { folder: TempDir::new().expect("a folder"), secrets: Secrets::default(), said: Vec::new() };
    for (name, text) in [
        ("root.passphrase", "a passphrase of roots"),
        ("key.passphrase", "a passphrase of keys"),
        ("bad.passphrase", "another one, and wrong"),
    ] {
        run.write(name, text);
        run.secrets.add_text(name, text);
    }
    let init = format!("init --dir ca --root-dir roots --trust-domain {TRUST_DOMAIN} --public-url {PUBLIC_URL}");
    run.ca_server(
        GRANTED,
        &format!("{init} --root-passphrase-file root.passphrase --key-passphrase-file key.passphrase"),
    );
    let (mut server, devices, operators, ports) = serve(&run);
    let (http_port, metrics_port) = ports.split_once(' ').expect("two ports");
    let admin = format!("--server {operators} --credential ca/operator");
    let enroll = format!("enroll --server {devices} --root ca/control-root.pem");

    // Tokens, and devices that come by them, rightly and wrongly.
    run.ca_server(GRANTED, &format!("fleet create sensors {admin}"));
    for id in ["pump-7", "pump-8", "pump-9"] {
        run.ca_server(GRANTED, &format!("token create --fleet sensors --device-id {id} --out {id}.token {admin}"));
    }
    run.ca_server(GRANTED, &format!("token create --fleet sensors --pattern b-* --uses 2 --out many.token {admin}"));
    run.ca_server(REFUSED, &format!("token create --fleet sensors --device-id a --out many.token {admin}"));
    run.ca_server(REFUSED, &format!("token create --fleet none --device-id a --out none.token {admin}"));
    run.client(GRANTED, &format!("{enroll} --dir pump-7 --device-id pump-7 --attest token:pump-7.token"));
    run.client(REFUSED, &format!("{enroll} --dir spent --device-id pump-7 --attest token:pump-7.token"));
    run.client(REFUSED, &format!("{enroll} --dir other --device-id pump-7 --attest token:pump-8.token"));
    run.client(REFUSED, &format!("{enroll} --dir other --device-id c-1 --attest token:many.token"));
    let token = run.read("pump-8.token");
    let token = token.trim();
    for (at, damaged) in
        [&token[..token.len() - 1], &format!("{token}0"), &token.replace('.', "-"), &token[1..]].iter().enumerate()
    {
        run.write("damaged.token", damaged);
        run.client(REFUSED, &format!("{enroll} --dir damaged-{at} --device-id pump-8 --attest token:damaged.token"));
    }
    // By mistake: the token itself where its file belongs, a key where a token belongs.
    run.client(REFUSED, &format!("{enroll} --dir mistake --device-id pump-8 --attest token:{token}"));
    run.client(REFUSED, &format!("{enroll} --dir mistake --device-id pump-8 --attest {token}"));
    run.client(REFUSED, &format!("{enroll} --dir mistake --attest token:pump-7/current/key.pem"));
    run.client(REFUSED, &format!("{enroll} --dir mistake --root pump-7/current/key.pem --attest token:pump-8.token"));

    // A TPM's endorsement key is no secret from the CA, and tells its device for ever: nobody writes it down.
    let tpm = Tpm::start();
    if let Some(tpm) = &tpm {
        let mut chip = Chip::open(&tpm.socket().parse().expect("a location")).expect("a TPM");
        let endorsement = chip.endorsement(None).expect("a key");
        let hash: String =
            endorsement.fingerprint().expect("a key").iter().map(|octet| format!("{octet:02x}")).collect();
        // A P-256 point: x and y, each behind its size.
        let (rest, y) = endorsement.key.public().split_at(endorsement.key.public().len() - 32);
        run.secrets.add_octets("the endorsement key: x", &rest[rest.len() - 34..rest.len() - 2]);
        run.secrets.add_octets("the endorsement key: y", y);
        chip.close().expect("it is let go");
        let socket = tpm.socket();
        run.client(GRANTED, &format!("show-tpm {socket}"));
        run.ca_server(GRANTED, &format!("fleet create valves --attest tpm {admin}"));
        run.client(REFUSED, &format!("{enroll} --dir valve-7 --attest tpm:{socket}"));
        run.ca_server(GRANTED, &format!("device register valve-7 --fleet valves --ek-hash {hash} {admin}"));
        run.client(GRANTED, &format!("{enroll} --dir valve-7 --attest tpm:{socket}"));
        run.client(GRANTED, "renew --dir valve-7 --force");
        run.client(GRANTED, "status --dir valve-7 --output json");
        run.ca_server(GRANTED, &format!("device show valve-7 {admin}"));
    }

    // Renewals, and what becomes of a key file that is damaged.
    run.client(GRANTED, "renew --dir pump-7 --force");
    run.client(GRANTED, "renew --dir pump-7 --force");
    run.client(GRANTED, "status --dir pump-7 --output json");
    let key = run.read("pump-7/current/key.pem");
    run.write("pump-7/current/key.pem", &key.replacen('M', "*", 1));
    run.client(REFUSED, "renew --dir pump-7 --force");
    run.write("pump-7/current/key.pem", &key[..key.len() / 2]);
    run.client(REFUSED, "renew --dir pump-7 --force");

    // Operators and gateways.
    run.ca_server(GRANTED, &format!("operator create ana --role viewer --out ana.token {admin}"));
    run.client(GRANTED, &format!("{enroll} --dir ana --kind operator --operator-name ana --attest token:ana.token"));
    run.ca_server(
        REFUSED,
        &format!("device revoke pump-9 --reason affiliationChanged --server {operators} --credential ana"),
    );
    run.ca_server(GRANTED, &format!("gateway create eu-7 --out eu-7.token {admin}"));
    run.client(GRANTED, &format!("{enroll} --dir eu-7 --kind gateway --gateway-id eu-7 --attest token:eu-7.token"));
    run.client(GRANTED, "sync-crls --dir eu-7 --out crls.pem");
    let public = format!("--http-url http://127.0.0.1:{http_port} --trust ca/device-root.pem");
    run.client(GRANTED, &format!("sync-crls {public} --out more.pem"));
    run.ca_server(GRANTED, &format!("device revoke pump-7 --reason keyCompromise {admin}"));
    run.ca_server(REFUSED, &format!("device show none {admin}"));
    for list in ["token list", "device list", "issuer list", "audit list", "audit list --security", "audit verify"] {
        run.ca_server(GRANTED, &format!("{list} --output json {admin}"));
    }
    let recover = "operator recover --dir ca --name ben --out ben";
    run.ca_server(REFUSED, &format!("{recover} --key-passphrase-file bad.passphrase"));
    run.ca_server(GRANTED, &format!("{recover} --key-passphrase-file key.passphrase"));
    run.ca_server(GRANTED, "show-config --dir ca");

    // The root keys: with the right passphrase, with a wrong one, with none.
    let sign = "root sign-crl --root-dir roots";
    run.ca_server(GRANTED, &format!("{sign} --root-passphrase-file root.passphrase"));
    run.ca_server(REFUSED, &format!("{sign} --root-passphrase-file bad.passphrase"));
    run.ca_server(REFUSED, sign);

    for path in ["metrics", "readyz", "healthz"] {
        let answer = http::get(&format!("http://127.0.0.1:{metrics_port}/{path}"));
        run.said.push((path.to_owned(), answer.body));
    }
    assert!(server.stop().success());
    // A key of the server's that is damaged.
    let keys = run.path("ca/keys");
    let key = fs::read_dir(&keys).expect("keys").next().expect("a key").expect("an entry").path();
    let pem = fs::read_to_string(&key).expect("a key");
    fs::write(&key, pem.replacen('M', "*", 1)).expect("written");
    run.ca_server(REFUSED, "serve --dir ca --listen 127.0.0.1:0 --key-passphrase-file key.passphrase");
    run.ca_server(REFUSED, "serve --dir ca --listen 127.0.0.1:0");
    run.ca_server(GRANTED, "quickstart --exit --dir story");
    run.holds_none();
}
