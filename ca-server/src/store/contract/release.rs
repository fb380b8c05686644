//! The end of a hold.

use super::world::*;
use crate::{
    identity::{
        RevocationReason::{CertificateHold, PrivilegeWithdrawn, Superseded, Unspecified},
        SerialNumber,
    },
    inventory::{
        device::Status::{Active, Held, Revoked as Cut},
        lineage::Position,
    },
    store::*,
};

fn release(holder: &Holder, keep: Option<SerialNumber>, secs: u64) -> Release {
    let lineage = keep.map_or(holder.lineage.clone(), |keep| holder.lineage.kept(keep));
    Release { holder: holder.version, keep, lineage, at: at(secs), audit: draft(secs, "device.released") }
}

pub(crate) async fn a_hold_that_ends_puts_everything_back_in_force<P: Place>() {
    let world = World::<P>::new().await;
    let first = world.enroll("a", 1).await;
    world.store.record_renewal(world.renewal(&first, 2)).await.unwrap();
    let second = world.holder("a").await;
    world.store.record_renewal(world.renewal(&second, 3)).await.unwrap();
    let before = world.holder("a").await;
    world.cut_off("a", Held, CertificateHold, 4).await;
    let held = world.holder("a").await;
    let receipt = world.store.record_release(release(&held, None, 5)).await.unwrap();
    let watermarks = vec![(devices_ca(), 5)];
    assert_eq!(receipt, CutoffReceipt { status: Active, certificates: 2, tokens: 0, watermarks, unreadable: 0 });
    let after = world.holder("a").await;
    assert_eq!((after.status, after.status_reason.as_str(), &after.lineage), (Active, "", &before.lineage));
    assert_eq!(world.revoked(after.lineage.head.unwrap()).await, None);
    assert_eq!(world.revoked(after.lineage.pending.unwrap()).await, None);
    assert_eq!(world.revoked(second.lineage.pending.unwrap()).await, Some(Superseded));
    let released: Vec<_> = world.changes().await.into_iter().filter(|change| change.revoked.is_none()).collect();
    assert_eq!(released.len(), 2);
    world.renew("a", 6).await;
}

pub(crate) async fn after_a_fork_one_certificate_stays<P: Place>() {
    let world = World::<P>::new().await;
    let former = world.enroll("a", 1).await.lineage.head.unwrap();
    let head = world.renew("a", 100).await.lineage.head.unwrap();
    world.cut_off("a", Held, CertificateHold, 200).await;
    let held = world.holder("a").await;
    let receipt = world.store.record_release(release(&held, Some(former), 300)).await.unwrap();
    assert_eq!((receipt.status, receipt.certificates), (Active, 2));
    assert_eq!(world.revoked(former).await, None);
    assert_eq!(world.revoked(head).await, Some(PrivilegeWithdrawn));
    let holder = world.holder("a").await;
    assert_eq!((holder.lineage.head, holder.expires_at), (Some(former), Some(at(1 + DAY))));
    let position = |row: Option<Peer>| row.unwrap().certificate.position;
    assert_eq!(position(world.store.peer(former).await.unwrap()), Position::Head);
    assert_eq!(position(world.store.peer(head).await.unwrap()), Position::Former);
}

pub(crate) async fn a_certificate_that_is_not_the_holders_cannot_be_kept<P: Place>() {
    let world = World::<P>::new().await;
    world.enroll("a", 1).await;
    let others = world.enroll("b", 1).await.lineage.head.unwrap();
    let expired = world.holder("a").await.lineage.head.unwrap();
    world.renew("a", 100).await;
    world.cut_off("a", Held, CertificateHold, 200).await;
    let held = world.holder("a").await;
    for (keep, secs) in [(others, 300), (expired, DAY + 2)] {
        let refused = world.store.record_release(release(&held, Some(keep), secs)).await;
        assert!(matches!(refused, Err(StoreError::NotFound("certificate"))), "{refused:?}");
    }
    assert_eq!(world.holder("a").await, held);
}

pub(crate) async fn only_what_is_held_and_unchanged_is_released<P: Place>() {
    let world = World::<P>::new().await;
    let active = world.enroll("a", 1).await;
    let refused = world.store.record_release(release(&active, None, 2)).await;
    assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    world.cut_off("a", Held, CertificateHold, 3).await;
    let held = world.holder("a").await;
    let refused = world.store.record_release(release(&active, None, 4)).await;
    assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    world.cut_off("a", Cut, Unspecified, 5).await;
    let refused = world.store.record_release(release(&held, None, 6)).await;
    assert!(matches!(refused, Err(StoreError::Conflict)), "{refused:?}");
    assert_eq!(world.holder("a").await.status, Cut);
}
