//! One version of one resource, and the response to a request for it.
//!
//! What is in memory is served from there, PEM is written while it is sent; what is gzipped is so at most once, off the
//! threads that serve, by whoever asks for it first, and shared.

use std::{io::Write, ops::Range, sync::Arc};

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

use super::{
    armor::Armor,
    conditions::{Answer, Coding, Validators},
};

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

/// What is sent.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// As it is in memory.
    Bytes(Bytes),
    /// Written while it is sent.
    Armor(Armor),
}

impl Content {
    fn len(&self) -> usize {
        match self {
            Content::Bytes(bytes) => bytes.len(),
            Content::Armor(armor) => armor.len(),
        }
    }

    fn part(&self, range: Range<usize>) -> Body {
        match self {
            Content::Bytes(bytes) => bytes.slice(range).into(),
            Content::Armor(armor) => Body::new(armor.part(range)),
        }
    }

    /// The same bytes for the same bytes: no file name, no date.
    fn gzip(&self) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        // Writing to memory does not fail.
        let _ = match self {
            Content::Bytes(bytes) => encoder.write_all(bytes),
            Content::Armor(armor) => armor.pieces().try_for_each(|piece| encoder.write_all(piece.as_bytes())),
        };
        encoder.finish().unwrap_or_default().into()
    }
}

/// The gzipped form of one version, once somebody has asked for it.
pub(super) type Gzipped = Arc<OnceCell<Bytes>>;

/// One version of one resource.
#[derive(Clone, Debug)]
pub(super) struct Representation {
    media: Media,
    validators: Validators,
    content: Content,
    gzipped: Gzipped,
}

impl Representation {
    /// `gzipped`: of this very content, wherever else it is used.
    pub(super) fn new(media: Media, validators: Validators, content: Content, gzipped: Gzipped) -> Self {
        Self { media, validators, content, gzipped }
    }

    /// Answers a request. `get`: GET, and not HEAD.
    pub(super) async fn answer(&self, request: &HeaderMap, get: bool) -> Response {
        let answer = self.validators.decide(request, get);
        let length = self.content.len();
        let (status, coding, body) = match answer {
            Answer::PreconditionFailed => return short(StatusCode::PRECONDITION_FAILED, "changed meanwhile"),
            Answer::NotModified(coding) => (StatusCode::NOT_MODIFIED, coding, Body::empty()),
            Answer::Whole(Coding::Gzip) => match self.gzipped().await {
                Some(bytes) => (StatusCode::OK, Coding::Gzip, bytes.into()),
                None => return short(StatusCode::SERVICE_UNAVAILABLE, "not available, try again"),
            },
            Answer::Whole(Coding::Identity) => (StatusCode::OK, Coding::Identity, self.content.part(0..length)),
            Answer::Part(range) => match range.within(length) {
                Some(range) => (StatusCode::PARTIAL_CONTENT, Coding::Identity, self.content.part(range)),
                None => (StatusCode::RANGE_NOT_SATISFIABLE, Coding::Identity, Body::empty()),
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
            Answer::Part(range) => match range.within(length) {
                Some(range) => Some(format!("bytes {}-{}/{length}", range.start, range.end - 1)),
                None => Some(format!("bytes */{length}")),
            },
            _ => None,
        };
        if let Some(content_range) = content_range {
            response = response.header(CONTENT_RANGE, content_range);
        }
        response.body(body).unwrap_or_else(|_| short(StatusCode::INTERNAL_SERVER_ERROR, "internal error"))
    }

    /// The gzipped form; made now if it never was. A caller that goes away stops nothing, and brings nobody to begin anew.
    async fn gzipped(&self) -> Option<Bytes> {
        if let Some(bytes) = self.gzipped.get() {
            return Some(bytes.clone());
        }
        let (gzipped, content) = (self.gzipped.clone(), self.content.clone());
        let made = async move { gzipped.get_or_try_init(|| off_thread(move || content.gzip())).await.ok().cloned() };
        tokio::spawn(made).await.ok().flatten()
    }
}

/// Works on a thread that may be busy for long.
async fn off_thread(work: impl FnOnce() -> Bytes + Send + 'static) -> Result<Bytes, ()> {
    let _workbench = WORKBENCHES.acquire().await.map_err(drop)?;
    tokio::task::spawn_blocking(work).await.map_err(drop)
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
    use std::io::Read;

    use http::{
        HeaderName,
        header::{ACCEPT_ENCODING, IF_NONE_MATCH, RANGE},
    };
    use http_body_util::BodyExt;

    use super::*;
    use crate::identity::Timestamp;

    const TEXT: &[u8] = b"0123456789 0123456789 0123456789";

    fn representation() -> Representation {
        let media = Media { content_type: "application/pkix-crl", cache_control: "max-age=5, must-revalidate" };
        let validators =
            Validators { tag: "t".into(), last_modified: Timestamp::from_secs(1_790_000_000), dated_apart: true };
        Representation::new(media, validators, Content::Bytes(Bytes::from_static(TEXT)), Gzipped::default())
    }

    async fn ask(representation: &Representation, pairs: &[(HeaderName, &str)]) -> (StatusCode, HeaderMap, Bytes) {
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
    async fn what_is_gzipped_is_so_once_whoever_asks_and_not_for_those_who_have_it() {
        let Representation { media, validators, gzipped, .. } = representation();
        let armor = || Content::Armor(Armor::new(vec![Bytes::from_static(TEXT)]));
        let shared = || Representation::new(media, validators.clone(), armor(), gzipped.clone());
        let wants = (ACCEPT_ENCODING, "gzip");
        let has = (IF_NONE_MATCH, "\"t-gzip\"");
        assert_eq!(ask(&shared(), &[wants.clone(), has]).await.0, StatusCode::NOT_MODIFIED);
        assert_eq!(ask(&shared(), &[]).await.2.len(), armor().len());
        assert!(gzipped.get().is_none());
        let (one, two) = (shared(), shared());
        let (one, two) = tokio::join!(ask(&one, std::slice::from_ref(&wants)), ask(&two, std::slice::from_ref(&wants)));
        assert_eq!((one.0, one.2.as_ptr()), (StatusCode::OK, two.2.as_ptr()));
    }
}
