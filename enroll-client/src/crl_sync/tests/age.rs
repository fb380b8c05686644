//! What is said of CRLs that grow old, before gateways refuse everybody, and of those that may be old from the beginning.

use std::io;

use ::time::Duration;
use tracing::subscriber::{DefaultGuard, set_default};

use super::*;

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Until the guard is dropped.
    fn of_now() -> (Self, DefaultGuard) {
        let log = Log::default();
        let lines = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || lines.clone()).with_ansi(false).finish();
        (log, set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

const OLD: &str = "older than twice the CA's cadence";
const NEAR: &str = "nextUpdate is near";

/// The warnings of one synchronisation, or of a watch whose server went away after it: of an issuing CA's CRL and its
/// root's, made so many minutes ago, and with so many hours before nextUpdate.
async fn warnings(issuing: (i64, i64), root: (i64, i64), watching: bool) -> Vec<(&'static str, bool)> {
    let gateway = Gateway::new().await;
    let crl = |ca: &crate::test_pki::Ca, (minutes, hours): (i64, i64)| {
        ca.crl_with(7, &[1], |params| {
            let now = ::time::OffsetDateTime::now_utc();
            params.this_update = now - Duration::minutes(minutes);
            params.next_update = now + Duration::hours(hours);
        })
    };
    gateway.publish(&[crl(&gateway.house.device_ca, issuing), crl(&gateway.house.device_root, root)]);

    let log = if watching {
        gateway.sync.run().await.unwrap();
        gateway.site.pages.lock().unwrap().clear();
        let (log, _logging) = Log::of_now();
        let (failed, stop) = tokio::sync::oneshot::channel::<()>();
        let mut failed = Some(failed);
        gateway.sync.watch(|_| drop(failed.take()), async { drop(stop.await) }).await.unwrap();
        log.text()
    } else {
        let (log, _logging) = Log::of_now();
        gateway.sync.run().await.unwrap();
        log.text()
    };
    let said = log.lines().filter_map(|line| {
        let what = [OLD, NEAR].into_iter().find(|what| line.contains(what))?;
        Some((what, line.contains(&IssuerId::of(&gateway.house.device_root.certificate).to_string())))
    });
    let mut said: Vec<_> = said.collect();
    said.sort_by_key(|(_, of_root)| *of_root);
    said
}

const OF_ISSUING_CA: bool = false;
const OF_ROOT: bool = true;

#[tokio::test]
async fn crls_that_are_young_cause_no_warning() {
    assert_eq!(warnings((59, 25), (300 * 24 * 60, 31 * 24), false).await, []);
}

#[tokio::test]
async fn an_issuing_cas_crl_of_more_than_twice_the_cadence_is_warned_of() {
    assert_eq!(warnings((61, 25), (1, 31 * 24), false).await, [(OLD, OF_ISSUING_CA)]);
}

#[tokio::test]
async fn a_next_update_that_comes_near_is_warned_of_and_a_roots_long_before() {
    assert_eq!(warnings((1, 23), (1, 31 * 24), false).await, [(NEAR, OF_ISSUING_CA)]);
    assert_eq!(warnings((1, 25), (1, 29 * 24), false).await, [(NEAR, OF_ROOT)]);
}

#[tokio::test]
async fn a_watch_warns_too() {
    assert_eq!(warnings((61, 25), (1, 29 * 24), true).await, [(OLD, OF_ISSUING_CA), (NEAR, OF_ROOT)]);
}

#[tokio::test]
async fn a_first_run_over_plain_http_is_warned_of_and_no_later_one() {
    let gateway = Gateway::new().await;
    gateway.publish(&gateway.bundle(7, &[1]));
    let (log, _logging) = Log::of_now();
    for _ in 0..2 {
        gateway.sync.run().await.unwrap();
        assert_eq!(log.text().matches("no number is known from before").count(), 1, "{}", log.text());
    }
}
