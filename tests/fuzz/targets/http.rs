//! The plain HTTP port: any path, any headers. The first line is the path, every other one a header.

#![no_main]

use std::{io::Read, sync::LazyLock};

use axum::body::Body;
use ca_server::pki::{CaRole, IssuerCertificate};
use flate2::read::GzDecoder;
use fleetca_fuzz::world::World;
use http::{HeaderName, HeaderValue, Method, Request};
use http_body_util::BodyExt;
use libfuzzer_sys::fuzz_target;
use tower::ServiceExt;

static CA: LazyLock<(World, String, Vec<u8>)> = LazyLock::new(|| {
    let world = World::new();
    let issuer = IssuerCertificate::parse(world.certificate(CaRole::DeviceIssuing)).expect("a CA").id().to_string();
    let crl = world.crl(CaRole::DeviceIssuing);
    (world, issuer, crl)
});

fuzz_target!(|input: &[u8]| {
    let (world, issuer, crl) = &*CA;
    let mut lines = input.split(|octet| *octet == b'\n');
    let Ok(path) = std::str::from_utf8(lines.next().unwrap_or_default()) else { return };
    let path = path.replace("ISSUER", issuer);
    let is_crl = path == format!("/crl/{issuer}/full.crl");
    let mut request = Request::builder().uri(path);
    let mut ranged = false;
    for line in lines {
        let mut parts = line.splitn(2, |octet| *octet == b':');
        let name = HeaderName::from_bytes(parts.next().unwrap_or_default());
        let value = HeaderValue::from_bytes(parts.next().unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            ranged |= name == http::header::RANGE;
            request = request.header(name, value);
        }
    }
    let method = if input.len() % 7 == 0 { Method::HEAD } else { Method::GET };
    let Ok(request) = request.method(&method).body(Body::empty()) else { return };
    let (head, body) = world.runtime.block_on(async {
        let answer = world.http.clone().oneshot(request).await.expect("services do not fail");
        let (head, body) = answer.into_parts();
        (head, body.collect().await.expect("a whole answer").to_bytes())
    });
    let status = head.status.as_u16();
    assert!([200, 206, 304, 400, 404, 405, 412, 414, 416].contains(&status), "{status}");
    if !is_crl || method == Method::HEAD {
        return;
    }
    match status {
        200 if head.headers.get("content-encoding").is_some() => {
            let mut plain = Vec::new();
            GzDecoder::new(&*body).read_to_end(&mut plain).expect("gzip");
            assert_eq!(plain, *crl);
        }
        200 => assert_eq!(&*body, crl),
        206 => {
            assert!(ranged);
            let range = head.headers["content-range"].to_str().expect("text").strip_prefix("bytes ").expect("octets");
            let (range, length) = range.split_once('/').expect("a length");
            let (first, last) = range.split_once('-').expect("two ends");
            assert_eq!(length, crl.len().to_string());
            let (first, last): (usize, usize) = (first.parse().expect("a number"), last.parse().expect("a number"));
            assert_eq!(&*body, &crl[first..=last]);
        }
        304 => assert!(body.is_empty()),
        _ => {}
    }
});
