//! Space that only revocations may use, once the disk is full: a file of zeros beside the database.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rusqlite::Connection;

/// Some thousand revocations.
const BYTES: usize = if cfg!(test) { 64 << 10 } else { 32 << 20 };

/// How long a failed attempt to set the space aside again is not repeated.
const PATIENCE: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(5) };

/// The file `reserve`.
pub(super) struct Reserve {
    path: PathBuf,
    kept: bool,
    tried: Option<Instant>,
}

impl Reserve {
    /// The reserve of this database, set aside now if it isn't yet and there is room for it.
    pub fn beside(database: &Path) -> Self {
        let path = database.with_file_name("reserve");
        let kept = fs::metadata(&path).is_ok_and(|found| found.len() == BYTES as u64);
        let mut reserve = Self { path, kept, tried: None };
        if !reserve.kept && !reserve.restore() {
            tracing::error!(path = %reserve.path.display(), "no room for the reserve: only revocations are recorded");
        }
        reserve
    }

    /// Whether the space is set aside.
    pub fn is_kept(&self) -> bool {
        self.kept
    }

    /// Sets it aside again, if there is room; says whether it is. Not tried again at once.
    pub fn restore(&mut self) -> bool {
        if self.tried.is_some_and(|at| at.elapsed() < PATIENCE) {
            return false;
        }
        self.kept = self.write().inspect_err(|_| drop(fs::remove_file(&self.path))).is_ok();
        self.tried = Some(Instant::now());
        self.kept
    }

    /// Gives the space to whoever writes next. A bound on the database's own size ends too.
    pub fn spend(&mut self, db: &Connection) {
        let removed = fs::remove_file(&self.path);
        let unbounded = db.pragma_update(None, "max_page_count", i64::from(u32::MAX - 1));
        if let (Err(error), _) | (_, Err(rusqlite::Error::SqliteFailure(_, Some(error)))) =
            (removed.map_err(|error| error.to_string()), unbounded)
        {
            tracing::error!(error, "can't give up the reserve");
        }
        self.kept = false;
        self.tried = Some(Instant::now());
    }

    fn write(&self) -> io::Result<()> {
        let mut file = File::create(&self.path)?;
        let zeros = vec![0; BYTES.min(1 << 20)];
        for _ in 0..BYTES / zeros.len() {
            file.write_all(&zeros)?;
        }
        Ok(())
    }
}
