//! The keys that stay with the server, encrypted under a passphrase: who opens them, what is said where nobody can, and
//! that no key is written in plain afterwards.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use fleetca_tests::{
    binaries,
    device::Device,
    openssl,
    operator::Operator,
    process::{Finished, run},
    server::{Server, init, init_with},
};
use tempfile::TempDir;

const PLAIN: &str = "-----BEGIN PRIVATE KEY-----";
const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";

/// Passphrases in files, outside of the CA's folder.
struct Passphrases(TempDir);

impl Passphrases {
    fn new() -> Passphrases {
        let passphrases = Passphrases(TempDir::new().expect("a temporary folder"));
        for (name, text) in [("right", "correct horse battery staple\n"), ("wrong", "incorrect horse\n")] {
            passphrases.write(name, text, 0o600);
        }
        passphrases
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).expect("a file");
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).expect("a file of ours");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        path(&self.path(name)).to_owned()
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary folders have names in UTF-8")
}

/// The files with the keys that a server uses.
fn key_files(dir: &Path) -> Vec<PathBuf> {
    let keys = fs::read_dir(dir.join("keys")).expect("a folder");
    let mut files: Vec<_> = keys.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files.push(dir.join("server.pem"));
    files
}

fn begins(file: &Path, with: &str) -> bool {
    fs::read_to_string(file).expect("a text").starts_with(with)
}

fn command(words: &[&str], dir: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(binaries::ca_server());
    command.args(words).arg("--dir").arg(dir).args(options);
    command
}

/// `serve` that is refused before it serves.
fn serve(dir: &Path, options: &[&str]) -> Finished {
    let ports = ["--listen", "--operator-listen", "--http-listen", "--metrics-listen"];
    let free = ports.into_iter().flat_map(|option| [option, "127.0.0.1:0"]);
    run(command(&["serve"], dir, options).args(free))
}

fn error_of(refused: &Finished) -> &str {
    assert_eq!((refused.code, &*refused.stdout), (1, ""), "{refused:?}");
    refused.stderr.lines().last().expect("an error")
}

#[test]
fn keys_at_rest_are_encrypted_and_the_server_works_with_them() {
    let passphrases = Passphrases::new();
    let right = passphrases.text("right");
    let option = ["--key-passphrase-file", &*right];
    let mut server = Server::make(&option, &option);
    let files = key_files(&server.dir());
    assert_eq!(files.len(), 3, "the control CA, the issuing CA, the server: {files:?}");
    for file in &files {
        assert!(begins(file, ENCRYPTED), "{}", file.display());
        assert_eq!(fs::metadata(file).expect("it is there").permissions().mode() & 0o777, 0o600);
        let Some(mut command) = openssl::command() else { return };
        command.args(["pkey", "-noout", "-in", path(file), "-passin", &format!("file:{right}")]);
        run(&mut command).succeeded();
    }
    // The first operator's folder is a credential folder like all others: it is moved to where it is used.
    assert!(begins(&server.dir().join("operator/current/key.pem"), PLAIN));

    server.admin().create_fleet("sensors");
    let device = Device::enroll(&server, "sensors", "pump-7");
    server.stop();
    // A key that is made later is encrypted as well.
    let before = fs::read(server.dir().join("server.pem")).expect("a file");
    fs::remove_file(server.dir().join("server.pem")).expect("it was there");
    server.start_again();
    assert!(begins(&server.dir().join("server.pem"), ENCRYPTED));
    assert_ne!(fs::read(server.dir().join("server.pem")).expect("a file"), before);
    device.renew();
    server.admin().run(&["device", "revoke", "pump-7"]);
}

#[test]
fn a_missing_or_wrong_passphrase_is_told_with_both_files_and_what_to_do() {
    let passphrases = Passphrases::new();
    let folder = TempDir::new().expect("a temporary folder");
    let dir = folder.path().join("ca");
    let (right, wrong) = (passphrases.text("right"), passphrases.text("wrong"));
    init_with(&dir, &["--key-passphrase-file", &right]);

    let missing = serve(&dir, &[]);
    let error = error_of(&missing);
    assert!(error.starts_with(&format!("error: {}/keys/", path(&dir))), "{error}");
    assert!(error.contains("is encrypted, and no passphrase was given") && error.contains("--key-passphrase-file"));

    let refused = serve(&dir, &["--key-passphrase-file", &wrong]);
    let error = error_of(&refused);
    assert!(error.starts_with(&format!("error: {}/keys/", path(&dir))), "{error}");
    assert!(error.contains(&format!("does not decrypt with the passphrase in {wrong}: give the one")), "{error}");

    let nowhere = passphrases.text("none");
    let refused = serve(&dir, &["--key-passphrase-file", &nowhere]);
    let error = error_of(&refused);
    assert!(error.starts_with(&format!("error: the passphrase file {nowhere} cannot be read: ")), "{error}");

    passphrases.write("empty", "\n", 0o600);
    let refused = serve(&dir, &["--key-passphrase-file", &passphrases.text("empty")]);
    assert!(error_of(&refused).contains("holds no passphrase"), "{refused:?}");

    passphrases.write("open", "correct horse battery staple\n", 0o604);
    let refused = serve(&dir, &["--key-passphrase-file", &passphrases.text("open")]);
    assert!(error_of(&refused).ends_with(&format!("chmod 600 {}", passphrases.text("open"))), "{refused:?}");
}

#[test]
fn the_passphrase_comes_by_option_by_settings_or_as_a_credential() {
    let passphrases = Passphrases::new();
    let folder = TempDir::new().expect("a temporary folder");
    let dir = folder.path().join("ca");
    let (right, wrong) = (passphrases.text("right"), passphrases.text("wrong"));
    init_with(&dir, &["--key-passphrase-file", &right]);
    // Recovering opens the same keys, and ends by itself.
    let recover = |name: &str, options: &[&str], credentials: Option<&Path>| {
        let out = folder.path().join(name);
        let mut command = command(&["operator", "recover"], &dir, options);
        command.args(["--name", name, "--out", path(&out)]).env_remove("CREDENTIALS_DIRECTORY");
        command.envs(credentials.map(|folder| ("CREDENTIALS_DIRECTORY", folder)));
        run(&mut command)
    };
    assert_eq!(recover("nobody", &[], None).code, 1);
    recover("by-option", &["--key-passphrase-file", &right], None).succeeded();

    let credentials = folder.path().join("credentials");
    fs::create_dir(&credentials).expect("a folder");
    assert_eq!(recover("nobody", &[], Some(&credentials)).code, 1, "without one of that name");
    fs::copy(passphrases.path("right"), credentials.join("key-passphrase")).expect("a copy");
    recover("by-credential", &[], Some(&credentials)).succeeded();
    assert_eq!(recover("nobody", &["--key-passphrase-file", &wrong], Some(&credentials)).code, 1, "the option wins");

    let settings = dir.join("config.toml");
    let text = fs::read_to_string(&settings).expect("init writes them");
    fs::write(&settings, format!("{text}\n[keys]\npassphrase_file = \"{right}\"\n")).expect("a file");
    recover("by-settings", &[], None).succeeded();
    assert!(!folder.path().join("nobody").exists());
}

#[test]
fn keys_of_a_ca_that_is_there_are_encrypted_and_change_their_passphrase() {
    let passphrases = Passphrases::new();
    let folder = TempDir::new().expect("a temporary folder");
    let dir = folder.path().join("ca");
    init(&dir);
    let (first, second) = (passphrases.text("right"), passphrases.text("wrong"));
    let encrypt = |new: &str, options: &[&str]| {
        run(command(&["key", "encrypt"], &dir, &["--new-passphrase-file", new]).args(options))
    };
    let contents = || key_files(&dir).iter().map(|file| fs::read(file).expect("a file")).collect::<Vec<_>>();
    let opens = |passphrase: &str| {
        let out = folder.path().join(format!("recovered-{passphrase}").replace('/', "-"));
        let done =
            run(command(&["operator", "recover"], &dir, &["--key-passphrase-file", passphrase])
                .args(["--out", path(&out)]));
        let _ = fs::remove_dir_all(out);
        done.code == 0
    };
    encrypt(&first, &[]).succeeded();
    assert!(key_files(&dir).iter().all(|file| begins(file, ENCRYPTED)));
    assert!(opens(&first) && !opens(&second));

    let before = contents();
    let refused = encrypt(&second, &[]);
    assert!(error_of(&refused).contains("no passphrase was given"), "{refused:?}");
    assert_eq!(contents(), before, "nothing was changed");
    encrypt(&first, &[]).succeeded();
    assert_eq!(contents(), before, "they are so already");

    // As a kill half way would leave it: the same command goes on.
    encrypt(&second, &["--key-passphrase-file", &first]).succeeded();
    fs::write(&key_files(&dir)[1], &before[1]).expect("a file");
    assert!(!opens(&first) && !opens(&second));
    encrypt(&second, &["--key-passphrase-file", &first]).succeeded();
    assert!(opens(&second) && !opens(&first));
    let chain = fs::read_to_string(dir.join("server.pem")).expect("a text");
    assert_eq!(chain.matches("-----BEGIN CERTIFICATE-----").count(), 3, "the chain stays");
}

#[test]
fn keys_are_not_encrypted_under_a_server_that_runs_and_the_change_is_in_the_log() {
    let passphrases = Passphrases::new();
    let mut server = Server::start();
    let right = passphrases.text("right");
    let encrypt = || run(&mut command(&["key", "encrypt"], &server.dir(), &["--new-passphrase-file", &right]));
    assert!(error_of(&encrypt()).contains("another server is running"));
    assert!(key_files(&server.dir()).iter().all(|file| begins(file, PLAIN)));
    let (dir, ports) = (server.dir(), server.addresses());
    server.stop();
    run(&mut command(&["key", "encrypt"], &dir, &["--new-passphrase-file", &right])).succeeded();
    server.start_again_with(&["--key-passphrase-file", &right]);
    assert_eq!(server.addresses().operators, ports.operators);
    let admin: Operator = server.admin();
    let log = admin.run(&["audit", "list", "--action", "keys.encrypted"]);
    assert!(log.to_string().contains("server.pem"), "{log}");
    admin.run(&["audit", "verify"]);
}

#[test]
fn a_passphrase_for_keys_that_lie_in_plain_is_warned_of() {
    const WARNING: &str = "this key is not encrypted, although there is a passphrase";
    let passphrases = Passphrases::new();
    let mut server = Server::start_with(&["--key-passphrase-file", &passphrases.text("right")]);
    let files = key_files(&server.dir());
    let log = server.process().stderr();
    let told: Vec<_> = log.lines().filter(|line| line.contains(WARNING)).collect();
    assert_eq!(told.len(), files.len(), "{log}");
    for file in files {
        assert!(told.iter().any(|line| line.contains(path(&file))), "{} in {log}", file.display());
    }
}
