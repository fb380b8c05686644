//! What comes back where the gateway does not live with what is new.

use super::*;

#[tokio::test]
async fn where_the_gateway_does_not_live_with_the_new_file_the_one_from_before_comes_back() {
    let mut gateway = Gateway::new().await;
    gateway.publish(&gateway.bundle(7, &[1]));
    gateway.sync.probe = Some("test ! -e \"$FLEETCA_FILE.dead\"".into());
    gateway.sync.run().await.unwrap();
    let good = gateway.file();
    fs::write(gateway.folder.path().join("crl.pem.dead"), "").unwrap();
    // However often it is tried, and whichever of them fails.
    for (number, reloads) in [(8, 3), (9, 5)] {
        gateway.publish(&gateway.bundle(number, &[1, 2]));
        let failed = gateway.sync.run().await.unwrap_err();
        assert!(matches!(failed, SyncError::Probe { restored: true, .. }), "{failed}");
        assert_eq!((gateway.file(), gateway.reloads()), (good.clone(), reloads), "back, and told of");
        let again = gateway.sync.run().await.unwrap_err();
        assert!(matches!(again, SyncError::KnownBad), "{again}");
        assert_eq!((gateway.file(), gateway.reloads()), (good.clone(), reloads), "not tried again");
    }
    // An issuer whose CRL is missing is missed as before.
    gateway.publish(std::slice::from_ref(&gateway.root_crl));
    assert!(gateway.sync.run().await.is_err());
    gateway.sync.max_age = Some(Duration::ZERO);
    let old = gateway.sync.run().await.unwrap_err();
    assert!(matches!(old, SyncError::FailedAndTooOld { .. }), "what came back has an age: {old}");
    gateway.sync.max_age = None;
    fs::remove_file(gateway.folder.path().join("crl.pem.dead")).unwrap();
    gateway.publish(&gateway.bundle(8, &[1, 2]));
    let older = gateway.sync.run().await.unwrap_err();
    assert!(matches!(older, SyncError::Crl { .. }), "what was seen is the least that is taken: {older}");
    gateway.publish(&gateway.bundle(10, &[1, 2]));
    assert!(gateway.sync.run().await.unwrap().changed);
    assert_ne!(gateway.file(), good);
    assert!(!gateway.folder.path().join("crl.pem.before").exists());
}

#[tokio::test]
async fn that_the_file_from_before_is_back_is_told_until_it_was_heard() {
    let mut gateway = Gateway::new().await;
    gateway.publish(&gateway.bundle(7, &[1]));
    gateway.sync.probe = Some("test ! -e \"$FLEETCA_FILE.dead\"".into());
    gateway.sync.run().await.unwrap();
    let good = gateway.file();
    gateway.publish(&gateway.bundle(8, &[1, 2]));
    // The program takes the new one in, dies of it, and does not hear at once that the old one is back.
    gateway.sync.on_change =
        Some("test ! -e \"$FLEETCA_FILE.dead\" && cp \"$FLEETCA_FILE\" \"$FLEETCA_FILE.taken\"".into());
    gateway.sync.probe = Some("touch \"$FLEETCA_FILE.dead\"; false".into());
    assert!(matches!(gateway.sync.run().await, Err(SyncError::Hook(_))));
    assert_eq!(gateway.file(), good);
    let taken = || fs::read_to_string(gateway.folder.path().join("crl.pem.taken")).unwrap();
    assert_ne!(taken(), good);
    fs::remove_file(gateway.folder.path().join("crl.pem.dead")).unwrap();
    gateway.sync.probe = Some("true".into());
    assert!(matches!(gateway.sync.run().await, Err(SyncError::KnownBad)));
    assert_eq!((gateway.file(), taken()), (good.clone(), good), "the same bad ones are served, and it is told");
}

#[tokio::test]
async fn what_has_failed_is_not_tried_again_although_the_file_from_before_fails_as_well() {
    let mut gateway = Gateway::new().await;
    gateway.publish(&gateway.bundle(7, &[1]));
    gateway.sync.probe = Some("true".into());
    gateway.sync.run().await.unwrap();
    let good = gateway.file();
    gateway.publish(&gateway.bundle(8, &[1, 2]));
    // It dies of the new one, is not told that the old one is back, and then does not live with that either.
    gateway.sync.on_change = Some("test ! -e \"$FLEETCA_FILE.dead\"".into());
    gateway.sync.probe = Some("touch \"$FLEETCA_FILE.dead\"; false".into());
    assert!(matches!(gateway.sync.run().await, Err(SyncError::Hook(_))));
    gateway.sync.on_change = Some("true".into());
    for _ in 0..3 {
        gateway.sync.run().await.unwrap_err();
        assert_eq!(gateway.file(), good);
    }
    gateway.sync.probe = Some("true".into());
    assert!(matches!(gateway.sync.run().await, Err(SyncError::KnownBad)));
    assert_eq!(gateway.file(), good);
}

#[tokio::test]
async fn what_was_never_verified_never_comes_back() {
    let mut gateway = Gateway::new().await;
    fs::write(&gateway.sync.out, "").unwrap();
    gateway.sync.probe = Some("false".into());
    gateway.publish(&gateway.bundle(7, &[1]));
    let failed = gateway.sync.run().await.unwrap_err();
    assert!(matches!(failed, SyncError::Probe { restored: false, .. }), "{failed}");
    assert_ne!(gateway.file(), "");
}

#[tokio::test]
async fn what_an_ended_run_has_begun_is_brought_to_its_end_while_the_ca_is_away() {
    let mut gateway = Gateway::new().await;
    gateway.publish(&gateway.bundle(7, &[1]));
    gateway.sync.probe = Some("test ! -e \"$FLEETCA_FILE.dead\"".into());
    gateway.sync.run().await.unwrap();
    let good = gateway.file();
    // Killed while it probes: the file is new, and nobody has said that the gateway lives with it.
    gateway.publish(&gateway.bundle(8, &[1, 2]));
    gateway.sync.on_change = Some("exit 1".into());
    assert!(matches!(gateway.sync.run().await, Err(SyncError::Hook(_))));
    assert_ne!(gateway.file(), good);
    gateway.sync.on_change = Some("true".into());
    fs::write(gateway.folder.path().join("crl.pem.dead"), "").unwrap();
    gateway.site.pages.lock().unwrap().clear();
    let failed = gateway.sync.run().await.unwrap_err();
    assert!(matches!(failed, SyncError::Probe { restored: true, .. }), "{failed}");
    assert_eq!(gateway.file(), good);
}

#[tokio::test]
async fn an_alarm_says_which_crl_was_taken_off_again() {
    let mut gateway = Gateway::new().await;
    gateway.publish(&gateway.bundle(7, &[1]));
    gateway.sync.probe = Some("true".into());
    gateway.sync.run().await.unwrap();
    gateway.sync.probe = Some("false".into());
    gateway.publish(&gateway.bundle(8, &[1, 2]));
    let (mut alarms, told) = (Vec::new(), tokio::sync::Notify::new());
    let tell = |outcome: Result<&Synced, &Alarm<'_>>| {
        alarms.extend(outcome.err().map(ToString::to_string));
        told.notify_one();
    };
    gateway.sync.watch(tell, told.notified()).await.unwrap();
    assert!(alarms[0].contains("--probe failed"), "{alarms:?}");
    assert!(alarms[0].contains(": number 7, made ") && alarms[0].ends_with(" (8 was taken off again)"), "{alarms:?}");
}

#[tokio::test]
async fn a_first_file_with_which_the_gateway_does_not_live_is_tried_again() {
    let mut gateway = Gateway::new().await;
    gateway.publish(&gateway.bundle(7, &[1]));
    gateway.sync.probe = Some("false".into());
    for reloads in [1, 2] {
        let failed = gateway.sync.run().await.unwrap_err();
        assert!(matches!(failed, SyncError::Probe { restored: false, .. }), "{failed}");
        assert_eq!(gateway.reloads(), reloads);
    }
    gateway.sync.probe = None;
    assert!(!gateway.sync.run().await.unwrap().changed);
    assert_eq!(gateway.reloads(), 3);
}
