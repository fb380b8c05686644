//! Devices that nobody registered, while they wait for an operator.

use super::world::*;
use crate::{
    identity::{FleetName, HardwareId, KeyFingerprint},
    inventory::fleet::Policy,
    store::{NewcomerState::*, *},
};

/// Hardware of that number, which asks for this name with the key of another number.
fn asking(n: u8, id: &str, key: u8) -> Asking {
    let (method, tier) = ("tpm".into(), "hardware".into());
    let key = KeyFingerprint::of(&[key]);
    Asking { hardware: HardwareId::Ek([n; 32]), fleet: fleet(), id: id.parse().unwrap(), method, tier, key }
}

/// Asks for seven days, where two may wait.
fn ask(asking: Asking, secs: u64) -> Ask {
    Ask { asking, most: 2, at: at(secs), expires_at: at(secs + 7 * DAY), audit: draft(secs, "device.asked") }
}

fn verdict(asking: &Asking, state: NewcomerState, secs: u64) -> Verdict {
    let Asking { id, fleet, hardware, key, .. } = asking.clone();
    let (expires_at, audit) = (at(secs + 7 * DAY), draft(secs, "device.approved"));
    Verdict { id, fleet, hardware, key, state, at: at(secs), expires_at, audit }
}

/// The enrollment of a device that was approved.
pub(super) fn enrollment<P: Place>(world: &World<P>, asking: &Asking, secs: u64) -> Enrollment {
    let mut enrollment = world.enrollment(asking.id.as_str(), secs);
    enrollment.certificate.key = asking.key;
    Enrollment { hardware: Some(asking.hardware.clone()), approved: true, ..enrollment }
}

/// One that was approved.
pub(super) async fn approved<P: Place>(world: &World<P>) -> Asking {
    let asking = asking(1, "pump-7", 1);
    world.store.record_ask(ask(asking.clone(), 1)).await.unwrap();
    world.store.record_verdict(verdict(&asking, Approved, 2)).await.unwrap();
    asking
}

pub(super) async fn state<P: Place>(world: &World<P>, asking: &Asking) -> Option<NewcomerState> {
    world.store.newcomer(&asking.hardware).await.unwrap().map(|row| row.state)
}

async fn actions<P: Place>(world: &World<P>, action: &str) -> usize {
    world.audit().await.iter().filter(|kept| kept.record.action == action).count()
}

pub(crate) async fn an_approval_lets_in_what_was_seen_and_once<P: Place>() {
    let world = World::<P>::new().await;
    let store = &world.store;
    let pump = asking(1, "pump-7", 1);
    // Asked again, the same is waited for.
    for secs in [1, 2] {
        store.record_ask(ask(pump.clone(), secs)).await.unwrap();
    }
    assert_eq!((state(&world, &pump).await, actions(&world, "device.asked").await), (Some(Asked), 1));
    assert!(matches!(store.record_enrollment(enrollment(&world, &pump, 3)).await, Err(StoreError::Conflict)));
    // Another key, name, identity or fleet was not seen.
    let plant: FleetName = "plant".parse().unwrap();
    store.record_fleet(&plant, &Policy::default(), draft(4, "fleet.created")).await.unwrap();
    let elsewhere = Asking { fleet: plant.clone(), ..pump.clone() };
    for other in [asking(1, "pump-7", 2), asking(1, "pump-8", 1), asking(2, "pump-7", 1), elsewhere] {
        let refused = store.record_verdict(verdict(&other, Approved, 4)).await;
        assert!(matches!(refused, Err(StoreError::NotFound(_))), "{refused:?}");
    }
    for secs in [5, 6] {
        let row = store.record_verdict(verdict(&pump, Approved, secs)).await.unwrap();
        assert_eq!((row.state, row.asking), (Approved, pump.clone()));
    }
    assert_eq!(actions(&world, "device.approved").await, 1);
    for other in [asking(1, "pump-7", 2), asking(1, "pump-8", 1), asking(2, "pump-7", 1)] {
        assert!(matches!(store.record_enrollment(enrollment(&world, &other, 7)).await, Err(StoreError::Conflict)));
    }
    let mut elsewhere = enrollment(&world, &pump, 7);
    let EnrollmentHolder::New(new) = &mut elsewhere.holder else { panic!("a new one") };
    new.fleet = Some(plant);
    assert!(matches!(store.record_enrollment(elsewhere).await, Err(StoreError::Conflict)), "in another fleet");
    store.record_enrollment(enrollment(&world, &pump, 8)).await.unwrap();
    assert_eq!(state(&world, &pump).await, None);
    assert_eq!(store.hardware_of(&device("pump-7")).await.unwrap()[0].id, pump.hardware);
    // It is known: it does not ask again.
    let again = store.record_ask(ask(asking(1, "pump-9", 9), 9)).await;
    assert!(matches!(again, Err(StoreError::Conflict)), "{again:?}");
}

pub(crate) async fn what_asks_for_something_else_has_to_be_seen_again<P: Place>() {
    let world = World::<P>::new().await;
    let store = &world.store;
    let (first, second) = (asking(1, "pump-7", 1), asking(1, "pump-7", 2));
    store.record_ask(ask(first.clone(), 1)).await.unwrap();
    store.record_verdict(verdict(&first, Approved, 2)).await.unwrap();
    store.record_ask(ask(second.clone(), 3)).await.unwrap();
    assert_eq!(state(&world, &second).await, Some(Asked));
    for refused in [&first, &second] {
        assert!(matches!(store.record_enrollment(enrollment(&world, refused, 4)).await, Err(StoreError::Conflict)));
    }
    // It does not do so without end.
    let mut asked = 2;
    while store.record_ask(ask(asking(1, "pump-7", asked + 1), 5)).await.is_ok() {
        asked += 1;
    }
    assert_eq!(u32::from(asked), MOST_KEYS);
    // Another's key is nobody else's to ask with.
    let stolen = Asking { key: KeyFingerprint::of(&[asked]), ..asking(3, "pump-3", 0) };
    assert!(matches!(store.record_ask(ask(stolen, 6)).await, Err(StoreError::Exists(_))));
}

pub(crate) async fn what_waits_is_bounded_evicts_nobody_and_is_forgotten<P: Place>() {
    let world = World::<P>::new().await;
    let store = &world.store;
    let [one, two, three] = [asking(1, "a", 1), asking(2, "a", 2), asking(3, "c", 3)];
    store.record_ask(ask(one.clone(), 1)).await.unwrap();
    store.record_ask(ask(two.clone(), 2)).await.unwrap();
    assert!(matches!(store.record_ask(ask(three.clone(), 3)).await, Err(StoreError::Crowded)));
    // Who waits may go on asking, and two may wait for one name.
    store.record_ask(ask(one.clone(), 4)).await.unwrap();
    assert_eq!((state(&world, &one).await, state(&world, &two).await), (Some(Asked), Some(Asked)));
    assert_eq!(store.counts(at(4)).await.unwrap().devices, [(crate::inventory::device::Status::Pending, 2)]);
    // What is decided makes room.
    store.record_verdict(verdict(&two, Rejected, 5)).await.unwrap();
    assert!(matches!(store.record_ask(ask(two.clone(), 6)).await, Err(StoreError::Conflict)));
    store.record_ask(ask(three.clone(), 6)).await.unwrap();
    let query = NewcomerQuery { now: at(6), limit: 2, ..NewcomerQuery::default() };
    let page = store.newcomers(&query).await.unwrap();
    assert_eq!(page.iter().map(|row| &row.asking).collect::<Vec<_>>(), [&one, &two]);
    let after = page.last().map(|row| (row.asking.id.clone(), row.asking.hardware.clone()));
    let rest = store.newcomers(&NewcomerQuery { after, ..query.clone() }).await.unwrap();
    assert_eq!(rest.iter().map(|row| &row.asking).collect::<Vec<_>>(), [&three]);
    let named = NewcomerQuery { id: Some("c".parse().unwrap()), fleet: Some(fleet()), ..query.clone() };
    assert_eq!(store.newcomers(&named).await.unwrap(), rest);
    // A week later: shown no more, then gone, with a record of how many. An approval ends, too.
    store.record_verdict(verdict(&three, Approved, 7)).await.unwrap();
    let late = 8 * DAY;
    assert_eq!(store.newcomers(&NewcomerQuery { now: at(late), ..query }).await.unwrap(), []);
    assert!(matches!(store.record_enrollment(enrollment(&world, &three, late)).await, Err(StoreError::Conflict)));
    store.record_ask(ask(two.clone(), late)).await.unwrap();
    assert_eq!((state(&world, &one).await, state(&world, &two).await), (None, Some(Asked)));
    assert_eq!(actions(&world, "newcomers.expired").await, 1);
}

pub(crate) async fn what_waits_keeps_no_name_and_no_hardware_from_an_operator<P: Place>() {
    let world = World::<P>::new().await;
    let store = &world.store;
    let [one, two] = [asking(1, "pump-7", 1), asking(2, "pump-8", 2)];
    store.record_ask(ask(one.clone(), 1)).await.unwrap();
    store.record_ask(ask(two.clone(), 1)).await.unwrap();
    store.record_verdict(verdict(&two, Approved, 2)).await.unwrap();
    let register = |id: &str, hardware| {
        let row = Registration { hardware, ..Registration::from(world.new_holder(id, 3)) };
        store.record_registrations(vec![row], vec![draft(3, "device.registered")])
    };
    // Names, in whatever case.
    register("PUMP-7", vec![]).await.unwrap();
    register("pump-8", vec![]).await.unwrap();
    assert!(matches!(store.record_verdict(verdict(&one, Approved, 4)).await, Err(StoreError::Exists(_))));
    assert!(matches!(store.record_enrollment(enrollment(&world, &two, 4)).await, Err(StoreError::Conflict)));
    // Whoever asks under one does not learn that it is taken.
    let five = asking(5, "Pump-7", 5);
    store.record_ask(Ask { most: 3, ..ask(five.clone(), 4) }).await.unwrap();
    store.record_verdict(verdict(&five, Rejected, 4)).await.unwrap();
    // Hardware: what is registered waits no more.
    register("pump-9", vec![one.hardware.clone()]).await.unwrap();
    assert_eq!(state(&world, &one).await, None);
    // Only one of two that wait for one name is approved.
    let [three, four] = [asking(3, "x", 3), asking(4, "X", 4)];
    store.record_ask(ask(three.clone(), 5)).await.unwrap();
    store.record_ask(ask(four.clone(), 5)).await.unwrap();
    store.record_verdict(verdict(&three, Approved, 6)).await.unwrap();
    assert!(matches!(store.record_verdict(verdict(&four, Approved, 6)).await, Err(StoreError::Exists(_))));
}

pub(crate) async fn two_who_ask_with_one_identity_at_once_are_one<P: Place>() {
    let world = World::<P>::new().await;
    let attempts = (0..10).map(|n| {
        let store = world.store.clone();
        tokio::spawn(async move { store.record_ask(ask(asking(1, "pump-7", n), 1)).await })
    });
    for attempt in attempts.collect::<Vec<_>>() {
        attempt.await.unwrap().unwrap();
    }
    let query = NewcomerQuery { now: at(1), limit: 100, ..NewcomerQuery::default() };
    assert_eq!(world.store.newcomers(&query).await.unwrap().len(), 1);
}

pub(crate) async fn who_was_let_in_by_another_policy_is_not_recorded<P: Place>() {
    let world = World::<P>::new().await;
    let store = &world.store;
    let (first, second) = (Policy::default(), Policy { validity_secs: 600, ..Policy::default() });
    let registers = |n: u8, policy: &Policy| Enrollment {
        hardware: Some(HardwareId::Ek([n; 32])),
        policy: Some((fleet(), policy.clone())),
        ..world.enrollment(&format!("pump-{n}"), 3)
    };
    let approved =
        Enrollment { policy: Some((fleet(), first.clone())), ..enrollment(&world, &approved(&world).await, 3) };
    let early = registers(2, &first);
    store.record_policy(&fleet(), &first, &second, draft(3, "fleet.changed")).await.unwrap();
    for late in [early, approved] {
        let refused = store.record_enrollment(late).await;
        assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    }
    assert_eq!(state(&world, &asking(1, "pump-7", 1)).await, Some(Approved), "nothing is used up");
    store.record_enrollment(registers(2, &second)).await.unwrap();
    let mut nowhere = registers(3, &second);
    let EnrollmentHolder::New(new) = &mut nowhere.holder else { panic!("a new one") };
    new.fleet = None;
    assert!(matches!(store.record_enrollment(nowhere).await, Err(StoreError::Conflict)));
}

pub(crate) async fn who_was_rejected_is_not_recorded_until_that_is_forgotten<P: Place>() {
    let world = World::<P>::new().await;
    let store = &world.store;
    let pump = asking(1, "pump-7", 1);
    store.record_ask(ask(pump.clone(), 1)).await.unwrap();
    store.record_verdict(verdict(&pump, Rejected, 2)).await.unwrap();
    let registers = |secs| Enrollment {
        hardware: Some(pump.hardware.clone()),
        policy: Some((fleet(), Policy::default())),
        ..world.enrollment("board-1", secs)
    };
    let last = 2 + 7 * DAY;
    for secs in [3, last] {
        let refused = store.record_enrollment(registers(secs)).await;
        assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
        assert_eq!(state(&world, &pump).await, Some(Rejected));
    }
    store.record_enrollment(registers(last + 1)).await.unwrap();
    assert_eq!(state(&world, &pump).await, None);
}
