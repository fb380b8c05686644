//! The device's half of `tpm` against the verifier's, over real TPMs (swtpm), and everything that such a TPM can be made
//! to say in order to deceive. Commands are made by hand (`fleetca_tests::tpm::raw`) and not by tpm2-tools: its `tpm2_certify`
//! takes no nonce, and the hostile cases need structures that no tool writes.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
};

use ca_server::{
    attestation::{
        chain::{ChainError, Leaf, Roots, Rules, Validity},
        tpm::{Evidence, KeyRole, Proof, Secret, TpmError},
    },
    identity::{KeyFingerprint, Timestamp},
    pki::{Csr, PemLabel, PublicKey, from_pem},
};
use enroll_client::{
    attester::{
        Attester,
        tpm::{TpmAnswer, TpmAttester, TpmMethod},
    },
    keys::Key,
    keys::tpm::{Credential, EndorsementKind, Location, TpmError as Refusal, TpmKey},
};
use fleetca_proto::{transcript::binding, v1::start::Evidence as StartEvidence};
use fleetca_tests::tpm::{
    Tpm,
    raw::{Attested, ENDORSEMENT, PASSWORD, Raw, attribute, signing_area, sized, unique_of},
};
use ring::{
    digest::{SHA256, digest},
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};

const KINDS: [EndorsementKind; 3] = [EndorsementKind::Rsa2048, EndorsementKind::P256, EndorsementKind::P384];

/// TPM_RC_AUTH_UNAVAILABLE.
const AUTH_UNAVAILABLE: u32 = 0x12f;

fn location(tpm: &Tpm) -> Location {
    tpm.socket().parse().unwrap()
}

fn prepared(tpm: &Tpm, kind: Option<EndorsementKind>) -> TpmAttester {
    TpmAttester::prepare(TpmKey::generate(&location(tpm)).unwrap(), kind).unwrap()
}

fn evidence(attester: &TpmAttester) -> Evidence {
    let key = &attester.key().wrapped().public;
    Evidence::read(attester.endorsement_key(), attester.attestation_key(), key).unwrap()
}

/// Challenges with `evidence` and lets `attester` answer.
fn challenged(evidence: &Evidence, attester: &TpmAttester) -> Result<(TpmAnswer, Secret), Refusal> {
    let (credential, secret) = evidence.challenge(&SystemRandom::new()).unwrap();
    let credential = Credential { blob: &credential.blob, encrypted_secret: &credential.encrypted_secret };
    Ok((attester.answer(b"start", b"challenge", credential)?, secret))
}

fn proof(answer: &TpmAnswer) -> Proof<'_> {
    Proof { mac: &answer.mac, attest: &answer.certified.attest, signature: &answer.certified.signature }
}

fn attest(tpm: &Tpm, kind: Option<EndorsementKind>) {
    let attester = prepared(tpm, kind);
    let csr = Csr::parse(&attester.key().csr().unwrap()).unwrap();
    let evidence = evidence(&attester);
    let (answer, secret) = challenged(&evidence, &attester).unwrap();
    let certified = evidence.verify(b"start", b"challenge", &secret, proof(&answer));
    assert_eq!(certified, Ok(csr.public_key()));
}

#[test]
fn every_kind_of_endorsement_key_attests_a_key_that_never_leaves_the_tpm() {
    for kind in KINDS {
        let Some(tpm) = Tpm::start() else { return };
        attest(&tpm, Some(kind));
    }
}

#[test]
fn dozens_of_fresh_tpms_attest_at_once_and_no_two_are_the_same() {
    let Some(tpms) = Tpm::start_many(36) else { return };
    let identities: BTreeSet<_> = std::thread::scope(|scope| {
        let attesting: Vec<_> = tpms
            .iter()
            .map(|tpm| {
                scope.spawn(move || {
                    attest(tpm, None);
                    evidence(&prepared(tpm, None)).endorsement_key()
                })
            })
            .collect();
        attesting.into_iter().map(|attested| attested.join().unwrap()).collect()
    });
    assert_eq!(identities.len(), 36);
}

#[test]
fn a_tpm_stays_who_it_is_and_its_keys_are_of_use_after_its_power_was_cut() {
    let Some(mut tpm) = Tpm::start() else { return };
    let key = TpmKey::generate(&location(&tpm)).unwrap();
    let pem = key.to_pem().unwrap();
    let attester = |tpm: &Tpm| {
        let key = TpmKey::from_pem(&location(tpm), pem.as_bytes()).unwrap();
        TpmAttester::prepare(key, Some(EndorsementKind::P256)).unwrap()
    };
    let before = attester(&tpm);
    // Three uses of a guarded key that end in disorder would lock the TPM.
    for _ in 0..5 {
        challenged(&evidence(&attester(&tpm)), &attester(&tpm)).unwrap_err();
        attest(&tpm, Some(EndorsementKind::P256));
        tpm = tpm.restarted();
    }
    let after = attester(&tpm);
    assert_eq!(after.endorsement_key(), before.endorsement_key());
    let signature = after.key().sign(b"message").unwrap();
    PublicKey::from_spki_der(&key.spki()).unwrap().verify(b"message", &signature).unwrap();
}

#[test]
fn a_key_is_of_no_use_in_another_tpm() {
    let Some(tpms) = Tpm::start_many(2) else { return };
    let stolen = TpmKey::generate(&location(&tpms[0])).unwrap().to_pem().unwrap();
    let thief = TpmKey::from_pem(&location(&tpms[1]), stolen.as_bytes()).unwrap();
    assert!(matches!(thief.sign(b"message"), Err(Refusal::Refused { command: "Load", .. })));
}

#[test]
fn an_attestation_key_beside_another_endorsement_key_gets_no_secret() {
    let Some(tpms) = Tpm::start_many(2) else { return };
    for kind in KINDS {
        let [genuine, other] = [&tpms[0], &tpms[1]].map(|tpm| prepared(tpm, Some(kind)));
        let key = &other.key().wrapped().public;
        let mixed = Evidence::read(genuine.endorsement_key(), other.attestation_key(), key).unwrap();
        // No single code tells it: each kind fails in its own way.
        let refused = challenged(&mixed, &other).unwrap_err();
        assert!(matches!(refused, Refusal::Refused { command: "ActivateCredential", .. }), "{refused}");
        // The TPM with the endorsement key does not hold the attestation key that it is wrapped for.
        let refused = challenged(&mixed, &genuine).unwrap_err();
        assert!(matches!(refused, Refusal::Refused { command: "ActivateCredential", .. }), "{refused}");
    }
}

/// What a maker's TPM keeps, and his certificates: the one between, and the root.
fn maker(tpm: &Tpm) -> [Vec<u8>; 2] {
    ["issuercert.pem", "swtpm-localca-rootca-cert.pem"].map(|name| {
        let pem = fs::read_to_string(tpm.folder().join("maker").join(name)).unwrap();
        from_pem(PemLabel::Certificate, &pem).unwrap().remove(0)
    })
}

fn verify_endorsement(
    evidence: &Evidence,
    chain: &[Vec<u8>],
    root: &[u8],
    banned: &BTreeSet<KeyFingerprint>,
) -> Result<(), TpmError> {
    let roots = Roots::read([root]).unwrap();
    let rules = Rules { roots: &roots, leaf: Leaf::EndorsementKey, validity: Validity::Now, banned };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    evidence.verify_endorsement(chain, &rules, Timestamp::from_millis(now.as_millis() as i64))
}

#[test]
fn certificates_that_a_maker_put_into_a_tpm_lead_to_his_root_and_to_no_other() {
    let (Some(tpm), Some(elsewhere)) = (Tpm::manufactured(), Tpm::manufactured()) else { return };
    let [between, root] = maker(&tpm);
    let none = BTreeSet::new();
    for kind in [EndorsementKind::Rsa2048, EndorsementKind::P384] {
        let attester = prepared(&tpm, Some(kind));
        let evidence = evidence(&attester);
        let [own] = attester.chain() else { panic!("{:?}", attester.chain()) };
        let chain = [own.clone(), between.clone()];
        assert_eq!(verify_endorsement(&evidence, &chain, &root, &none), Ok(()), "{kind:?}");
        assert_eq!(verify_endorsement(&evidence, &chain[..1], &between, &none), Ok(()), "{kind:?}");
        let refused = |error| Err(TpmError::Chain(error));
        let banned = BTreeSet::from([evidence.endorsement_key()]);
        assert_eq!(verify_endorsement(&evidence, &chain, &root, &banned), refused(ChainError::Banned));
        let [_, another_root] = maker(&elsewhere);
        assert_eq!(verify_endorsement(&evidence, &chain, &another_root, &none), refused(ChainError::Untrusted));
        assert_eq!(verify_endorsement(&evidence, &[], &root, &none), refused(ChainError::Size));
        attest(&tpm, Some(kind));
    }
}

#[test]
fn what_a_maker_keeps_between_the_certificate_and_his_root_is_sent_without_root_and_padding() {
    let Some(tpm) = Tpm::manufactured() else { return };
    let [between, root] = maker(&tpm);
    // Each in an index of its own, followed by what flash is when it is empty, or by zeros.
    let mut raw = Raw::open(&tpm);
    raw.provision(0x01c0_0100, &[&between[..], &[0xff; 500]].concat());
    raw.provision(0x01c0_0101, &[&root[..], &[0; 9]].concat());
    drop(raw);
    for kind in [EndorsementKind::Rsa2048, EndorsementKind::P384] {
        let attester = prepared(&tpm, Some(kind));
        let [_, rest @ ..] = attester.chain() else { panic!("it has a certificate") };
        assert_eq!(rest, std::slice::from_ref(&between));
        let chain = attester.chain();
        assert_eq!(verify_endorsement(&evidence(&attester), chain, &root, &BTreeSet::new()), Ok(()), "{kind:?}");
        attest(&tpm, Some(kind));
    }
}

/// As the EK Credential Profile has it: without the maker's nonce or template another key would be made than the one that
/// his certificate is for.
#[test]
fn the_endorsement_key_is_the_one_of_the_makers_template_and_nonce() {
    // The low range: RSA (certificate at ...02) and P-256 (at ...0a); a nonce at the next index, a template at the one after.
    for (kind, first) in [(EndorsementKind::Rsa2048, 0x01c0_0002), (EndorsementKind::P256, 0x01c0_000a)] {
        let Some(tpm) = Tpm::start() else { return };
        let plain = prepared(&tpm, Some(kind)).endorsement_key().to_vec();
        let template = blank(&plain, kind);
        let mut raw = Raw::open(&tpm);
        raw.provision(first + 1, b"nonce");
        let mut expected = template.clone();
        let number = template.len() - if kind == EndorsementKind::Rsa2048 { 256 } else { 66 };
        expected[number..number + 5].copy_from_slice(b"nonce");
        let key = raw.primary(ENDORSEMENT, &expected);
        raw.flush(key.clone());
        assert_ne!(key.public, plain);
        drop(raw);
        assert_eq!(prepared(&tpm, Some(kind)).endorsement_key(), key.public, "{kind:?}, a nonce");
        attest(&tpm, Some(kind));

        // A template of the maker's own.
        let Some(tpm) = Tpm::start() else { return };
        let mut own = template;
        let last = own.len() - 1;
        own[last] = 7;
        let mut raw = Raw::open(&tpm);
        raw.provision(first + 2, &own);
        let key = raw.primary(ENDORSEMENT, &own);
        raw.flush(key.clone());
        drop(raw);
        assert_eq!(prepared(&tpm, Some(kind)).endorsement_key(), key.public, "{kind:?}, a template");
        attest(&tpm, Some(kind));
    }
    // The high range has templates, and no nonces.
    let Some(tpm) = Tpm::start() else { return };
    let plain = prepared(&tpm, Some(EndorsementKind::P384)).endorsement_key().to_vec();
    let template = [&plain[..plain.len() - 100], &sized(&[7; 48]), &sized(&[0; 48])].concat();
    let mut raw = Raw::open(&tpm);
    raw.provision(0x01c0_0017, &template);
    let key = raw.primary(ENDORSEMENT, &template);
    raw.flush(key.clone());
    drop(raw);
    assert_ne!(key.public, plain);
    assert_eq!(prepared(&tpm, Some(EndorsementKind::P384)).endorsement_key(), key.public);
    attest(&tpm, Some(EndorsementKind::P384));
}

/// The template of a low-range endorsement key: its public area, with zeros for its number or point.
fn blank(public: &[u8], kind: EndorsementKind) -> Vec<u8> {
    let unique =
        if kind == EndorsementKind::Rsa2048 { sized(&[0; 256]) } else { [sized(&[0; 32]), sized(&[0; 32])].concat() };
    [&public[..public.len() - unique.len()], &unique].concat()
}

#[test]
fn an_endorsement_key_beside_the_certificate_of_another_is_refused() {
    let Some(tpm) = Tpm::manufactured() else { return };
    let [between, _] = maker(&tpm);
    let [rsa, ecc] = [EndorsementKind::Rsa2048, EndorsementKind::P384].map(|kind| prepared(&tpm, Some(kind)));
    let refused = verify_endorsement(&evidence(&rsa), ecc.chain(), &between, &BTreeSet::new());
    assert_eq!(refused, Err(TpmError::EndorsementKey));
    // That is found first: no signature of it is looked at.
    let mut broken = ecc.chain().to_vec();
    *broken[0].last_mut().unwrap() ^= 1;
    let refused = verify_endorsement(&evidence(&rsa), &broken, &between, &BTreeSet::new());
    assert_eq!(refused, Err(TpmError::EndorsementKey));
}

#[test]
fn without_a_wish_the_endorsement_key_with_a_certificate_is_taken() {
    let Some(tpm) = Tpm::manufactured() else { return };
    let attester = prepared(&tpm, None);
    assert_eq!(attester.endorsement_key(), prepared(&tpm, Some(EndorsementKind::P384)).endorsement_key());
    assert_eq!(attester.chain().len(), 1);
    // Nor does an index that has no certificate in it, of a kind that would come first.
    Raw::open(&tpm).provision(0x01c0_000a, &[0xff; 700]);
    assert_eq!(prepared(&tpm, None).endorsement_key(), attester.endorsement_key());
    assert!(prepared(&tpm, Some(EndorsementKind::P256)).chain().is_empty());
}

/// A method that is asked for another key is ready for that one.
#[test]
fn a_second_key_takes_the_place_of_the_first() {
    let Some(tpm) = Tpm::start() else { return };
    let attester = Attester::Tpm(Box::new(TpmMethod::new(location(&tpm), None)));
    for _ in 0..2 {
        let key = attester.new_key().unwrap();
        attester.make_ready(&key).unwrap();
        let (Key::Tpm(key), StartEvidence::Tpm(evidence)) = (key, attester.evidence()) else { panic!("a TPM's") };
        assert_eq!(evidence.key_public, key.wrapped().public);
    }
}

/// A TPM under an attacker's commands, and what its owner's client made in it.
struct Attack {
    tpm: Tpm,
    ek: Vec<u8>,
    key: Vec<u8>,
}

impl Attack {
    fn begin() -> Option<Attack> {
        let tpm = Tpm::start()?;
        let attester = prepared(&tpm, None);
        let (ek, key) = (attester.endorsement_key().to_vec(), attester.key().wrapped().public.clone());
        Some(Attack { tpm, ek, key })
    }

    fn read(&self, ak: &[u8], key: &[u8]) -> Result<(), TpmError> {
        Evidence::read(&self.ek, ak, key).map(|_| ())
    }
}

struct SoftwareKey {
    scalar: [u8; 32],
    point: Vec<u8>,
}

impl SoftwareKey {
    fn generate() -> SoftwareKey {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let point = pair.public_key().as_ref().to_vec();
        // PrivateKeyInfo around ECPrivateKey: the scalar stands where it always stands.
        let scalar = pkcs8.as_ref()[36..68].try_into().unwrap();
        SoftwareKey { scalar, point }
    }

    fn area(&self, attributes: u32) -> Vec<u8> {
        signing_area(attributes, &unique_of(&self.point))
    }
}

#[test]
fn an_unrestricted_attestation_key_signs_a_forged_certification_and_is_refused_for_that() {
    let Some(attack) = Attack::begin() else { return };
    let mut raw = Raw::open(&attack.tpm);
    let unrestricted = raw.signing_key(attribute::DEVICE);
    let restricted = raw.signing_key(attribute::ATTESTATION);
    let genuine = raw.certify(&unrestricted, &restricted, &[7; 32]).unwrap();
    // A genuine certification, rewritten for a key outside.
    let software = SoftwareKey::generate().area(attribute::DEVICE);
    let name = |area: &[u8]| [&[0, 0x0b], digest(&SHA256, area).as_ref()].concat();
    let at = genuine.attest.windows(34).position(|window| window == name(&unrestricted.public)).unwrap();
    let mut forged = genuine.attest;
    forged[at..at + 34].copy_from_slice(&name(&software));
    let forged_hash = digest(&SHA256, &forged);

    assert!(raw.sign(&restricted, forged_hash.as_ref()).is_err(), "the TPM refuses that for a restricted key");
    assert!(raw.sign(&unrestricted, forged_hash.as_ref()).is_ok(), "and does it for any other");
    let refused = attack.read(&unrestricted.public, &software);
    assert_eq!(refused, Err(TpmError::Attributes { role: KeyRole::Attestation }));
    assert_eq!(attack.read(&restricted.public, &attack.key), Ok(()));
}

#[test]
fn keys_that_may_leave_the_tpm_are_refused_though_it_certifies_them() {
    let Some(attack) = Attack::begin() else { return };
    let mut raw = Raw::open(&attack.tpm);
    let ak = raw.signing_key(attribute::ATTESTATION);
    let stays = attribute::FIXED_TPM | attribute::FIXED_PARENT;
    let duplicable = raw.signing_key(attribute::DEVICE & !stays);
    raw.certify(&duplicable, &ak, b"nonce").unwrap();
    assert_eq!(attack.read(&ak.public, &duplicable.public), Err(TpmError::NotBornHere { role: KeyRole::Device }));
    raw.flush(duplicable);
    let duplicable = raw.signing_key(attribute::ATTESTATION & !stays);
    let refused = attack.read(&duplicable.public, &attack.key);
    assert_eq!(refused, Err(TpmError::NotBornHere { role: KeyRole::Attestation }));
}

#[test]
fn a_software_key_brought_into_the_tpm_is_refused_and_cannot_be_relabelled() {
    let Some(attack) = Attack::begin() else { return };
    let mut raw = Raw::open(&attack.tpm);
    let ak = raw.signing_key(attribute::ATTESTATION);
    let software = SoftwareKey::generate();
    let honest = software.area(attribute::USABLE | attribute::SIGN);
    let loaded = raw.load_external(&honest, Some(&software.scalar)).unwrap();
    let certified = raw.certify(&loaded, &ak, b"nonce").unwrap();
    assert_eq!(attack.read(&ak.public, &honest), Err(TpmError::NotBornHere { role: KeyRole::Device }));
    raw.flush(loaded);

    // The label changes the name, so the certification is for another key; and a TPM takes no such key.
    let relabelled = software.area(attribute::DEVICE);
    let name = |area: &[u8]| [&[0, 0x0b], digest(&SHA256, area).as_ref()].concat();
    let holds = |name: &[u8]| certified.attest.windows(34).any(|window| window == name);
    assert!(holds(&name(&honest)) && !holds(&name(&relabelled)));
    assert!(raw.load_external(&relabelled, Some(&software.scalar)).is_err());
}

/// Refuse 6: all is genuine, the secret, the certification and its nonce, but for the label of the key that is sent.
#[test]
fn the_certification_of_a_software_key_is_worth_nothing_beside_its_relabelled_area() {
    let Some(attack) = Attack::begin() else { return };
    let mut raw = Raw::open(&attack.tpm);
    let ak = raw.signing_key(attribute::ATTESTATION);
    let binding = binding("tpm", b"start", b"challenge");
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]), &binding);
    let verify = |sent: &[u8], certified: &Attested| {
        let proof = Proof { mac: mac.as_ref(), attest: &certified.attest, signature: &certified.signature };
        let evidence = Evidence::read(&attack.ek, &ak.public, sent).unwrap();
        evidence.verify(b"start", b"challenge", &Secret::of([7; 32]), proof).cloned()
    };
    let software = SoftwareKey::generate();
    let loaded = raw.load_external(&software.area(attribute::USABLE | attribute::SIGN), Some(&software.scalar));
    let loaded = loaded.unwrap();
    let certified = raw.certify(&loaded, &ak, &binding).unwrap();
    raw.flush(loaded);
    assert_eq!(verify(&software.area(attribute::DEVICE), &certified), Err(TpmError::CertifiedKey));
    // The same way, with a key that was made here.
    let born = raw.signing_key(attribute::DEVICE);
    let certified = raw.certify(&born, &ak, &binding).unwrap();
    assert!(verify(&born.public, &certified).is_ok());
}

#[test]
fn a_tpm_vouches_for_no_key_of_which_it_has_the_public_half_only() {
    let Some(attack) = Attack::begin() else { return };
    let mut raw = Raw::open(&attack.tpm);
    let ak = raw.signing_key(attribute::ATTESTATION);
    let software = SoftwareKey::generate();
    let public = raw.load_external(&software.area(attribute::DEVICE), None).unwrap();
    assert_eq!(raw.certify(&public, &ak, b"nonce").err(), Some(AUTH_UNAVAILABLE));
    raw.flush(public);
    // Nor by way of a policy that anybody satisfies: what would be certified is a key with its policy's name.
    let policy = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";
    let policy: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&policy[2 * at..2 * at + 2], 16).unwrap()).collect();
    let mut area = software.area(attribute::DEVICE);
    area.splice(8..10, sized(&policy));
    let public = raw.load_external(&area, None).unwrap();
    let session = raw.endorsement_session();
    let parameters = [&sized(b"nonce")[..], &[0, 0x10]].concat();
    let certified = raw.call_by(0x148, &[(public.handle, session), (ak.handle, PASSWORD)], &parameters);
    assert_eq!(certified.err(), Some(AUTH_UNAVAILABLE));
}

#[test]
fn a_restricted_key_and_the_attestation_key_itself_are_no_device_keys() {
    let Some(attack) = Attack::begin() else { return };
    let mut raw = Raw::open(&attack.tpm);
    let ak = raw.signing_key(attribute::ATTESTATION);
    raw.certify(&ak, &ak, b"nonce").unwrap();
    assert_eq!(attack.read(&ak.public, &ak.public), Err(TpmError::Attributes { role: KeyRole::Device }));
    let wraps = raw.load_external(&attack.ek, None).unwrap();
    assert_eq!(attack.read(&wraps.public, &attack.key), Err(TpmError::Attributes { role: KeyRole::Attestation }));
}

#[test]
fn a_tpm_that_is_busy_is_asked_again_over_tcp_as_well() {
    let Some(tpm) = Tpm::start() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let location: Location = format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap();
    std::thread::scope(|scope| {
        let (tpm, listener) = (&tpm, &listener);
        let busy = scope.spawn(move || (0..2).map(|_| be_busy(listener.accept().unwrap().0, tpm)).sum::<usize>());
        let key = TpmKey::generate(&location).unwrap();
        key.sign(b"message").unwrap();
        assert!(busy.join().unwrap() > 4);
    });
}

/// Hands commands on to the TPM, each only when it comes for the second time, until the client leaves. Returns how many
/// were refused before.
fn be_busy(mut client: TcpStream, tpm: &Tpm) -> usize {
    let mut chip = UnixStream::connect(tpm.socket()).unwrap();
    let mut refused: Vec<Vec<u8>> = Vec::new();
    while let Some(command) = message(&mut client) {
        let answer = if refused.last() == Some(&command) {
            chip.write_all(&command).unwrap();
            message(&mut chip).unwrap()
        } else {
            refused.push(command);
            [0x80, 1, 0, 0, 0, 10, 0, 0, 0x09, 0x22].to_vec()
        };
        client.write_all(&answer).unwrap();
    }
    refused.len()
}

fn message(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut message = vec![0; 10];
    stream.read_exact(&mut message).ok()?;
    message.resize(u32::from_be_bytes(message[2..6].try_into().unwrap()) as usize, 0);
    stream.read_exact(&mut message[10..]).ok()?;
    Some(message)
}
