//! Answers that issue: whatever a server changes in one, what is taken is our certificate under our roots.

#![no_main]

use std::sync::LazyLock;

use ca_server::pki::CaRole;
use enroll_client::{
    identity::Kind,
    issued::{Expected, Issued},
    renewal::{Window, reconsider},
    trust::Roots,
    wall_time::WallTime,
};
use fleetca_fuzz::{
    signed_variant, variant,
    world::{DOMAIN, World},
};
use fleetca_proto::v1;
use libfuzzer_sys::fuzz_target;
use prost::Message;

static CA: LazyLock<(World, Vec<u8>, Roots)> = LazyLock::new(|| {
    let world = World::new();
    let roots = Roots::from_ders(&[world.certificate(CaRole::ControlRoot)]).expect("a root");
    let issued = world.issued.encode_to_vec();
    (world, issued, roots)
});

fuzz_target!(|input: &[u8]| {
    let (world, issued, trusted) = &*CA;
    // The whole answer, or a leaf in it that the CA has signed.
    let made_by_us = input.first().is_some_and(|kind| kind & 2 != 0);
    let wire = if made_by_us {
        let signer = world.signers[&CaRole::DeviceIssuing].as_ref();
        let mut wire = world.issued.clone();
        wire.chain[0] = signed_variant(&world.issued.chain[0], input, signer);
        wire
    } else {
        let Ok(wire) = v1::Issued::decode(&*variant(issued, input)) else { return };
        wire
    };
    if let Some(window) = wire.renewal_window.as_ref().and_then(Window::from_wire) {
        for random in [0, u64::MAX, 1 << 40] {
            let drawn = window.draw(random);
            assert!(window.not_before <= drawn && drawn <= window.not_after);
            assert!(reconsider(drawn, window, random).is_none_or(|earlier| earlier <= drawn));
        }
    }
    let (domain, id) = (DOMAIN.parse().expect("a domain"), "pump-7".parse().expect("an ID"));
    let spki = world.key.spki();
    let expected =
        Expected { trust_domain: &domain, kind: Kind::Device, id: Some(&id), spki: &spki, trusted, sequence: 1, device_roots: None };
    let Ok(taken) = Issued::verify(&wire, &expected, WallTime::now()) else { return };
    let leaf = &taken.chain[0];
    assert!(made_by_us || leaf.der().as_ref() == world.issued.chain[0]);
    assert_eq!((leaf.spki(), leaf.is_ca()), (spki.clone(), false));
    assert_eq!((taken.id, taken.trust_sequence), (id, 1));
    assert!(taken.window.not_before <= taken.window.not_after);
    assert_eq!(
        wire.trust_bundle.map(|bundle| bundle.bundle),
        world.issued.trust_bundle.clone().map(|bundle| bundle.bundle)
    );
});
