//! The ceremonies of `docs/operating.md` about issuing CAs, done as the page has them, with root keys that a passphrase
//! opens: its commands one after the other, with this machine's paths in the place of those that are written.

use std::{env, os::unix::fs::PermissionsExt};

use tempfile::TempDir;

use super::*;

/// The blocks in `sh` of the section.
fn blocks() -> Vec<String> {
    let page = fs::read_to_string(binaries::workspace().join("docs/operating.md")).expect("there is a page");
    let (_, section) = page.split_once("\n## Issuing CAs\n").expect("the page has the section");
    let section = section.split("\n## ").next().expect("there is a first part");
    let blocks = section.split("\n```sh\n").skip(1);
    blocks.map(|block| block.split("\n```").next().unwrap_or_default().to_owned()).collect()
}

/// Does what a block says. `here`: what is written, and what takes its place.
fn perform(server: &mut Server, block: &str, here: &[(&str, &str)]) {
    let programs = binaries::ca_server().parent().map(PathBuf::from).expect("programs lie in a folder");
    let inherited = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([programs].into_iter().chain(env::split_paths(&inherited))).expect("no colons");
    for line in block.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line {
            "systemctl stop ca-server" => server.stop(),
            "systemctl start ca-server" => server.start_again(),
            line => {
                let line = here.iter().fold(line.to_owned(), |line, (written, here)| line.replace(written, here));
                let mut command = Command::new("sh");
                command.args(["-c", &line]).env("PATH", &path);
                command.env("FLEETCA_SERVER", server.operator_url());
                command.env("FLEETCA_CREDENTIAL", server.admin().credential());
                let finished = run(&mut command);
                assert_eq!(finished.code, 0, "{line}: {finished:?}");
            }
        }
    }
}

/// A passphrase, in a file that its owner alone can read.
fn passphrase(file: PathBuf) -> PathBuf {
    fs::write(&file, "correct horse battery staple\n").expect("a file");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("it is ours");
    file
}

#[test]
fn an_issuing_ca_is_made_and_a_stolen_one_cut_off_as_the_page_says() {
    let media = TempDir::new().expect("a temporary folder");
    let (roots, passphrase) = (media.path().join("roots"), passphrase(media.path().join("passphrase")));
    let mut server = Server::make(&["--root-dir", path(&roots), "--root-passphrase-file", path(&passphrase)], &[]);
    let admin = server.admin();
    admin.create_fleet("pumps");
    let (stolen, device) = (first(&server), Device::enroll(&server, "pumps", "pump-1"));
    let gateway = Device::enroll_gateway(&server, "eu-7");
    let out = server.scratch().join("crls.pem");
    sync(&["--dir", path(gateway.folder())], &out).succeeded();
    let verified = |server: &Server| {
        let chain = device.presented().chain;
        openssl::verify(&chain, &server.device_root(), Some(&chain), Some(&out)).map(|verified| verified.code == 0)
    };
    let Some(true) = verified(&server) else { return };

    let blocks = blocks();
    let [create, revoke] = blocks.as_slice() else { panic!("not two ceremonies: {blocks:?}") };
    let (dir, backup) = (server.dir(), server.scratch().join("backup"));
    let here = [
        ("/var/lib/fleetca", path(&dir)),
        ("/media/roots", path(&roots)),
        ("/media/passphrase", path(&passphrase)),
        ("/etc/fleetca/backup-passphrase", path(&passphrase)),
        ("/backup/fleetca", path(&backup)),
        ("ISSUER", &stolen),
        ("FLEET", "pumps"),
    ];
    perform(&mut server, create, &here);
    assert_eq!(issuers(&server).len(), 2);

    // Whoever finds the media without the passphrase can't do it.
    server.stop();
    let place = ["--dir", path(&dir), "--root-dir", path(&roots)];
    let refused = run(Command::new(binaries::ca_server()).args(["issuer", "revoke", &stolen]).args(place));
    assert!(refused.code == 1 && refused.stderr.contains("passphrase"), "{refused:?}");
    server.start_again();
    assert_eq!(use_of(&server, &stolen)["standing"], "active");

    perform(&mut server, revoke, &here);
    let standing = |of: &str| issuers(&server).values().filter(|issuer| issuer["standing"] == of).count();
    assert_eq!((standing("active"), standing("revoked")), (2, 1));
    sync(&["--dir", path(gateway.folder())], &out).succeeded();
    assert_eq!(verified(&server), Some(false), "a gateway lets in what the stolen key has signed");
    let status = admin.run(&["crl", "status"]);
    let root = status.as_array().expect("a list").iter().find(|crl| crl["hierarchy"] == "device-root").expect("a root");
    assert_eq!((&root["loaded"]["loaded"], &root["loaded"]["gateways"]), (&json!(1), &json!(1)));
    assert_eq!(run(device.command("renew").arg("--force")).code, 4);
    let token = admin
        .token(&["--fleet", "pumps", "--device-id", "pump-1", "--reenroll"], &server.scratch().join("again.token"));
    device.try_enroll(&server, "pump-1", &token).succeeded();
    assert_eq!(verified(&server), Some(true));
}
