//! `/ocsp`: requests in a path or a body (RFC 6960, appendix A), answers as RFC 5019 has them cached.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::{Path, State},
    response::Response,
};
use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, LAST_MODIFIED},
};

use super::{
    conditions::{Answer, Coding, Validators, http_date},
    representation::short,
};
use crate::{
    authority::{OcspReply, OcspResponder, SignedReply},
    identity::KeyFingerprint,
    pki::{LONGEST_OCSP_REQUEST, OcspFailure},
};

/// Five seconds, as for CRLs, so that what stands between us and a gateway does not keep a revocation from it; RFC 5019
/// wants the rest.
const SHARED: &str = "max-age=5, public, no-transform, must-revalidate";
const NOBODYS: &str = "no-store";
/// How long a body may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// With padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `GET /ocsp/<base64>`: the base64 may have slashes in it, written so or encoded.
pub(super) async fn get(
    State(responder): State<Arc<OcspResponder>>,
    Path(text): Path<String>,
    headers: HeaderMap,
) -> Response {
    // A request begins with an M; some double the slash before it.
    let text = text.trim_start_matches('/');
    let fits = text.len() <= LONGEST_OCSP_REQUEST.div_ceil(3) * 4;
    let request = if fits { BASE64.decode(text).ok() } else { None };
    // What can't be decoded can't be read either.
    respond(responder.answer(&request.unwrap_or_default()).await, &headers)
}

/// `POST /ocsp`.
pub(super) async fn post(State(responder): State<Arc<OcspResponder>>, body: Body) -> Response {
    match read(body, PATIENCE).await {
        Ok(request) => respond(responder.answer(&request).await, &HeaderMap::new()),
        Err((status, why)) => short(status, why),
    }
}

/// A body, all of it: in time, however busily it comes, and no longer than a request may be.
async fn read(body: Body, patience: Duration) -> Result<Bytes, (StatusCode, &'static str)> {
    match tokio::time::timeout(patience, to_bytes(body, LONGEST_OCSP_REQUEST)).await {
        Ok(Ok(request)) => Ok(request),
        Ok(Err(_)) => Err((StatusCode::PAYLOAD_TOO_LARGE, "too large")),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "too slow")),
    }
}

fn respond(reply: OcspReply, request: &HeaderMap) -> Response {
    match reply {
        OcspReply::Failure(failure) => once(failure_bytes(failure)),
        OcspReply::Once(der) => once(der),
        OcspReply::Shared(reply) => shared(reply, request),
    }
}

fn failure_bytes(failure: OcspFailure) -> Bytes {
    failure.der().into()
}

fn once(der: Bytes) -> Response {
    response(StatusCode::OK, NOBODYS, der)
}

fn shared(reply: SignedReply, request: &HeaderMap) -> Response {
    let SignedReply { der, sha256, this_update, next_update } = reply;
    // Two answers may be of the same second.
    let tag = KeyFingerprint::from_bytes(sha256).to_string();
    let validators = Validators { tag, last_modified: this_update, dated_apart: false };
    let (status, body) = match validators.decide(request, false) {
        Answer::NotModified(_) => (StatusCode::NOT_MODIFIED, Bytes::new()),
        Answer::PreconditionFailed => return short(StatusCode::PRECONDITION_FAILED, "changed meanwhile"),
        Answer::Whole(_) | Answer::Part(_) => (StatusCode::OK, der),
    };
    let mut response = response(status, SHARED, body);
    let headers = response.headers_mut();
    for (name, value) in [
        (ETAG, validators.entity_tag(Coding::Identity)),
        (LAST_MODIFIED, validators.http_date()),
        (EXPIRES, http_date(next_update)),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}

fn response(status: StatusCode, cache_control: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if status == StatusCode::OK {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/ocsp-response"));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache_control));
    response
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::{StreamExt, stream};

    use super::*;

    /// Less than any test waits for.
    const SHORT: Duration = Duration::from_millis(20);
    /// More than any test takes: whoever runs into it never ends.
    const LONG: Duration = Duration::from_secs(600);

    fn octet() -> Result<Bytes, Infallible> {
        Ok(Bytes::from_static(&[0x30]))
    }

    #[tokio::test]
    async fn a_body_that_does_not_end_in_its_time_is_let_go() {
        let too_slow = Err((StatusCode::REQUEST_TIMEOUT, "too slow"));
        let silent = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        assert_eq!(read(silent, SHORT).await, too_slow);
        let stops = Body::from_stream(stream::iter([octet()]).chain(stream::pending()));
        assert_eq!(read(stops, SHORT).await, too_slow);
        // Each octet in time, and all of them not.
        let drips = stream::unfold(tokio::time::interval(SHORT / 10), |mut ticks| async {
            ticks.tick().await;
            Some((octet(), ticks))
        });
        assert_eq!(read(Body::from_stream(drips), SHORT).await, too_slow);
        // And what has no end comes to one by its length.
        let floods = Body::from_stream(stream::repeat_with(octet));
        assert_eq!(read(floods, LONG).await, Err((StatusCode::PAYLOAD_TOO_LARGE, "too large")));
        assert_eq!(read(Body::from("whole"), Duration::ZERO).await, Ok(Bytes::from_static(b"whole")));
    }
}
