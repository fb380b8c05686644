//! Writing in a credential folder, under its lock: the next key, new generations, the swap, the way back.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, symlink},
    path::{Path, PathBuf},
};

use super::{Credential, CredentialError, State, key_files};
use crate::{
    certificate::Certificate,
    durable::{self, PUBLIC},
    flow::{Observer, Step},
    keys::{Key, KeyError},
    lock::Lock,
    trust::Roots,
    wall_time::WallTime,
};

/// Folders that anybody may enter and their owner alone may change, whatever the umask is (which may forbid more).
/// What is secret in them has modes of its own.
const OPEN: u32 = 0o755;

/// What a new generation is made of.
#[derive(Debug)]
pub struct Contents<'a> {
    /// The private key.
    pub key: &'a Key,
    /// The leaf, then its issuing CA.
    pub chain: &'a [Certificate],
    /// The roots under which the server is accepted.
    pub control_roots: &'a Roots,
    /// The roots of devices.
    pub device_roots: &'a Roots,
    /// The rest.
    pub state: &'a State,
}

/// A key that is durable, and the request that it was made for.
#[derive(Debug)]
pub struct NextKey {
    /// The key.
    pub key: Key,
    /// Whether an earlier run made it for the same request, whose answer may have been lost.
    pub is_retry: bool,
}

/// A credential folder that this process alone may change, until it is dropped.
#[derive(Debug)]
pub struct LockedFolder {
    dir: PathBuf,
    _lock: Lock,
}

impl LockedFolder {
    /// Takes the folder, and makes it if it isn't there. Refuses at once while another process holds it.
    ///
    /// ```
    /// use enroll_client::credential::{CredentialError, LockedFolder};
    /// let parent = tempfile::tempdir()?;
    /// let folder = LockedFolder::open(&parent.path().join("pump-7"))?;
    /// assert!(matches!(LockedFolder::open(folder.dir()), Err(CredentialError::Locked(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(dir: &Path) -> Result<Self, CredentialError> {
        make_folder(&dir.join("generations"))?;
        let path = dir.join("lock");
        match Lock::take(&path).map_err(io_error(&path))? {
            Some(lock) => Ok(Self { dir: dir.to_owned(), _lock: lock }),
            None => Err(CredentialError::Locked(dir.to_owned())),
        }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What `current` holds.
    pub fn load(&self) -> Result<Credential, CredentialError> {
        Credential::load(&self.dir)
    }

    /// The key for a request that `purpose` describes: the one kept, if it was made for the very same request; the
    /// current credential's, if that request was answered with it; else the one that `make` makes. It is on disk before
    /// this returns.
    pub fn next_key(
        &self,
        purpose: &str,
        make: impl FnOnce() -> Result<Key, KeyError>,
    ) -> Result<NextKey, CredentialError> {
        if let Some(current) = self.load().ok().filter(|current| current.state().obtained_by == purpose) {
            return Ok(NextKey { key: current.key().copy()?, is_retry: true });
        }
        let next = self.dir.join("next");
        if self.keeps_next_key(purpose)? {
            return Ok(NextKey { key: key_files::read(&next)?, is_retry: true });
        }
        let key = make()?;
        let beside = durable::beside(&next);
        let vacate = || {
            durable::remove_folder(&beside)?;
            DirBuilder::new().mode(0o700).create(&beside)
        };
        vacate().map_err(io_error(&beside))?;
        key_files::write(&beside, &key)?;
        self.replace_next(&next, &beside, purpose).map_err(io_error(&next))?;
        Ok(NextKey { key, is_retry: false })
    }

    fn replace_next(&self, next: &Path, beside: &Path, purpose: &str) -> io::Result<()> {
        durable::write_new(&beside.join("purpose"), purpose.as_bytes(), PUBLIC)?;
        durable::sync_folder(beside)?;
        durable::remove_folder(next)?;
        fs::rename(beside, next)?;
        durable::sync_folder(&self.dir)
    }

    /// Whether a key waits for the answer to a request that `purpose` describes.
    pub fn keeps_next_key(&self, purpose: &str) -> Result<bool, CredentialError> {
        let next = self.dir.join("next");
        let kept = durable::read_if_there(&next.join("purpose")).map_err(io_error(&next))?;
        Ok(kept.as_deref() == Some(purpose.as_bytes()))
    }

    /// Forgets the next key: its request is done with.
    pub fn drop_next_key(&self) -> Result<(), CredentialError> {
        let next = self.dir.join("next");
        durable::remove_folder(&next).and_then(|()| durable::sync_folder(&self.dir)).map_err(io_error(&next))
    }

    /// Writes a new generation, reads it back, checks it and makes it the current one. This is also how a CA hands out
    /// a credential on its own machine.
    pub fn install(&self, contents: &Contents<'_>, observer: Observer<'_>) -> Result<(), CredentialError> {
        let name = self.write_generation(contents)?;
        observer.reached(Step::GenerationWritten);
        self.load_generation(&name)?.check(WallTime::now())?;
        observer.reached(Step::Checked);
        self.swap(&name)?;
        observer.reached(Step::Swapped);
        Ok(())
    }

    /// Writes a complete new generation and returns its name. `current` stays as it is.
    pub fn write_generation(&self, contents: &Contents<'_>) -> Result<String, CredentialError> {
        let generations = self.dir.join("generations");
        let last = self.generations()?.iter().filter_map(|name| name.parse::<u64>().ok()).max().unwrap_or(0);
        let name = format!("{:06}", last.saturating_add(1));
        let unfinished = generations.join(".unfinished");
        write_contents(&unfinished, contents)?;
        fs::rename(&unfinished, generations.join(&name))
            .and_then(|()| durable::sync_folder(&generations))
            .map_err(io_error(&generations))?;
        Ok(name)
    }

    /// Reads a generation back from disk.
    pub fn load_generation(&self, name: &str) -> Result<Credential, CredentialError> {
        Credential::load_generation(&self.dir.join("generations").join(name))
    }

    /// Makes a generation the current one, in one step.
    pub fn swap(&self, name: &str) -> Result<(), CredentialError> {
        let current = self.dir.join("current");
        let beside = durable::beside(&current);
        durable::remove_file(&beside)
            .and_then(|()| symlink(Path::new("generations").join(name), &beside))
            .and_then(|()| fs::rename(&beside, &current))
            .and_then(|()| durable::sync_folder(&self.dir))
            .map_err(io_error(&current))
    }

    /// Name of the generation that `current` leads to.
    pub fn current_name(&self) -> Result<Option<String>, CredentialError> {
        let current = self.dir.join("current");
        match fs::read_link(&current) {
            Ok(target) => Ok(target.file_name().map(|name| name.to_string_lossy().into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error(&current)(error)),
        }
    }

    /// Changes the state of the current generation, in one step.
    pub fn update_state(&self, change: impl FnOnce(&mut State)) -> Result<(), CredentialError> {
        let credential = self.load()?;
        let mut state = credential.state().clone();
        change(&mut state);
        if state == *credential.state() {
            return Ok(());
        }
        let path = credential.folder().join("state.json");
        durable::replace(&path, &to_json(&state), PUBLIC).map_err(io_error(&path))
    }

    /// Removes all generations but the current one and the one before it.
    pub fn prune(&self) -> Result<(), CredentialError> {
        let current = self.current_name()?;
        let previous = self.load()?.state().previous.clone();
        let generations = self.dir.join("generations");
        for name in self.generations()? {
            if Some(&name) != current.as_ref() && Some(&name) != previous.as_ref() {
                durable::remove_folder(&generations.join(&name)).map_err(io_error(&generations))?;
            }
        }
        Ok(())
    }

    fn generations(&self) -> Result<Vec<String>, CredentialError> {
        let generations = self.dir.join("generations");
        let entries = fs::read_dir(&generations).map_err(io_error(&generations))?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect::<io::Result<_>>().map_err(io_error(&generations))
    }
}

fn write_contents(folder: &Path, contents: &Contents<'_>) -> Result<(), CredentialError> {
    let chain: String = contents.chain.iter().map(Certificate::to_pem).collect();
    durable::remove_folder(folder).map_err(io_error(folder))?;
    DirBuilder::new().mode(OPEN).create(folder).map_err(io_error(folder))?;
    key_files::write(folder, contents.key)?;
    let files: [(&str, &[u8]); 4] = [
        ("credential.pem", chain.as_bytes()),
        ("trust.pem", &contents.control_roots.to_pem().into_bytes()),
        ("device-roots.pem", &contents.device_roots.to_pem().into_bytes()),
        ("state.json", &to_json(contents.state)),
    ];
    for (name, bytes) in files {
        let path = folder.join(name);
        durable::write_new(&path, bytes, PUBLIC).map_err(io_error(&path))?;
    }
    durable::sync_folder(folder).map_err(io_error(folder))
}

fn make_folder(path: &Path) -> Result<(), CredentialError> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(OPEN).create(path).map_err(io_error(path))?;
    path.ancestors()
        .skip(1)
        .take(2)
        .filter(|folder| !folder.as_os_str().is_empty())
        .try_for_each(|folder| durable::sync_folder(folder).map_err(io_error(folder)))
}

fn to_json(state: &State) -> Vec<u8> {
    // Unwrap safety: a struct of strings, numbers and options always serializes.
    let mut json = serde_json::to_vec_pretty(state).unwrap();
    json.push(b'\n');
    json
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> CredentialError + use<> {
    let path = path.to_owned();
    move |source| CredentialError::Io { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, os::unix::fs::PermissionsExt, sync::Mutex};

    use super::*;
    use crate::{
        credential::Holder,
        identity::Kind,
        renewal::Window,
        test_pki::{House, now},
    };

    struct Made {
        house: House,
        dir: tempfile::TempDir,
    }

    impl Made {
        fn new() -> Self {
            Self { house: House::new(), dir: tempfile::tempdir().unwrap() }
        }

        fn open(&self) -> LockedFolder {
            LockedFolder::open(&self.dir.path().join("pump")).unwrap()
        }

        fn install(&self, folder: &LockedFolder, key: &Key, observer: Observer<'_>) -> Result<(), CredentialError> {
            let chain = [
                self.house.device_ca.leaf(key, &["spiffe://fleet.example/device/pump-7"], &[]),
                self.house.device_ca.certificate.clone(),
            ];
            let contents = Contents {
                key,
                chain: &chain,
                control_roots: &self.house.control_root.roots(),
                device_roots: &self.house.device_root.roots(),
                state: &state(folder.current_name()?),
            };
            folder.install(&contents, observer)
        }
    }

    fn state(previous: Option<String>) -> State {
        let holder = Holder {
            server: "https://ca.example:7443".parse().unwrap(),
            trust_domain: "fleet.example".parse().unwrap(),
            kind: Kind::Device,
            id: "pump-7".parse().unwrap(),
        };
        let window = Window { not_before: now(), not_after: now() };
        State { previous, ..State::new(holder, 1, window, 0) }
    }

    #[test]
    fn a_generation_is_installed_whole_and_its_key_is_for_the_owner_only() {
        let made = Made::new();
        let folder = made.open();
        let key = Key::generate().unwrap();
        let steps = Mutex::new(Vec::new());
        let tell = |step| steps.lock().unwrap().push(step);
        made.install(&folder, &key, Observer::new(&tell)).unwrap();
        assert_eq!(*steps.lock().unwrap(), [Step::GenerationWritten, Step::Checked, Step::Swapped]);
        let credential = Credential::load(folder.dir()).unwrap();
        credential.check(now()).unwrap();
        assert_eq!(credential.key().spki(), key.spki());
        let mode = fs::metadata(folder.dir().join("current/key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_next_key_is_the_same_for_the_same_request_only() {
        let made = Made::new();
        let folder = made.open();
        let first = folder.next_key("renew a", Key::generate).unwrap();
        let again = folder.next_key("renew a", Key::generate).unwrap();
        let other = folder.next_key("renew b", Key::generate).unwrap();
        assert_eq!((first.is_retry, again.is_retry, other.is_retry), (false, true, false));
        assert_eq!(first.key.spki(), again.key.spki());
        assert_ne!(first.key.spki(), other.key.spki());
        folder.drop_next_key().unwrap();
        assert!(!folder.next_key("renew b", Key::generate).unwrap().is_retry);
    }

    #[test]
    fn what_a_crash_left_is_no_obstacle() {
        let made = Made::new();
        let folder = made.open();
        fs::create_dir_all(folder.dir().join("generations/.unfinished")).unwrap();
        fs::write(folder.dir().join("generations/.unfinished/key.pem"), "half").unwrap();
        fs::create_dir_all(folder.dir().join("next.new")).unwrap();
        symlink("generations/nowhere", folder.dir().join("current.new")).unwrap();
        folder.next_key("enroll", Key::generate).unwrap();
        made.install(&folder, &Key::generate().unwrap(), Observer::none()).unwrap();
        assert!(folder.load().is_ok());
    }

    #[test]
    fn the_generation_before_is_kept_and_older_ones_are_removed() {
        let made = Made::new();
        let folder = made.open();
        for _ in 0..3 {
            made.install(&folder, &Key::generate().unwrap(), Observer::none()).unwrap();
        }
        folder.prune().unwrap();
        let mut names = folder.generations().unwrap();
        names.sort();
        assert_eq!(names, ["000002", "000003"]);
        assert_eq!(folder.current_name().unwrap().as_deref(), Some("000003"));
        assert_eq!(folder.load().unwrap().state().previous.as_deref(), Some("000002"));
    }

    #[test]
    fn a_generation_of_mixed_parts_never_becomes_current() {
        let made = Made::new();
        let folder = made.open();
        made.install(&folder, &Key::generate().unwrap(), Observer::none()).unwrap();
        let before = folder.current_name().unwrap();
        let stranger = made.house.control_ca.leaf(&Key::generate().unwrap(), &["spiffe://a/device/b"], &[]);
        let contents = Contents {
            key: &Key::generate().unwrap(),
            chain: &[stranger],
            control_roots: &made.house.control_root.roots(),
            device_roots: &made.house.device_root.roots(),
            state: &state(None),
        };
        assert!(matches!(folder.install(&contents, Observer::none()), Err(CredentialError::Mixed(_))));
        assert_eq!(folder.current_name().unwrap(), before);
    }

    #[test]
    fn a_state_is_changed_in_place() {
        let made = Made::new();
        let folder = made.open();
        made.install(&folder, &Key::generate().unwrap(), Observer::none()).unwrap();
        let called = Cell::new(0);
        folder
            .update_state(|state| {
                called.set(called.get() + 1);
                state.confirm_required = true;
            })
            .unwrap();
        assert_eq!(called.get(), 1);
        assert!(folder.load().unwrap().state().confirm_required);
        assert_eq!(folder.current_name().unwrap().as_deref(), Some("000001"));
    }

    #[test]
    fn a_folder_without_credential_says_so() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Credential::load(folder.path()), Err(CredentialError::Absent(_))));
    }
}
