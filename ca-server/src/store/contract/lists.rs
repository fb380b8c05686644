//! Lists: complete, in order, filtered, page by page.

use std::collections::BTreeSet;

use super::world::*;
use crate::{
    identity::{
        Kind,
        RevocationReason::{CertificateHold, Unspecified},
        Subject,
    },
    inventory::{
        device::Status::{self, Active, Held, Registered, Revoked as Cut},
        fleet::Policy,
    },
    store::*,
};

/// Twelve devices: of two fleets, of every age, some without a certificate, many with equal dates.
async fn populate<P: Place>() -> World<P> {
    let world = World::<P>::new().await;
    world.store.record_fleet(&"pumps".parse().unwrap(), &Policy::default(), draft(0, "fleet.created")).await.unwrap();
    for (n, id) in ["k", "b", "Z", "a.1", "a", "a-1", "x", "m", "M2", "c", "0", "y"].into_iter().enumerate() {
        let mut holder = world.new_holder(id, n as u64 % 4);
        if n % 3 == 0 {
            holder.fleet = Some("pumps".parse().unwrap());
        }
        if n % 4 == 3 {
            world.store.record_registrations(vec![holder.into()], vec![draft(1, "device.registered")]).await.unwrap();
            continue;
        }
        let mut enrollment = world.enrollment(id, n as u64 % 2 * 1000);
        enrollment.holder = EnrollmentHolder::New(holder);
        world.store.record_enrollment(enrollment).await.unwrap();
    }
    world.cut_off("k", Held, CertificateHold, 2000).await;
    world.cut_off("b", Cut, Unspecified, 2000).await;
    world
}

async fn every_page<P: Place>(world: &World<P>, mut query: DeviceQuery) -> Vec<Holder> {
    let mut found = Vec::new();
    loop {
        let page = world.store.devices(&query).await.unwrap();
        assert!(page.devices.len() <= query.limit as usize);
        found.extend(page.devices);
        if page.next.is_empty() {
            return found;
        }
        query.page_token = page.next;
    }
}

fn ids(devices: &[Holder]) -> Vec<&str> {
    devices.iter().map(|device| device.subject.id.as_str()).collect()
}

pub(crate) async fn every_device_is_listed_once_whatever_the_page_and_the_order<P: Place>() {
    let world = populate::<P>().await;
    for sort in [DeviceSort::Id, DeviceSort::ExpiresAt, DeviceSort::CreatedAt] {
        for descending in [false, true] {
            let query = |limit| DeviceQuery { sort, descending, limit, ..DeviceQuery::default() };
            let whole = every_page(&world, query(100)).await;
            let mut expected = whole.clone();
            expected.sort_by_key(|device| {
                let value = match sort {
                    DeviceSort::Id => None,
                    DeviceSort::ExpiresAt => device.expires_at,
                    DeviceSort::CreatedAt => Some(device.created_at),
                };
                (value, device.subject.id.clone())
            });
            if descending {
                expected.reverse();
            }
            assert_eq!(ids(&whole), ids(&expected), "{sort:?} {descending}");
            assert_eq!(ids(&whole).into_iter().collect::<BTreeSet<_>>().len(), 12);
            for limit in [1, 2, 3, 5, 11, 12, 13] {
                assert_eq!(every_page(&world, query(limit)).await, whole, "{sort:?} {descending} {limit}");
            }
        }
    }
}

pub(crate) async fn filters_together_leave_what_fits_all_of_them<P: Place>() {
    let world = populate::<P>().await;
    let all = every_page(&world, DeviceQuery { limit: 100, ..DeviceQuery::default() }).await;
    let (lapse, window) = (at(500 + DAY), (at(DAY), at(500 + DAY)));
    for fleet in [None, Some(fleet()), Some("pumps".parse().unwrap())] {
        for status in [None, Some(Active), Some(Held), Some(Cut), Some(Registered)] {
            for lapsed_at in [None, Some(lapse)] {
                for expiring in [None, Some(window)] {
                    let expired = |device: &Holder| device.expires_at.is_none_or(|expires| expires < lapse);
                    let in_window = |device: &Holder| {
                        device.expires_at.is_some_and(|expires| window.0 <= expires && expires < window.1)
                    };
                    let fits = |device: &&Holder| {
                        fleet.as_ref().is_none_or(|fleet| device.fleet.as_ref() == Some(fleet))
                            && status.is_none_or(|status| device.status == status)
                            && (lapsed_at.is_none() || device.status == Active && expired(device))
                            && (expiring.is_none() || in_window(device))
                    };
                    let expected: Vec<_> = all.iter().filter(fits).cloned().collect();
                    let fleet = fleet.clone();
                    let query = DeviceQuery { fleet, status, lapsed_at, expiring, limit: 2, ..DeviceQuery::default() };
                    assert_eq!(every_page(&world, query.clone()).await, expected, "{query:?}");
                }
            }
        }
    }
    let unknown = DeviceQuery { fleet: Some("nowhere".parse().unwrap()), limit: 1, ..DeviceQuery::default() };
    assert!(matches!(world.store.devices(&unknown).await, Err(StoreError::NotFound("fleet"))));
}

pub(crate) async fn a_page_of_another_order_is_refused<P: Place>() {
    let world = populate::<P>().await;
    let query = DeviceQuery { limit: 2, ..DeviceQuery::default() };
    let next = world.store.devices(&query).await.unwrap().next;
    let wrong = [
        DeviceQuery { page_token: next.clone(), descending: true, ..query.clone() },
        DeviceQuery { page_token: next.clone(), sort: DeviceSort::ExpiresAt, ..query.clone() },
        DeviceQuery { page_token: format!("{next}A"), ..query.clone() },
        DeviceQuery { page_token: "ä".into(), ..query.clone() },
    ];
    for query in wrong {
        let refused = world.store.devices(&query).await;
        assert!(matches!(refused, Err(StoreError::NotFound("page"))), "{query:?}: {refused:?}");
    }
}

pub(crate) async fn a_device_that_leaves_meanwhile_hides_no_other<P: Place>() {
    let world = populate::<P>().await;
    let query = DeviceQuery { status: Some(Active), limit: 3, ..DeviceQuery::default() };
    let first = world.store.devices(&query).await.unwrap();
    // The last one shown is active no more when the next page is asked for.
    let gone = first.devices[2].subject.id.to_string();
    let rest = DeviceQuery { page_token: first.next, limit: 100, ..query.clone() };
    let before = world.store.devices(&rest).await.unwrap().devices;
    world.cut_off(&gone, Cut, Unspecified, 3000).await;
    assert_eq!(world.store.devices(&rest).await.unwrap().devices, before);
}

pub(crate) async fn fleets_holders_and_tokens_are_paged_completely<P: Place>() {
    let world = populate::<P>().await;
    for n in 0..7 {
        let mut row = token(n, None, 1);
        row.fleet = Some(if n % 2 == 0 { fleet() } else { "pumps".parse().unwrap() });
        world.store.record_token(row, None, draft(1, "token.created")).await.unwrap();
        let subject = Subject::new(Kind::Gateway, format!("eu-{n}").parse().unwrap());
        let holder = NewHolder { subject, fleet: None, ..world.new_holder("any", 1) };
        world.store.record_registrations(vec![holder.into()], vec![draft(1, "gateway.registered")]).await.unwrap();
    }
    let fleets = world.store.fleets("", 1).await.unwrap();
    assert_eq!((fleets.len(), fleets[0].name.as_str(), fleets[0].device_count), (1, "pumps", 4));
    assert_eq!(world.store.fleets("pumps", 9).await.unwrap()[0].device_count, 8);

    let mut gateways = Vec::new();
    while let page = world.store.holders(Kind::Gateway, gateways.last().map_or("", String::as_str), 3).await.unwrap()
        && !page.is_empty()
    {
        gateways.extend(page.into_iter().map(|holder| holder.subject.id.to_string()));
    }
    assert_eq!(gateways, (0..7).map(|n| format!("eu-{n}")).collect::<Vec<_>>());

    let list = async |fleet: Option<&_>, limit| {
        let mut found: Vec<TokenRow> = Vec::new();
        while let page = world.store.tokens(fleet, found.last().map(|row| &row.id), limit).await.unwrap()
            && !page.is_empty()
        {
            found.extend(page);
        }
        found.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(list(None, 2).await, [6, 5, 4, 3, 2, 1, 0].map(token_id));
    assert_eq!(list(Some(&fleet()), 3).await, [6, 4, 2, 0].map(token_id));
    let unknown = world.store.tokens(None, Some(&token_id(99)), 1).await;
    assert!(matches!(unknown, Err(StoreError::NotFound("page"))), "{unknown:?}");
}

pub(crate) async fn counts_tell_the_lapsed_apart<P: Place>() {
    let world = populate::<P>().await;
    let count = async |secs| world.store.counts(at(secs)).await.unwrap();
    let counts = count(0).await;
    let of = |status: Status| counts.devices.iter().find(|(found, _)| *found == status).map_or(0, |(_, n)| *n);
    assert_eq!([Active, Held, Cut, Registered].map(of), [7, 1, 1, 3]);
    assert_eq!(counts.lapsed, 0);
    assert_eq!(count(DAY + 500).await.lapsed, 5);
    assert_eq!(count(DAY + 1001).await.lapsed, 7);
}
