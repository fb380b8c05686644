//! Hook commands: `sh -c COMMAND`, with the path of the file that changed in `FLEETCA_FILE`.

use std::{
    io,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{process::Command, time::timeout};

const PATIENCE: Duration = Duration::from_secs(300);

/// How a hook fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HookError {
    /// It could not be started or waited for.
    #[error("the hook command cannot be run: {0}")]
    Io(#[from] io::Error),
    /// It ended with a failure.
    #[error("the hook command failed ({0})")]
    Failed(ExitStatus),
    /// It ran for five minutes, and was killed.
    #[error("the hook command did not end within five minutes")]
    TimedOut,
}

/// Runs a hook to its end. It reads nothing, and writes where we write.
pub async fn run(command: &str, file: &Path) -> Result<(), HookError> {
    let file = std::path::absolute(file)?;
    let mut child = Command::new("sh").arg("-c").arg(command).env("FLEETCA_FILE", file).stdin(Stdio::null()).spawn()?;
    match timeout(PATIENCE, child.wait()).await {
        Ok(status) => match status? {
            status if status.success() => Ok(()),
            status => Err(HookError::Failed(status)),
        },
        Err(_) => {
            child.kill().await?;
            Err(HookError::TimedOut)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hook_finds_the_file_in_its_environment() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a b.pem");
        run("printf %s \"$FLEETCA_FILE\" > \"$FLEETCA_FILE.seen\"", &file).await.unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("a b.pem.seen")).unwrap(), file.to_str().unwrap());
    }

    #[tokio::test]
    async fn a_hook_that_fails_is_told_of() {
        assert!(
            matches!(run("exit 3", Path::new("x")).await, Err(HookError::Failed(status)) if status.code() == Some(3))
        );
    }
}
