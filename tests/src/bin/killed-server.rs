//! `ca-server` that is killed (SIGABRT) at a durable step: as soon as the file that `FLEETCA_KILL` names is there and
//! says `STEP N`, it dies at the Nth time from then on that it reaches the step, and takes the file away before.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, ExitCode},
    sync::Mutex,
};

use ca_server::{cli::Cli, step};
use clap::Parser;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    if let Some(order) = env::var_os("FLEETCA_KILL").map(PathBuf::from) {
        let times = Mutex::new(0);
        step::watch(move |reached| {
            // Other threads wait here meanwhile: none gets further than the one that dies.
            let mut times = times.lock().expect("nobody panics here");
            let Some((step, wanted)) = read(&order) else {
                *times = 0;
                return;
            };
            *times += usize::from(step == format!("{reached:?}"));
            if *times == wanted {
                let _ = fs::remove_file(&order);
                process::abort();
            }
        });
    }
    Ok(Cli::parse().run().await)
}

fn read(order: &Path) -> Option<(String, usize)> {
    let text = fs::read_to_string(order).ok()?;
    let (step, times) = text.trim().split_once(' ')?;
    Some((step.to_owned(), times.parse().ok()?))
}
