//! What a TPM says of a key (TPMS_ATTEST), behind a good signature and a good MAC: what is taken is for the key and the
//! transcript, to its last octet. Input is the certification itself, or changes to a real one; where its first octet has the
//! second-lowest bit set, the same of the signature (TPMT_SIGNATURE), over the real certification.

#![no_main]

use std::sync::LazyLock;

use ca_server::attestation::tpm::{Evidence, Proof, Secret};
use enroll_client::{attester::evidence_key::EvidenceKey, keys::FileKey};
use fleetca_fuzz::{split, variant};
use fleetca_proto::transcript::binding;
use libfuzzer_sys::fuzz_target;
use ring::{
    digest::{SHA256, digest},
    hmac,
};
use serde_json::Value;

const SECRET: [u8; 32] = [5; 32];

struct Real {
    ak: EvidenceKey,
    evidence: Evidence,
    name: Vec<u8>,
    binding: Vec<u8>,
    attest: Vec<u8>,
    signature: Vec<u8>,
}

impl Real {
    /// Whether it is taken, behind a good MAC.
    fn takes(&self, attest: &[u8], signature: &[u8]) -> bool {
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &SECRET), &self.binding);
        let proof = Proof { mac: mac.as_ref(), attest, signature };
        self.evidence.verify(b"start", b"challenge", &Secret::of(SECRET), proof).is_ok()
    }
}

/// TPMT_SIGNATURE: ECDSA with SHA-256.
fn signature(ak: &EvidenceKey, attest: &[u8]) -> Vec<u8> {
    let numbers = ak.sign_jws(attest).expect("it signs");
    [&[0, 0x18, 0, 0x0b][..], &sized(&numbers[..32]), &sized(&numbers[32..])].concat()
}

fn sized(octets: &[u8]) -> Vec<u8> {
    [&u16::try_from(octets.len()).expect("few octets").to_be_bytes(), octets].concat()
}

/// TPMT_PUBLIC of a P-256 key that signs.
fn area(attributes: u32, scheme: &[u8], key: &FileKey) -> Vec<u8> {
    let spki = key.spki();
    let (x, y) = spki[27..].split_at(32);
    let head = [&[0, 0x23, 0, 0x0b][..], &attributes.to_be_bytes(), &[0, 0, 0, 0x10]].concat();
    [&head[..], scheme, &[0, 3, 0, 0x10], &sized(x), &sized(y)].concat()
}

static REAL: LazyLock<Real> = LazyLock::new(|| {
    let recorded: Value = serde_json::from_str(include_str!("../../fixtures/tpm.json")).expect("the recorded answers");
    let ek = recorded["p-256"]["ek_public"].as_str().expect("a key");
    let ek: Vec<u8> =
        (0..ek.len()).step_by(2).map(|at| u8::from_str_radix(&ek[at..at + 2], 16).expect("digits")).collect();
    let (ak, key) = (FileKey::generate().expect("a key"), FileKey::generate().expect("a key"));
    let ak_area = area(0x0005_0472, &[0, 0x18, 0, 0x0b], &ak);
    let key_area = area(0x0004_0472, &[0, 0x10], &key);
    let evidence = Evidence::read(&ek, &ak_area, &key_area).expect("three keys");
    let name = [&[0, 0x0b], digest(&SHA256, &key_area).as_ref()].concat();
    let binding = binding("tpm", b"start", b"challenge").to_vec();
    let head = [&[0xff, b'T', b'C', b'G', 0x80, 0x17][..], &sized(&name), &sized(&binding), &[1; 17 + 8]].concat();
    let attest = [&head[..], &sized(&name), &sized(&name)].concat();
    let ak = EvidenceKey::from_pem(ak.to_pem().as_bytes()).expect("the same key");
    let signature = signature(&ak, &attest);
    Real { ak, evidence, name, binding, attest, signature }
});

fuzz_target!(|input: &[u8]| {
    let real = &*REAL;
    if input.first().is_some_and(|kind| kind & 2 != 0) {
        let signature = variant(&real.signature, input);
        let taken = real.takes(&real.attest, &signature);
        assert!(taken || signature != real.signature, "the real one was refused");
        let numbers = signature.strip_prefix(&[0, 0x18, 0, 0x0b]).map(|numbers| {
            let (r, rest) = split(numbers);
            (r, split(rest))
        });
        let two = matches!(numbers, Some((r, (s, []))) if (1..=32).contains(&r.len()) && (1..=32).contains(&s.len()));
        assert!(!taken || two, "more than two numbers");
        return;
    }
    let attest = variant(&real.attest, input);
    let taken = real.takes(&attest, &signature(&real.ak, &attest));
    assert!(taken || attest != real.attest, "the real one was refused");
    let holds = |part: &[u8]| attest.windows(part.len()).any(|window| window == part);
    assert!(!taken || holds(&real.name) && holds(&real.binding) && attest.starts_with(&real.attest[..6]));
});
