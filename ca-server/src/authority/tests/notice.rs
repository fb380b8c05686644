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
        let control = self.authority.issuers().control();
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
        abandoned(world.authority.acknowledge(&gateway.0, &[head], Shown::Loaded), looks).await;
        // What was handed to the store before this is committed when this is.
        let _ = world.authority.store.record_acknowledgements(Vec::new()).await;
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
        let told = world.authority.acknowledge(&device.0, std::slice::from_ref(&head), Shown::Loaded).await;
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
    let refused = world.authority.acknowledge(&gateway.0, &[forged, head], Shown::Loaded).await;
    assert!(matches!(refused.map_err(|refused| refused.why), Err(Refusal::CertificateForgotten)));
    assert!(world.authority.store.restorations().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_list_that_comes_to_light_after_its_loss_was_accepted_stays_where_it_is_and_is_told() {
    let world = World::new().await;
    let (gateway, head) = (world.gateway().await, world.lost_head(HOUR * 2));
    let crl = world.lost_crl(HOUR * 2, &[]);
    let world = world.loses(HOUR, HOUR * 3).await.resumes(true).await;
    world.at(HOUR * 4);
    world.authority.telemetry.take_events();
    let tell = async || {
        let told = world.authority.acknowledge(&gateway.0, std::slice::from_ref(&head), Shown::Loaded).await;
        told.map_err(|refused| refused.why)
    };
    assert!(matches!(tell().await, Err(Refusal::GivenUp)), "it takes no newer list");
    let events = world.authority.telemetry.take_events();
    let event = events.iter().find(|event| event.kind == "crl.given_up").expect("it is told");
    assert_eq!(event.subject, "gateway/eu-7");
    assert!(event.detail.contains(&format!("number {}", head.claimed.number)), "{event:?}");
    assert!(!world.authority.publisher.is_halted(), "everybody else goes on");
    take_back(world.authority.store.as_ref(), &[crl], world.authority.now()).await.unwrap();
    tell().await.unwrap();
}

#[tokio::test]
async fn what_a_gateways_program_has_not_taken_in_tells_of_a_past_and_counts_for_nothing_else() {
    let world = World::new().await;
    let (gateway, lost) = (world.gateway().await, world.lost_head(HOUR * 2));
    let world = world.loses(HOUR / 2, HOUR * 3).await.resumes(false).await;
    let crl = world.authority.publisher.current(&world.issuer()).unwrap();
    let (number, this_update, sha256) = (crl.number, crl.this_update, crl.sha256);
    let claimed = ClaimedCrl { issuer: crl.issuer, number, this_update, sha256 };
    let head = HeldCrl { claimed, signature: crl.head_signature.to_vec() };
    let eu_7 = Subject::new(Kind::Gateway, "eu-7".parse().unwrap());
    for (shown, counted) in [(Shown::InFile, None), (Shown::Loaded, Some(1))] {
        world.authority.acknowledge(&gateway.0, std::slice::from_ref(&head), shown).await.unwrap();
        assert_eq!(world.authority.word.all()[&eu_7].loaded.as_ref().map(|loaded| loaded.len()), counted);
    }
    let refused = world.authority.acknowledge(&gateway.0, &[lost], Shown::InFile).await;
    assert!(matches!(refused.map_err(|refused| refused.why), Err(Refusal::Restored)));
}

#[tokio::test]
async fn a_gateway_that_renewed_in_the_lost_time_is_taken_in_by_what_it_shows() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let world = world.loses(HOUR / 2, HOUR * 3).await.resumes(false).await;
    world.at(HOUR * 4);
    world.authority.acknowledge(&gateway.0, &[], Shown::Loaded).await.unwrap();
    assert!(world.authority.authenticate(&gateway.0).await.is_ok());
}

#[tokio::test]
async fn a_gateway_that_is_cut_off_tells_nothing_with_a_certificate_that_is_not_known() {
    let world = World::new().await;
    let eu_7 = Subject::new(Kind::Gateway, "eu-7".parse().unwrap());
    let (gateway, later) = (world.gateway().await, world.forgotten_of(&eu_7, HOUR * 2).await);
    let world = world.loses(HOUR / 2, HOUR * 3).await.resumes(false).await;
    world.authority.confirm(&gateway.0).await.unwrap();
    world.authority.revoke(&eu_7, RevocationReason::KeyCompromise, "operator/ana").await.unwrap();
    world.at(HOUR * 5);
    let head = world.lost_head(HOUR * 4);
    let refused = world.authority.acknowledge(&later.0, &[head], Shown::Loaded).await.map_err(|refused| refused.why);
    assert!(matches!(refused, Err(Refusal::Revoked)), "{refused:?}");
    assert!(!world.authority.publisher.is_halted());
}

#[tokio::test]
async fn a_restoration_that_is_noticed_by_a_clock_that_is_behind_can_be_settled() {
    let world = World::new().await;
    let (gateway, head) = (world.gateway().await, world.lost_head(HOUR * 9));
    let head = std::slice::from_ref(&head);
    world.at(HOUR * 3);
    let refused = world.authority.acknowledge(&gateway.0, head, Shown::Loaded).await;
    assert!(matches!(refused.map_err(|refused| refused.why), Err(Refusal::Restored)));
    let world = world.resumes(true).await;
    let refused = world.authority.acknowledge(&gateway.0, head, Shown::Loaded).await;
    assert!(matches!(refused.map_err(|refused| refused.why), Err(Refusal::GivenUp)));
    assert!(!world.authority.publisher.is_halted());
}

impl World {
    /// A gateway in force.
    pub(super) async fn enrolled_gateway(&self, id: &str) -> Device {
        let token = self.token(TokenFor::Gateway(id.parse().unwrap()), Duration::ZERO).await.unwrap();
        self.enroll_as(v1::Kind::Gateway, &token, id, &request()).await.unwrap()
    }

    /// A CRL of this issuer that the CA gave out at this time after the start, and has forgotten.
    pub(super) fn lost_head_of(&self, issuer: IssuerId, after: Duration) -> HeldCrl {
        let head = self.lost_head(after);
        let claimed = ClaimedCrl { issuer, ..head.claimed };
        HeldCrl { claimed, signature: sign_head(self.authority.issuers().control(), &claimed).unwrap() }
    }

    pub(super) fn device_root(&self) -> IssuerId {
        self.authority.issuers().device_root().unwrap().id()
    }
}

#[tokio::test]
async fn a_roots_crl_that_a_gateway_shows_and_that_was_forgotten_is_told_of_until_it_is_taken_in() {
    let world = World::new().await;
    let (gateway, root) = (world.enrolled_gateway("eu-7").await, world.device_root());
    world.at(HOUR * 2);
    let served = world.authority.publisher.current(&root).unwrap().number;
    let head = world.lost_head_of(root, HOUR);
    assert!(head.claimed.number > served);
    world.authority.telemetry.take_events();
    for _ in 0..2 {
        world.authority.acknowledge(&gateway.0, std::slice::from_ref(&head), Shown::Loaded).await.unwrap();
    }
    let events = world.authority.telemetry.take_events();
    let event = events.iter().find(|event| event.kind == "crl.root_forgotten").expect("it is told");
    assert_eq!((event.subject.as_str(), event.count), ("gateway/eu-7", 2));
    let query = crate::store::AuditQuery { limit: 9, action: Some("crl.root_forgotten".into()), ..Default::default() };
    assert_eq!(world.authority.store.audit_records(&query).await.unwrap().len(), 1, "once");
    assert!(!world.authority.publisher.is_halted(), "a root signs elsewhere");
    let world = world.restarted().await;
    assert_eq!(world.authority.publisher.forgotten_roots(), [(root, head.claimed.number)]);
    // What nobody has signed tells nothing.
    let forged = HeldCrl { signature: vec![7; 70], ..world.lost_head_of(root, HOUR * 9) };
    world.authority.acknowledge(&gateway.0, &[forged], Shown::Loaded).await.unwrap();
    assert_eq!(world.authority.publisher.forgotten_roots(), [(root, head.claimed.number)]);
    world.renew_root_crl().await;
    assert_eq!(world.authority.publisher.forgotten_roots(), []);
    world.authority.acknowledge(&gateway.0, &[head], Shown::Loaded).await.unwrap();
    assert_eq!(world.authority.publisher.forgotten_roots(), []);
}

#[tokio::test]
async fn a_list_of_an_issuing_ca_of_the_lost_time_stops_the_ca_until_somebody_has_decided_and_not_again() {
    let world = World::new().await;
    let gateway = world.enrolled_gateway("eu-7").await;
    let head = world.lost_head_of("0123456789abcdef".parse().unwrap(), HOUR * 2);
    world.at(HOUR * 3);
    let tell = async |world: &World| {
        let told = world.authority.acknowledge(&gateway.0, std::slice::from_ref(&head), Shown::Loaded).await;
        told.map_err(|refused| refused.why)
    };
    assert!(matches!(tell(&world).await, Err(Refusal::Restored)));
    for loss_accepted in [false, true] {
        let world = World::new().await;
        let gateway = world.enrolled_gateway("eu-7").await;
        let head = world.lost_head_of("0123456789abcdef".parse().unwrap(), HOUR * 2);
        let world = world.loses(HOUR, HOUR * 3).await.resumes(loss_accepted).await;
        world.authority.acknowledge(&gateway.0, &[head], Shown::Loaded).await.unwrap();
        assert!(!world.authority.publisher.is_halted());
        // Nothing is written down of an issuer that is not known.
        world.authority.keep_words().await;
        let kept = world.authority.store.gateways().await.unwrap();
        assert!(kept.iter().all(|row| row.loaded.is_empty()), "{kept:?}");
        let later = world.lost_head_of("0123456789abcdef".parse().unwrap(), HOUR * 9);
        let told = world.authority.acknowledge(&gateway.0, &[later], Shown::Loaded).await;
        assert!(matches!(told.map_err(|refused| refused.why), Err(Refusal::Restored)), "of no lost time");
    }
}
