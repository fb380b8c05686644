//! `/crl/<issuer>/delta.crl`: with any complete CRL since its base it makes the one that is served.

use std::collections::BTreeMap;

use der::{Decode, Encode, asn1::Uint, oid::AssociatedOid};
use x509_cert::{
    crl::CertificateList,
    ext::pkix::{BaseCrlNumber, CrlNumber, CrlReason},
};

use super::*;
use crate::store::Release;

const HOUR: Duration = Duration::from_secs(3600);

/// Serial numbers with all that is said of each.
type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

fn read(der: &[u8]) -> CertificateList {
    CertificateList::from_der(der).unwrap()
}

fn number<T: AssociatedOid>(crl: &CertificateList) -> Option<(bool, u64)> {
    let extension = crl.tbs_cert_list.crl_extensions.as_ref()?.iter().find(|extension| extension.extn_id == T::OID)?;
    let number = Uint::from_der(extension.extn_value.as_bytes()).unwrap();
    Some((extension.critical, number.as_bytes().iter().fold(0, |number, octet| number << 8 | u64::from(*octet))))
}

fn entries(crl: &CertificateList) -> Entries {
    let entries = crl.tbs_cert_list.revoked_certificates.iter().flatten();
    entries.map(|entry| (entry.serial_number.as_bytes().to_vec(), entry.to_der().unwrap())).collect()
}

/// What a complete CRL becomes by a delta, by the words of RFC 5280, section 5.2.4.
fn combined(complete: &CertificateList, delta: &CertificateList) -> Entries {
    let mut listed = entries(complete);
    for entry in delta.tbs_cert_list.revoked_certificates.iter().flatten() {
        let reason = entry.crl_entry_extensions.iter().flatten().find(|extension| extension.extn_id == CrlReason::OID);
        let reason = reason.map(|reason| CrlReason::from_der(reason.extn_value.as_bytes()).unwrap());
        let serial = entry.serial_number.as_bytes().to_vec();
        match reason {
            Some(CrlReason::RemoveFromCRL) => drop(listed.remove(&serial)),
            _ => drop(listed.insert(serial, entry.to_der().unwrap())),
        }
    }
    listed
}

impl World {
    fn delta_path(&self) -> String {
        format!("/crl/{}/delta.crl", self.device_ca)
    }

    /// Publishes at this time, and gives what is served then.
    async fn publish(&self, at: Timestamp) -> CertificateList {
        self.clock.set(at);
        self.publisher.publish_now(true).await.unwrap();
        read(&self.publisher.current(&self.device_ca).unwrap().der)
    }

    async fn release(&self, at: Timestamp) {
        let holder = self.store.holder(&pump()).await.unwrap().unwrap();
        let audit = Draft::done(at, "test", "device.released", pump().to_string());
        let release = Release { holder: holder.version, keep: None, lineage: holder.lineage, at, audit };
        self.store.record_release(release).await.unwrap();
    }

    async fn delta(&self) -> Option<CertificateList> {
        let (status, headers, body) = self.get(&self.delta_path(), &[]).await;
        if status == StatusCode::NOT_FOUND {
            return None;
        }
        assert_eq!((status, &headers[header::CONTENT_TYPE]), (StatusCode::OK, &CRL.parse().unwrap()));
        assert!(ParsedCrl::parse(body.clone()).is_err(), "nobody here takes it for a CRL");
        Some(read(&body))
    }
}

#[tokio::test]
async fn there_is_no_delta_unless_the_settings_have_it_nor_before_anything_has_changed() {
    let world = World::new().await;
    world.revoke(NOW + Duration::from_secs(1)).await;
    assert!(world.delta().await.is_none());
    world.publisher.offer_deltas();
    assert!(world.delta().await.is_some());
    let root = world.issuers.certificates().find(|(_, role, _)| role.is_root()).unwrap().0;
    assert_eq!(world.get(&format!("/crl/{root}/delta.crl"), &[]).await.0, StatusCode::NOT_FOUND);
    for path in ["delta.pem", "delta"] {
        let path = format!("/crl/{}/{path}", world.device_ca);
        assert_eq!(world.get(&path, &[]).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    let untouched = World::new().await;
    untouched.publisher.offer_deltas();
    assert!(untouched.delta().await.is_none());
}

#[tokio::test]
async fn with_any_complete_crl_since_its_base_a_delta_makes_the_one_that_is_served() {
    let world = World::new().await;
    world.publisher.offer_deltas();
    let base = read(&world.publisher.current(&world.device_ca).unwrap().der);
    let mut complete = vec![base.clone()];
    world.cut_off_as(pump(), NOW + HOUR, Status::Held, RevocationReason::CertificateHold).await;
    complete.push(world.publish(NOW + HOUR).await);
    assert_eq!(entries(&complete[1]).len(), 1);
    // Released: on the CRL in between, and neither on the base nor on the one that is served.
    world.release(NOW + 2 * HOUR).await;
    complete.push(world.publish(NOW + 2 * HOUR).await);
    assert_eq!(entries(&complete[2]).len(), 0);
    for at in [3, 4, 80] {
        let now = NOW + at * HOUR;
        if at == 3 {
            world.cut_off(now).await;
        }
        // At last its entry leaves, since it has expired long ago.
        complete.push(world.publish(now).await);
        let full = complete.last().unwrap();
        let delta = world.delta().await.unwrap();
        let (critical, from) = number::<BaseCrlNumber>(&delta).unwrap();
        assert!(critical);
        assert_eq!(number::<CrlNumber>(&delta), number::<CrlNumber>(full));
        assert_eq!(delta.tbs_cert_list.this_update, full.tbs_cert_list.this_update);
        assert_eq!(delta.tbs_cert_list.issuer, full.tbs_cert_list.issuer);
        let usable = complete.iter().filter(|crl| number::<CrlNumber>(crl).unwrap().1 >= from);
        let usable: Vec<_> = usable.collect();
        assert!(usable.len() > 1);
        for crl in usable {
            assert_eq!(combined(crl, &delta), entries(full), "{at}");
        }
    }
}

#[tokio::test]
async fn a_delta_is_signed_once_a_publication_and_not_while_the_ca_stands_still() {
    let world = World::new().await;
    world.publisher.offer_deltas();
    world.revoke(NOW + Duration::from_secs(1)).await;
    let (_, headers, first) = world.get(&world.delta_path(), &[]).await;
    let (_, _, second) = world.get(&world.delta_path(), &[]).await;
    assert_eq!(first, second);
    let tag = headers[header::ETAG].to_str().unwrap().to_owned();
    let again = world.get(&world.delta_path(), &[(header::IF_NONE_MATCH, &tag)]).await;
    assert_eq!(again.0, StatusCode::NOT_MODIFIED);
    let gzip = [(header::ACCEPT_ENCODING, "gzip")];
    let packed = world.get(&world.delta_path(), &gzip).await.2;
    assert_ne!(packed, first);
    assert_eq!(packed.as_ptr(), world.get(&world.delta_path(), &gzip).await.2.as_ptr(), "packed once");
    let bundle = world.get("/crl/bundle.pem", &[]).await.2;
    let bundle = from_pem(PemLabel::Crl, std::str::from_utf8(&bundle).unwrap()).unwrap();
    assert!(bundle.iter().all(|der| number::<BaseCrlNumber>(&read(der)).is_none()));
    world.publisher.halt().await;
    assert_eq!(world.get(&world.delta_path(), &[]).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_too_much_for_a_delta_makes_none_and_the_next_one_begins_there() {
    let world = World::new().await;
    world.publisher.offer_deltas_of(2);
    let base = number::<CrlNumber>(&read(&world.publisher.current(&world.device_ca).unwrap().der)).unwrap().1;
    let mut later = Vec::new();
    for (octet, expected) in
        [(1, Some(1)), (2, Some(2)), (3, None), (4, Some(1)), (5, Some(2)), (6, None), (8, Some(1))]
    {
        let subject: Subject = format!("device/pump-{octet}{octet}").parse().unwrap();
        world.enroll_as(subject.clone(), &format!("{octet:032x}"), octet).await;
        let at = NOW + Duration::from_secs(octet.into());
        world.cut_off_as(subject, at, Status::Revoked, RevocationReason::KeyCompromise).await;
        let full = world.publish(at).await;
        let (delta, begins) = (world.delta().await, number::<CrlNumber>(&full).unwrap().1);
        let named = delta.as_ref().map(|delta| entries(delta).len());
        assert_eq!(named, expected, "{octet}");
        if let Some(delta) = &delta {
            let from = number::<BaseCrlNumber>(delta).unwrap().1;
            assert_eq!(from, later.last().map_or(base, |(number, _)| *number), "{octet}");
            if let Some((_, complete)) = later.last() {
                assert_eq!(combined(complete, delta), entries(&full), "{octet}");
            }
        } else {
            assert!(world.delta().await.is_none(), "{octet}: and so it stays until the next publication");
            later.push((begins, full));
        }
    }
}
