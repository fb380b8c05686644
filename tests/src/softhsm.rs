//! A PKCS#11 token in software: SoftHSM2, with its state in a folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{process::run, require};

/// Where Debian has the module.
const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// The PIN of every token here.
pub const PIN: &str = "1234";

/// CKF_USER_PIN_COUNT_LOW: a wrong PIN was tried.
pub const PIN_COUNT_LOW: u64 = 0x0001_0000;
/// CKF_USER_PIN_FINAL_TRY: the next wrong one locks the token.
pub const PIN_FINAL_TRY: u64 = 0x0002_0000;
/// CKF_USER_PIN_LOCKED.
pub const PIN_LOCKED: u64 = 0x0004_0000;

/// SoftHSM's own attribute for a token's flags, and the kind of its value, as they stand in its file.
const FLAGS: [u8; 16] = [0, 0, 0, 0, 0x80, 0, 0x53, 0x4b, 0, 0, 0, 0, 0, 0, 0, 2];

/// Tokens below one folder.
#[derive(Debug)]
pub struct SoftHsm {
    folder: PathBuf,
    utility: PathBuf,
}

impl SoftHsm {
    /// A new folder with one token of this label; `None` where SoftHSM2 is missing (a failure under `CI=true`).
    pub fn new(folder: PathBuf, label: &str) -> Option<SoftHsm> {
        let utility = require::program("softhsm2-util")?;
        require::file(Path::new(MODULE), "Debian has it in softhsm2")?;
        fs::create_dir_all(folder.join("tokens")).expect("a folder");
        fs::write(folder.join("pin"), format!("{PIN}\n")).expect("the PIN");
        let tokens = folder.join("tokens");
        let settings =
            format!("directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n", tokens.display());
        fs::write(folder.join("softhsm2.conf"), settings).expect("settings");
        let hsm = SoftHsm { folder, utility };
        hsm.add_token(label);
        Some(hsm)
    }

    /// One more token.
    pub fn add_token(&self, label: &str) {
        self.softhsm2_util(&["--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "567890"]);
    }

    /// Puts a private key (PKCS#8 PEM) into a token.
    pub fn import(&self, token: &str, key: &Path, label: &str, id: &str) {
        let key = key.to_str().expect("a name in UTF-8");
        let force = "--force"; // An ID that another key has, too.
        self.softhsm2_util(&["--import", key, "--token", token, "--label", label, "--id", id, "--pin", PIN, force]);
    }

    fn softhsm2_util(&self, arguments: &[&str]) {
        run(self.for_program(&mut Command::new(&self.utility)).args(arguments)).succeeded();
    }

    /// Has a program find these tokens by the module.
    pub fn for_program<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("SOFTHSM2_CONF", self.folder.join("softhsm2.conf"))
    }

    /// The URI of a key: `which` is its path.
    pub fn uri(&self, which: &str) -> String {
        format!("pkcs11:{which}?module-path={MODULE}&pin-source={}", self.pin_file().display())
    }

    /// The file of the PIN.
    pub fn pin_file(&self) -> PathBuf {
        self.folder.join("pin")
    }

    /// The flags that the only token keeps.
    pub fn flags(&self) -> u64 {
        let state = fs::read(self.state()).expect("the token's state");
        let at = flags_at(&state);
        u64::from_be_bytes(state[at..at + 8].try_into().expect("eight octets"))
    }

    /// As if the only token had come to these flags by itself: SoftHSM never locks.
    pub fn set_flags(&self, flags: u64) {
        let mut state = fs::read(self.state()).expect("the token's state");
        let at = flags_at(&state);
        state[at..at + 8].copy_from_slice(&flags.to_be_bytes());
        fs::write(self.state(), state).expect("the token's state");
    }

    fn state(&self) -> PathBuf {
        let mut tokens = fs::read_dir(self.folder.join("tokens")).expect("tokens");
        let token = tokens.next().expect("a token").expect("a token").path();
        assert!(tokens.next().is_none(), "there is one token only");
        token.join("token.object")
    }
}

fn flags_at(state: &[u8]) -> usize {
    let at = state.windows(FLAGS.len()).position(|window| window == FLAGS).expect("SoftHSM keeps flags");
    at + FLAGS.len()
}
