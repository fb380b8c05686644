//! CRLs and issuer certificates over plain HTTP: all of it is signed, and nothing of it is believed before it has
//! been verified.

use std::{fmt, io, str::FromStr, time::Duration};

use bytes::Bytes;
use http::{
    Method, Request, Response, StatusCode, Uri,
    header::{ETAG, HOST, IF_NONE_MATCH},
};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateRevocationListDer, pem::PemObject};
use tokio::{net::TcpStream, time::timeout};

use super::{
    Fetched, Form, SyncError,
    crl::Crl,
    form::IssuerId,
    state::{Kept, State},
    watch::{LONGEST_PATCH, patched},
};
use crate::{
    certificate::{Certificate, hex, sha256},
    trust::Roots,
    wall_time::WallTime,
};

/// The most that one answer may hold.
pub(super) const MOST_BYTES: usize = 1 << 30;
// Ten million entries of this CA fit, as PEM too: for nothing else would a gateway stop to take revocations in.
const _: () = assert!(10_000_000 * 48 / 48 * 65 < MOST_BYTES);
const MOST_CERTIFICATE_BYTES: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(30);

/// How HTTP fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// Not `http://host[:port][/path]`.
    #[error("a CRL server's URL has the form http://host:port")]
    Url,
    /// The network did not carry us there.
    #[error("{url} cannot be reached: {source}")]
    Unreachable {
        /// Where to.
        url: String,
        /// What the network said.
        source: io::Error,
    },
    /// The connection broke.
    #[error("{url}: {source}")]
    Broken {
        /// Where to.
        url: String,
        /// What happened.
        source: hyper::Error,
    },
    /// What answers there does not speak HTTP.
    #[error("{0}: not HTTP; CRLs have a port of their own (7080 by default)")]
    NotHttp(String),
    /// No answer for half a minute.
    #[error("{0} does not answer")]
    TimedOut(String),
    /// Not what was asked for.
    #[error("{url} answers {status}")]
    Status {
        /// Where to.
        url: String,
        /// What it says.
        status: StatusCode,
    },
    /// Larger than any CRL.
    #[error("{0} sends more than fits")]
    TooLarge(String),
}

impl HttpError {
    /// Whether another try may help.
    pub fn is_temporary(&self) -> bool {
        match self {
            HttpError::Unreachable { .. }
            | HttpError::Broken { .. }
            | HttpError::NotHttp(_)
            | HttpError::TimedOut(_) => true,
            HttpError::Status { status, .. } => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            HttpError::Url | HttpError::TooLarge(_) => false,
        }
    }
}

/// Where CRLs are served: `http://host[:port][/path]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    authority: String,
    host: String,
    port: u16,
    path: String,
}

impl FromStr for HttpUrl {
    type Err = HttpError;

    fn from_str(text: &str) -> Result<Self, HttpError> {
        let uri: Uri = text.parse().map_err(|_| HttpError::Url)?;
        let authority = uri.authority().ok_or(HttpError::Url)?;
        let host = authority.host();
        let port = match authority.as_str().strip_prefix(host).ok_or(HttpError::Url)? {
            "" => 80,
            port => port.strip_prefix(':').and_then(|port| port.parse().ok()).ok_or(HttpError::Url)?,
        };
        if uri.scheme_str() != Some("http") || host.is_empty() || uri.query().is_some() {
            return Err(HttpError::Url);
        }
        Ok(Self {
            authority: authority.to_string(),
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// Fetches CRLs and the certificates of their issuers. `known` is the file's content if it is as `kept` describes it.
pub(super) async fn fetch(
    url: &HttpUrl,
    roots: &Roots,
    form: &Form,
    known: Option<&[u8]>,
    kept: &State,
) -> Result<Fetched, SyncError> {
    let path = match form {
        Form::Bundle => "/crl/bundle.pem".to_owned(),
        Form::Fleet(name) => format!("/crl/fleet/{name}/bundle.pem"),
        Form::Full(issuer) => format!("/crl/{issuer}/full.pem"),
    };
    let is_same = kept.form == form.to_string() && kept.source == url.to_string();
    let known = known.filter(|_| is_same).zip(kept.etag.as_deref());
    let (mut crls, etag) = match known {
        Some((file, etag)) => up_to_date(url, form, &path, still_good(file, kept)?, etag).await?,
        None => whole(url, &path).await?,
    };
    if crls.is_empty() {
        return Err(SyncError::Empty);
    }
    // Wherever it came from: all of it is signed.
    if kept.form == form.to_string() {
        crls.extend(left_out(url, &crls, kept).await?);
    }
    let issuers = issuers(url, roots, &crls).await?;
    Ok(Fetched { crls, head_signatures: Vec::new(), roots: roots.clone(), issuers, is_closed: false, etag })
}

/// CRLs (DER), and what the server calls them together.
type Crls = (Vec<Vec<u8>>, Option<String>);

async fn whole(url: &HttpUrl, path: &str) -> Result<Crls, SyncError> {
    match get(url, path, MOST_BYTES).await? {
        Answer::Content { body, etag } => Ok((ders(&body)?, etag)),
        Answer::Unchanged => Err(SyncError::NotCrls("an answer to another question")),
    }
}

/// What the file holds of issuers whose certificates have not expired.
fn still_good(file: &[u8], kept: &State) -> Result<Vec<Vec<u8>>, SyncError> {
    let (mut held, now) = (Vec::new(), WallTime::now());
    for crl in ders(file)? {
        if kept.crls.get(&issuer_of(&crl)?).is_none_or(|kept| kept.issuer_not_after >= now) {
            held.push(crl);
        }
    }
    Ok(held)
}

/// What is held, if it is what is served; otherwise what patches make of it; and where that is not all that is served
/// now, the whole.
async fn up_to_date(url: &HttpUrl, form: &Form, path: &str, held: Vec<Vec<u8>>, etag: &str) -> Result<Crls, SyncError> {
    let served = match ask(url, Method::HEAD, path, Some(etag), 0).await {
        Ok(Answer::Unchanged) => return Ok((held, Some(etag.to_owned()))),
        Ok(Answer::Content { etag, .. }) => etag,
        // Something on the way that does not know HEAD.
        Err(HttpError::Status { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(served) = served
        && let Some(crls) = patched_all(url, held).await
        && is_tag_of(&served, form, &crls)
    {
        return Ok((crls, Some(served)));
    }
    whole(url, path).await
}

/// Each CRL as it is served now, made of the one that is held; `None` where there is a patch for one of them neither, nor
/// is it what is served. What comes of it is judged as any CRL.
async fn patched_all(url: &HttpUrl, held: Vec<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
    let mut crls = Vec::with_capacity(held.len());
    for old in held {
        let (issuer, number) = (issuer_of(&old).ok()?, Crl::parse(&old).ok()?.number.to_string());
        crls.push(match get(url, &format!("/crl/{issuer}/patch/{number}-current"), LONGEST_PATCH).await.ok()? {
            Answer::Unchanged => old,
            Answer::Content { body, .. } => patched(&body, &old).ok()?,
        });
    }
    Some(crls)
}

/// Whether the server calls just these CRLs so: then none is missing, and none is another one by now. Behind a bundle's own
/// stand those that the server has left out of it, and that are held on to.
fn is_tag_of(etag: &str, form: &Form, crls: &[Vec<u8>]) -> bool {
    if let (Form::Full(_), [crl]) = (form, crls) {
        return etag == format!("\"{}-pem\"", hex(&sha256(crl)));
    }
    let hashes: Vec<_> = crls.iter().map(|crl| sha256(crl)).collect();
    (1..=hashes.len()).any(|count| etag == format!("\"{}\"", hex(&sha256(&hashes[..count].concat()))))
}

/// The CRLs of a PEM text.
fn ders(pem: &[u8]) -> Result<Vec<Vec<u8>>, SyncError> {
    CertificateRevocationListDer::pem_slice_iter(pem)
        .map(|crl| Ok(crl.map_err(|_| SyncError::NotCrls("damaged PEM"))?.to_vec()))
        .collect()
}

fn issuer_of(crl: &[u8]) -> Result<IssuerId, SyncError> {
    let crl = Crl::parse(crl).map_err(SyncError::Unreadable)?;
    IssuerId::of_key_identifier(crl.authority_key).ok_or(SyncError::NotCrls("no issuer"))
}

/// The CRLs of issuing CAs that the file holds and the bundle does not any more. Nobody has said who sent it: what was
/// held is held on to for as long as there is a CRL of it, and its certificate has not expired. Where there is none the
/// verdict asks why.
async fn left_out(url: &HttpUrl, crls: &[Vec<u8>], kept: &State) -> Result<Vec<Vec<u8>>, SyncError> {
    let here: Vec<_> = crls.iter().map(|crl| issuer_of(crl)).collect::<Result<_, _>>()?;
    let (mut found, now) = (Vec::new(), WallTime::now());
    let is_gone = |id: &IssuerId| !here.contains(id);
    let counts = |crl: &Kept| crl.in_file && !crl.is_root && crl.issuer_not_after >= now;
    for (id, _) in kept.crls.iter().filter(|(id, crl)| counts(crl) && is_gone(id)) {
        match get(url, &format!("/crl/{id}/full.pem"), MOST_BYTES).await {
            Ok(Answer::Content { body, .. }) => found.extend(ders(&body)?),
            Ok(Answer::Unchanged) => return Err(SyncError::NotCrls("an answer to another question")),
            Err(HttpError::Status { status: StatusCode::NOT_FOUND, .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

/// The certificates of those issuers of `crls` that are no roots. Not verified here.
async fn issuers(url: &HttpUrl, roots: &Roots, crls: &[Vec<u8>]) -> Result<Vec<Certificate>, SyncError> {
    let is_root = |id: &IssuerId| roots.certificates().iter().any(|root| IssuerId::of(root) == *id);
    let mut issuers = Vec::new();
    for der in crls {
        let id = issuer_of(der)?;
        if is_root(&id) {
            continue;
        }
        match get(url, &format!("/issuers/{id}.cer"), MOST_CERTIFICATE_BYTES).await? {
            Answer::Content { body, .. } => issuers.push(Certificate::parse(&body)?),
            Answer::Unchanged => return Err(SyncError::NotCrls("an answer to another question")),
        }
    }
    Ok(issuers)
}

enum Answer {
    Unchanged,
    Content { body: Bytes, etag: Option<String> },
}

async fn get(url: &HttpUrl, path: &str, most: usize) -> Result<Answer, HttpError> {
    ask(url, Method::GET, path, None, most).await
}

/// `etag`: of what is held, which is not to come again.
async fn ask(url: &HttpUrl, method: Method, path: &str, etag: Option<&str>, most: usize) -> Result<Answer, HttpError> {
    let full = format!("{url}{path}");
    let late = |_| HttpError::TimedOut(full.clone());
    let response = timeout(PATIENCE, request(url, method, path, &full, etag)).await.map_err(late)??;
    match response.status() {
        // A patch of what is served already has no content.
        StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT => return Ok(Answer::Unchanged),
        StatusCode::OK => {}
        status => return Err(HttpError::Status { url: full, status }),
    }
    let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = timeout(PATIENCE, body.frame()).await.map_err(late)? {
        let frame = frame.map_err(|source| HttpError::Broken { url: full.clone(), source })?;
        let data = frame.into_data().unwrap_or_default();
        if bytes.len() + data.len() > most {
            return Err(HttpError::TooLarge(full));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Answer::Content { body: bytes.into(), etag })
}

async fn request(
    url: &HttpUrl,
    method: Method,
    path: &str,
    full: &str,
    etag: Option<&str>,
) -> Result<Response<Incoming>, HttpError> {
    let unreachable = |source| HttpError::Unreachable { url: full.to_owned(), source };
    let broken = |source: hyper::Error| match source.is_parse() {
        true => HttpError::NotHttp(full.to_owned()),
        false => HttpError::Broken { url: full.to_owned(), source },
    };
    let stream = TcpStream::connect((url.host.as_str(), url.port)).await.map_err(unreachable)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // It ends with the answer; what goes wrong in it, the answer tells.
    tokio::spawn(connection);
    let target = format!("{}{path}", url.path);
    let mut request = Request::builder().method(method).uri(target).header(HOST, &url.authority);
    if let Some(etag) = etag {
        request = request.header(IF_NONE_MATCH, etag);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|_| HttpError::Url)?;
    sender.send_request(request).await.map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let url: HttpUrl = "http://[::1]:7080/pki/".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port, url.path.as_str()), ("::1", 7080, "/pki"));
        assert_eq!(url.to_string(), "http://[::1]:7080/pki");
        assert_eq!("http://crl.example".parse::<HttpUrl>().unwrap().port, 80);
        for text in ["https://a", "a", "http://a:x", "http://u@a", "http://a?x"] {
            assert!(text.parse::<HttpUrl>().is_err(), "{text}");
        }
    }
}
