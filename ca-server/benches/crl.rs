//! A CRL with one entry more than the one before it, encoded and signed, beside what that costs at least: copying and
//! hashing its octets once. `read_back` is what a publication does besides: parsing, verifying, comparing.

use std::{collections::BTreeMap, hint::black_box, time::Duration};

use ca_server::{
    identity::{RevocationReason, SerialNumber, Timestamp},
    pki::{
        CaRequest, CaRole, CrlEntry, CrlTemplate, Edit, IssuerCertificate, ParsedCrl, check_successor, prepare_root,
    },
    signer::{Signer, SoftwareSigner},
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ring::digest::{SHA256, digest};

const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);
const HOUR: Duration = Duration::from_secs(3600);

/// Entries in the order of their serials; reasons and dates mixed.
fn entries(count: u32) -> Vec<Edit> {
    let reasons = RevocationReason::ALL;
    let entry = |index: u32| {
        let random = digest(&SHA256, &index.to_be_bytes());
        let mut octets = [0; 10];
        octets.copy_from_slice(&random.as_ref()[..10]);
        let at = NOW + Duration::from_millis(u64::from(index) * 37);
        let serial = SerialNumber::new(at, octets);
        (serial, Some(CrlEntry { serial, revoked_at: at + HOUR, reason: reasons[index as usize % reasons.len()] }))
    };
    let entries: BTreeMap<_, _> = (0..count).map(entry).collect();
    entries.into_iter().collect()
}

fn crl(criterion: &mut Criterion) {
    let key = SoftwareSigner::generate().expect("a key");
    let request = CaRequest {
        role: CaRole::DeviceRoot,
        key: key.public_key(),
        serial: SerialNumber::new(NOW, [1; 10]),
        not_before: NOW,
        not_after: NOW + 24 * 365 * HOUR,
    };
    let prepared = prepare_root(&"fleet.example".parse().expect("a trust domain"), &request).expect("a root");
    let signature = key.sign(prepared.tbs()).expect("the key signs");
    let issuer = IssuerCertificate::parse(&prepared.assemble(&signature).der).expect("a certificate");
    let template = CrlTemplate {
        issuer: &issuer,
        number: 1_790_000_000_000,
        this_update: NOW,
        next_update: NOW + 168 * HOUR,
        distribution_point: None,
    };
    let mut group = criterion.benchmark_group("crl");
    group.sample_size(20);
    for count in [10_000, 100_000, 1_000_000] {
        let mut entries = entries(count);
        let more = entries.remove(count as usize / 2);
        let make = |base: Option<&ParsedCrl>, edits: Vec<Edit>| {
            let prepared = CrlTemplate { number: template.number + 1, ..template }.prepare(base, edits);
            let signature = key.sign(prepared.tbs()).expect("the key signs");
            prepared.assemble(&signature)
        };
        let prepared = template.prepare(None, entries);
        let signature = key.sign(prepared.tbs()).expect("the key signs");
        let base = ParsedCrl::parse(prepared.assemble(&signature)).expect("a CRL");
        let octets = make(Some(&base), vec![more]);
        group.throughput(Throughput::Bytes(octets.len() as u64));
        group.bench_function(BenchmarkId::new("encode_and_sign", count), |bencher| {
            bencher.iter(|| make(Some(&base), vec![more]));
        });
        group.bench_function(BenchmarkId::new("copy_and_hash", count), |bencher| {
            bencher.iter(|| digest(&SHA256, &black_box(black_box(&octets[..]).to_vec())));
        });
        group.bench_function(BenchmarkId::new("read_back", count), |bencher| {
            bencher.iter(|| {
                let crl = ParsedCrl::parse(octets.clone()).expect("a CRL");
                crl.verify(&issuer).expect("its signature verifies");
                check_successor(&base, &crl).expect("a successor")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, crl);
criterion_main!(benches);
