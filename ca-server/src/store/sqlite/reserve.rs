//! Space that only revocations may use, once the disk is full: a file of zeros beside the database.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Some thousand revocations.
const BYTES: usize = if cfg!(test) { 2 << 20 } else { 32 << 20 };

/// How long a failed attempt to set the space aside again is not repeated.
const PATIENCE: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(5) };

/// The file `reserve`.
pub(super) struct Reserve {
    path: PathBuf,
    kept: bool,
    failed_at: Option<Instant>,
}

impl Reserve {
    /// The reserve of this database, set aside now if it isn't yet and there is room for it.
    pub fn beside(database: &Path) -> Self {
        let path = database.with_file_name("reserve");
        let kept = fs::metadata(&path).is_ok_and(|found| found.len() == BYTES as u64);
        let mut reserve = Self { path, kept, failed_at: None };
        reserve.restore();
        reserve
    }

    /// Whether the space is set aside.
    pub fn is_kept(&self) -> bool {
        self.kept
    }

    /// Sets it aside again, if there is room. Where there was none, it isn't tried again at once.
    pub fn restore(&mut self) {
        if self.kept || self.failed_at.is_some_and(|at| at.elapsed() < PATIENCE) {
            return;
        }
        match self.write() {
            Ok(()) => (self.kept, self.failed_at) = (true, None),
            Err(error) => {
                let _ = fs::remove_file(&self.path);
                self.failed_at = Some(Instant::now());
                let path = self.path.display();
                tracing::error!(%path, %error, "the disk is full: only revocations are recorded until there is room");
            }
        }
    }

    /// Gives the space to whoever writes next.
    pub fn spend(&mut self) {
        if self.kept
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::error!(%error, "the reserve can't be given up");
        }
        self.kept = false;
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
