//! What the server's processor does to attest a device, issuance left out: evidence, CSR and the proof that its key is the
//! caller's. Nothing is read from a store.

use std::{collections::BTreeSet, hint::black_box};

use ca_server::{
    attestation::{
        chain::{Leaf, Roots, Rules, Validity},
        factory::{Expected, identify, verify},
        tpm::{Evidence, Proof},
    },
    clock::{Clock, SystemClock},
    pki::{Csr, PemLabel, from_pem},
};
use criterion::{Criterion, criterion_group, criterion_main};
use enroll_client::{
    attester::{token::JoinToken, tpm::TpmAttester},
    keys::{
        FileKey,
        tpm::{Credential, EndorsementKind, TpmKey},
    },
};
use fleetca_proto::transcript::{Role, enrollment};
use fleetca_tests::{
    simulator::Factory,
    tpm::{Tpm, maker::Maker},
};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey},
};

/// `Start` with a CSR and evidence has about as many octets, and so has what a certificate's signature covers.
const START: [u8; 1500] = [7; 1500];
const CERTIFICATE: [u8; 400] = [7; 400];
const CHALLENGE: [u8; 34] = [9; 34];

/// What the CSR's key has to prove in either case.
fn possession(csr: &[u8], method: &str, signature: &[u8]) {
    let key = Csr::parse(black_box(csr)).expect("a CSR").into_public_key();
    let signed = enrollment(method, Role::Subject, &START, &CHALLENGE);
    key.verify(&signed, signature).expect("the key's signature");
}

fn factory(criterion: &mut Criterion) {
    let maker = Factory::new(&JoinToken::generate().expect("a token"));
    let identity = maker.idevid("SN-1");
    let key = FileKey::generate().expect("a key");
    let csr = key.csr().expect("a CSR");
    let subject = key.sign(&enrollment("factory", Role::Subject, &START, &CHALLENGE)).expect("a signature");
    let evidence = identity.sign(&enrollment("factory", Role::Evidence, &START, &CHALLENGE)).expect("a signature");
    let root = from_pem(PemLabel::Certificate, maker.root()).expect("a root").remove(0);
    let roots = Roots::read([root.as_slice()]).expect("a root");
    let expected = Expected { roots: &roots, validity: Validity::AtBirth, banned: &BTreeSet::new() };
    let mut group = criterion.benchmark_group("attestation");
    group.bench_function("factory", |bencher| {
        bencher.iter(|| {
            // Under all roots, to know whose it is, and then under those of its own fleet.
            let now = SystemClock.now();
            identify(black_box(identity.chain()), expected, now).expect("an IDevID");
            let identified = identify(black_box(identity.chain()), expected, now).expect("an IDevID");
            verify(&START, &CHALLENGE, &evidence, &identified).expect("its signature");
            possession(&csr, "factory", &subject);
        });
    });

    // The least: two certificates', the evidence's, the CSR's, and the one of the CSR's key over the transcript.
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).expect("a key");
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).expect("our key");
    let signature = key.sign(&random, &CERTIFICATE).expect("a signature");
    group.bench_function("factory_verifications", |bencher| {
        bencher.iter(|| {
            for _ in 0..5 {
                let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref());
                public.verify(black_box(&CERTIFICATE), signature.as_ref()).expect("our own signature");
            }
        });
    });
    group.finish();
}

fn tpm(criterion: &mut Criterion) {
    let Some(tpm) = Tpm::start() else { return };
    let location = tpm.socket().parse().expect("a location");
    let mut group = criterion.benchmark_group("attestation");
    let none = BTreeSet::new();
    for (name, kind, maker) in [
        ("tpm_p256", EndorsementKind::P256, None),
        ("tpm_p256_certified", EndorsementKind::P256, Some(Maker::new())),
        ("tpm_p384", EndorsementKind::P384, None),
        ("tpm_p384_certified", EndorsementKind::P384, Some(Maker::p384())),
        ("tpm_rsa2048", EndorsementKind::Rsa2048, None),
    ] {
        let roots = Roots::read(maker.iter().map(Maker::root)).expect("a root");
        let rules = Rules { roots: &roots, leaf: Leaf::EndorsementKey, validity: Validity::AtBirth, banned: &none };
        // One real answer of a TPM, verified over and over; a challenge is made each time.
        let attester = TpmAttester::prepare(TpmKey::generate(&location).expect("a key"), Some(kind)).expect("a TPM");
        let key_public = &attester.key().wrapped().public;
        let read = || Evidence::read(attester.endorsement_key(), attester.attestation_key(), black_box(key_public));
        let (credential, secret) = read().expect("evidence").challenge(&SystemRandom::new()).expect("a challenge");
        let credential = Credential { blob: &credential.blob, encrypted_secret: &credential.encrypted_secret };
        let answer = attester.answer(&START, &CHALLENGE, credential).expect("an answer");
        let csr = attester.key().csr().expect("a CSR");
        let chain = maker.as_ref().map(|maker| maker.chain(attester.endorsement_key()));
        let subject = attester.key().sign(&enrollment("tpm", Role::Subject, &START, &CHALLENGE)).expect("a signature");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let evidence = read().expect("evidence");
                if let Some(chain) = &chain {
                    evidence.check_certified(black_box(chain)).expect("its own certificate");
                }
                black_box(evidence.challenge(&SystemRandom::new()).expect("a challenge"));
                let certified = &answer.certified;
                let proof = Proof { mac: &answer.mac, attest: &certified.attest, signature: &certified.signature };
                evidence.verify(&START, &CHALLENGE, &secret, proof).expect("the TPM's answer");
                if let Some(chain) = &chain {
                    evidence.verify_endorsement(chain, &rules, SystemClock.now()).expect("it leads to the root");
                }
                possession(&csr, "tpm", &subject);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, factory, tpm);
criterion_main!(benches);
