//! TPMs: swtpm processes, each with a state of its own, reached over UNIX sockets.

pub mod maker;
pub mod raw;

use std::{
    fs::{self, File},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
};

use enroll_client::keys::tpm::{Chip, EndorsementKind};
use maker::Maker;
use raw::Raw;
use tempfile::TempDir;

use crate::{
    process::{Running, run},
    require,
    wait::{SOON, until_true},
};

/// Where a TPM keeps the certificate of its P-256 endorsement key, and those above it.
const CERTIFICATE: u32 = 0x01c0_000a;
const ABOVE: u32 = 0x01c0_0100;

/// A TPM that nobody else has. It ends with this value.
#[derive(Debug)]
pub struct Tpm {
    process: Running,
    dir: TempDir,
}

/// A TPM's character device: a pseudo-terminal, with the TPM at its other end. It ends with this value.
#[derive(Debug)]
pub struct DeviceFile {
    path: PathBuf,
    /// With nobody there, the other end leaves.
    _held: File,
    _process: Running,
}

impl DeviceFile {
    /// Its path, as `--attest tpm:` takes it.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Tpm {
    /// A fresh TPM, whose seeds no other one has; `None` where swtpm is missing (a failure under `CI=true`).
    pub fn start() -> Option<Tpm> {
        Some(Self::over(tempfile::tempdir().expect("a temporary folder"), require::program("swtpm")?.as_path()))
    }

    /// As many fresh TPMs, started beside each other.
    pub fn start_many(count: usize) -> Option<Vec<Tpm>> {
        std::thread::scope(|scope| {
            let starting: Vec<_> = (0..count).map(|_| scope.spawn(Tpm::start)).collect();
            starting.into_iter().map(|tpm| tpm.join().expect("a TPM starts")).collect()
        })
    }

    /// A TPM as its maker delivers it: swtpm_setup has put endorsement certificates into it, for an RSA-2048 and a P-384
    /// key, and the certificates of its maker into the folder ([`Tpm::maker`]).
    pub fn manufactured() -> Option<Tpm> {
        let (setup, swtpm) = (require::program("swtpm_setup")?, require::program("swtpm")?);
        require::program("swtpm_localca")?;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| dir.path().join(name).display().to_string();
        fs::create_dir(path("maker")).expect("a folder is made");
        let options = "--platform-manufacturer Fleet\n--platform-version 1\n--platform-model Test\n";
        let configuration = [
            (
                "ca.conf",
                format!(
                    "statedir = {0}\nsigningkey = {0}/signkey.pem\nissuercert = {0}/issuercert.pem\ncertserial = {0}/certserial\n",
                    path("maker")
                ),
            ),
            ("ca.options", options.to_owned()),
            (
                "setup.conf",
                format!(
                    "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = {}\ncreate_certs_tool_options = {}\n",
                    path("ca.conf"),
                    path("ca.options")
                ),
            ),
        ];
        for (name, text) in configuration {
            fs::write(path(name), text).expect("a file is written");
        }
        let mut command = Command::new(setup);
        command.args(["--tpm2", "--create-ek-cert", "--config", &path("setup.conf"), "--tpmstate"]).arg(dir.path());
        run(&mut command).succeeded();
        Some(Self::over(dir, &swtpm))
    }

    /// Puts into it what this maker certifies of its P-256 endorsement key, of which it has no certificate yet.
    pub fn deliver(&self, maker: &Maker) {
        let mut chip = Chip::open(&self.socket().parse().expect("a location")).expect("a TPM");
        let endorsement = chip.endorsement(Some(EndorsementKind::P256)).expect("an endorsement key");
        let chain = maker.chain(endorsement.key.public());
        chip.close().expect("it is let go");
        let mut raw = Raw::open(self);
        raw.provision(CERTIFICATE, &chain[0]);
        raw.provision(ABOVE, &chain[1]);
    }

    fn over(dir: TempDir, swtpm: &Path) -> Tpm {
        let socket = dir.path().join("tpm.sock");
        let mut command = Command::new(swtpm);
        // The path of the state has to be absolute: with a relative one every command fails.
        command.args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear", "--tpmstate"]);
        command.arg(format!("dir={}", dir.path().display()));
        command.arg("--server").arg(format!("type=unixio,path={}", socket.display()));
        let process = Running::start("swtpm", command, dir.path());
        until_true(SOON, "swtpm listens", || UnixStream::connect(&socket).is_ok());
        Tpm { process, dir }
    }

    /// Its socket, as `--attest tpm:` takes it.
    pub fn socket(&self) -> String {
        self.dir.path().join("tpm.sock").display().to_string()
    }

    /// The same TPM as a character device, as the kernel gives one: nobody reaches its socket meanwhile. `None` where socat
    /// is missing (a failure under `CI=true`).
    pub fn device_file(&self) -> Option<DeviceFile> {
        let (path, mut socat) = (self.dir.path().join("tpmrm0"), Command::new(require::program("socat")?));
        socat.arg("-dd").arg(format!("PTY,rawer,link={}", path.display()));
        socat.arg(format!("UNIX-CONNECT:{}", self.socket()));
        let process = Running::start("socat", socat, self.dir.path());
        // Before that the terminal may still wait for the ends of lines.
        until_true(SOON, "socat hands on", || process.stderr().contains("starting data transfer loop"));
        let held = File::options().read(true).write(true).open(&path).expect("there is such a file");
        Some(DeviceFile { path, _held: held, _process: process })
    }

    /// Its folder: state, logs, and of a manufactured one the maker's certificates.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// The same TPM after its power was cut, without warning.
    pub fn restarted(self) -> Tpm {
        let Tpm { mut process, dir } = self;
        process.kill();
        std::fs::remove_file(dir.path().join("tpm.sock")).expect("the socket is left behind");
        Self::over(dir, &require::program("swtpm").expect("it was there before"))
    }
}
