//! Apache httpd as a gateway, in front of a folder with one page.

use std::{fs, path::Path, process::Command};

use super::{
    Gateway, Presented,
    place::Place,
    start_on_free_port,
    visitor::{HTTP, Visitor},
};
use crate::{process::Running, require};

/// Where Debian keeps the modules.
const MODULES: &str = "/usr/lib/apache2/modules";

/// Apache, a parent with its children, which end with its place.
#[derive(Debug)]
pub struct Apache {
    process: Running,
    port: u16,
    place: Place,
}

impl Apache {
    /// Starts Apache, or gives `None` where it is not installed (a failure under `CI=true`).
    pub fn start(place: Place) -> Option<Apache> {
        let program = require::program("apache2")?;
        require::file(&Path::new(MODULES).join("mod_ssl.so"), "it is in Debian's apache2")?;
        fs::create_dir(place.path().join("pages")).expect("the folder is new");
        place.write("pages/index.html", "welcome\n");
        let user = place.user("www-data").map(|user| format!("User {user}\nGroup {user}\n")).unwrap_or_default();
        let (process, port) = start_on_free_port("apache", &place, |port| {
            let changes =
                [("Listen 8443", &*format!("Listen 127.0.0.1:{port}")), ("*:8443", &format!("127.0.0.1:{port}"))];
            let [host] = place.recipe("Apache httpd", &changes);
            let settings = place.write("apache.conf", &(configuration(place.path()) + &user + &host));
            let mut command = Command::new(&program);
            command.arg("-DFOREGROUND").arg("-f").arg(settings);
            command
        });
        Some(Apache { process, port, place })
    }
}

impl Gateway for Apache {
    fn name(&self) -> &'static str {
        "Apache httpd"
    }

    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn reload(&self) -> String {
        format!("kill -USR1 {}", self.pid())
    }

    fn closes_connections(&self) -> bool {
        true
    }

    fn visitor(&self, device: &Presented) -> Visitor {
        Visitor::new(self, self.port, &self.place.identity().ca, device, HTTP)
    }
}

impl Drop for Apache {
    /// The parent ends its children when it is asked to end; killed, it would leave them behind.
    fn drop(&mut self) {
        if self.process.ended().is_none() {
            self.process.stop();
        }
    }
}

fn configuration(folder: &Path) -> String {
    let modules: String = ["mpm_event", "authz_core", "dir", "ssl"]
        .iter()
        .map(|module| format!("LoadModule {module}_module {MODULES}/mod_{module}.so\n"))
        .collect();
    let folder = folder.display();
    format!(
        "{modules}ServerRoot {folder}
ServerName localhost
DefaultRuntimeDir {folder}
PidFile {folder}/apache.pid
ErrorLog /dev/stderr
StartServers 1
DocumentRoot {folder}/pages
DirectoryIndex index.html
"
    )
}
