//! Space that only revocations may use, once the disk is full: a file of zeros beside the database. It is given up piece
//! by piece, since whoever has filled the disk takes whatever becomes free.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Some thousand revocations.
const BYTES: u64 = if cfg!(test) { 2 << 20 } else { 32 << 20 };

/// What is given up at once.
const PIECE: u64 = 256 << 10;

/// What must be free beside the reserve before anything but revocations is recorded again.
const ROOM: u64 = 1 << 20;

/// How long a failed attempt to set the space aside again is not repeated.
const PATIENCE: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(5) };

/// The file `reserve`.
pub(super) struct Reserve {
    path: PathBuf,
    length: u64,
    /// Something else than a revocation found no room.
    tight: bool,
    failed_at: Option<Instant>,
}

impl Reserve {
    /// The reserve of this database, set aside now if it isn't yet and there is room for it.
    pub fn beside(database: &Path) -> Self {
        let path = database.with_file_name("reserve");
        let mut reserve = Self { length: length(&path), path, tight: false, failed_at: None };
        reserve.restore();
        reserve
    }

    /// Whether the space is set aside, all of it.
    pub fn is_kept(&self) -> bool {
        self.length == BYTES
    }

    /// Whether there is room for more than revocations.
    pub fn has_room(&self) -> bool {
        self.is_kept() && !self.tight
    }

    /// There was no room for something that may not use it: nothing of the kind is tried again before there is more.
    pub fn starve(&mut self) {
        self.tight = true;
        self.failed(&io::ErrorKind::StorageFull.into());
    }

    /// [`Self::grow`], but not at once again where there was no room a moment ago.
    pub fn restore(&mut self) {
        if self.failed_at.is_none_or(|at| at.elapsed() >= PATIENCE) {
            self.grow();
        }
    }

    /// Sets aside what was given up, as far as there is room, and looks for more where there was none.
    pub fn grow(&mut self) {
        if self.has_room() {
            return;
        }
        let grown = write_zeros(&self.path, BYTES.saturating_sub(self.length));
        self.length = length(&self.path);
        match grown.and_then(|()| if self.tight { self.look_for_room() } else { Ok(()) }) {
            Ok(()) => (self.tight, self.failed_at) = (false, None),
            Err(error) => self.failed(&error),
        }
    }

    /// Gives a piece to whoever writes next. `false`: there is none left.
    pub fn spend(&mut self) -> bool {
        if self.length == 0 {
            return false;
        }
        let rest = self.length.saturating_sub(PIECE);
        let cut = OpenOptions::new().write(true).open(&self.path).and_then(|file| file.set_len(rest));
        if let Err(error) = cut {
            tracing::error!(%error, "the reserve can't be given up");
            return false;
        }
        self.length = rest;
        true
    }

    fn failed(&mut self, error: &io::Error) {
        let before = self.failed_at.replace(Instant::now());
        if before.is_none_or(|before| before.elapsed() >= PATIENCE) {
            let path = self.path.display();
            tracing::error!(%path, %error, "the disk is full: only revocations are recorded until there is room");
        }
    }

    fn look_for_room(&self) -> io::Result<()> {
        let draft = self.path.with_extension("new");
        let written = write_zeros(&draft, ROOM);
        let _ = fs::remove_file(draft);
        written
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).ok().filter(fs::Metadata::is_file).map_or(0, |found| found.len().min(BYTES))
}

/// Appends zeros; where there is no room for all of them, as many as there is room for.
fn write_zeros(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file: File = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let zeros = vec![0; 64 << 10];
    let mut left = bytes;
    while left > 0 {
        let some = left.min(zeros.len() as u64);
        file.write_all(&zeros[..some as usize])?;
        left -= some;
    }
    Ok(())
}
