//! Fail closed: nginx is stopped while its CRLs are older than `--max-age`, by the line that `docs/gateways.md` has.

use std::{env, path::PathBuf};

use fleetca_tests::{
    process::{Running, lives},
    require,
    wait::until,
};

use super::*;

/// How old CRLs may be: on the page, and here.
const MAX_AGE: (&str, &str) = ("--max-age 2h", "--max-age 3s");

/// nginx as a service: a stand-in for `systemctl` stops it, and starts it again.
struct Service {
    gateway: Nginx,
    folder: PathBuf,
}

impl Service {
    fn start(place: Place) -> Option<Service> {
        let program = require::program("nginx")?;
        let folder = place.path().to_path_buf();
        let gateway = Nginx::start(place)?;
        let here = folder.display();
        // Put into the background by itself, nginx has begun to listen when the command is over.
        let systemctl = format!(
            r#"#!/bin/sh
cd {here} || exit
case "$*" in
"stop nginx") kill "$(cat nginx.pid)" ;;
"reload-or-restart nginx")
    kill -HUP "$(cat nginx.pid)" || {{
        sed 's/^daemon off;//' nginx.conf >again.conf && {program} -p {here} -c again.conf -e stderr
    }} ;;
*) exit 2 ;;
esac 2>>systemctl.log
"#,
            program = program.display()
        );
        let bin = folder.join("bin");
        fs::create_dir(&bin).expect("the folder is new");
        fs::write(bin.join("systemctl"), systemctl).expect("a script");
        fs::set_permissions(bin.join("systemctl"), fs::Permissions::from_mode(0o755)).expect("it is ours");
        Some(Service { gateway, folder })
    }

    /// The line of the page that fails closed, in a command that keeps this service's file fresh.
    fn sync(&self, server: &Server, gateway: &Device, option: &str) -> Command {
        let page = fs::read_to_string(binaries::workspace().join("docs/gateways.md")).expect("there is a page");
        let line = page.lines().find(|line| line.trim_start().starts_with("--max-age") && line.contains("--on-stale"));
        let line = line.expect("the page says how to fail closed");
        assert!(line.contains(MAX_AGE.0), "{line}");
        let sync = sync_command(server, &Source::Grpc(gateway.clone()), &self.folder.join("crls.pem"));
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("exec \"$@\" {option} {}", line.replace(MAX_AGE.0, MAX_AGE.1))).arg("sh");
        command.arg(sync.get_program()).args(sync.get_args());
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths([self.folder.join("bin")].into_iter().chain(env::split_paths(&path)));
        command.env("PATH", path.expect("no folder's name has a colon"));
        command
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Ok(pid) = fs::read_to_string(self.folder.join("nginx.pid")) {
            run(Command::new("kill").arg(pid.trim()));
        }
    }
}

#[test]
fn a_gateway_is_stopped_while_its_crls_are_too_old_and_lets_in_again_when_they_are_young() {
    let mut server = Server::start();
    let admin = server.admin();
    admin.create_fleet("sensors");
    let [good, revoked] = ["good", "revoked"].map(|id| Device::enroll(&server, "sensors", id).presented());
    let gateway = Device::enroll_gateway(&server, "eu-7");
    let place = Place::make(&server.device_root());
    sync_crls(&server, &Source::Http, &place.crls(), None);
    let Some(nginx) = Service::start(place) else { return };
    assert_eq!(nginx.gateway.admit(&good), Admission::Admitted);

    // The CA is away for longer than that.
    server.stop();
    let mut watch = Running::start("watch", nginx.sync(&server, &gateway, "--watch"), server.scratch());
    let ended = until(SOON, "what is held is too old", || watch.ended());
    assert_eq!(ended.code(), Some(3), "{}", watch.stderr());
    until_true(SOON, "nginx is stopped", || !lives(nginx.gateway.pid()));
    for device in [&good, &revoked] {
        assert!(!nginx.gateway.admit(device).is_admitted());
    }

    server.start_again();
    admin.run(&["device", "revoke", "revoked"]);
    until_true(SOON, "the CRLs are young again, and nginx is there", || {
        admin.run(&["crl", "publish"]);
        run(&mut nginx.sync(&server, &gateway, ""));
        nginx.gateway.admit(&good).is_admitted()
    });
    assert!(!nginx.gateway.admit(&revoked).is_admitted());
}
