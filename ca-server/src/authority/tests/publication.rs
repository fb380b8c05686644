//! Publications in the course of time: what leaves a CRL and when, and what no clock and no caller can do to one.

use std::{
    collections::BTreeSet,
    future::Future,
    pin::pin,
    sync::{Mutex, mpsc},
    task::Poll,
};

use fleetca_proto::v1::CrlPatch;
use prost::Message;

use super::*;

#[tokio::test]
async fn an_entry_leaves_a_day_after_its_certificate_expired() {
    let world = World::new().await;
    world.enroll("pump-1").await;
    world.authority.revoke(&subject("pump-1"), RevocationReason::KeyCompromise, "operator/ana").await.unwrap();
    // Valid for a day, then a day of grace; the CRL comes out twice a day meanwhile.
    for hours in [12, 24, 36, 47] {
        world.at(HOUR * hours);
        assert_eq!(world.publish(false).await, 1, "after {hours} h");
    }
    world.at(HOUR * 49);
    assert_eq!(world.publish(false).await, 0);
}

#[tokio::test]
async fn a_clock_that_leaps_stops_removals_and_no_additions() {
    let world = World::new().await;
    world.enroll("pump-1").await;
    world.enroll("pump-2").await;
    world.authority.revoke(&subject("pump-1"), RevocationReason::KeyCompromise, "operator/ana").await.unwrap();
    world.at(DAY * 365);
    assert_eq!(world.publish(false).await, 1, "nothing leaves");
    world.at(HOUR);
    world.authority.revoke(&subject("pump-2"), RevocationReason::KeyCompromise, "operator/ana").await.unwrap();
    assert_eq!(world.crl().entries().len(), 2, "additions go on");
    world.at(DAY * 365);
    assert_eq!(world.publish(false).await, 2, "it stays so until somebody says that the clock is right");
    assert_eq!(world.publish(true).await, 0);
}

#[tokio::test]
async fn numbers_and_dates_never_go_back_whatever_the_clock_does() {
    let mut world = World::new().await;
    let (mut number, mut date) = (world.crl().number(), world.crl().this_update());
    for (hours, restart) in [(10, false), (2, false), (2, true), (0, true), (11, false)] {
        world.at(HOUR * hours);
        if restart {
            world = world.restarted().await;
        }
        world.publish(false).await;
        let crl = world.crl();
        assert!(crl.number() > number && crl.this_update() >= date, "at {hours} h");
        (number, date) = (crl.number(), crl.this_update());
    }
}

#[tokio::test]
async fn a_restart_serves_the_same_bytes_where_nothing_changed() {
    let world = World::new().await;
    world.enroll("pump-1").await;
    world.authority.revoke(&subject("pump-1"), RevocationReason::AffiliationChanged, "operator/ana").await.unwrap();
    let before = world.crl();
    let world = world.restarted().await;
    assert_eq!(world.crl().der(), before.der());
}

#[tokio::test]
async fn where_another_crl_was_recorded_than_is_served_the_next_one_follows_at_once() {
    let world = World::new().await;
    world.enroll("pump-1").await;
    let store = &world.authority.store;
    let head = store.crl_head(world.issuer()).await.unwrap().unwrap();
    // As after a commit that was told to have failed, or by another server on the same store.
    let (number, previous) = (head.number + 1_000_000_000, head.number);
    store.put_crl(crate::store::CrlHead { number, ..head }, Some(previous), None).await.unwrap();
    world.authority.revoke(&subject("pump-1"), RevocationReason::KeyCompromise, "operator/ana").await.unwrap();
    assert_eq!((world.crl().number(), world.crl().entries().len()), (number + 1, 1));

    // Also where nothing is revoked: what was recorded is served by nobody here.
    let head = store.crl_head(world.issuer()).await.unwrap().unwrap();
    let (number, previous) = (head.number + 1, head.number);
    store.put_crl(crate::store::CrlHead { number, ..head }, Some(previous), None).await.unwrap();
    world.at(HOUR);
    world.publish(false).await;
    assert!(world.crl().number() > number);
}

#[tokio::test]
async fn a_crl_is_renewed_within_the_hour_where_nothing_changes() {
    let world = World::new().await;
    let first = world.crl().number();
    world.at(HOUR);
    let mut publications = world.authority.publisher.watch();
    while world.crl().number() == first {
        world.authority.publisher.wake_if(true);
        publications.changed().await.unwrap();
    }
    assert_eq!(world.crl().this_update(), START + HOUR);
    assert_eq!(world.crl().next_update(), START + HOUR + DAY * 7);
}

#[tokio::test]
async fn a_revocation_reaches_the_crl_even_while_the_clock_has_leapt() {
    let world = World::new().await;
    world.enroll("pump-1").await;
    world.at(DAY * 2);
    let receipt =
        world.authority.revoke(&subject("pump-1"), RevocationReason::KeyCompromise, "operator/ana").await.unwrap();
    assert_eq!((receipt.certificates, receipt.crls.len()), (1, 1));
    world.at(HOUR);
    assert_eq!(world.publish(false).await, 1);
}

#[tokio::test]
async fn a_crowd_that_asks_for_patches_has_each_made_once_and_one_at_a_time() {
    let world = World::new().await;
    world.enroll("pump-1").await;
    let publisher = &world.authority.publisher;
    let mut behind = Vec::new();
    for _ in 0..3 {
        behind.push(world.crl().number());
        world.publish(false).await;
    }
    let newest = publisher.current(&world.issuer()).unwrap();
    let bench = publisher.bench.clone().acquire_owned().await.unwrap();
    let mut asking: Vec<_> = behind
        .iter()
        .flat_map(|from| [*from; 50])
        .map(|from| {
            let (publisher, newest) = (publisher.clone(), newest.clone());
            Box::pin(async move { publisher.patch(&newest, from, None).await.expect("a short one") })
        })
        .collect();
    for one in &mut asking {
        assert!(futures::poll!(one.as_mut()).is_pending(), "another one is being made");
    }
    // Who goes away stops nothing and brings nobody to begin anew.
    asking.truncate(149);
    drop(bench);
    let patches = futures::future::join_all(asking).await;
    let made: BTreeSet<_> = patches.iter().map(|patch| patch.as_ptr()).collect();
    assert_eq!((patches.len(), made.len()), (149, 3));
}

#[tokio::test]
async fn who_waits_for_a_patch_gets_it_although_other_crls_are_published_meanwhile() {
    let world = World::new().await;
    let publisher = &world.authority.publisher;
    let from = world.crl().number();
    world.publish(false).await;
    let asked = publisher.current(&world.issuer()).unwrap();
    let bench = publisher.bench.clone().acquire_owned().await.unwrap();
    let mut waiting = Box::pin(publisher.patch(&asked, from, None));
    assert!(futures::poll!(waiting.as_mut()).is_pending(), "another one is being made");
    for _ in 0..3 {
        world.publish(false).await;
    }
    drop(bench);
    let patch = CrlPatch::decode(waiting.await.expect("a short one")).unwrap();
    assert_eq!((patch.from, patch.number, &patch.sha256[..]), (from, asked.number, &asked.sha256[..]));
}

/// A key whose next signature, once somebody has said so, waits for a word.
#[derive(Debug)]
struct SlowOnce {
    key: Arc<dyn Signer>,
    next: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
}

impl SlowOnce {
    /// A CA whose devices' issuing CA signs with such a key.
    async fn world() -> (World, Arc<Self>) {
        let mut world = World::new().await;
        let key = world.signers[&CaRole::DeviceIssuing].clone();
        let slow = Arc::new(Self { key, next: Mutex::default() });
        world.signers.insert(CaRole::DeviceIssuing, slow.clone());
        (world.restarted().await, slow)
    }
}

impl Signer for SlowOnce {
    fn public_key(&self) -> &crate::pki::PublicKey {
        self.key.public_key()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, crate::signer::SignerError> {
        let slow = self.next.lock().unwrap().take();
        if let Some((reached, go_on)) = slow {
            let _ = reached.send(());
            let _ = go_on.recv();
        }
        self.key.sign(message)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn who_asks_for_a_delta_keeps_no_publication_waiting() {
    let (world, slow) = SlowOnce::world().await;
    let (publisher, issuer) = (world.authority.publisher.clone(), world.issuer());
    publisher.offer_deltas();
    for id in ["pump-1", "pump-2"] {
        world.enroll(id).await;
    }
    world.authority.revoke(&subject("pump-1"), RevocationReason::KeyCompromise, "operator/ana").await.unwrap();
    let (reached, is_reached) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    *slow.next.lock().unwrap() = Some((reached, goes_on));
    let asked = tokio::spawn({
        let publisher = publisher.clone();
        async move { publisher.delta(&issuer).await }
    });
    tokio::task::spawn_blocking(move || is_reached.recv().unwrap()).await.unwrap();
    let (pump_2, ana) = (subject("pump-2"), "operator/ana");
    let revoked = world.authority.revoke(&pump_2, RevocationReason::KeyCompromise, ana);
    let receipt =
        tokio::time::timeout(Duration::from_secs(10), revoked).await.expect("nobody waits for the delta").unwrap();
    go_on.send(()).unwrap();
    let old = asked.await.unwrap().unwrap().expect("a delta");
    let new = publisher.delta(&issuer).await.unwrap().expect("a delta");
    assert!(old.number < new.number, "what was made too late is kept for nobody");
    assert_eq!((receipt.crls, old.entries, new.entries), (vec![(issuer, new.number)], 1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_a_devices_list_keeps_no_publication_waiting() {
    let (world, slow) = SlowOnce::world().await;
    let (publisher, issuer) = (world.authority.publisher.clone(), world.issuer());
    let pump = subject("pump-1");
    world.enroll("pump-1").await;
    let handle = world.authority.store.holder(&pump).await.unwrap().unwrap().handle;
    let (reached, is_reached) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    *slow.next.lock().unwrap() = Some((reached, goes_on));
    let list = |publisher: &Arc<Publisher>| {
        let (publisher, pump, handle) = (publisher.clone(), pump.clone(), handle.clone());
        async move { publisher.device_list(&issuer, &pump, &handle).await }
    };
    let asked = tokio::spawn(list(&publisher));
    tokio::task::spawn_blocking(move || is_reached.recv().unwrap()).await.unwrap();
    let revoked = world.authority.revoke(&pump, RevocationReason::KeyCompromise, "operator/ana");
    let receipt = tokio::time::timeout(Duration::from_secs(10), revoked).await.expect("nobody waits for it").unwrap();
    go_on.send(()).unwrap();
    let old = asked.await.unwrap().unwrap();
    let new = list(&publisher).await.unwrap();
    assert_eq!((old.entries, new.entries), (0, 1), "what was made too late is kept for nobody");
    assert_eq!(receipt.crls, [(issuer, new.number)]);
    assert_eq!(list(&publisher).await.unwrap().der.as_ptr(), new.der.as_ptr(), "and this one is");

    // A few are made at the same time, whoever asks, and by whichever way.
    let all = publisher.list_bench.acquire_many(4).await.unwrap();
    list(&publisher).await.expect("it is made already");
    world.publish(false).await;
    assert!(matches!(list(&publisher).await, Err(PublishError::Busy)));
    drop(all);
    list(&publisher).await.unwrap();
}

/// The events of one kind that wait to be written: how often it was told of.
fn told(world: &World, kind: &str) -> u64 {
    world.authority.telemetry.take_events().iter().filter(|event| event.kind == kind).map(|event| event.count).sum()
}

#[tokio::test]
async fn numbers_follow_the_clock_also_while_dates_do_not() {
    let world = World::new().await;
    world.at(HOUR);
    let ahead = START + HOUR * 13;
    world.clock.leap(ahead);
    world.publish(false).await;
    world.authority.publisher.publish_now(false).await.unwrap();
    let crl = world.crl();
    assert!(
        crl.number() >= ahead.millis() as u64,
        "a machine that was set back to a snapshot goes on above what it lost"
    );
    assert_eq!(crl.this_update(), START + HOUR);
}

#[tokio::test]
async fn small_steps_of_a_clock_never_add_up_to_a_leap() {
    let world = World::new().await;
    let mut says = START;
    for _ in 0..30 {
        says = says + DAY;
        world.clock.set(says);
        says = says + Duration::from_secs(40);
        world.clock.leap(says);
        world.publish(false).await;
        assert_eq!(world.authority.publisher.leap(), None);
        assert_eq!(world.crl().this_update(), says);
    }
}

#[tokio::test]
async fn a_clock_that_leaps_ahead_dates_no_crl_until_somebody_accepts_it() {
    let world = World::new().await;
    let publisher = &world.authority.publisher;
    world.enroll("pump-1").await;
    world.at(HOUR);
    assert_eq!(publisher.leap(), None);
    let ahead = START + DAY * 365;
    world.clock.leap(ahead);
    let leap = publisher.leap().unwrap();
    assert_eq!((leap.says, leap.expected), (ahead, START + HOUR));
    let text = leap.to_string();
    assert!(text.contains(&ahead.to_string()) && text.contains("crl publish --accept-clock"), "{text}");

    world.authority.revoke(&subject("pump-1"), RevocationReason::KeyCompromise, "operator/ana").await.unwrap();
    world.publish(false).await;
    world.publish(false).await;
    assert_eq!((world.crl().this_update(), world.crl().entries().len()), (START + HOUR, 1));
    assert_eq!(told(&world, "clock.leapt"), 1, "once");

    // Time goes on by the same clock: dates go with it.
    world.clock.set(ahead + HOUR);
    world.publish(false).await;
    assert_eq!(world.crl().this_update(), START + HOUR * 2);

    // Set right, it is told of no more; and of the next leap again.
    world.clock.leap(START + HOUR * 2);
    world.publish(false).await;
    assert_eq!(publisher.leap(), None);
    world.clock.leap(START + DAY * 3);
    world.publish(false).await;
    assert_eq!(told(&world, "clock.leapt"), 1);
    assert_eq!(world.crl().this_update(), START + HOUR * 2);

    world.publish(true).await;
    assert_eq!((world.crl().this_update(), publisher.leap()), (START + DAY * 3, None));
}

#[tokio::test]
async fn a_clock_that_is_set_right_by_minutes_has_not_leapt() {
    let world = World::new().await;
    world.at(HOUR);
    world.clock.leap(START + HOUR + Duration::from_secs(590));
    world.publish(false).await;
    assert_eq!(world.authority.publisher.leap(), None);
    assert_eq!(world.crl().this_update(), world.clock.now());
    // Set back, it may come back to where it was.
    world.clock.leap(START);
    world.publish(false).await;
    world.clock.leap(START + HOUR);
    assert_eq!(world.authority.publisher.leap(), None);
}

#[tokio::test]
async fn a_root_crl_that_no_gateway_would_take_today_is_not_taken_in() {
    let world = World::new().await;
    let issuers = world.authority.issuers();
    let (id, _, root) = issuers.certificates().find(|(_, role, _)| *role == CaRole::DeviceRoot).unwrap();
    let signer = &world.signers[&CaRole::DeviceRoot];
    let before = ParsedCrl::parse(world.authority.publisher.current(id).unwrap().der.clone()).unwrap();
    let take = async |at| {
        let (der, _) = root_crl(root, signer.as_ref(), Some(&before), None, at).unwrap();
        let audit = crate::audit::Draft::done(START, "operator/ana", "crl.root_taken_in", "crl".into());
        world.authority.publisher.take_root_crl(der, audit).await
    };
    assert!(matches!(take(START + DAY * 700).await, Err(PublishError::NotNow { .. })));
    take(START + HOUR / 60).await.unwrap();
    world.at(DAY * 500);
    assert!(matches!(take(START + DAY * 2).await, Err(PublishError::NotNow { .. })));
}

/// Lets go of a call once it has been looked at so often.
pub(super) async fn abandoned<T>(call: impl Future<Output = T>, looks: usize) {
    let (mut call, mut looked) = (pin!(call), 0);
    let given_up = std::future::poll_fn(|context| {
        looked += 1;
        let done = looked > looks || call.as_mut().poll(context).is_ready();
        if done { Poll::Ready(()) } else { Poll::Pending }
    });
    given_up.await;
}

#[tokio::test]
async fn a_publication_whose_caller_goes_away_comes_to_its_end() {
    let world = World::new().await;
    for looks in 1..8 {
        abandoned(world.authority.publisher.publish_now(false), looks).await;
        // One that was cut off in the middle would have left a number in the store that nobody serves.
        world.publish(false).await;
        let recorded = world.authority.store.crl_head(world.issuer()).await.unwrap().unwrap();
        assert_eq!(world.crl().number(), recorded.number, "{looks}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_publishers_on_one_store_lose_nothing_and_use_no_number_twice() {
    let world = World::new().await;
    let other = open(&world.dir, &world.clock, &world.signers, &world.more).await;
    let (mut numbers, mut revocations) = (Vec::new(), 0);
    for round in 0..6 {
        let ids = [0, 1].map(|side| format!("pump-{round}-{side}"));
        for id in &ids {
            world.enroll(id).await;
        }
        let revoke = |authority: &Authority, id: &str| {
            let subject = subject(id);
            let publisher = authority.publisher.clone();
            let cutoff = crate::store::Cutoff {
                audit: crate::audit::Draft::done(START, "operator/ana", "device.revoked", subject.to_string()),
                subject,
                status: Status::Revoked,
                reason: RevocationReason::KeyCompromise,
                status_reason: "stolen".into(),
                at: START,
            };
            let store = authority.store.clone();
            async move {
                let receipt = store.record_cutoff(cutoff).await.unwrap();
                publisher.in_force(&receipt.watermarks).await.unwrap()
            }
        };
        let (here, there) = tokio::join!(revoke(&world.authority, &ids[0]), revoke(&other, &ids[1]));
        revocations += 2;
        numbers.extend([here[0].1, there[0].1]);
        for authority in [&world.authority, &other] {
            // One that loses the race twice tries again with the next turn.
            while authority.publisher.publish_now(false).await.is_err() {}
            let crl = authority.publisher.current(&world.issuer()).unwrap();
            assert_eq!(crl.entries, revocations, "round {round}");
            numbers.push(crl.number);
        }
        let [first, second] = numbers[numbers.len() - 2..] else { panic!("two") };
        assert!(second > first, "each goes on above the other");
    }
    // The numbers of one side grow; of both together none names two CRLs, which the store would have refused.
    let head = world.authority.store.crl_head(world.issuer()).await.unwrap().unwrap();
    assert_eq!(numbers.last(), Some(&head.number));
}
