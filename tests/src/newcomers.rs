//! Devices that nobody registered, and their makers: a world for tests.

use std::path::PathBuf;

use crate::{
    device::Device,
    maker::{CA, IDEVID, Made, Maker, Wish, text},
    process::{Finished, run},
    server::Server,
};

/// Names a board by its issuer and its serial number.
pub const TEMPLATE: &str = "board-{issuer}-{serial}";

/// Two makers, of whom nobody has registered any device.
#[derive(Debug)]
pub struct World {
    /// Its admin, its folder.
    pub server: Server,
    /// Whose workshop it is.
    pub maker: Maker,
    /// The root of the one.
    pub root: Made,
    /// The root of the other.
    pub other: Made,
}

impl World {
    /// A server, and makers; `None` where there is no `openssl`.
    pub fn new() -> Option<World> {
        let server = Server::start();
        let maker = Maker::new(server.scratch().join("maker"))?;
        let root = maker.make("root", &Wish { subject: "/O=Maker/CN=Root", ..CA }, None);
        let other = maker.make("other", &Wish { subject: "/O=Other/CN=Root", ..CA }, None);
        Some(World { server, maker, root, other })
    }

    /// A fleet of boards of this maker's, with more options.
    pub fn fleet(&self, name: &str, root: &Made, options: &[&str]) {
        let roots = text(&root.certificate);
        let create = ["fleet", "create", name, "--attest", "factory", "--factory-roots", roots];
        self.server.admin().run(&[&create, options].concat());
    }

    /// A board with this serial number.
    pub fn board(&self, name: &str, serial: &str, issuer: &Made) -> Made {
        let subject = format!("/CN=Board/serialNumber={serial}");
        self.maker.make(name, &Wish { subject: &subject, ..IDEVID }, Some(issuer))
    }

    /// Enrolls a board, which keeps its credential in the folder.
    pub fn enroll(&self, folder: &str, board: &Made, id: Option<&str>) -> Finished {
        run(&mut self.enrollment(folder, board, id))
    }

    /// The command that does it.
    pub fn enrollment(&self, folder: &str, board: &Made, id: Option<&str>) -> std::process::Command {
        self.enrollment_by(folder, &[board], id)
    }

    /// The same, with a chain of more than its own certificate.
    pub fn enrollment_by(&self, folder: &str, chain: &[&Made], id: Option<&str>) -> std::process::Command {
        let mut command = Device::new(self.folder(folder)).command("enroll");
        command.args(["--server", &self.server.url(), "--root"]).arg(self.server.control_root());
        let (board, chain) = (chain[0], self.maker.chain(folder, chain));
        command.arg("--attest").arg(format!("factory:{},{}", chain.display(), board.key.display()));
        if let Some(id) = id {
            command.args(["--device-id", id]);
        }
        command
    }

    /// What a board of the first maker's is named, by [`TEMPLATE`].
    pub fn name(&self, serial: &str) -> String {
        format!("board-{}-{serial}", &self.root.spki_sha256()[..16])
    }

    /// A folder beside the server's.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.server.scratch().join(name)
    }

    /// What `device show` says.
    pub fn shown(&self, id: &str) -> serde_json::Value {
        self.server.admin().run(&["device", "show", id])
    }

    /// How many devices there are.
    pub fn devices(&self) -> usize {
        self.server.admin().run(&["device", "list"]).as_array().expect("a list").len()
    }
}

/// It was refused for good, for this reason.
pub fn refused(finished: &Finished, reason: &str) {
    assert_eq!(finished.code, 1, "{finished:?}");
    assert!(finished.stderr.contains(reason), "{reason}: {finished:?}");
}
