//! Where a gateway lives: a folder with the files that its recipe in `docs/gateways.md` names, below `/etc/fleetca`
//! there.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::identity::Identity;
use crate::{binaries, process::run};

/// The folder that recipes name.
const WRITTEN_FOLDER: &str = "/etc/fleetca";

/// A folder that everybody on the machine can enter: some gateways become another user.
#[derive(Debug)]
pub struct Place {
    folder: TempDir,
    identity: Identity,
}

impl Place {
    /// A new folder with the device root, and a certificate for the gateway itself.
    pub fn make(device_root: &Path) -> Place {
        let folder = TempDir::new().expect("a temporary folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("the folder is ours");
        let identity = Identity::make(folder.path());
        fs::copy(device_root, folder.path().join("device-root.pem")).expect("the device root is copied");
        Place { folder, identity }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The file that `sync-crls` writes.
    pub fn crls(&self) -> PathBuf {
        self.folder.path().join("crls.pem")
    }

    /// What the gateway presents.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Writes one more file.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// The blocks of a gateway's recipe, with this folder, and with each of `changes` made, which must be possible.
    pub fn recipe<const N: usize>(&self, heading: &str, changes: &[(&str, &str)]) -> [String; N] {
        let page = fs::read_to_string(binaries::workspace().join("docs/gateways.md")).expect("there is a page");
        let (_, section) = page.split_once(&format!("\n### {heading}\n")).expect("the page has a recipe");
        let section = section.split("\n## ").next().and_then(|rest| rest.split("\n### ").next()).unwrap_or_default();
        let mut blocks = section.split("\n```").skip(1).step_by(2).map(|block| {
            let (_, block) = block.split_once('\n').expect("a block has lines");
            block.replace(WRITTEN_FOLDER, &self.path().display().to_string()) + "\n"
        });
        let mut recipe: [String; N] =
            std::array::from_fn(|_| blocks.next().unwrap_or_else(|| panic!("{heading} has fewer than {N} blocks")));
        assert!(blocks.next().is_none(), "{heading} has more than {N} blocks");
        for (written, here) in changes {
            assert!(recipe.concat().contains(written), "the recipe of {heading} says nothing of {written}");
            recipe = recipe.map(|block| block.replace(written, here));
        }
        recipe
    }

    /// The user to be where a server refuses to be root: `None` where the tests are somebody else already.
    pub fn user(&self, name: &'static str) -> Option<&'static str> {
        (run(Command::new("id").arg("-u")).succeeded().trim() == "0").then_some(name)
    }
}
