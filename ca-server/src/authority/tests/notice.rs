//! What a gateway shows of a past that this store has lost, and what comes of it.

use super::{
    super::notice::{HeldCrl, sign_head},
    publication::abandoned,
    *,
};
use crate::store::ClaimedCrl;

impl World {
    /// The gateway that shows something, with a certificate that it was given after the start.
    async fn gateway(&self) -> Device {
        self.forgotten_of(&Subject::new(Kind::Gateway, "eu-7".parse().unwrap()), HOUR).await
    }

    /// A CRL that the CA published at this time after the start, and has forgotten.
    fn lost_head(&self, after: Duration) -> HeldCrl {
        let this_update = (START + after).floor_secs();
        let number = this_update.millis() as u64;
        let claimed = ClaimedCrl { issuer: self.issuer(), number, this_update, sha256: [7; 32] };
        let control = self.authority.issuers().for_subject(&Subject::new(Kind::Gateway, "eu-7".parse().unwrap()));
        HeldCrl { claimed, signature: sign_head(control, &claimed).unwrap() }
    }
}

#[tokio::test]
async fn a_ca_whose_past_was_restored_stands_still_even_where_who_tells_it_goes_away() {
    let mut noticed = 0;
    for looks in 1..8 {
        let world = World::new().await;
        let (gateway, head) = (world.gateway().await, world.lost_head(HOUR * 2));
        world.at(HOUR * 3);
        abandoned(world.authority.acknowledge(&gateway.0, &[head]), looks).await;
        // What was handed to the store before this is committed when this is.
        let _ = world.authority.store.record_acknowledgement(&subject("nobody"), Vec::new()).await;
        if world.authority.store.restorations().await.unwrap().is_empty() {
            continue;
        }
        noticed += 1;
        let stands_still = async {
            while !world.authority.publisher.is_halted() {
                tokio::task::yield_now().await;
            }
        };
        let patience = tokio::time::timeout(Duration::from_secs(10), stands_still);
        patience.await.unwrap_or_else(|_| panic!("goes on after {looks} looks"));
    }
    assert!(noticed > 1, "abandoned too early each time");
}

#[tokio::test]
async fn only_a_gateway_that_is_one_still_tells_of_a_restored_past() {
    let world = World::new().await;
    let known = world.enroll("pump-1").await;
    let (lost, gateway) = (world.forgotten_of(&subject("pump-2"), HOUR).await, world.gateway().await);
    let head = world.lost_head(HOUR * 2);
    world.at(HOUR * 3);
    let tell = async |device: &Device| {
        let told = world.authority.acknowledge(&device.0, std::slice::from_ref(&head)).await;
        told.map_err(|refused| refused.why)
    };
    for device in [&known, &lost] {
        assert!(matches!(tell(device).await, Err(Refusal::KindRefused("device"))));
    }
    let stranger = World::new().await.gateway().await;
    assert!(matches!(tell(&stranger).await, Err(Refusal::CertificateUnknown)));
    world.at(DAY * 8);
    assert!(matches!(tell(&gateway).await, Err(Refusal::CertificateExpired)));
    assert!(world.authority.store.restorations().await.unwrap().is_empty());
    world.at(HOUR * 3);
    assert!(matches!(tell(&gateway).await, Err(Refusal::Restored)));
}

#[tokio::test]
async fn a_call_ends_at_the_first_head_that_nobody_signed() {
    let world = World::new().await;
    let (gateway, head) = (world.gateway().await, world.lost_head(HOUR * 2));
    world.at(HOUR * 3);
    let forged = HeldCrl { signature: vec![7; 70], ..head.clone() };
    let refused = world.authority.acknowledge(&gateway.0, &[forged, head]).await;
    assert!(matches!(refused.map_err(|refused| refused.why), Err(Refusal::CertificateUnknown)));
    assert!(world.authority.store.restorations().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_restoration_that_is_noticed_by_a_clock_that_is_behind_can_be_settled() {
    let world = World::new().await;
    let (gateway, head) = (world.gateway().await, world.lost_head(HOUR * 9));
    let head = std::slice::from_ref(&head);
    world.at(HOUR * 3);
    let refused = world.authority.acknowledge(&gateway.0, head).await;
    assert!(matches!(refused.map_err(|refused| refused.why), Err(Refusal::Restored)));
    let world = world.resumes(true).await;
    let refused = world.authority.acknowledge(&gateway.0, head).await;
    assert!(matches!(refused.map_err(|refused| refused.why), Err(Refusal::CertificateUnknown)));
    assert!(!world.authority.publisher.is_halted());
}
