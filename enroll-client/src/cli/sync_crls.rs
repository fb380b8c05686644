//! `enroll-client sync-crls`: CRLs for a gateway's file.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::CliError;
use crate::{
    crl_sync::{Alarm, CrlSync, Form, HttpUrl, Source, Synced},
    trust::Roots,
};

/// Fetch and verify CRLs, and swap the file that a TLS program loads
///
/// Runs once, or with --watch until it is told to stop. The file is in PEM; FILE.state.json beside it keeps the CRL numbers
/// that no later one may fall below.
#[derive(Debug, Args)]
pub(super) struct SyncCrls {
    /// Fetch over mTLS, with this credential folder
    #[arg(long, required_unless_present = "http_url", conflicts_with = "http_url")]
    dir: Option<PathBuf>,
    /// Fetch over plain HTTP, http://HOST:PORT
    #[arg(long, value_name = "URL", requires = "trust")]
    http_url: Option<HttpUrl>,
    /// The device root in PEM, with --http-url
    #[arg(long, value_name = "FILE", requires = "http_url")]
    trust: Option<PathBuf>,
    /// The file to keep up to date
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// bundle, fleet:NAME or full:ISSUER
    #[arg(long, default_value = "bundle")]
    form: Form,
    /// Run through `sh -c` when the file has changed, with its path in FLEETCA_FILE
    #[arg(long, value_name = "CMD")]
    on_change: Option<String>,
    /// Run through `sh -c` after that, in the same way: where it fails, the file from before comes back
    #[arg(long, value_name = "CMD")]
    probe: Option<String>,
    /// Go on: the server tells of each new CRL (with --dir), or is asked every five seconds
    #[arg(long)]
    watch: bool,
    /// Fail (3) when a CRL of an issuing CA is older than this, for example 90s, 15m, 2h or 7d
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    max_age: Option<Duration>,
    /// Run through `sh -c` where they are that old, in the same way: stop the gateway. --on-change waits for younger ones
    #[arg(long, value_name = "CMD", requires = "max_age")]
    on_stale: Option<String>,
}

impl SyncCrls {
    /// Whether it runs until it is told to stop.
    pub(super) fn goes_on(&self) -> bool {
        self.watch
    }

    pub(super) async fn run(self) -> Result<(), CliError> {
        let source = match (self.dir, self.http_url, self.trust) {
            (Some(dir), _, _) => Source::Folder(dir),
            (None, Some(url), Some(file)) => {
                let usage = |error: &dyn std::fmt::Display| CliError::Usage(format!("{}: {error}", file.display()));
                let pem = std::fs::read(&file).map_err(|error| usage(&error))?;
                Source::Http { url, roots: Roots::from_pem(&pem).map_err(|error| usage(&error))? }
            }
            _ => return Err(CliError::Usage("--dir, or --http-url with --trust".into())),
        };
        let Self { form, out, on_change, probe, max_age, on_stale, .. } = self;
        let sync = CrlSync { source, form, out, on_change, probe, max_age, on_stale };
        if !self.watch {
            print(&sync, &sync.run().await?);
            return Ok(());
        }
        let stop = super::told_to_stop()?;
        let tell = |outcome: Result<&Synced, &Alarm<'_>>| match outcome {
            Ok(synced) => print(&sync, synced),
            Err(alarm) => eprintln!("error: {alarm}"),
        };
        Ok(sync.watch(tell, stop).await?)
    }
}

fn print(sync: &CrlSync, synced: &Synced) {
    let news = if synced.changed { "written" } else { "unchanged" };
    eprintln!("{news}: {}", sync.out.display());
    for crl in &synced.crls {
        let kind = if crl.is_root { "root " } else { "" };
        eprintln!(
            "  {kind}issuer {}: number {}, {} revoked, made {}, next by {}",
            crl.issuer, crl.number, crl.entries, crl.this_update, crl.next_update
        );
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "a duration is written 90s, 15m, 2h or 7d".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        for text in ["", "5", "s", "-1s", "1w", "1ä", "99999999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
