//! Requests written with another hand than the one that reads them; what is made of them is read by OpenSSL in
//! `tests/tests/ocsp.rs`.

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5912::{ID_SHA_1, ID_SHA_256, ID_SHA_384};
use const_oid::db::rfc6960::ID_PKIX_OCSP_NONCE;
use proptest::prelude::*;

use super::*;
use crate::identity::{RevocationReason, SerialNumber, Timestamp};
use crate::pki::encode::{Der, INTEGER, NULL, OCTET_STRING, SEQUENCE, context, context_constructed};
use crate::pki::extensions::extension;
use crate::pki::fixture::{NOW, TestCa, serial};
use crate::pki::{CaRole, ResponderRequest};

fn id(issuer: &IssuerCertificate, oid: ObjectIdentifier, algorithm: &'static Algorithm, serial: &[u8]) -> Vec<u8> {
    Der::build(SEQUENCE, |id| {
        id.nest(SEQUENCE, |hash| {
            hash.oid(&oid);
            hash.primitive(NULL, &[]);
        });
        id.primitive(OCTET_STRING, digest(algorithm, issuer.subject_der()).as_ref());
        id.primitive(OCTET_STRING, digest(algorithm, issuer.public_key().raw()).as_ref());
        id.primitive(INTEGER, serial);
    })
}

fn sha1(ca: &TestCa, serial: &[u8]) -> Vec<u8> {
    id(ca.issuer.certificate(), ID_SHA_1, &SHA1_FOR_LEGACY_USE_ONLY, serial)
}

/// A request for these, with whatever else.
fn request(ids: &[Vec<u8>], before: impl FnOnce(&mut Der), after: impl FnOnce(&mut Der)) -> Vec<u8> {
    Der::build(SEQUENCE, |request| {
        request.nest(SEQUENCE, |tbs| {
            before(tbs);
            tbs.nest(SEQUENCE, |list| ids.iter().for_each(|id| list.nest(SEQUENCE, |single| single.raw(id))));
            after(tbs);
        });
    })
}

fn plain(ids: &[Vec<u8>]) -> Vec<u8> {
    request(ids, |_| (), |_| ())
}

fn with_extension(ids: &[Vec<u8>], oid: &ObjectIdentifier, critical: bool, value: &[u8]) -> Vec<u8> {
    let after = |tbs: &mut Der| {
        tbs.nest(context_constructed(2), |tagged| {
            tagged.nest(SEQUENCE, |list| extension(list, oid, critical, |content| content.raw(value)));
        });
    };
    request(ids, |_| (), after)
}

fn with_nonce(ids: &[Vec<u8>], nonce: &[u8]) -> Vec<u8> {
    let value = Der::build(OCTET_STRING, |content| content.raw(nonce));
    with_extension(ids, &ID_PKIX_OCSP_NONCE, false, &value)
}

#[test]
fn an_issuer_is_named_by_either_hash_and_no_other_is() {
    let (root, ca) = TestCa::hierarchy(CaRole::DeviceIssuing);
    let hashes = IssuerHashes::of(ca.issuer.certificate());
    let number = serial(7);
    let cases = [
        (id(ca.issuer.certificate(), ID_SHA_1, &SHA1_FOR_LEGACY_USE_ONLY, number.as_bytes()), true),
        (id(ca.issuer.certificate(), ID_SHA_256, &SHA256, number.as_bytes()), true),
        (id(root.issuer.certificate(), ID_SHA_256, &SHA256, number.as_bytes()), false),
        (id(ca.issuer.certificate(), ID_SHA_1, &SHA256, number.as_bytes()), false),
        (id(ca.issuer.certificate(), ID_SHA_384, &ring::digest::SHA384, number.as_bytes()), false),
    ];
    for (id, named) in cases {
        let read = OcspRequest::read(&plain(std::slice::from_ref(&id))).unwrap();
        assert_eq!((read.ids()[0].serial(), read.nonce()), (Some(number), None));
        assert_eq!(read.ids()[0].der(), id);
        assert_eq!(hashes.are_named_by(&read.ids()[0]), named);
    }
}

#[test]
fn serials_that_are_none_of_ours_are_read_as_nobodys_and_bad_numbers_not_at_all() {
    let ca = TestCa::root(CaRole::DeviceRoot);
    let read = |octets: &[u8]| OcspRequest::read(&plain(&[sha1(&ca, octets)])).map(|read| read.ids()[0].serial());
    assert_eq!(read(&[5]), Ok(Some(SerialNumber::from_bytes(5u128.to_be_bytes()))));
    assert_eq!(read(&[&[0], &[0xff; 16][..]].concat()), Ok(Some(SerialNumber::from_bytes([0xff; 16]))));
    for nobodys in [&[0x80][..], &[1; 17], &[1; 3000]] {
        assert_eq!(read(nobodys), Ok(None), "{} octets", nobodys.len());
    }
    for bad in [&[][..], &[0, 5], &[0xff, 0xff]] {
        assert_eq!(read(bad), Err(BadOcspRequest), "{bad:?}");
    }
}

#[test]
fn what_is_asked_beyond_the_bounds_is_refused() {
    let ca = TestCa::root(CaRole::DeviceRoot);
    let ids = vec![sha1(&ca, serial(1).as_bytes()); MOST_CERT_IDS + 1];
    assert_eq!(OcspRequest::read(&plain(&ids[1..])).unwrap().ids().len(), MOST_CERT_IDS);
    assert_eq!(OcspRequest::read(&plain(&ids)), Err(BadOcspRequest));
    assert_eq!(OcspRequest::read(&plain(&[])), Err(BadOcspRequest));
    assert_eq!(OcspRequest::read(&plain(&[sha1(&ca, &[1; LONGEST_OCSP_REQUEST])])), Err(BadOcspRequest));

    let ids = &ids[..1];
    for length in [1, 16, 32, 33, 128] {
        let nonce = vec![7; length];
        assert_eq!(OcspRequest::read(&with_nonce(ids, &nonce)).unwrap().nonce(), Some(&nonce[..]));
    }
    for length in [0, 129] {
        assert_eq!(OcspRequest::read(&with_nonce(ids, &vec![7; length])), Err(BadOcspRequest), "{length}");
    }
}

#[test]
fn what_must_not_be_passed_over_is_refused_and_the_rest_is_passed_over() {
    let ca = TestCa::root(CaRole::DeviceRoot);
    let ids = [sha1(&ca, serial(1).as_bytes())];
    let service_locator = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.7");
    assert!(OcspRequest::read(&with_extension(&ids, &service_locator, false, &[5, 0])).is_ok());
    assert_eq!(OcspRequest::read(&with_extension(&ids, &service_locator, true, &[5, 0])), Err(BadOcspRequest));
    // A nonce that is no OCTET STRING.
    assert_eq!(OcspRequest::read(&with_extension(&ids, &ID_PKIX_OCSP_NONCE, false, &[1, 2, 3])), Err(BadOcspRequest));
    let version = |number: u8| {
        let before = |tbs: &mut Der| tbs.nest(context_constructed(0), |tagged| tagged.primitive(INTEGER, &[number]));
        request(&ids, before, |_| ())
    };
    assert!(OcspRequest::read(&version(0)).is_ok());
    assert_eq!(OcspRequest::read(&version(1)), Err(BadOcspRequest));
    let named = |tbs: &mut Der| tbs.nest(context_constructed(1), |name| name.primitive(context(2), b"me.example"));
    assert!(OcspRequest::read(&request(&ids, named, |_| ())).is_ok());
    let mut longer = plain(&ids);
    longer.push(0);
    assert_eq!(OcspRequest::read(&longer), Err(BadOcspRequest));
    assert_eq!(OcspRequest::read(&[]), Err(BadOcspRequest));
}

#[test]
fn dates_have_four_digits_for_the_year_whatever_the_year() {
    let text = |secs| {
        let mut der = Der::default();
        der.generalized_time(Timestamp::from_secs(secs));
        let octets = der.into_bytes();
        assert_eq!(&octets[..2], [0x18, 15]);
        String::from_utf8(octets[2..].to_vec()).unwrap()
    };
    for (secs, expected) in [
        (0, "19700101000000Z"),
        (946_684_799, "19991231235959Z"),
        (946_684_800, "20000101000000Z"),
        (1_790_000_000, "20260921141320Z"),
        (2_524_607_999, "20491231235959Z"),
        (2_524_608_000, "20500101000000Z"),
    ] {
        assert_eq!(text(secs), expected);
    }
}

#[test]
fn no_root_has_a_responder() {
    let (root, ca) = TestCa::hierarchy(CaRole::DeviceIssuing);
    let request = ResponderRequest {
        key: &ca.key.public,
        serial: serial(9),
        not_before: NOW,
        not_after: NOW + std::time::Duration::from_secs(3600),
    };
    assert!(ca.issuer.prepare_responder(&request).is_ok());
    assert!(root.issuer.prepare_responder(&request).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        changes in proptest::collection::vec((0usize..1000, any::<u8>()), 1..4),
    ) {
        let _ = OcspRequest::read(&bytes);
        let ca = TestCa::root(CaRole::ControlRoot);
        let mut changed = with_nonce(&[sha1(&ca, serial(1).as_bytes())], &[7; 16]);
        for (at, octet) in changes {
            let at = at % changed.len();
            changed[at] = octet;
        }
        if let Ok(read) = OcspRequest::read(&changed) {
            let reason = RevocationReason::KeyCompromise;
            let status = OcspStatus::Revoked { at: NOW, reason };
            let answers: Vec<_> = read.ids().iter().map(|id| OcspAnswer { id, status }).collect();
            let (this_update, next_update) = (NOW, NOW);
            let key = &ca.key.public;
            OcspTemplate { key, this_update, next_update, answers: &answers, nonce: read.nonce() }.prepare();
        }
    }
}
