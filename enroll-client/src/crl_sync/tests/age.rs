//! CRLs that grow old: what is said before gateways refuse everybody, and what is done where they are too old.

use std::io;

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
            params.this_update = now - ::time::Duration::minutes(minutes);
            params.next_update = now + ::time::Duration::hours(hours);
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
    // A root's that is good for a year, and one that is for 32 days.
    let month = 24 * 24 * 60;
    assert_eq!(warnings((1, 25), (300 * 24 * 60, 29 * 24), false).await, [(NEAR, OF_ROOT)]);
    assert_eq!(warnings((1, 25), (month - 24 * 60, 9 * 24), false).await, []);
    assert_eq!(warnings((1, 25), (month + 24 * 60, 7 * 24), false).await, [(NEAR, OF_ROOT)]);
}

#[tokio::test]
async fn a_watch_warns_too() {
    assert_eq!(warnings((61, 25), (300 * 24 * 60, 29 * 24), true).await, [(OLD, OF_ISSUING_CA), (NEAR, OF_ROOT)]);
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

#[tokio::test]
async fn an_old_crl_is_written_and_then_complained_of() {
    let mut gateway = Gateway::new().await;
    gateway.sync.max_age = Some(Duration::from_secs(10));
    gateway.publish(&gateway.bundle(7, &[1]));
    let refused = gateway.sync.run().await.err().unwrap();
    assert!(matches!(refused, SyncError::TooOld { .. }));
    assert!(matches!(refused.action(), Action::Retry { .. }));
    assert!(gateway.file().contains("X509 CRL"));
}

#[tokio::test]
async fn a_gateway_whose_crls_are_too_old_is_stopped_and_told_of_nothing_until_they_are_young_again() {
    let mut gateway = Gateway::new().await;
    gateway.publish(&gateway.bundle(7, &[1]));
    gateway.sync.max_age = Some(Duration::from_secs(10));
    gateway.sync.on_stale = Some("echo >> \"$FLEETCA_FILE.stopped\"".into());
    let stopped = |gateway: &Gateway| gateway.lines("stopped");
    for times in [1, 2] {
        assert!(matches!(gateway.sync.run().await, Err(SyncError::TooOld { .. })));
        assert_eq!((gateway.reloads(), stopped(&gateway)), (0, times));
    }
    let pages = std::mem::take(&mut *gateway.site.pages.lock().unwrap());
    assert!(matches!(gateway.sync.run().await, Err(SyncError::FailedAndTooOld { .. })));
    assert_eq!((gateway.reloads(), stopped(&gateway)), (0, 3), "nor is what was begun brought to its end");
    *gateway.site.pages.lock().unwrap() = pages;
    gateway.sync.max_age = Some(Duration::from_secs(1 << 40));
    assert!(!gateway.sync.run().await.unwrap().changed);
    assert_eq!((gateway.reloads(), stopped(&gateway)), (1, 3), "the same file, and it may be used");
}

#[tokio::test]
async fn a_gateway_is_stopped_even_where_nothing_can_be_written() {
    let mut gateway = Gateway::new().await;
    gateway.publish(&gateway.bundle(7, &[1]));
    gateway.sync.run().await.unwrap();
    fs::create_dir(durable::beside(&gateway.sync.beside(".state.json"))).unwrap();
    gateway.site.pages.lock().unwrap().clear();
    gateway.sync.max_age = Some(Duration::from_secs(10));
    gateway.sync.on_stale = Some("echo >> \"$FLEETCA_FILE.stopped\"".into());
    let old = gateway.sync.run().await.unwrap_err();
    assert!(matches!(old, SyncError::FailedAndTooOld { .. }), "{old}");
    assert_eq!(gateway.lines("stopped"), 1);
}

#[tokio::test]
async fn a_gateway_is_stopped_even_where_a_run_cannot_begin() {
    let mut gateway = Gateway::new().await;
    gateway.publish(&gateway.bundle(7, &[1]));
    gateway.sync.run().await.unwrap();
    gateway.sync.on_stale = Some("echo >> \"$FLEETCA_FILE.stopped\"".into());
    // As on a disk that can only be read.
    let lock = gateway.sync.beside(".lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    gateway.sync.max_age = Some(Duration::from_secs(3600));
    assert!(matches!(gateway.sync.run().await, Err(SyncError::Io { .. })));
    assert_eq!(gateway.lines("stopped"), 0, "what is held is young");
    gateway.sync.max_age = Some(Duration::from_secs(10));
    let old = gateway.sync.run().await.unwrap_err();
    assert!(matches!(old, SyncError::FailedAndTooOld { .. }), "{old}");
    let old = gateway.sync.watch(|_| {}, std::future::pending()).await.unwrap_err();
    assert!(matches!(old, SyncError::FailedAndTooOld { .. }), "{old}");
    assert_eq!(gateway.lines("stopped"), 2);
    // Nobody can say how old it is.
    fs::write(gateway.sync.beside(".state.json"), "{").unwrap();
    fs::remove_dir(&lock).unwrap();
    assert!(matches!(gateway.sync.run().await, Err(SyncError::State { .. })));
    assert_eq!(gateway.lines("stopped"), 3);
    // Another process looks after it.
    let _held = gateway.sync.lock().unwrap();
    assert!(matches!(gateway.sync.run().await, Err(SyncError::Locked(_))));
    assert_eq!(gateway.lines("stopped"), 3);
}
