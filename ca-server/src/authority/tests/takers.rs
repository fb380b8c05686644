//! Fleets that take devices that nobody registered: which one it is, and how often what they pin is read.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::*;
use crate::{
    attestation::AttestationError,
    identity::{FleetName, KeyFingerprint},
    inventory::{
        fleet::{Certificates, Method},
        unknown::{Unknown, UnknownDevices},
    },
};

/// A root, and the chain of a board below it.
fn maker(name: &str) -> (Vec<u8>, Vec<Vec<u8>>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).unwrap().der().to_vec();
    let leaf = CertificateParams::default();
    let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &Issuer::from_params(&params, &key)).unwrap();
    (root, vec![leaf.der().to_vec()])
}

fn policy(root: &[u8]) -> Policy {
    Policy {
        attest: vec![Method::Factory],
        factory_roots: Certificates(vec![root.to_vec()]),
        unknown: Unknown { devices: UnknownDevices::Pending, ..Unknown::default() },
        ..Policy::default()
    }
}

#[tokio::test]
async fn what_fleets_pin_is_read_once_until_they_change() {
    let world = World::new().await;
    let authority = &world.authority;
    let names: Vec<FleetName> = (0..80).map(|n| format!("fleet-{n}").parse().unwrap()).collect();
    let makers: Vec<_> = names.iter().map(|name| maker(name.as_str())).collect();
    for (name, (root, _)) in names.iter().zip(&makers) {
        authority.create_fleet(name, policy(root), "operator/ana").await.unwrap();
    }
    let roots = authority.factory_roots().await.unwrap();
    assert!(Arc::ptr_eq(&roots, &authority.factory_roots().await.unwrap()));
    assert_eq!(roots.keys().unwrap().len(), 80);
    let takers = authority.takers().await.unwrap();
    assert!(Arc::ptr_eq(&takers, &authority.takers().await.unwrap()));
    for (name, (_, chain)) in names.iter().zip(&makers) {
        assert_eq!(takers.taker(Method::Factory, chain).map(|taker| taker.name.clone()), Ok(name.clone()));
        assert!(takers.taker(Method::Tpm, chain).is_err());
    }
    let (_, stranger) = maker("fleet-7");
    assert_eq!(takers.taker(Method::Factory, &stranger).err(), Some(AttestationError::Unregistered));

    // What is changed counts from then on.
    let ban = |policy: &mut Policy| policy.banned_keys = vec![KeyFingerprint::of(b"key")];
    authority.change_policy(&names[7], ban, "operator/ana").await.unwrap();
    let changed = authority.takers().await.unwrap();
    assert!(!Arc::ptr_eq(&takers, &changed));
    let taker = changed.taker(Method::Factory, &makers[7].1).unwrap();
    assert_eq!(taker.policy.banned_keys, [KeyFingerprint::of(b"key")]);
    assert!(Arc::ptr_eq(&changed, &authority.takers().await.unwrap()));
    let close = |policy: &mut Policy| policy.unknown.devices = UnknownDevices::Refuse;
    authority.change_policy(&names[7], close, "operator/ana").await.unwrap();
    let closed = authority.takers().await.unwrap();
    let none = closed.taker(Method::Factory, &makers[7].1).err();
    assert_eq!(none, Some(AttestationError::Unregistered));
    let none =
        |policy: &mut Policy| (policy.attest, policy.factory_roots) = (vec![Method::Token], Certificates::default());
    authority.change_policy(&names[7], none, "operator/ana").await.unwrap();
    assert_eq!(authority.factory_roots().await.unwrap().keys().unwrap().len(), 79);
}
