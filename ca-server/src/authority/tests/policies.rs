//! What certificates say was proven: what they descend from, whatever their holder has proven since.

use super::*;
use crate::store::{Attested, Enrollment, EnrollmentHolder};

async fn world() -> World {
    let mut world = World::new().await;
    world.authority = world.authority.with_policy_arc(Some("1.3.6.1.4.1.99999.1".parse().unwrap()));
    world
}

/// The number of the tier in a certificate.
fn tier(device: &Device) -> u8 {
    let policy = const_oid::ObjectIdentifier::new_unwrap("1.3.6.1.4.1.99999.1");
    let at = device.0.der.windows(policy.as_bytes().len()).position(|window| window == policy.as_bytes());
    device.0.der[at.expect("a policy") + policy.as_bytes().len()]
}

/// As if the device had proven itself by a TPM beside its head, and not confirmed what it got.
async fn raise(world: &World, id: &str) -> Device {
    let holder = world.authority.store.holder(&subject(id)).await.unwrap().unwrap();
    let terms = world.authority.terms(Kind::Device, holder.fleet.as_ref()).await.unwrap();
    let key = crate::pki::Csr::parse(&request().1).unwrap().into_public_key();
    let now = world.authority.now();
    let certificate =
        world.authority.sign_leaf(&holder.subject, &holder.handle, &terms, &key, Some(Tier::Hardware), now).unwrap();
    let der = certificate.der.clone();
    let record = Enrollment {
        holder: EnrollmentHolder::Known(holder.version),
        lineage: holder.lineage.issued(false, certificate.serial),
        superseded: None,
        attested: Attested { method: "tpm".into(), tier: "hardware".into(), identity: "ek".into() },
        hardware: None,
        approved: false,
        policy: None,
        local: false,
        token: None,
        assertion: None,
        came_by: None,
        audit: crate::audit::Draft::done(now, "test", "certificate.issued", holder.subject.to_string()),
        certificate,
        at: now,
    };
    world.authority.store.record_enrollment(record).await.unwrap();
    Device(PeerCertificate::parse(&der, &world.authority.domain().trust_domain).unwrap())
}

#[tokio::test]
async fn a_renewal_says_what_the_certificate_presented_said_though_its_holder_has_proven_more() {
    let world = world().await;
    let old = world.enroll("pump-1").await;
    let raised = raise(&world, "pump-1").await;
    assert_eq!((tier(&old), tier(&raised)), (1, 4));
    let holder = world.authority.store.holder(&subject("pump-1")).await.unwrap().unwrap();
    assert_eq!(holder.attested.and_then(|attested| attested.tier()), Some(Tier::Hardware));
    assert_eq!(tier(&world.renew(&old).await.unwrap()), 1, "a token's certificate stays a token's");
}

#[tokio::test]
async fn who_comes_back_by_an_expired_certificate_has_proven_no_more_than_it_said() {
    let world = world().await;
    let sleeper = previous::Sleeper::enroll(&world, "pump-1").await;
    world.at(DAY * 2);
    let (back, _) = sleeper.come_back(&world, request().0).await.unwrap();
    assert_eq!(tier(&back.device), 1);
}
