//! Disks that are full or can't be written: real ones, where this machine lets us mount; a visible skip elsewhere.

use std::{
    fs::{self, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::{process::run, require};

/// A mount, which ends with this value.
#[derive(Debug)]
struct Mount(PathBuf);

impl Mount {
    fn new(arguments: &[&str], at: &Path) -> Option<Mount> {
        let program = require::program("mount")?;
        let finished = run(Command::new(program).args(arguments).arg(at));
        match finished.code {
            0 => Some(Mount(at.to_owned())),
            _ => require::skip(&format!("nothing can be mounted here: {}", finished.stderr.trim())),
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open there ends by itself.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A small disk of its own.
#[derive(Debug)]
pub struct Disk {
    // Before the folder that it lies on.
    _mount: Mount,
    folder: TempDir,
}

impl Disk {
    /// A disk of so many MiB; `None`, said aloud, where nothing can be mounted.
    pub fn new(mebibytes: u32) -> Option<Disk> {
        let folder = TempDir::new().expect("a temporary folder");
        let mount = Mount::new(&["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"], folder.path())?;
        Some(Disk { _mount: mount, folder })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Fills it to the last page.
    pub fn fill(&self) {
        let mut file = fs::File::options().create(true).append(true).open(self.filling()).expect("a file");
        let zeros = [0; 4096];
        loop {
            match file.write_all(&zeros) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return,
                Err(error) => panic!("the disk is filled: {error}"),
            }
        }
    }

    /// Has room again.
    pub fn clear(&self) {
        fs::remove_file(self.filling()).expect("it is full");
    }

    fn filling(&self) -> PathBuf {
        self.path().join("filling")
    }
}

/// A folder that nobody can write in, for as long as this lives: not even root.
#[derive(Debug)]
pub struct ReadOnly {
    _mount: Option<Mount>,
}

impl ReadOnly {
    /// Makes it so. `None`, said aloud, for root where nothing can be mounted.
    pub fn new(folder: &Path) -> Option<ReadOnly> {
        fs::set_permissions(folder, Permissions::from_mode(0o500)).expect("a folder of ours");
        if fs::write(folder.join("probe"), "").is_err() {
            return Some(ReadOnly { _mount: None });
        }
        fs::remove_file(folder.join("probe")).expect("it is there");
        let path = folder.to_str().expect("temporary folders have names in UTF-8");
        let mount = Mount::new(&["--bind", path], folder)?;
        let again = run(Command::new("mount").args(["-o", "remount,ro,bind"]).arg(folder));
        assert_eq!(again.code, 0, "{again:?}");
        Some(ReadOnly { _mount: Some(mount) })
    }
}
