//! Boards with an IDevID, and what its key must have signed.

use rcgen::{CertificateParams, KeyPair, SigningKey};

use super::{idevid::Idevid, *};
use crate::{
    attestation::AttestationError,
    identity::{HardwareId, KeyFingerprint},
    inventory::fleet::{Certificates, Method},
};

/// A board with the key that its maker put in.
struct Board {
    key: KeyPair,
    chain: Vec<Vec<u8>>,
}

impl Board {
    /// One that is registered as `board-1`, in a fleet that pins its maker's root.
    async fn registered(world: &World) -> Board {
        let Idevid { maker, root, leaf, key } = Idevid::new("SN-1");
        let policy =
            Policy { attest: vec![Method::Factory], factory_roots: Certificates(vec![root]), ..Policy::default() };
        let fleet: crate::identity::FleetName = "boards".parse().unwrap();
        world.authority.create_fleet(&fleet, policy, "operator/ana").await.unwrap();
        let issuer = KeyFingerprint::of(&maker.subject_public_key_info());
        let hardware = vec![HardwareId::of_idevid(*issuer.as_bytes(), "SN-1").unwrap()];
        let new = NewDevice { id: "board-1".parse().unwrap(), fleet, hardware, keys: Vec::new(), line: 0 };
        world.authority.register_device(new, "operator/ana").await.unwrap();
        Board { key, chain: vec![leaf] }
    }

    fn start(&self, csr: &[u8]) -> Vec<u8> {
        let evidence = v1::start::Evidence::Factory(v1::FactoryEvidence { chain: self.chain.clone() });
        v1::Start {
            trust_domain: "fleet.example".into(),
            kind: v1::Kind::Device.into(),
            id: "board-1".into(),
            csr: csr.to_vec(),
            evidence: Some(evidence),
        }
        .encode_to_vec()
    }
}

/// Enrolls with this evidence, for a key that proves itself.
async fn attempt(
    world: &World,
    start: &[u8],
    evidence_signature: Vec<u8>,
    subject: &KeyPair,
) -> Result<Grant, Refusal> {
    let own = enrollment("factory", Signs::Subject, start, b"challenge");
    let subject_signature = subject.sign(&own).unwrap();
    let proof = v1::Proof { evidence_signature, subject_signature, ..Default::default() };
    let request = EnrollmentRequest::read(start.to_vec(), &world.authority.domain().trust_domain)?;
    let outcome = world.authority.enroll(&request, &Challenge::plain(b"challenge"), &proof).await;
    outcome.map(issued).map_err(|refused| refused.why)
}

/// Refuse 8, 16, 32: made for another challenge, role, request or method; and by another key.
#[tokio::test]
async fn an_idevid_is_worth_nothing_without_a_fresh_signature_of_its_key_for_this_very_request() {
    let world = World::new().await;
    let board = Board::registered(&world).await;
    let (key, csr) = request();
    let (start, other) = (board.start(&csr), board.start(&request().1));
    let sign = |key: &KeyPair, method, role, begun: &[u8], challenge: &[u8]| {
        key.sign(&enrollment(method, role, begun, challenge)).unwrap()
    };
    let signatures = [
        ("a stale challenge", sign(&board.key, "factory", Signs::Evidence, &start, b"stale")),
        ("the other role", sign(&board.key, "factory", Signs::Subject, &start, b"challenge")),
        ("another Start", sign(&board.key, "factory", Signs::Evidence, &other, b"challenge")),
        ("another method", sign(&board.key, "previous", Signs::Evidence, &start, b"challenge")),
        ("another key", sign(&key, "factory", Signs::Evidence, &start, b"challenge")),
        ("none", Vec::new()),
    ];
    for (what, signature) in signatures {
        let refused = attempt(&world, &start, signature, &key).await.unwrap_err();
        assert!(matches!(refused, Refusal::Attestation(AttestationError::Signature)), "{what}: {refused:?}");
    }
    let honest = sign(&board.key, "factory", Signs::Evidence, &start, b"challenge");
    attempt(&world, &start, honest, &key).await.unwrap();
}

#[tokio::test]
async fn the_key_of_an_idevid_gets_no_certificate_of_this_ca() {
    let world = World::new().await;
    let board = Board::registered(&world).await;
    let csr = CertificateParams::default().serialize_request(&board.key).unwrap().der().to_vec();
    let start = board.start(&csr);
    let evidence = board.key.sign(&enrollment("factory", Signs::Evidence, &start, b"challenge")).unwrap();
    let refused = attempt(&world, &start, evidence, &board.key).await.unwrap_err();
    assert!(matches!(refused, Refusal::Attestation(AttestationError::SameKey)), "{refused:?}");
}
