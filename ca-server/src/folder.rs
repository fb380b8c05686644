//! The server's folder: what lies where, and how it is written. A file is there whole or not at all.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::{
    identity::IssuerId,
    pki::CaRole,
    step::{Step, reached},
};

/// The folder of one CA, as `init` makes it and `serve` finds it.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder at this path, whether it is there or not.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Settings.
    pub fn config(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    /// The store.
    pub fn database(&self) -> PathBuf {
        self.0.join("ca.db")
    }

    /// Where the keys of the issuers are that sign now.
    pub fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }

    /// The key of an issuer that signs now.
    pub fn issuer_key(&self, issuer: IssuerId) -> PathBuf {
        self.keys().join(format!("{issuer}.pem"))
    }

    /// Where the keys are whose certificates somebody else was asked for.
    pub fn requests(&self) -> PathBuf {
        self.0.join("requests")
    }

    /// Held by the one server that runs on this folder.
    pub fn lock(&self) -> PathBuf {
        self.0.join("serve.lock")
    }

    /// The server's TLS key and chain.
    pub fn server(&self) -> PathBuf {
        self.0.join("server.pem")
    }

    /// The first operator's credential folder.
    pub fn operator(&self) -> PathBuf {
        self.0.join("operator")
    }

    /// What devices, gateways and operators pin.
    pub fn control_root(&self) -> PathBuf {
        self.0.join("control-root.pem")
    }

    /// What gateways load.
    pub fn device_root(&self) -> PathBuf {
        self.0.join("device-root.pem")
    }

    /// Where the root keys are, unless they were put elsewhere.
    pub fn default_root_dir(&self) -> PathBuf {
        self.0.join("offline")
    }
}

/// A file of a root, in the folder of root keys: its `key.pem`, its certificate `pem`, or its newest `crl`.
pub fn root_file(dir: &Path, root: CaRole, extension: &str) -> PathBuf {
    dir.join(format!("{}.{extension}", root.as_str()))
}

/// Makes a folder that only its owner can enter, with those above it.
pub fn create_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file of this mode, in place of what was there: whole and on disk when this returns.
pub fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let draft = folder.join(name);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    reached(Step::FileDrafted);
    fs::rename(&draft, path)?;
    reached(Step::FilePlaced);
    sync(folder)
}

/// Brings a folder's entries onto the disk.
pub fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Whether there is nothing at this path, or an empty folder.
pub fn is_vacant(path: &Path) -> io::Result<bool> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}
