//! PostgreSQL as a gateway, with devices as its users.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    Admission, Gateway, Presented,
    place::Place,
    start_on_free_port,
    visitor::{Manners, Visitor},
};
use crate::{
    process::{Running, run},
    require,
};

/// SSLRequest, and that TLS may begin; StartupMessage as `devices`, to ReadyForQuery; and a simple query, to its row.
const POSTGRESQL: Manners = Manners {
    before_tls: (b"\0\0\0\x08\x04\xd2\x16\x2f", b"S"),
    hello: b"\0\0\0\x28\0\x03\0\0user\0devices\0database\0postgres\0\0",
    welcome: b"Z\0\0\0\x05I",
    again: b"Q\0\0\0\x18SELECT 'still here'\0",
    still: b"\0\0\0\x0astill here",
};

/// PostgreSQL, with a cluster of its own, which ends with its place.
#[derive(Debug)]
pub struct Postgres {
    process: Running,
    port: u16,
    place: Place,
    client: PathBuf,
}

impl Postgres {
    /// Makes a cluster and starts it, or gives `None` where PostgreSQL is not installed (a failure under `CI=true`).
    pub fn start(place: Place) -> Option<Postgres> {
        let [program, maker, client] =
            [require::program("postgres"), require::program("initdb"), require::program("psql")];
        let (program, maker, client) = (program?, maker?, client?);
        // It refuses to be root, and wants its key to belong to the user that it is.
        let user = place.user("postgres");
        let data = place.path().join("data");
        fs::create_dir(&data).expect("the folder is new");
        if let Some(user) = user {
            run(Command::new("chown").arg(user).arg(&data).arg(&place.identity().key)).succeeded();
        }
        run(Command::new("chmod").arg("600").arg(&place.identity().key)).succeeded();
        run(as_user(user, &maker).args(["-U", "devices", "-A", "reject", "--no-sync", "-D"]).arg(&data)).succeeded();
        let [settings, access, names] = place.recipe("PostgreSQL", &[("0.0.0.0/0", "127.0.0.1/32")]);
        let ours = "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = off\n";
        fs::write(data.join("postgresql.conf"), settings + ours).expect("settings are written");
        fs::write(data.join("pg_hba.conf"), access).expect("settings are written");
        fs::write(data.join("pg_ident.conf"), names).expect("settings are written");
        let (process, port) = start_on_free_port("postgres", &place, |port| {
            let mut command = as_user(user, &program);
            command.arg("-D").arg(&data).args(["-p", &port.to_string()]);
            command
        });
        Some(Postgres { process, port, place, client })
    }
}

impl Gateway for Postgres {
    fn name(&self) -> &'static str {
        "PostgreSQL"
    }

    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn visitor(&self, device: &Presented) -> Visitor {
        Visitor::new(self, self.port, &self.place.identity().ca, device, POSTGRESQL)
    }

    /// Asks one question.
    fn admit(&self, device: &Presented) -> Admission {
        let target = format!(
            "host=localhost port={} user=devices dbname=postgres sslmode=verify-full sslrootcert={} sslcert={} sslkey={}",
            self.port,
            self.place.identity().ca.display(),
            device.chain.display(),
            device.key.display()
        );
        let finished = run(Command::new(&self.client).args(["-X", "-A", "-t", "-c", "SELECT 'welcome'", &target]));
        match finished.stdout.trim() {
            "welcome" => Admission::Admitted,
            _ => Admission::Refused(finished.stderr),
        }
    }
}

impl Drop for Postgres {
    /// It ends its processes when it is asked to end; killed, it would leave some behind.
    fn drop(&mut self) {
        if self.process.ended().is_none() {
            self.process.signal("QUIT");
            self.process.stop();
        }
    }
}

/// `setpriv` becomes the program itself, which therefore has the process ID that we know.
fn as_user(user: Option<&str>, program: &Path) -> Command {
    let Some(user) = user else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--clear-groups", "--"]).arg(program).current_dir("/");
    command
}
