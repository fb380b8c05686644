//! From a CSR to a certificate, beside what that costs at least: one verification and one signature.

use std::{hint::black_box, time::Duration};

use ca_server::{
    authority::OnlineIssuer,
    identity::{SerialNumber, Timestamp},
    pki::{CaRequest, CaRole, CrlScope, Csr, Holder, Issuer, IssuerCertificate, LeafRequest, Locations, prepare_root},
    signer::{Signer, SoftwareSigner},
};
use criterion::{Criterion, criterion_group, criterion_main};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};

const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn request(role: CaRole, key: &SoftwareSigner, years: u32) -> CaRequest<'_> {
    CaRequest {
        role,
        key: key.public_key(),
        serial: SerialNumber::new(NOW, [1; 10]),
        not_before: NOW,
        not_after: NOW + years * YEAR,
    }
}

/// An issuing CA of devices under a root of its own.
fn issuing_ca() -> OnlineIssuer {
    let domain = "fleet.example".parse().expect("a trust domain");
    let locations = || Locations::new("http://pki.fleet.example").expect("a URL");
    let (root, issuing) = (SoftwareSigner::generate().expect("a key"), SoftwareSigner::generate().expect("a key"));
    let finish = |prepared: ca_server::pki::Prepared| {
        let signature = root.sign(prepared.tbs()).expect("the key signs");
        IssuerCertificate::parse(&prepared.assemble(&signature).der).expect("a certificate")
    };
    let prepared = prepare_root(&domain, &request(CaRole::DeviceRoot, &root, 20)).expect("a root");
    let root_issuer = Issuer::new(CaRole::DeviceRoot, finish(prepared), domain.clone(), locations()).expect("a root");
    let prepared = root_issuer.prepare_authority(&request(CaRole::DeviceIssuing, &issuing, 3)).expect("a CA");
    let issuer = Issuer::new(CaRole::DeviceIssuing, finish(prepared), domain, locations()).expect("a CA");
    OnlineIssuer { issuer, signer: std::sync::Arc::new(issuing) }
}

fn issuance(criterion: &mut Criterion) {
    let ca = issuing_ca();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let csr = CertificateParams::default().serialize_request(&key).expect("a request").der().to_vec();
    let (id, fleet) = ("pump-7".parse().expect("an ID"), "pumps".parse().expect("a name"));
    let issue = |csr: &[u8]| {
        let key = Csr::parse(csr).expect("a request").into_public_key();
        let request = LeafRequest {
            holder: Holder::Device { id: &id, fleet: &fleet },
            key: &key,
            serial: SerialNumber::new(NOW, [2; 10]),
            not_before: NOW,
            not_after: NOW + DAY,
            crl: CrlScope::Full,
            policy: None,
            ocsp: false,
        };
        ca.sign_leaf(&request).expect("a certificate")
    };
    let message = [7; 640];
    let signature = ca.signer.sign(&message).expect("the key signs");
    let mut group = criterion.benchmark_group("issuance");
    group.bench_function("csr_to_certificate", |bencher| bencher.iter(|| issue(black_box(&csr))));
    group.bench_function("verify_plus_sign", |bencher| {
        bencher.iter(|| {
            ca.signer.public_key().verify(black_box(&message), &signature).expect("our own signature");
            ca.signer.sign(black_box(&message)).expect("the key signs")
        });
    });
    group.finish();
}

criterion_group!(benches, issuance);
criterion_main!(benches);
