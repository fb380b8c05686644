//! What publishers and gateways ask for: CRL heads, trust bundles, changes, a device's own list.

use super::world::*;
use crate::{
    identity::{Kind, RevocationReason::Unspecified, Subject},
    inventory::device::Status::Revoked as Cut,
    store::*,
};

pub(crate) async fn crl_numbers_only_grow<P: Place>() {
    let world = World::<P>::new().await;
    let put = async |number, watermark, previous| {
        world.store.put_crl(crl(devices_ca(), number, watermark), previous, None).await
    };
    put(5, 0, None).await.unwrap();
    put(6, 3, Some(5)).await.unwrap();
    // Again, an equal number, a smaller one, a number that was read too early, and a CRL that forgets changes.
    for (number, watermark, previous) in
        [(5, 3, None), (6, 3, Some(6)), (4, 3, Some(6)), (8, 3, Some(5)), (8, 2, Some(6))]
    {
        let refused = put(number, watermark, previous).await;
        assert!(matches!(refused, Err(StoreError::Conflict)), "{number}: {refused:?}");
    }
    let mut whole = crl(devices_ca(), 9, 3);
    whole.der = Some(vec![9; 1000]);
    let records = world.audit().await.len();
    world.store.put_crl(whole.clone(), Some(6), Some(draft(9, "crl.published"))).await.unwrap();
    assert_eq!(world.store.crl_head(devices_ca()).await.unwrap(), Some(whole));
    assert_eq!(world.audit().await.len(), records + 1);
    let unknown = world.store.put_crl(crl(issuer("nobody"), 1, 0), None, None).await;
    assert!(matches!(unknown, Err(StoreError::NotFound("issuer"))), "{unknown:?}");
}

pub(crate) async fn the_first_crl_that_holds_a_change_is_known<P: Place>() {
    let world = World::<P>::new().await;
    world.enroll("a", 1).await;
    let mut previous = None;
    for (number, watermark) in [(5, 0), (6, 3), (7, 3), (9, 4)] {
        world.store.put_crl(crl(devices_ca(), number, watermark), previous, None).await.unwrap();
        previous = Some(number);
    }
    for (change, number) in [(1, Some(6)), (3, Some(6)), (4, Some(9)), (5, None)] {
        assert_eq!(world.store.first_to_hold(devices_ca(), change).await.unwrap(), number, "{change}");
    }
    assert_eq!(world.store.last_changes(&device("a"), at(2)).await.unwrap(), []);
    world.cut_off("a", Cut, Unspecified, 3).await;
    assert_eq!(world.store.last_changes(&device("a"), at(4)).await.unwrap(), [(devices_ca(), 1)]);
    let this_update = |number| crl(devices_ca(), number, 0).this_update;
    for (number, next) in [(4, Some(this_update(5))), (7, Some(this_update(9))), (9, None)] {
        assert_eq!(world.store.published_after(devices_ca(), number).await.unwrap(), next, "{number}");
    }
}

pub(crate) async fn trust_bundles_only_grow<P: Place>() {
    let world = World::<P>::new().await;
    let bundle = |sequence| TrustBundleRow { sequence, signed: vec![sequence as u8] };
    let put = async |sequence| {
        let (trust_bundle, audit) = (Some(bundle(sequence)), draft(1, "issuer.created"));
        let change = IssuerChange { new: None, standing: None, root_crl: None, trust_bundle, at: at(1), audit };
        world.store.record_issuer_change(change).await
    };
    put(7).await.unwrap();
    for sequence in [1, 6, 7] {
        assert!(matches!(put(sequence).await, Err(StoreError::Conflict)));
    }
    assert_eq!(world.store.trust_bundle().await.unwrap(), bundle(7));
}

pub(crate) async fn a_device_is_found_by_its_handle_where_it_has_certificates<P: Place>() {
    let world = World::<P>::new().await;
    let first = world.enroll("a", 1).await;
    let second = world.renew("a", 100).await;
    let by_handle = async |issuer, handle: &str| world.store.holder_by_handle(issuer, handle).await.unwrap();
    assert_eq!(by_handle(devices_ca(), &first.handle).await, Some(device("a")));
    assert_eq!(by_handle(issuer("control"), &first.handle).await, None);
    assert_eq!(by_handle(devices_ca(), "none").await, None);
    let serials = world.store.serials_of(&device("a"), devices_ca()).await.unwrap();
    assert_eq!(serials, [first.lineage.head.unwrap(), second.lineage.head.unwrap()]);
    let server = Subject::new(Kind::Server, "ca".parse().unwrap());
    assert_eq!(world.store.serials_of(&server, devices_ca()).await.unwrap(), []);
    assert_eq!(world.store.serials_of(&server, issuer("control")).await.unwrap().len(), 1);
}

pub(crate) async fn changes_come_in_order_from_any_number_on<P: Place>() {
    let world = World::<P>::new().await;
    for n in 0..5 {
        world.enroll(&format!("d{n}"), 1).await;
        world.cut_off(&format!("d{n}"), Cut, Unspecified, 2).await;
    }
    let all = world.changes().await;
    assert_eq!(all.len(), 5);
    assert_eq!(world.store.changes(devices_ca(), 2, 2).await.unwrap(), all[2..4]);
    assert_eq!(world.store.changes(devices_ca(), 5, 2).await.unwrap(), []);
    assert_eq!(world.store.last_change(devices_ca()).await.unwrap(), 5);
    assert_eq!(world.store.last_change(issuer("control")).await.unwrap(), 0);
    let unknown = world.store.last_change(issuer("nobody")).await;
    assert!(matches!(unknown, Err(StoreError::NotFound("issuer"))), "{unknown:?}");
}

pub(crate) async fn what_expires_within_a_time_is_found_by_when_it_does<P: Place>() {
    let world = World::<P>::new().await;
    for n in 0..3 {
        world.enroll(&format!("d{n}"), 1 + 10 * n).await;
        world.cut_off(&format!("d{n}"), Cut, Unspecified, 40).await;
    }
    let changes = world.changes().await;
    let ends: Vec<_> = changes.iter().map(|change| change.not_after).collect();
    let expired = async |from, until| {
        let mut serials = world.store.expired(devices_ca(), from, until).await.unwrap();
        serials.sort_unstable();
        serials
    };
    let mut serials: Vec<_> = changes.iter().map(|change| change.serial).collect();
    assert_eq!(expired(ends[0], ends[2]).await, serials[..2], "from the beginning, and before the end");
    assert_eq!(expired(ends[2], ends[2]).await, []);
    serials.sort_unstable();
    assert_eq!(expired(Timestamp::default(), ends[2] + std::time::Duration::from_millis(1)).await, serials);
    assert_eq!(world.store.expired(issuer("control"), Timestamp::default(), ends[2]).await.unwrap(), []);
}
