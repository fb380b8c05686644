//! OCSP requests, in a path or a body: whatever is asked, nobody is good but who was issued a certificate and has it still.

#![no_main]

use std::sync::LazyLock;

use axum::body::Body;
use base64::{Engine, prelude::BASE64_STANDARD};
use ca_server::{
    identity::SerialNumber,
    pki::{CaRole, IssuerCertificate, LONGEST_OCSP_REQUEST, OcspRequest, PeerCertificate},
};
use fleetca_fuzz::{
    element, variant,
    world::{DOMAIN, World},
};
use http::{Method, Request};
use http_body_util::BodyExt;
use libfuzzer_sys::fuzz_target;
use ring::digest::{SHA256, digest};
use tower::ServiceExt;

struct Real {
    world: World,
    /// For the server.
    request: Vec<u8>,
    /// The server's; nobody invents another that is good.
    good: SerialNumber,
}

static REAL: LazyLock<Real> = LazyLock::new(|| {
    let world = World::new();
    let issuer = IssuerCertificate::parse(world.certificate(CaRole::ControlCa)).expect("a CA certificate");
    let good = PeerCertificate::parse(&world.server, &DOMAIN.parse().expect("a trust domain")).expect("a leaf").serial;
    let sha256 = [6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
    let hash = |octets: &[u8]| element(4, digest(&SHA256, octets).as_ref());
    // A point on P-256 stands behind 26 octets.
    let (name, key) = (hash(issuer.subject_der()), hash(&issuer.public_key().spki_der()[26..]));
    let id = [element(0x30, &sha256), name, key, element(2, good.as_bytes())].concat();
    let list = element(0x30, &element(0x30, &element(0x30, &id)));
    let oid = [6, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2];
    let nonce = element(0x30, &[&oid[..], &element(4, &element(4, &[7; 16]))].concat());
    let tbs = [list, element(0xa2, &element(0x30, &nonce))].concat();
    Real { world, request: element(0x30, &element(0x30, &tbs)), good }
});

fuzz_target!(|input: &[u8]| {
    let Real { world, request, good } = &*REAL;
    let der = variant(request, input);
    let in_path = input.len() % 3 == 0 && !der.is_empty();
    let (method, uri) = match in_path {
        true => (Method::GET, format!("/ocsp/{}", BASE64_STANDARD.encode(&der).replace('/', "%2F"))),
        false => (Method::POST, "/ocsp".to_owned()),
    };
    let asked = Request::builder().method(method).uri(uri).body(Body::from(if in_path { Vec::new() } else { der.clone() }));
    let (status, body) = world.runtime.block_on(async {
        let answer = world.http.clone().oneshot(asked.expect("a request")).await.expect("services do not fail");
        let (head, body) = answer.into_parts();
        (head.status.as_u16(), body.collect().await.expect("a whole answer").to_bytes())
    });
    if !in_path && der.len() > LONGEST_OCSP_REQUEST {
        return assert_eq!(status, 413);
    }
    assert_eq!(status, 200);
    let Ok(read) = OcspRequest::read(&der) else { return assert_eq!(body[..], [0x30, 3, 0x0a, 1, 1]) };
    if let [0x30, 3, 0x0a, 1, failure] = body[..] {
        return assert!([3, 6].contains(&failure), "{failure}");
    }
    for id in read.ids() {
        let place = body.windows(id.der().len()).position(|octets| octets == id.der()).expect("each is answered");
        if body[place + id.der().len()] == 0x80 {
            assert!(id.serial() == Some(*good));
        }
    }
});
