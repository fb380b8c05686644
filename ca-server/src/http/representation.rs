//! One version of one resource, and the response to a request for it.
//!
//! Bytes are made at most once, off the threads that serve, by whoever asks for them first; requests share them.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{
    HeaderMap, StatusCode,
    header::{
        ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, LAST_MODIFIED, RETRY_AFTER,
        VARY,
    },
};
use tokio::sync::{OnceCell, Semaphore};

use super::conditions::{Answer, Coding, Validators};

/// How many encodings are made at the same time. They never wait for requests, only for one another.
static WORKBENCHES: Semaphore = Semaphore::const_new(2);

/// What a resource is, whatever its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Media {
    /// Content-Type.
    pub(super) content_type: &'static str,
    /// Cache-Control.
    pub(super) cache_control: &'static str,
}

/// Makes a resource's bytes.
type Make = Box<dyn Fn() -> Bytes + Send + Sync>;

/// One version of one resource.
pub(super) struct Representation {
    media: Media,
    validators: Validators,
    make: Make,
    plain: OnceCell<Bytes>,
    gzipped: OnceCell<Bytes>,
}

impl Representation {
    /// Bytes that are there.
    pub(super) fn ready(media: Media, validators: Validators, bytes: Bytes) -> Arc<Self> {
        let make = Box::new(Bytes::new);
        Arc::new(Self { media, validators, make, plain: OnceCell::new_with(Some(bytes)), gzipped: OnceCell::new() })
    }

    /// Bytes that are made when somebody asks for them.
    pub(super) fn lazy(media: Media, validators: Validators, make: Make) -> Arc<Self> {
        Arc::new(Self { media, validators, make, plain: OnceCell::new(), gzipped: OnceCell::new() })
    }

    /// Answers a request. `get`: GET, and not HEAD.
    pub(super) async fn answer(self: &Arc<Self>, request: &HeaderMap, get: bool) -> Response {
        let answer = self.validators.decide(request, get);
        let bytes = match answer {
            Answer::Whole(Coding::Gzip) => self.bytes(Coding::Gzip).await,
            Answer::Whole(Coding::Identity) | Answer::Part(_) => self.bytes(Coding::Identity).await,
            Answer::NotModified(_) | Answer::PreconditionFailed => Some(Bytes::new()),
        };
        match bytes {
            Some(bytes) => self.respond(answer, bytes),
            None => short(StatusCode::SERVICE_UNAVAILABLE, "not available, try again"),
        }
    }

    /// Carries the decision out. `bytes`: the whole, in the form that was decided upon.
    fn respond(&self, answer: Answer, bytes: Bytes) -> Response {
        let (status, coding, body) = match answer {
            Answer::PreconditionFailed => return short(StatusCode::PRECONDITION_FAILED, "changed meanwhile"),
            Answer::NotModified(coding) => (StatusCode::NOT_MODIFIED, coding, Bytes::new()),
            Answer::Whole(coding) => (StatusCode::OK, coding, bytes.clone()),
            Answer::Part(range) => match range.within(bytes.len()) {
                Some(range) => (StatusCode::PARTIAL_CONTENT, Coding::Identity, bytes.slice(range)),
                None => (StatusCode::RANGE_NOT_SATISFIABLE, Coding::Identity, Bytes::new()),
            },
        };
        let mut response = Response::builder()
            .status(status)
            .header(ETAG, self.validators.entity_tag(coding))
            .header(LAST_MODIFIED, self.validators.http_date())
            .header(CACHE_CONTROL, self.media.cache_control)
            .header(VARY, "Accept-Encoding");
        if status != StatusCode::NOT_MODIFIED {
            response = response.header(CONTENT_TYPE, self.media.content_type).header(ACCEPT_RANGES, "bytes");
        }
        if status == StatusCode::OK && coding == Coding::Gzip {
            response = response.header(CONTENT_ENCODING, "gzip");
        }
        let content_range = match answer {
            Answer::Part(range) => match range.within(bytes.len()) {
                Some(range) => Some(format!("bytes {}-{}/{}", range.start, range.end - 1, bytes.len())),
                None => Some(format!("bytes */{}", bytes.len())),
            },
            _ => None,
        };
        if let Some(content_range) = content_range {
            response = response.header(CONTENT_RANGE, content_range);
        }
        response.body(Body::from(body)).unwrap_or_else(|_| short(StatusCode::INTERNAL_SERVER_ERROR, "internal error"))
    }

    /// The bytes in this form; made now if they never were. A caller that goes away stops nothing, and brings nobody
    /// to begin anew.
    async fn bytes(self: &Arc<Self>, coding: Coding) -> Option<Bytes> {
        if let Some(bytes) = self.cell(coding).get() {
            return Some(bytes.clone());
        }
        let this = self.clone();
        tokio::spawn(async move {
            match coding {
                Coding::Identity => this.plain().await,
                Coding::Gzip => this.gzipped().await,
            }
        })
        .await
        .ok()
        .flatten()
    }

    fn cell(&self, coding: Coding) -> &OnceCell<Bytes> {
        match coding {
            Coding::Identity => &self.plain,
            Coding::Gzip => &self.gzipped,
        }
    }

    async fn plain(self: &Arc<Self>) -> Option<Bytes> {
        let this = self.clone();
        self.plain.get_or_try_init(|| off_thread(move || (this.make)())).await.ok().cloned()
    }

    async fn gzipped(self: &Arc<Self>) -> Option<Bytes> {
        let plain = self.plain().await?;
        self.gzipped.get_or_try_init(|| off_thread(move || gzip(&plain))).await.ok().cloned()
    }
}

/// Works on a thread that may be busy for long.
async fn off_thread(work: impl FnOnce() -> Bytes + Send + 'static) -> Result<Bytes, ()> {
    let _workbench = WORKBENCHES.acquire().await.map_err(drop)?;
    tokio::task::spawn_blocking(work).await.map_err(drop)
}

/// The same bytes for the same bytes: no file name, no date.
fn gzip(bytes: &[u8]) -> Bytes {
    use std::io::Write;
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 2), Compression::fast());
    // Writing to memory does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default().into()
}

/// Bytes that few ask for: as they are, or not at all.
pub(super) fn once(media: Media, bytes: Bytes) -> Response {
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static(media.content_type));
    headers.insert(CACHE_CONTROL, http::HeaderValue::from_static(media.cache_control));
    response
}

/// There is nothing to send: for nobody to keep.
pub(super) fn empty() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    response
}

/// A response that is no resource: one line of text, for nobody to keep.
pub(super) fn short(status: StatusCode, text: &str) -> Response {
    let mut response = Response::new(Body::from(format!("{text}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, http::HeaderValue::from_static("1"));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use http::{
        HeaderName,
        header::{ACCEPT_ENCODING, IF_NONE_MATCH, RANGE},
    };
    use http_body_util::BodyExt;

    use super::*;
    use crate::identity::Timestamp;

    const TEXT: &[u8] = b"0123456789 0123456789 0123456789";

    fn representation() -> Arc<Representation> {
        let media = Media { content_type: "application/pkix-crl", cache_control: "max-age=5, must-revalidate" };
        let validators =
            Validators { tag: "t".into(), last_modified: Timestamp::from_secs(1_790_000_000), dated_apart: true };
        Representation::ready(media, validators, Bytes::from_static(TEXT))
    }

    async fn ask(representation: &Arc<Representation>, pairs: &[(HeaderName, &str)]) -> (StatusCode, HeaderMap, Bytes) {
        let request = pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        let (head, body) = representation.answer(&request, true).await.into_parts();
        (head.status, head.headers, body.collect().await.unwrap().to_bytes())
    }

    #[tokio::test]
    async fn the_whole_says_all_that_a_cache_needs() {
        let (status, headers, body) = ask(&representation(), &[]).await;
        assert_eq!((status, &body[..]), (StatusCode::OK, TEXT));
        for (name, value) in [
            (CONTENT_TYPE, "application/pkix-crl"),
            (ETAG, "\"t\""),
            (LAST_MODIFIED, "Mon, 21 Sep 2026 14:13:20 GMT"),
            (CACHE_CONTROL, "max-age=5, must-revalidate"),
            (VARY, "Accept-Encoding"),
            (ACCEPT_RANGES, "bytes"),
        ] {
            assert_eq!(headers[&name], value, "{name}");
        }
        assert!(!headers.contains_key(CONTENT_ENCODING) && !headers.contains_key(CONTENT_RANGE));
    }

    #[tokio::test]
    async fn the_gzipped_form_has_a_tag_of_its_own_and_unpacks_to_the_same() {
        let representation = representation();
        let (status, headers, body) = ask(&representation, &[(ACCEPT_ENCODING, "gzip")]).await;
        assert_eq!(
            (status, &headers[CONTENT_ENCODING], &headers[ETAG]),
            (StatusCode::OK, &"gzip".parse().unwrap(), &"\"t-gzip\"".parse().unwrap())
        );
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, TEXT);
        let (_, _, again) = ask(&representation, &[(ACCEPT_ENCODING, "gzip")]).await;
        assert_eq!(again.as_ptr(), body.as_ptr(), "served again without copying");
    }

    #[tokio::test]
    async fn a_part_is_never_gzipped() {
        let pairs = [(ACCEPT_ENCODING, "gzip"), (RANGE, "bytes=2-4")];
        let (status, headers, body) = ask(&representation(), &pairs).await;
        assert_eq!((status, &body[..]), (StatusCode::PARTIAL_CONTENT, &b"234"[..]));
        assert_eq!(
            (&headers[CONTENT_RANGE], &headers[ETAG]),
            (&"bytes 2-4/32".parse().unwrap(), &"\"t\"".parse().unwrap())
        );
        assert!(!headers.contains_key(CONTENT_ENCODING));
    }

    #[tokio::test]
    async fn a_range_outside_is_told_how_much_there_is() {
        let (status, headers, body) = ask(&representation(), &[(RANGE, "bytes=32-")]).await;
        assert_eq!(
            (status, body.len(), &headers[CONTENT_RANGE]),
            (StatusCode::RANGE_NOT_SATISFIABLE, 0, &"bytes */32".parse().unwrap())
        );
    }

    #[tokio::test]
    async fn not_modified_has_the_tag_and_no_body() {
        let (status, headers, body) = ask(&representation(), &[(IF_NONE_MATCH, "\"t\"")]).await;
        assert_eq!((status, body.len(), &headers[ETAG]), (StatusCode::NOT_MODIFIED, 0, &"\"t\"".parse().unwrap()));
        assert!(headers.contains_key(CACHE_CONTROL) && !headers.contains_key(CONTENT_TYPE));
    }

    #[tokio::test]
    async fn bytes_are_made_once_and_not_for_those_who_have_them() {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = made.clone();
        let make = move || {
            counter.fetch_add(1, Ordering::SeqCst);
            Bytes::from_static(TEXT)
        };
        let Representation { media, validators, .. } = &*representation();
        let lazy = Representation::lazy(*media, validators.clone(), Box::new(make));
        assert_eq!(ask(&lazy, &[(IF_NONE_MATCH, "\"t\"")]).await.0, StatusCode::NOT_MODIFIED);
        assert_eq!(made.load(Ordering::SeqCst), 0);
        let (one, two, three) = tokio::join!(
            ask(&lazy, &[]),
            ask(&lazy, &[(ACCEPT_ENCODING, "gzip")]),
            ask(&lazy, &[(RANGE, "bytes=0-0")])
        );
        assert_eq!((one.0, two.0, three.0), (StatusCode::OK, StatusCode::OK, StatusCode::PARTIAL_CONTENT));
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }
}
