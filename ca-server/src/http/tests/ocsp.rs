//! `/ocsp`, asked in-process: what is said, for how long, and what a crowd of strangers can't change about it. That
//! OpenSSL believes the answers is in `tests/tests/ocsp.rs`.

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::digest::{SHA256, digest};

use super::*;
use crate::{pki::IssuerCertificate, store::AuditQuery};

const SERIAL: [u8; 10] = [7; 10];
const MINUTE: Duration = Duration::from_secs(60);

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap();
    let head = if length < 0x80 { vec![tag, length] } else { vec![tag, 0x81, length] };
    [&head, content].concat()
}

/// A CertID, by SHA-256.
fn id(issuer: &IssuerCertificate, serial: &SerialNumber) -> Vec<u8> {
    let sha256 = [6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
    let hash = |octets: &[u8]| der(4, digest(&SHA256, octets).as_ref());
    let key = &issuer.public_key().spki_der()[26..];
    let fields = [der(0x30, &sha256), hash(issuer.subject_der()), hash(key), der(2, serial.as_bytes())].concat();
    der(0x30, &fields)
}

fn request(ids: &[&[u8]], nonce: Option<&[u8]>) -> Vec<u8> {
    let list: Vec<u8> = ids.iter().flat_map(|id| der(0x30, id)).collect();
    let list = if list.len() < 0x80 { der(0x30, &list) } else { long(&list) };
    let nonce = nonce.map(|nonce| {
        let oid = [6, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2];
        let extension = der(0x30, &[&oid[..], &der(4, &der(4, nonce))].concat());
        der(0xa2, &der(0x30, &extension))
    });
    long(&long(&[list, nonce.unwrap_or_default()].concat()))
}

/// A SEQUENCE of any length.
fn long(content: &[u8]) -> Vec<u8> {
    if content.len() < 0x100 {
        return der(0x30, content);
    }
    [&[0x30, 0x82][..], &u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
}

struct Asked {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Asked {
    /// What is said of whom this CertID names: `good`, `revoked` or `unknown`; or the failure's number.
    fn says(&self, id: &[u8]) -> &'static str {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/ocsp-response");
        match self.body[..] {
            [0x30, 3, 0x0a, 1, 1] => return "malformed",
            [0x30, 3, 0x0a, 1, 3] => return "try later",
            [0x30, 3, 0x0a, 1, 6] => return "unauthorized",
            _ => {}
        }
        let at = self.body.windows(id.len()).position(|window| window == id).expect("it answers for this one");
        match self.body[at + id.len()] {
            0x80 => "good",
            0xa1 => "revoked",
            0x82 => "unknown",
            other => panic!("{other:#x}"),
        }
    }

    fn has(&self, octets: &[u8]) -> bool {
        self.body.windows(octets.len()).any(|window| window == octets)
    }
}

impl World {
    fn issuer(&self) -> &IssuerCertificate {
        self.issuers.certificate(&self.device_ca).unwrap()
    }

    fn pump(&self) -> Vec<u8> {
        id(self.issuer(), &SerialNumber::new(NOW, SERIAL))
    }

    async fn post(&self, request: Vec<u8>) -> Asked {
        let request = Request::builder().method(Method::POST).uri("/ocsp").body(Body::from(request)).unwrap();
        let (status, headers, body) = parts(self.public.clone().oneshot(request).await.unwrap()).await;
        Asked { status, headers, body }
    }

    async fn says(&self, id: &[u8]) -> &'static str {
        self.post(request(&[id], None)).await.says(id)
    }

    async fn responders(&self) -> usize {
        let query = AuditQuery { action: Some("certificate.issued".into()), limit: 100, ..AuditQuery::default() };
        let records = self.store.audit_records(&query).await.unwrap();
        records.iter().filter(|kept| kept.record.detail.contains("\"by\":\"ocsp\"")).count()
    }
}

fn unknown(world: &World, number: u16) -> Vec<u8> {
    let mut random = [9; 10];
    random[..2].copy_from_slice(&number.to_be_bytes());
    id(world.issuer(), &SerialNumber::new(NOW, random))
}

#[tokio::test]
async fn every_way_to_ask_gives_the_same_answer_and_what_was_not_changed_is_not_sent_twice() {
    let world = World::new().await;
    let pump = world.pump();
    let question = request(&[&pump], None);
    let posted = world.post(question.clone()).await;
    assert_eq!((posted.status, posted.says(&pump)), (StatusCode::OK, "good"));
    let text = BASE64_STANDARD.encode(&question);
    let encoded = text.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D");
    for path in [format!("/ocsp/{text}"), format!("/ocsp/{encoded}"), format!("/ocsp//{}", text.trim_end_matches('='))]
    {
        let (status, headers, body) = world.get(&path, &[]).await;
        assert_eq!((status, &body), (StatusCode::OK, &posted.body), "{path}");
        assert_eq!(headers[header::CACHE_CONTROL], "max-age=5, public, no-transform, must-revalidate");
        assert_eq!(headers[header::LAST_MODIFIED], "Mon, 21 Sep 2026 14:13:20 GMT");
        assert_eq!(headers[header::EXPIRES], "Mon, 21 Sep 2026 14:23:20 GMT");
        let tag = headers[header::ETAG].to_str().unwrap().to_owned();
        let (status, headers, body) = world.get(&path, &[(header::IF_NONE_MATCH, &tag)]).await;
        assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
        assert_eq!(headers[header::ETAG], tag);
    }
    for path in ["/ocsp/x", "/ocsp/MA==", "/ocsp/%20"] {
        let (status, headers, body) = world.get(path, &[]).await;
        assert_eq!((status, &body[..]), (StatusCode::OK, &[0x30, 3, 0x0a, 1, 1][..]), "{path}");
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    }
    assert_eq!(world.get("/ocsp", &[]).await.0, StatusCode::METHOD_NOT_ALLOWED);
    let large = world.post(vec![0x30; crate::pki::LONGEST_OCSP_REQUEST + 1]).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn an_answer_is_never_behind_the_crl_and_what_was_never_issued_is_unknown() {
    let world = World::new().await;
    let (pump, nobody) = (world.pump(), unknown(&world, 1));
    assert_eq!((world.says(&pump).await, world.says(&nobody).await), ("good", "unknown"));
    // Kept, and true no more.
    world.revoke(NOW + Duration::from_secs(1)).await;
    let answer = world.post(request(&[&pump], None)).await;
    assert_eq!(answer.says(&pump), "revoked");
    // keyCompromise, since then.
    assert!(answer.has(b"20260921141321Z\xa0\x03\x0a\x01\x01"));
    let several = world.post(request(&[&nobody, &pump, &nobody], None)).await;
    assert_eq!((several.says(&nobody), several.says(&pump)), ("unknown", "revoked"));
    assert_eq!(several.headers[header::CACHE_CONTROL], "no-store");

    // Long after the entry has left the CRL.
    world.clock.set(NOW + Duration::from_secs(3 * 24 * 3600));
    world.publisher.publish_now(true).await.unwrap();
    assert_eq!(world.publisher.current(&world.device_ca).unwrap().entries, 0);
    assert_eq!(world.says(&pump).await, "revoked");
}

#[tokio::test]
async fn a_revocation_that_is_recorded_and_not_published_yet_is_told() {
    let world = World::new().await;
    let pump = world.pump();
    assert_eq!(world.says(&pump).await, "good");
    world.cut_off(NOW).await;
    assert_eq!(world.publisher.current(&world.device_ca).unwrap().entries, 0);
    assert_eq!(world.says(&pump).await, "revoked");
}

#[tokio::test]
async fn nobody_answers_for_other_issuers_nor_for_two_at_once() {
    let world = World::new().await;
    let pump = world.pump();
    let of = |role: CaRole| world.issuers.certificates().find(|(_, found, _)| *found == role).unwrap().2;
    for role in [CaRole::DeviceRoot, CaRole::ControlRoot] {
        let id = id(of(role), &SerialNumber::new(NOW, SERIAL));
        assert_eq!(world.says(&id).await, "unauthorized", "{role:?}");
    }
    // The control CA never issued this serial, the device CA did.
    let control = id(of(CaRole::ControlCa), &SerialNumber::new(NOW, SERIAL));
    assert_eq!(world.says(&control).await, "unknown");
    assert_eq!(world.post(request(&[&pump, &control], None)).await.says(&pump), "unauthorized");
}

#[tokio::test]
async fn a_nonce_is_repeated_and_its_answer_kept_by_nobody() {
    let world = World::new().await;
    let pump = world.pump();
    for nonce in [&b"a nonce of our own"[..], &[0x5a; 32], &[0x77]] {
        let answer = world.post(request(&[&pump], Some(nonce))).await;
        assert_eq!(answer.says(&pump), "good");
        assert!(answer.has(&der(4, &der(4, nonce))));
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
        assert!(!answer.headers.contains_key(header::ETAG));
    }
    assert!(!world.post(request(&[&pump], None)).await.has(b"a nonce of our own"));
    assert_eq!(world.post(request(&[&pump], Some(&[]))).await.says(&pump), "malformed");
}

#[tokio::test]
async fn a_flood_of_nonces_and_invented_serials_leaves_the_answers_for_certificates_alone() {
    let world = World::new().await;
    let pump = world.pump();
    let mut signed = 0;
    for number in 0..600 {
        let nobody = unknown(&world, number);
        match world.says(&nobody).await {
            "unknown" => signed += 1,
            says => assert_eq!(says, "try later"),
        }
    }
    assert_eq!(signed, 500, "what a second gives");
    assert_eq!(world.says(&pump).await, "good");
    let answer = world.post(request(&[&pump], Some(b"one nonce too many"))).await;
    assert_eq!(answer.says(&pump), "good");
    assert!(!answer.has(b"one nonce too many"), "the answer that everybody gets");
    world.clock.set(NOW + Duration::from_secs(1));
    assert_eq!(world.says(&unknown(&world, 1)).await, "unknown");
}

#[tokio::test]
async fn an_answer_is_signed_anew_when_half_of_its_time_is_over_and_its_signer_renews_itself() {
    let world = World::new().await;
    let pump = world.pump();
    let ask = async || world.post(request(&[&pump], None)).await.body;
    assert_eq!(world.responders().await, 0, "nobody has asked");
    let first = ask().await;
    world.clock.set(NOW + 4 * MINUTE);
    assert_eq!(ask().await, first);
    world.clock.set(NOW + 5 * MINUTE);
    let second = ask().await;
    assert_ne!(second, first);
    let certificate = |answer: &[u8]| answer[answer.len() - 300..].to_vec();
    assert_eq!(certificate(&second), certificate(&first), "by the same signer");
    assert_eq!(world.responders().await, 1);
    world.clock.set(NOW + 241 * MINUTE);
    assert_ne!(certificate(&ask().await), certificate(&first));
    assert_eq!(world.responders().await, 2);
    // A clock that steps back behind the certificate's beginning finds it not valid yet.
    world.clock.leap(NOW);
    assert_eq!(world.says(&pump).await, "good");
    assert_eq!(world.responders().await, 3);
}

#[tokio::test]
async fn a_ca_that_stands_still_answers_for_nobody() {
    let world = World::new().await;
    let pump = world.pump();
    assert_eq!(world.says(&pump).await, "good");
    world.publisher.halt().await;
    assert_eq!(world.says(&pump).await, "try later");
    assert_eq!(world.says(&unknown(&world, 1)).await, "try later");
}
