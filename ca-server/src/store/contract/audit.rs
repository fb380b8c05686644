//! The audit log and the security events beside it.

use super::world::*;
use crate::{
    audit::{Draft, Head, Seal, Verifier},
    identity::RevocationReason::Unspecified,
    inventory::device::Status::Revoked as Cut,
    store::*,
};

pub(crate) async fn records_have_no_gap_and_time_never_goes_back<P: Place>() {
    let world = World::<P>::new().await;
    let racers = (0..60u64).map(|n| {
        let (store, mut enrollment) = (world.store.clone(), world.enrollment(&format!("d{n}"), 100));
        enrollment.audit.at = at(n * 37 % 60);
        // A third of them fail, and must leave no gap.
        enrollment.certificate.issuer = if n % 3 == 0 { issuer("nobody") } else { devices_ca() };
        tokio::spawn(async move { store.record_enrollment(enrollment).await })
    });
    for racer in racers.collect::<Vec<_>>() {
        let _ = racer.await.unwrap();
    }
    world.store.record_audit(draft(50, "key.exported")).await.unwrap();
    let mut verifier = Verifier::default();
    for kept in world.audit().await {
        verifier.record(&kept).unwrap();
    }
    assert_eq!(verifier.counts().0, 3 + 40 + 1);
    assert_eq!(world.store.last_audit().await.unwrap(), Some((44, at(59))));
    assert_eq!(P::new().open().last_audit().await.unwrap(), None);
}

pub(crate) async fn a_record_reads_back_as_it_was_hashed<P: Place>() {
    let world = World::<P>::new().await;
    let serial = world.certificate(1).serial;
    let draft = Draft::done(at(1), "operator/ana", "key.exported", "token/é\"".into()).serial(serial);
    world.store.record_audit(draft.fact("b", 2).fact("a", "x\u{0}y")).await.unwrap();
    let kept = world.audit().await.pop().unwrap();
    assert_eq!(kept.record.hash(), kept.hash);
    assert_eq!((kept.record.serial, kept.record.subject.as_str()), (serial.to_string(), "token/é\""));
    let detail: serde_json::Value = serde_json::from_str(&kept.record.detail).unwrap();
    assert_eq!(detail, serde_json::json!({"a": "x\u{0}y", "b": 2}));
}

pub(crate) async fn a_cutoff_tells_which_certificates_and_tokens<P: Place>() {
    let world = World::<P>::new().await;
    let head = world.enroll("a", 1).await.lineage.head.unwrap();
    world.store.record_token(token(1, Some("a"), 1), None, draft(1, "token.created")).await.unwrap();
    world.cut_off("a", Cut, Unspecified, 2).await;
    let record = world.audit().await.pop().unwrap().record;
    let detail: serde_json::Value = serde_json::from_str(&record.detail).unwrap();
    let expected = serde_json::json!({
        "certificates": [head.to_string()],
        "certificate_count": 1,
        "tokens": [token_id(1).to_string()],
    });
    assert_eq!((record.action.as_str(), detail), ("device.revoked", expected));
}

pub(crate) async fn records_are_found_by_subject_and_action_in_both_directions<P: Place>() {
    let world = World::<P>::new().await;
    for n in 0..6 {
        let action = ["up", "down"][n as usize % 2];
        let subject = ["device/a", "device/b", "device/c"][n as usize % 3];
        world.store.record_audit(Draft::done(at(n), "local", action, subject.into())).await.unwrap();
    }
    // Three records stand before these six: 4 to 9.
    let find = async |from, subject: Option<&str>, action: Option<&str>, newest_first| {
        let (subject, action) = (subject.map(str::to_owned), action.map(str::to_owned));
        let query = AuditQuery { from, limit: 3, subject, action, newest_first };
        let found = world.store.audit_records(&query).await.unwrap();
        found.into_iter().map(|kept| kept.record.sequence).collect::<Vec<_>>()
    };
    assert_eq!(find(0, None, None, false).await, [1, 2, 3]);
    assert_eq!(find(8, None, None, false).await, [8, 9]);
    assert_eq!(find(0, None, None, true).await, [9, 8, 7]);
    assert_eq!(find(2, None, None, true).await, [2, 1]);
    assert_eq!(find(0, Some("device/b"), None, false).await, [5, 8]);
    assert_eq!(find(0, None, Some("down"), true).await, [9, 7, 5]);
    assert_eq!(find(0, Some("device/b"), Some("down"), true).await, [5]);
    assert!(find(0, Some("device/x"), None, false).await.is_empty());
}

pub(crate) async fn seals_follow_each_other_without_a_gap<P: Place>() {
    let world = World::<P>::new().await;
    let seal = |first_sequence, last_sequence| Seal {
        first_sequence,
        last_sequence,
        head: Head([last_sequence as u8; 32]),
        at_millis: 5,
        signature: vec![4],
        issuer: issuer("control"),
    };
    let put = async |first, last| world.store.record_seal(seal(first, last)).await;
    assert_eq!(world.store.last_seal().await.unwrap(), None);
    put(1, 2).await.unwrap();
    // Again, with a gap, with an overlap, backwards, and over records that do not exist.
    for (first, last) in [(1, 2), (4, 4), (2, 3), (3, 2), (3, 99)] {
        let refused = put(first, last).await;
        assert!(matches!(refused, Err(StoreError::Conflict)), "{first}-{last}: {refused:?}");
    }
    put(3, 3).await.unwrap();
    assert_eq!(world.store.last_seal().await.unwrap(), Some(seal(3, 3)));
    assert_eq!(world.store.audit_seals(0, 9).await.unwrap(), [seal(1, 2), seal(3, 3)]);
    assert_eq!(world.store.audit_seals(3, 9).await.unwrap(), [seal(3, 3)]);
    assert_eq!(world.store.audit_seals(1, 1).await.unwrap(), [seal(1, 2)]);
}

pub(crate) async fn events_are_counted_by_the_hour_and_bounded<P: Place>() {
    let world = World::<P>::new().await;
    let event = |kind: &str, subject: String, secs, count| {
        let (kind, detail) = (kind.to_owned(), format!("at {secs}"));
        SecurityEventRow { position: 0, kind, subject, first_at: at(secs), last_at: at(secs), count, detail }
    };
    let fork = |secs, count| event("lineage.fork", "device/a".into(), secs, count);
    world.store.record_security_events(vec![fork(0, 1), fork(60, 2)]).await.unwrap();
    world.store.record_security_events(vec![fork(30, 1), fork(3600, 5)]).await.unwrap();
    let find = async |query| world.store.security_events(&query).await.unwrap();
    let all = find(EventQuery { limit: 9, ..EventQuery::default() }).await;
    assert_eq!(all.iter().map(|row| row.count).collect::<Vec<_>>(), [5, 4]);
    assert_eq!((all[1].first_at, all[1].last_at, all[1].detail.as_str()), (at(0), at(60), "at 30"));
    let flood = (0..10_050).map(|n| event("attestation.failed", format!("device/x{n}"), 0, 1)).collect();
    world.store.record_security_events(flood).await.unwrap();
    let all = find(EventQuery { limit: 20_000, ..EventQuery::default() }).await;
    assert_eq!((all.len(), all[0].subject.as_str()), (2_002, "device/x10049"), "a flood of one kind is cut");
    let page = find(EventQuery { before: all[7].position, limit: 2, ..EventQuery::default() }).await;
    assert_eq!(page, all[8..10]);
    let one = find(EventQuery { subject: Some("device/x9077".into()), limit: 9, ..EventQuery::default() }).await;
    assert_eq!(one.len(), 1);
    let forks = find(EventQuery { kind: Some("lineage.fork".into()), limit: 9, ..EventQuery::default() }).await;
    assert_eq!(forks.len(), 2, "and pushes nothing else out");
    assert_eq!(world.audit().await.len(), 3);
}
