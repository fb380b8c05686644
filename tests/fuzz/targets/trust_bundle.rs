//! Trust bundles: input is signed by the control root, so that what stands behind the signature is reached, too.

#![no_main]

use std::sync::LazyLock;

use ca_server::pki::CaRole;
use enroll_client::trust::{Roots, TrustBundle};
use fleetca_fuzz::{
    variant,
    world::{DOMAIN, World},
};
use fleetca_proto::{
    transcript,
    v1::{self, BundleSignature, SignedTrustBundle},
};
use libfuzzer_sys::fuzz_target;
use prost::Message;

static CA: LazyLock<(World, Roots)> = LazyLock::new(|| {
    let world = World::new();
    let roots = Roots::from_ders(&[world.certificate(CaRole::ControlRoot)]).expect("a root");
    (world, roots)
});

fuzz_target!(|input: &[u8]| {
    let (world, trusted) = &*CA;
    let real = world.issued.trust_bundle.as_ref().expect("a bundle");
    let domain = DOMAIN.parse().expect("a domain");
    let as_it_is = SignedTrustBundle { bundle: variant(&real.bundle, input), ..real.clone() };
    if TrustBundle::verify(&as_it_is, trusted, &domain, 0).is_ok() {
        assert_eq!(as_it_is.bundle, real.bundle, "a bundle that nobody signed");
    }
    let signer = &world.signers[&CaRole::ControlRoot];
    let signature = signer.sign(&transcript::trust_bundle(&as_it_is.bundle)).expect("a signature");
    let signatures = real.signatures.iter().map(|by| BundleSignature { signature: signature.clone(), ..by.clone() });
    let signed = SignedTrustBundle { signatures: signatures.collect(), ..as_it_is };
    let Ok(taken) = TrustBundle::verify(&signed, trusted, &domain, 1) else { return };
    let wire = v1::TrustBundle::decode(&*signed.bundle).expect("what is taken decodes");
    assert_eq!((wire.trust_domain.as_str(), wire.sequence), (DOMAIN, taken.sequence));
    assert!(taken.sequence >= 1);
    assert_eq!(wire.control_roots.len(), taken.control_roots.certificates().len());
    assert!(!taken.control_roots.certificates().is_empty() && !taken.device_roots.certificates().is_empty());
});
