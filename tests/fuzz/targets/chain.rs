//! Chains that evidence is verified with, makers' and factories', with leaves and CAs that a trusted key has signed: what
//! leads to the root was signed below it.

#![no_main]

use std::{collections::BTreeSet, sync::LazyLock};

use ca_server::{
    attestation::chain::{Leaf, Pinned, Roots, Rules, Validity, verify},
    clock::{Clock, SystemClock},
    identity::KeyFingerprint,
    pki::CaRole,
};
use fleetca_fuzz::{signed_variant, split, world::World};
use libfuzzer_sys::fuzz_target;

static REAL: LazyLock<(World, Roots, Pinned)> = LazyLock::new(|| {
    let world = World::new();
    let roots = Roots::read([world.certificate(CaRole::DeviceRoot)]).expect("a root");
    let pinned = Pinned::read([world.certificate(CaRole::DeviceRoot)]).expect("a root");
    (world, roots, pinned)
});

fuzz_target!(|input: &[u8]| {
    let (world, roots, pinned) = &*REAL;
    let (leaf, issuing) = split(input);
    let signed_anew = [leaf, issuing].iter().any(|part| part.first().is_some_and(|kind| kind & 2 != 0));
    let real = &world.issued.chain;
    let chain = [
        signed_variant(&real[0], leaf, world.signers[&CaRole::DeviceIssuing].as_ref()),
        signed_variant(&real[1], issuing, world.signers[&CaRole::DeviceRoot].as_ref()),
    ];
    let banned = BTreeSet::new();
    let reached = pinned.reached(&chain);
    for validity in [Validity::Now, Validity::AtBirth] {
        let now = SystemClock.now();
        let rules = Rules { roots, leaf: Leaf::FactoryIdentity, validity, banned: &banned };
        let verified = verify(&chain, &rules, now);
        let Ok(verified) = verified else {
            assert!(chain != real[..2], "the real chain was refused");
            continue;
        };
        assert!(reached.as_ref().is_ok_and(|reached| reached.anchors.len() == 1), "a way that was not found");
        assert!(signed_anew || chain[0] == real[0], "a leaf that nobody signed");
        let ban = BTreeSet::from([verified.leaf_key()]);
        assert!(verify(&chain, &Rules { banned: &ban, ..rules }, now).is_err(), "its key was banned");
        let ours = KeyFingerprint::of(&world.key.spki());
        assert!(signed_anew || verified.leaf_key() == ours);
    }
});
