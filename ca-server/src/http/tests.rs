//! The apps over a real store and a real publisher, asked in-process; the accept loop over real sockets.

mod delta;
mod ocsp;

use std::{collections::HashMap, time::Duration};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tower::ServiceExt;

use super::*;
use crate::{
    audit::Draft,
    authority::{IssuerKeys, Plan, initialize},
    clock::ManualClock,
    config::Limits,
    identity::{FleetName, RevocationReason, SerialNumber, Subject, Timestamp},
    inventory::{device::Status, fleet::Policy, lineage::Lineage},
    pki::{CaRole, CrlScope, Holder, LeafRequest, Locations, ParsedCrl, PemLabel, from_pem},
    places::Places,
    signer::{Signer, SoftwareSigner},
    store::{Attested, Cutoff, Domain, Enrollment, EnrollmentHolder, NewHolder, Store, sqlite::SqliteStore},
};

const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);
const HANDLE: &str = "00112233445566778899aabbccddeeff";
const CRL: &str = "application/pkix-crl";

struct World {
    _dir: tempfile::TempDir,
    store: Arc<SqliteStore>,
    clock: Arc<ManualClock>,
    issuers: Arc<Issuers>,
    publisher: Arc<Publisher>,
    device_ca: IssuerId,
    public: Router,
}

fn signer() -> Arc<dyn Signer> {
    Arc::new(SoftwareSigner::generate().unwrap())
}

fn pump() -> Subject {
    "device/pump-7".parse().unwrap()
}

impl World {
    /// A CA with one fleet and one device.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(&dir.path().join("ca.db")).unwrap());
        let domain = Domain {
            trust_domain: "fleet.example".parse().unwrap(),
            public_url: "http://ca.fleet.example:7080".into(),
        };
        let signers: HashMap<_, _> = CaRole::ALL.into_iter().map(|place| (place, signer())).collect();
        let plan = Plan {
            foreign: None,
            domain: domain.clone(),
            signers: signers.clone(),
            server: ("ca".parse().unwrap(), vec!["localhost".parse().unwrap()], signer().public_key().clone()),
            operator: ("ana".parse().unwrap(), signer().public_key().clone()),
            backdate: Duration::from_secs(300),
            now: NOW,
        };
        store.record_initialization(initialize(plan).unwrap().record).await.unwrap();
        let rows = store.issuers().await.unwrap();
        let keys: IssuerKeys = rows.iter().map(|row| (row.id, signers[&row.role].clone())).collect();
        let issuers = Arc::new(Issuers::new(&domain, &rows, keys).unwrap());
        let clock = Arc::new(ManualClock::new(NOW));
        let locations = Locations::new(&domain.public_url).unwrap();
        let publisher =
            Publisher::start(store.clone(), clock.clone(), issuers.clone(), locations, Arc::default()).await.unwrap();
        let device_ca = issuers.publishing(NOW)[0];
        let public = app_over(store.clone(), clock.clone(), publisher.clone(), issuers.clone());
        let world = Self { _dir: dir, store, clock, issuers, publisher, device_ca, public };
        world.enroll().await;
        world
    }

    async fn enroll(&self) {
        let draft = || Draft::done(NOW, "test", "test", pump().to_string());
        let fleet: FleetName = "pumps".parse().unwrap();
        self.store.record_fleet(&fleet, &Policy::default(), draft()).await.unwrap();
        self.enroll_as(pump(), HANDLE, 7).await;
    }

    /// A device with a certificate whose serial number is of this octet.
    async fn enroll_as(&self, subject: Subject, handle: &str, octet: u8) {
        let draft = || Draft::done(NOW, "test", "test", subject.to_string());
        let fleet: FleetName = "pumps".parse().unwrap();
        let (key, serial) = (signer(), SerialNumber::new(NOW, [octet; 10]));
        let request = LeafRequest {
            holder: Holder::Device { id: &subject.id, fleet: &fleet },
            key: key.public_key(),
            serial,
            not_before: NOW,
            not_after: NOW + Duration::from_secs(24 * 3600),
            crl: CrlScope::Device(handle),
            policy: None,
            ocsp: false,
        };
        let holder = NewHolder {
            subject: subject.clone(),
            fleet: Some(fleet.clone()),
            role: None,
            handle: handle.into(),
            created_at: NOW,
        };
        let enrollment = Enrollment {
            holder: EnrollmentHolder::New(holder),
            lineage: Lineage::begun_by(serial),
            superseded: None,
            attested: Attested { method: "token".into(), tier: "bearer".into(), identity: "x".into() },
            hardware: None,
            approved: false,
            policy: None,
            local: false,
            token: None,
            assertion: None,
            came_by: None,
            certificate: self.issuers.online().nth(1).unwrap().sign_leaf(&request).unwrap(),
            at: NOW,
            audit: draft(),
        };
        self.store.record_enrollment(enrollment).await.unwrap();
    }

    /// Cuts the device off and publishes, at this second.
    async fn revoke(&self, at: Timestamp) {
        self.cut_off(at).await;
        self.publisher.publish_now(false).await.unwrap();
    }

    async fn cut_off(&self, at: Timestamp) {
        self.cut_off_as(pump(), at, Status::Revoked, RevocationReason::KeyCompromise).await;
    }

    async fn cut_off_as(&self, subject: Subject, at: Timestamp, status: Status, reason: RevocationReason) {
        self.clock.set(at);
        let cutoff = Cutoff {
            subject,
            status,
            reason,
            status_reason: String::new(),
            at,
            audit: Draft::done(at, "test", "device.revoked", pump().to_string()),
        };
        self.store.record_cutoff(cutoff).await.unwrap();
    }

    fn full(&self, form: &str) -> String {
        format!("/crl/{}/full.{form}", self.device_ca)
    }

    fn list(&self, form: &str) -> String {
        format!("/crl/{}/device/{HANDLE}.{form}", self.device_ca)
    }

    fn private(&self) -> Router {
        let (publisher, issuers) = (self.publisher.clone(), self.issuers.clone());
        private_app(self.store.clone(), publisher, issuers, Arc::default(), self.clock.clone())
    }

    async fn get(&self, path: &str, pairs: &[(header::HeaderName, &str)]) -> (StatusCode, HeaderMap, Bytes) {
        parts(ask(&self.public, Method::GET, path, pairs).await).await
    }
}

fn app_over(
    store: Arc<SqliteStore>,
    clock: Arc<ManualClock>,
    publisher: Arc<Publisher>,
    issuers: Arc<Issuers>,
) -> Router {
    let backdate = Duration::from_secs(300);
    let responder =
        OcspResponder::new(store.clone(), publisher.clone(), issuers.clone(), Arc::default(), clock, backdate);
    public_app(store, publisher, issuers, responder)
}

async fn ask(app: &Router, method: Method, path: &str, pairs: &[(header::HeaderName, &str)]) -> Response {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in pairs {
        request = request.header(name, *value);
    }
    app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn parts(response: Response) -> (StatusCode, HeaderMap, Bytes) {
    let (head, body) = response.into_parts();
    (head.status, head.headers, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn the_complete_crl_is_what_was_published() {
    let world = World::new().await;
    let (status, headers, body) = world.get(&world.full("crl"), &[]).await;
    let published = world.publisher.current(&world.device_ca).unwrap();
    assert_eq!(
        (status, &headers[header::CONTENT_TYPE], &body),
        (StatusCode::OK, &CRL.parse().unwrap(), &published.der)
    );
    let tag = headers[header::ETAG].to_str().unwrap().to_owned();
    let (status, _, pem) = world.get(&world.full("pem"), &[]).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(from_pem(PemLabel::Crl, std::str::from_utf8(&pem).unwrap()).unwrap(), [published.der.to_vec()]);

    let known = [(header::IF_NONE_MATCH, tag.as_str())];
    assert_eq!(world.get(&world.full("crl"), &known).await.0, StatusCode::NOT_MODIFIED);
    assert_eq!(world.get(&world.full("pem"), &known).await.0, StatusCode::OK, "another form, another tag");
    world.revoke(NOW + Duration::from_secs(1)).await;
    let (status, headers, body) = world.get(&world.full("crl"), &known).await;
    assert_eq!((status, ParsedCrl::parse(body.clone()).unwrap().entries().len()), (StatusCode::OK, 1));
    let date = headers[header::LAST_MODIFIED].to_str().unwrap();
    assert_eq!(date, "Mon, 21 Sep 2026 14:13:21 GMT");
    let since = [(header::IF_MODIFIED_SINCE, date)];
    assert_eq!(world.get(&world.full("crl"), &since).await.0, StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn every_answer_is_the_octets_that_lie_in_memory_and_no_copy_of_them() {
    let world = World::new().await;
    world.revoke(NOW + Duration::from_secs(1)).await;
    let published = world.publisher.current(&world.device_ca).unwrap();
    for _ in 0..2 {
        let (_, _, body) = world.get(&world.full("crl"), &[]).await;
        assert_eq!((body.as_ptr(), body.len()), (published.der.as_ptr(), published.der.len()));
    }
    let (_, _, part) = world.get(&world.full("crl"), &[(header::RANGE, "bytes=7-")]).await;
    assert_eq!(part.as_ptr(), published.der[7..].as_ptr());
}

#[tokio::test]
async fn a_revocation_in_the_second_of_the_last_crl_is_not_hidden_by_its_date() {
    let world = World::new().await;
    let (_, headers, _) = world.get(&world.full("crl"), &[]).await;
    let since = headers[header::LAST_MODIFIED].to_str().unwrap().to_owned();
    world.revoke(NOW + Duration::from_millis(500)).await;
    for path in [world.full("crl"), "/crl/bundle.pem".into()] {
        assert_eq!(world.get(&path, &[(header::IF_MODIFIED_SINCE, &since)]).await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_bundle_has_the_roots_crl_and_every_issuing_cas() {
    let world = World::new().await;
    let (status, headers, body) = world.get("/crl/bundle.pem", &[]).await;
    assert_eq!((status, &headers[header::CONTENT_TYPE]), (StatusCode::OK, &"application/x-pem-file".parse().unwrap()));
    let crls = from_pem(PemLabel::Crl, std::str::from_utf8(&body).unwrap()).unwrap();
    let published: Vec<_> = world.publisher.bundle().unwrap().iter().map(|crl| crl.der.to_vec()).collect();
    assert_eq!((crls.len(), crls), (2, published));
    let (status, _, fleets) = world.get("/crl/fleet/pumps/bundle.pem", &[]).await;
    assert_eq!((status, &fleets), (StatusCode::OK, &body));
    world.revoke(NOW + Duration::from_secs(1)).await;
    assert_ne!(world.get("/crl/bundle.pem", &[]).await.2, body);
}

#[tokio::test]
async fn a_devices_own_list_has_its_entries_and_nobody_elses() {
    let world = World::new().await;
    let entries = |der: &[u8]| ParsedCrl::parse(der.to_vec().into()).unwrap().entries().len();
    let (status, headers, body) = world.get(&world.list("crl"), &[]).await;
    assert_eq!((status, &headers[header::CONTENT_TYPE], entries(&body)), (StatusCode::OK, &CRL.parse().unwrap(), 0));
    world.revoke(NOW + Duration::from_secs(1)).await;
    let (_, headers, body) = world.get(&world.list("crl"), &[]).await;
    assert_eq!(entries(&body), 1);
    let known = [(header::IF_NONE_MATCH, headers[header::ETAG].to_str().unwrap())];
    assert_eq!(world.get(&world.list("crl"), &known).await.0, StatusCode::NOT_MODIFIED);
    let (_, _, pem) = world.get(&world.list("pem"), &[]).await;
    assert_eq!(from_pem(PemLabel::Crl, std::str::from_utf8(&pem).unwrap()).unwrap(), [body.to_vec()]);
}

#[tokio::test]
async fn a_patch_turns_an_older_crl_into_the_one_that_is_served() {
    let world = World::new().await;
    let before = world.publisher.current(&world.device_ca).unwrap();
    let path = |from: u64, to: &str| format!("/crl/{}/patch/{from}-{to}", world.device_ca);
    let status = |answer: (StatusCode, HeaderMap, Bytes)| answer.0;
    assert_eq!(status(world.get(&path(before.number, "current"), &[]).await), StatusCode::NO_CONTENT);
    world.revoke(NOW + Duration::from_secs(1)).await;
    world.publisher.publish_now(false).await.unwrap();
    let now = world.publisher.current(&world.device_ca).unwrap();
    for to in ["current".to_owned(), now.number.to_string()] {
        let (status, headers, body) = world.get(&path(before.number, &to), &[]).await;
        assert_eq!(
            (status, &headers[header::CONTENT_TYPE]),
            (StatusCode::OK, &"application/protobuf".parse().unwrap())
        );
        let patch = fleetca_proto::v1::CrlPatch::decode(body).unwrap();
        assert_eq!((patch.from, &patch.from_sha256[..], patch.number), (before.number, &before.sha256[..], now.number));
        let made = fleetca_proto::patch::apply(&patch.steps, &before.der, now.der.len()).unwrap();
        assert_eq!((made, &patch.sha256[..]), (now.der.to_vec(), &now.sha256[..]));
    }
    for (from, to) in
        [(1, "current"), (before.number, "1"), (now.number + 1, "current"), (before.number, "x"), (before.number, "-1")]
    {
        assert_eq!(status(world.get(&path(from, to), &[]).await), StatusCode::NOT_FOUND, "{from}-{to}");
    }
    // Whoever serves after a restart knows of no way from there.
    let locations = Locations::new("http://ca.fleet.example:7080").unwrap();
    let (store, clock, issuers) = (world.store.clone(), world.clock.clone(), world.issuers.clone());
    let again =
        Publisher::start(store.clone(), clock.clone(), issuers.clone(), locations, Arc::default()).await.unwrap();
    assert_eq!(again.current(&world.device_ca).unwrap().der, now.der);
    let app = app_over(store, clock, again, issuers);
    let answer = ask(&app, Method::GET, &path(before.number, "current"), &[]).await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_nothing_more_is_said() {
    let world = World::new().await;
    let (ca, other) = (world.device_ca, "0123456789abcdef");
    for path in [
        "/".to_owned(),
        "/crl".into(),
        format!("/crl/{other}/full.crl"),
        "/crl/../full.crl".into(),
        format!("/crl/{ca}/full.der"),
        format!("/crl/{ca}/delta.crl"),
        format!("/crl/{ca}/patch/"),
        format!("/crl/{ca}/patch/1"),
        format!("/crl/{ca}/patch/+1-2"),
        format!("/crl/{other}/patch/1-current"),
        format!("/crl/{other}/device/{HANDLE}.crl"),
        format!("/crl/{ca}/device/{HANDLE}"),
        format!("/crl/{ca}/device/{}.crl", HANDLE.replace('f', "0")),
        format!("/crl/{ca}/device/..%2f..%2ffull.crl"),
        "/crl/fleet/none/bundle.pem".into(),
        "/crl/fleet/-/bundle.pem".into(),
        format!("/issuers/{other}.cer"),
        format!("/issuers/{ca}"),
        "/metrics".into(),
    ] {
        let (status, _, body) = world.get(&path, &[]).await;
        assert_eq!((status, &body[..]), (StatusCode::NOT_FOUND, &b"not found\n"[..]), "{path}");
    }
}

#[tokio::test]
async fn every_issuers_certificate_is_served() {
    let world = World::new().await;
    for (id, _, certificate) in world.issuers.certificates() {
        let (status, headers, body) = world.get(&format!("/issuers/{id}.cer"), &[]).await;
        assert_eq!((status, &body[..]), (StatusCode::OK, certificate.der()));
        assert_eq!(headers[header::CONTENT_TYPE], "application/pkix-cert");
    }
}

#[tokio::test]
async fn only_get_and_head_are_answered() {
    let world = World::new().await;
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        let response = ask(&world.public, method, &world.full("crl"), &[]).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()[header::ALLOW], "GET,HEAD");
    }
    let (_, headers, whole) = world.get(&world.full("crl"), &[]).await;
    let range = [(header::RANGE, "bytes=0-3")];
    let (status, head, body) = parts(ask(&world.public, Method::HEAD, &world.full("crl"), &range).await).await;
    assert_eq!((status, body.len(), &head[header::ETAG]), (StatusCode::OK, 0, &headers[header::ETAG]));
    assert_eq!(head[header::CONTENT_LENGTH], whole.len().to_string());
}

#[tokio::test]
async fn ready_says_why_not() {
    let world = World::new().await;
    let app = world.private();
    let ready = async || parts(ask(&app, Method::GET, "/readyz", &[]).await).await;
    assert_eq!(ready().await.0, StatusCode::OK);
    world.clock.set(NOW + Duration::from_secs(8 * 24 * 3600));
    let (status, _, body) = ready().await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let reasons = std::str::from_utf8(&body).unwrap();
    assert_eq!(reasons.lines().count(), 2, "the issuing CAs' CRLs, not the roots': {reasons}");
    assert!(reasons.contains(&format!("issuer {}: its CRL was due", world.device_ca)), "{reasons}");
    assert_eq!(ask(&app, Method::GET, "/healthz", &[]).await.status(), StatusCode::OK);
    world.clock.leap(NOW - Duration::from_secs(660));
    let (_, _, body) = ready().await;
    let reasons = std::str::from_utf8(&body).unwrap();
    let ahead = format!("issuer {}: its CRL is dated {NOW}, and the clock says ", world.device_ca);
    assert!(reasons.contains(&ahead), "{reasons}");
    world.clock.leap(NOW - Duration::from_secs(540));
    assert_eq!(ready().await.0, StatusCode::OK);
    world.clock.leap(NOW + Duration::from_secs(9 * 24 * 3600));
    let (_, _, body) = ready().await;
    let reasons = std::str::from_utf8(&body).unwrap();
    assert!(reasons.starts_with("clock: it leapt: it says "), "{reasons}");
    let (_, headers, metrics) = parts(ask(&app, Method::GET, "/metrics", &[]).await).await;
    assert!(metrics.ends_with(b"# EOF\n"));
    assert!(headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("application/openmetrics-text"));
}

/// A server with room for so many connections, and what stops it.
async fn listen(app: Router, room: usize) -> (std::net::SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let places = Places::new("http", "connections", Limits::default().rules(room), Arc::default());
    let server = tokio::spawn(serve(listener, app, places, async {
        let _ = stopped.await;
    }));
    (address, stop, server)
}

async fn exchange(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

const LAST: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn a_connection_too_many_is_told_to_come_again_and_stopping_ends_those_that_idle() {
    let app = Router::new().route("/", get(|| async { "here" }));
    let (address, stop, server) = listen(app, 1).await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert!(idle.read(&mut [0; 16]).await.unwrap() > 0);
    let mut second = TcpStream::connect(address).await.unwrap();
    let mut refused = String::new();
    second.read_to_string(&mut refused).await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("retry-after: 5"), "{refused}");
    stop.send(()).unwrap();
    server.await.unwrap();
    while idle.read(&mut [0; 1024]).await.unwrap() > 0 {}
}

#[tokio::test]
async fn many_connections_from_one_address_make_room_for_another() {
    let app = Router::new().route("/", get(|| async { "here" }));
    let (address, _stop, _server) = listen(app, 4).await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let other = tokio::net::TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let answer = exchange(&mut other.connect(address).await.unwrap(), LAST).await;
    assert!(answer.ends_with("here"), "{answer}");
    assert_eq!(silent[0].read(&mut [0; 16]).await.unwrap_or(0), 0, "the first one has ended");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let (address, _stop, _server) = listen(Router::new(), 8).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let fields: String = (0..65).map(|n| format!("x-{n}: 1\r\n")).collect();
    let answer = exchange(&mut stream, &format!("GET / HTTP/1.1\r\n{fields}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}
