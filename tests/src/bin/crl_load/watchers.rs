//! Gateways that watch while devices are revoked: what each of them is sent, and how far behind it is.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use ca_server::pki::{IssuerCertificate, ParsedCrl};
use enroll_client::{attester::token::JoinToken, connect::Connection};
use fleetca_proto::{
    patch,
    v1::{
        AcknowledgeRequest, CreateGatewayRequest, CrlHead, CrlPatch, HeldCrl, Kind, RevocationReason,
        RevokeDeviceRequest, WatchCrlRequest, enroll_request::Step, revocation_client::RevocationClient,
        watch_crl_request::Form, watch_crl_response::Part,
    },
};
use fleetca_tests::{
    admin::Admin,
    holder::Holder,
    http,
    measure::{cpu_of, percentile},
    server::Server,
    stranger::{self, Exchange, SubjectKey},
};
use futures::{StreamExt, TryStreamExt, stream::FuturesUnordered};
use prost::Message;
use prost_types::Timestamp;
use ring::digest::{SHA256, digest};
use serde_json::json;
use tokio::sync::watch;

/// How many of them make each CRL by its patch, and hash it.
const APPLYING: usize = 10;
/// Enrollments and handshakes at the same time.
const STREAMS: usize = 4;
/// Connections of the operator: each bears 64 calls.
const OPERATORS: usize = 8;

/// What is done.
pub struct Plan {
    pub gateways: usize,
    /// Devices that are revoked, each of the name `more-N`, so many a second.
    pub first: u32,
    pub revocations: u32,
    pub per_second: u32,
}

/// What everybody knows of a CRL once one has read it.
#[derive(Clone)]
struct Seen {
    at: Instant,
    head: CrlHead,
}

struct Shared {
    issuer: String,
    certificate: IssuerCertificate,
    seen: Mutex<BTreeMap<u64, Seen>>,
    news: watch::Sender<()>,
    /// The last CRL that is to come.
    end: watch::Sender<Option<u64>>,
}

/// What came of one gateway.
struct Watched {
    octets: usize,
    publications: usize,
    /// From the moment when the first gateway had it until this one's acknowledgement was answered; since when.
    lags: Vec<(Instant, Duration)>,
    applied: Option<ParsedCrl>,
}

/// Lets gateways watch the CRL of this issuer, which is `crl` now, while devices are revoked.
pub async fn run(server: &Server, pid: u32, issuer: &str, crl: Bytes, plan: &Plan) -> serde_json::Value {
    let (admin, strangers) = (Admin::of(server), stranger::connect(server).await);
    let enrolled = futures::stream::iter(0..plan.gateways);
    let gateways: Vec<Holder> =
        enrolled.map(|index| enroll(&admin, &strangers, index)).buffered(STREAMS).collect().await;
    let certificate = http::get(&server.http_url(&format!("/issuers/{issuer}.cer"))).ok();
    let shared = Arc::new(Shared {
        issuer: issuer.into(),
        certificate: IssuerCertificate::parse(&certificate).expect("a certificate"),
        seen: Mutex::default(),
        news: watch::Sender::new(()),
        end: watch::Sender::new(None),
    });
    let port = server.addresses().devices.port();
    let connect = |gateway: Holder| async move { gateway.connect_now(server, port).await.expect("it connects") };
    let connected = futures::stream::iter(gateways).map(connect).buffered(STREAMS).enumerate();
    let watch = |(index, channel)| {
        tokio::spawn(shared.clone().watch(RevocationClient::new(channel), crl.clone(), index < APPLYING))
    };
    let watching: Vec<_> = connected.map(watch).collect().await;

    let (began, cpu) = (Instant::now(), cpu_of(pid));
    let (last, mut latencies) = revoke(server, issuer, plan).await;
    shared.end.send_replace(Some(last));
    let watched: Vec<Watched> = futures::future::try_join_all(watching).await.expect("no gateway fails");
    let (wall, cpu) = (began.elapsed(), cpu_of(pid) - cpu);

    let served = http::get(&server.http_url(&format!("/crl/{issuer}/full.crl"))).ok();
    let applied: Vec<&ParsedCrl> = watched.iter().filter_map(|watched| watched.applied.as_ref()).collect();
    assert!(applied.iter().all(|crl| *crl.der() == served), "what the patches made is what is served");
    let publications = watched.iter().map(|watched| watched.publications).max().unwrap_or_default();
    let octets = watched.iter().map(|watched| watched.octets).max().unwrap_or_default();
    let half = began + wall / 2;
    let lags = |late: bool| -> Vec<Duration> {
        let all = watched.iter().flat_map(|watched| &watched.lags);
        all.filter(|(at, _)| (*at > half) == late).map(|(_, lag)| *lag).collect()
    };
    let (mut early, mut late) = (lags(false), lags(true));
    let ms = |time: Duration| (time.as_secs_f64() * 1e4).round() / 10.0;
    json!({
        "gateways": plan.gateways, "applying": applied.len(), "revocations": plan.revocations,
        "wall_s": wall.as_secs_f64().round(), "server_cpu_s": cpu.as_secs_f64().round(),
        "publications": publications, "acknowledgements": early.len() + late.len(),
        "octets_a_gateway": octets,
        "octets_a_revocation": octets.saturating_sub(1024 * publications) / plan.revocations as usize,
        "revoke_p50_ms": ms(percentile(&mut latencies, 0.5)), "revoke_p99_ms": ms(percentile(&mut latencies, 0.99)),
        "first_half_lag_p50_ms": ms(percentile(&mut early, 0.5)), "first_half_lag_p99_ms": ms(percentile(&mut early, 0.99)),
        "second_half_lag_p50_ms": ms(percentile(&mut late, 0.5)), "second_half_lag_p99_ms": ms(percentile(&mut late, 0.99)),
    })
}

async fn enroll(admin: &Admin, strangers: &Connection, index: usize) -> Holder {
    let (id, token, key) =
        (format!("eu-{index}"), JoinToken::generate().expect("a token is made"), SubjectKey::generate());
    let lifetime = Some(prost_types::Duration { seconds: 3600, nanos: 0 });
    let request = CreateGatewayRequest { id: id.clone(), public_key: token.public_key().to_vec(), lifetime };
    admin.client().create_gateway(request).await.expect("a gateway");
    let start = fleetca_proto::v1::Start { kind: Kind::Gateway.into(), ..stranger::start(&id, &token, &key) };
    let start = start.encode_to_vec();
    let mut exchange = Exchange::start(strangers, &start).await.expect("a stream");
    let challenge = exchange.challenge().await.expect("a challenge");
    exchange.send(Step::Proof(stranger::proof(&token, &key, &start, &challenge)));
    Holder::of(&exchange.issued().await.expect("a certificate"), &key)
}

/// Revokes one device after the other, each in its time, whether those before it are in force or not. The number of the
/// last CRL, and how long each took until it was in force.
async fn revoke(server: &Server, issuer: &str, plan: &Plan) -> (u64, Vec<Duration>) {
    let admins: Vec<Admin> = (0..OPERATORS).map(|_| Admin::of(server)).collect();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / plan.per_second);
    let under_way = FuturesUnordered::new();
    for index in plan.first..plan.first + plan.revocations {
        tick.tick().await;
        let mut client = admins[index as usize % OPERATORS].client();
        under_way.push(tokio::spawn(async move {
            let began = Instant::now();
            let request =
                RevokeDeviceRequest { id: format!("more-{index}"), reason: RevocationReason::KeyCompromise.into() };
            let receipt = client.revoke_device(request).await.expect("it is revoked").into_inner();
            (receipt, began.elapsed())
        }));
    }
    let done: Vec<_> = under_way.try_collect().await.expect("no revocation fails");
    let numbers = done.iter().flat_map(|(receipt, _)| &receipt.crls).filter(|crl| crl.issuer == issuer);
    let last = numbers.map(|crl| crl.number).max().expect("a CRL");
    (last, done.into_iter().map(|(_, latency)| latency).collect())
}

impl Shared {
    /// Watches until the last CRL has come, and acknowledges each.
    async fn watch(
        self: Arc<Self>,
        mut client: RevocationClient<tonic::transport::Channel>,
        crl: Bytes,
        applies: bool,
    ) -> Watched {
        let held = ParsedCrl::parse(crl.clone()).expect("a CRL");
        let mut number = held.number();
        let applied = applies.then_some(held);
        let held = HeldCrl { issuer: self.issuer.clone(), number, sha256: hash(&crl) };
        drop(crl);
        let request = WatchCrlRequest { form: Some(Form::Full(self.issuer.clone())), held: vec![held] };
        let mut answer = client.watch_crl(request).await.expect("a watch").into_inner();
        let mut watched = Watched { octets: 0, publications: 0, lags: Vec::new(), applied };
        let (mut coming, mut signature, mut end) = (Vec::new(), Vec::new(), self.end.subscribe());
        while end.borrow_and_update().is_none_or(|last| number < last) {
            let response = tokio::select! {
                response = answer.message() => response.expect("it goes on").expect("a response"),
                _ = end.changed() => continue,
            };
            watched.octets += response.encoded_len();
            match response.part.expect("a part") {
                Part::Crl(_) => panic!("the whole, though there is a patch"),
                Part::Patch(chunk) => {
                    coming.extend(chunk.data);
                    if chunk.last {
                        signature = chunk.head_signature;
                    }
                }
                Part::Current(current) if coming.is_empty() => drop(current),
                Part::Current(_) => {
                    let one = CrlPatch::decode(&*std::mem::take(&mut coming)).expect("a patch");
                    number = one.number;
                    watched.publications += 1;
                    if let Some(old) = &watched.applied {
                        let new = patch::apply(&one.steps, old.der(), one.length as usize).expect("it applies");
                        assert_eq!(hash(&new), one.sha256, "what comes out is what was announced");
                        let new = ParsedCrl::parse_next(new.into(), old).expect("a CRL");
                        new.verify(&self.certificate).expect("its signature verifies");
                        self.tell(&new, &one, std::mem::take(&mut signature));
                        watched.applied = Some(new);
                    }
                    let seen = self.seen(number).await;
                    let request = AcknowledgeRequest { held: vec![seen.head], not_loaded: false, continues: false };
                    client.acknowledge(request).await.expect("it is acknowledged");
                    watched.lags.push((Instant::now(), seen.at.elapsed()));
                }
            }
        }
        watched
    }

    /// Says what this CRL's head is, where nobody has.
    fn tell(&self, crl: &ParsedCrl, patch: &CrlPatch, signature: Vec<u8>) {
        let mut all = self.seen.lock().expect("nobody panicked");
        all.entry(patch.number).or_insert_with(|| {
            let this_update = Some(Timestamp { seconds: crl.this_update().secs(), nanos: 0 });
            let CrlPatch { issuer, number, sha256, .. } = patch.clone();
            Seen { at: Instant::now(), head: CrlHead { issuer, number, this_update, sha256, signature } }
        });
        drop(all);
        self.news.send_replace(());
    }

    async fn seen(&self, number: u64) -> Seen {
        let mut news = self.news.subscribe();
        loop {
            if let Some(seen) = self.seen.lock().expect("nobody panicked").get(&number) {
                return seen.clone();
            }
            news.changed().await.expect("the sender is alive");
        }
    }
}

fn hash(octets: &[u8]) -> Vec<u8> {
    digest(&SHA256, octets).as_ref().to_vec()
}
