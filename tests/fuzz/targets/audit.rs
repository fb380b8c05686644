//! The audit log as a server shows it to `audit verify`, and the head that the operator has kept: what is proven is the log
//! that the control CA has sealed, whatever the server says.

#![no_main]

use std::sync::LazyLock;

use ca_server::{
    audit::{Head, Record},
    authority::seal_once,
    cli::{
        CommandError,
        audit::{KnownHead, Pages, Sealers, Walk},
    },
    clock::{Clock, SystemClock},
    pki::CaRole,
    store::AuditQuery,
};
use enroll_client::{certificate::hex, trust::Roots};
use fleetca_fuzz::{split, variant, world::World};
use fleetca_proto::{
    transcript,
    v1::{AuditRecord, AuditSeal, Issuer, ListAuditRecordsResponse, ListAuditSealsResponse},
};
use libfuzzer_sys::fuzz_target;
use prost::Message;

struct Log {
    world: World,
    records: Vec<AuditRecord>,
    seals: ListAuditSealsResponse,
    issuers: Vec<Issuer>,
    roots: Roots,
}

static LOG: LazyLock<Log> = LazyLock::new(|| {
    let world = World::new();
    let (kept, seals) = world.runtime.block_on(async {
        // Two seals, and a record after them.
        let seal = async || {
            let now = SystemClock.now();
            let sealed = seal_once(world.store.as_ref(), world.authority.issuers(), now).await;
            assert!(sealed.expect("the store works"));
        };
        seal().await;
        let fleet = |name: &str| name.parse().expect("a name");
        let (valves, meters) = (fleet("valves"), fleet("meters"));
        let policy = ca_server::inventory::fleet::Policy::default();
        world.authority.create_fleet(&valves, policy.clone(), "operator/ana").await.expect("a fleet");
        seal().await;
        world.authority.create_fleet(&meters, policy, "operator/ana").await.expect("a fleet");
        let query = AuditQuery { limit: 100, ..AuditQuery::default() };
        let kept = world.store.audit_records(&query).await.expect("the store works");
        (kept, world.store.audit_seals(1, 100).await.expect("the store works"))
    });
    let record = |kept: ca_server::audit::Kept| AuditRecord {
        sequence: kept.record.sequence,
        at_millis: kept.record.at_millis,
        actor: kept.record.actor,
        action: kept.record.action,
        subject: kept.record.subject,
        serial: kept.record.serial,
        outcome: kept.record.outcome,
        detail: kept.record.detail,
        hash: kept.hash.to_vec(),
    };
    let seal = |seal: ca_server::audit::Seal| AuditSeal {
        first_sequence: seal.first_sequence,
        last_sequence: seal.last_sequence,
        head: seal.head.0.to_vec(),
        at_millis: seal.at_millis,
        signature: seal.signature,
        issuer: seal.issuer.to_string(),
    };
    let issuer = |place| Issuer { certificate: world.certificate(place).to_vec(), ..Issuer::default() };
    let roots = Roots::from_ders(&[world.certificate(CaRole::ControlRoot)]).expect("a root");
    let issuers = CaRole::ALL.map(issuer).to_vec();
    let seals = ListAuditSealsResponse { seals: seals.into_iter().map(seal).collect(), next_sequence: 0 };
    assert_eq!(seals.seals.len(), 2);
    Log { records: kept.into_iter().map(record).collect(), seals, issuers, roots, world }
});

/// The hash that a record would have if it had been written so.
fn hash(record: &AuditRecord) -> [u8; 32] {
    let AuditRecord { sequence, at_millis, actor, action, subject, serial, outcome, detail, .. } = record.clone();
    Record { sequence, at_millis, actor, action, subject, serial, outcome, detail }.hash()
}

/// The server: it has these pages, one after another, whatever it is asked for.
struct Server {
    records: Vec<ListAuditRecordsResponse>,
    seals: Vec<ListAuditSealsResponse>,
}

impl Pages for &mut Server {
    async fn records(&mut self, _: u64) -> Result<ListAuditRecordsResponse, CommandError> {
        Ok(self.records.pop().unwrap_or_default())
    }

    async fn seals(&mut self, _: u64) -> Result<ListAuditSealsResponse, CommandError> {
        Ok(self.seals.pop().unwrap_or_default())
    }
}

fuzz_target!(|input: &[u8]| {
    let log = &*LOG;
    let (first, rest) = split(input);
    let (second, rest) = split(rest);
    let (seals, known) = split(rest);
    let middle = log.records.len() / 2;
    let page = |records: &[AuditRecord], next_sequence, input: &[u8]| {
        let real = ListAuditRecordsResponse { records: records.to_vec(), next_sequence };
        let page = ListAuditRecordsResponse::decode(&*variant(&real.encode_to_vec(), input));
        let mut page = page.unwrap_or(real);
        // A careful hand changes the hashes, too.
        if input.first().is_some_and(|kind| kind & 2 != 0) {
            page.records.iter_mut().for_each(|record| record.hash = hash(record).to_vec());
        }
        page
    };
    let next = log.records[middle].sequence;
    let pages = [page(&log.records[..middle], next, first), page(&log.records[middle..], 0, second)];
    let shown: Vec<AuditRecord> = pages.iter().flat_map(|page| page.records.clone()).collect();
    let mut seals_shown =
        ListAuditSealsResponse::decode(&*variant(&log.seals.encode_to_vec(), seals)).unwrap_or(log.seals.clone());
    let signed_anew = seals.first().is_some_and(|kind| kind & 2 != 0);
    if signed_anew {
        let signer = &log.world.signers[&CaRole::ControlCa];
        for seal in &mut seals_shown.seals {
            let Ok(head) = <[u8; 32]>::try_from(seal.head.as_slice()) else { continue };
            let message = transcript::audit_head(seal.last_sequence, seal.at_millis, &head);
            seal.signature = signer.sign(&message).expect("it signs");
        }
    }
    let real = KnownHead { sequence: 0, head: hex(&Head::EMPTY.0), at: String::new() };
    let known = variant(&serde_json::to_vec(&real).expect("it is written"), known);
    let known = String::from_utf8(known).ok().and_then(|text| KnownHead::parse(&text).ok());
    let [one, two] = pages;
    let mut server = Server { records: vec![two, one], seals: vec![seals_shown] };
    let sealers = Sealers::among(&log.issuers, &log.roots);
    let walk = Walk::new(&mut server, sealers, known.clone()).run();
    let Ok(verified) = log.world.runtime.block_on(walk) else { return };
    let sealed = usize::try_from(verified.sealed).expect("few records");
    let records = usize::try_from(verified.records).expect("few records");
    assert!(sealed <= records && records <= shown.len());
    if !signed_anew {
        assert!(shown[..sealed] == log.records[..sealed], "what is proven is not what was sealed");
    }
    let mut heads = vec![Head::EMPTY];
    for (at, record) in shown[..records].iter().enumerate() {
        assert_eq!((record.sequence, record.hash.as_slice()), (at as u64 + 1, &hash(record)[..]));
        let AuditRecord { sequence, at_millis, actor, action, subject, serial, outcome, detail, .. } = record.clone();
        let record = Record { sequence, at_millis, actor, action, subject, serial, outcome, detail };
        heads.push(heads[at].after(&record));
    }
    assert_eq!(verified.head, hex(&heads[records].0));
    if let Some(known) = known {
        let at = usize::try_from(known.sequence).expect("it was verified");
        assert_eq!(known.head, hex(&heads[at].0), "the log did not grow from the head that was kept");
    }
});
