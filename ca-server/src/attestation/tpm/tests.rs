//! Answers that real TPMs gave (swtpm 0.7.1), verified as they are and with every change that should matter.

use std::collections::BTreeMap;

use fleetca_proto::transcript::binding;
use proptest::prelude::*;
use ring::hmac;
use ring::rand::SystemRandom;
use serde::Deserialize;

use super::credential::Secret;
use super::*;

const FIXED_TPM: u32 = 1 << 1;
const FIXED_PARENT: u32 = 1 << 4;
const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
const RESTRICTED: u32 = 1 << 16;
const DECRYPT: u32 = 1 << 17;
const SIGN: u32 = 1 << 18;
/// Where a TPMT_PUBLIC has the hash of its name, and its attributes.
const HASH_AT: usize = 2;
const ATTRIBUTES_AT: usize = 4;

/// What was recorded of one TPM, with `start` and `challenge` as messages.
#[derive(Clone, Deserialize)]
struct Recorded {
    ek_public: Hex,
    ak_public: Hex,
    key_public: Hex,
    key_spki: Hex,
    secret: Hex,
    mac: Hex,
    attest: Hex,
    signature: Hex,
    /// A quote with the right nonce.
    quote: Signed,
    /// A certification of another key by another attestation key.
    other: Other,
}

#[derive(Clone, Deserialize)]
struct Signed {
    ak_public: Hex,
    attest: Hex,
    signature: Hex,
}

#[derive(Clone, Deserialize)]
struct Other {
    key_public: Hex,
    attest: Hex,
    signature: Hex,
}

#[derive(Clone)]
struct Hex(Vec<u8>);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Hex((0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()))
    }
}

fn recorded() -> BTreeMap<String, Recorded> {
    serde_json::from_str(include_str!("../../../../tests/fixtures/tpm.json")).unwrap()
}

fn one() -> Recorded {
    recorded().remove("p-256").unwrap()
}

impl Recorded {
    fn evidence(&self) -> Result<Evidence, TpmError> {
        Evidence::read(&self.ek_public.0, &self.ak_public.0, &self.key_public.0)
    }

    fn secret(&self) -> Secret {
        Secret::of(self.secret.0.as_slice().try_into().unwrap())
    }

    /// The key that is certified.
    fn verify(&self) -> Result<PublicKey, TpmError> {
        self.verify_for(b"start", b"challenge")
    }

    fn verify_for(&self, start: &[u8], challenge: &[u8]) -> Result<PublicKey, TpmError> {
        let proof = Proof { mac: &self.mac.0, attest: &self.attest.0, signature: &self.signature.0 };
        self.evidence()?.verify(start, challenge, &self.secret(), proof).cloned()
    }

    fn attributes(public: &mut Hex, change: impl Fn(u32) -> u32) {
        let place: &mut [u8; 4] = (&mut public.0[ATTRIBUTES_AT..ATTRIBUTES_AT + 4]).try_into().unwrap();
        *place = change(u32::from_be_bytes(*place)).to_be_bytes();
    }
}

#[test]
fn what_a_tpm_answered_proves_the_key_in_it() {
    for (kind, recorded) in recorded() {
        let key = PublicKey::from_spki_der(&recorded.key_spki.0).unwrap();
        assert_eq!(recorded.verify(), Ok(key), "{kind}");
    }
}

#[test]
fn every_challenge_is_another_one() {
    for (kind, recorded) in recorded() {
        let evidence = recorded.evidence().unwrap();
        let challenges: Vec<_> = (0..if kind == "p-256" { 1000 } else { 20 })
            .map(|_| evidence.challenge(&SystemRandom::new()).unwrap().0)
            .collect();
        let parts: std::collections::BTreeSet<_> =
            challenges.iter().flat_map(|challenge| [&challenge.blob, &challenge.encrypted_secret]).collect();
        assert_eq!(parts.len(), challenges.len() * 2, "{kind}");
    }
}

#[test]
fn an_answer_for_another_transcript_is_refused() {
    let recorded = one();
    assert_eq!(recorded.verify_for(b"start", b"stale"), Err(TpmError::Activation));
    assert_eq!(recorded.verify_for(b"other", b"challenge"), Err(TpmError::Activation));
}

#[test]
fn an_answer_without_the_unwrapped_secret_is_refused() {
    let mut recorded = one();
    recorded.secret.0[31] ^= 1;
    assert_eq!(recorded.verify(), Err(TpmError::Activation));
    for mac in [vec![], vec![0; 32], one().mac.0[..31].to_vec(), [one().mac.0, vec![0]].concat()] {
        assert_eq!(Recorded { mac: Hex(mac), ..one() }.verify(), Err(TpmError::Activation));
    }
}

#[test]
fn a_certification_for_an_earlier_challenge_is_refused() {
    // The secret is unwrapped for this transcript, and the certification is an old one.
    let mut recorded = one();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &recorded.secret.0);
    recorded.mac = Hex(hmac::sign(&key, &binding("tpm", b"start", b"later")).as_ref().to_vec());
    assert_eq!(recorded.verify_for(b"start", b"later"), Err(TpmError::Stale));
}

#[test]
fn a_quote_shown_as_a_certification_is_refused() {
    for recorded in recorded().into_values() {
        let Signed { ak_public, attest, signature } = recorded.quote.clone();
        let quoted = Recorded { ak_public, attest, signature, ..recorded };
        assert_eq!(quoted.verify(), Err(TpmError::NotACertification));
    }
}

#[test]
fn a_certification_by_another_attestation_key_is_refused() {
    let recorded = one();
    let other = Recorded { ak_public: recorded.quote.ak_public.clone(), ..recorded.clone() };
    assert_eq!(other.verify(), Err(TpmError::Signature));
    let Other { attest, signature, .. } = recorded.other.clone();
    assert_eq!(Recorded { attest, signature, ..recorded }.verify(), Err(TpmError::Signature));
}

#[test]
fn a_certification_of_another_key_is_refused() {
    let recorded = one();
    let swapped = Recorded { key_public: recorded.other.key_public.clone(), ..recorded.clone() };
    assert_eq!(swapped.verify(), Err(TpmError::CertifiedKey));
    let Other { attest, signature, .. } = recorded.other.clone();
    let ak_public = recorded.quote.ak_public.clone();
    assert_eq!(Recorded { attest, signature, ak_public, ..recorded }.verify(), Err(TpmError::CertifiedKey));
}

#[test]
fn keys_that_may_have_come_from_outside_or_may_leave_are_refused() {
    for missing in [FIXED_TPM, FIXED_PARENT, SENSITIVE_DATA_ORIGIN] {
        let mut recorded = one();
        Recorded::attributes(&mut recorded.ak_public, |attributes| attributes & !missing);
        assert_eq!(recorded.verify(), Err(TpmError::NotBornHere { role: KeyRole::Attestation }));
        let mut recorded = one();
        Recorded::attributes(&mut recorded.key_public, |attributes| attributes & !missing);
        assert_eq!(recorded.verify(), Err(TpmError::NotBornHere { role: KeyRole::Device }));
        let mut recorded = one();
        Recorded::attributes(&mut recorded.ek_public, |attributes| attributes & !missing);
        assert_eq!(recorded.verify(), Err(TpmError::NotBornHere { role: KeyRole::Endorsement }));
    }
}

#[test]
fn keys_of_another_purpose_are_refused() {
    let changed = |pick: fn(&mut Recorded) -> &mut Hex, bits: u32| {
        let mut recorded = one();
        Recorded::attributes(pick(&mut recorded), |attributes| attributes ^ bits);
        recorded.verify()
    };
    for bits in [RESTRICTED, SIGN, DECRYPT] {
        let refused = |role| Err(TpmError::Attributes { role });
        assert_eq!(changed(|recorded| &mut recorded.ak_public, bits), refused(KeyRole::Attestation), "{bits:x}");
        assert_eq!(changed(|recorded| &mut recorded.key_public, bits), refused(KeyRole::Device), "{bits:x}");
        assert_eq!(changed(|recorded| &mut recorded.ek_public, bits), refused(KeyRole::Endorsement), "{bits:x}");
    }
}

#[test]
fn one_key_in_two_roles_is_refused() {
    let recorded = one();
    let ak_as_key = Recorded { key_public: recorded.ak_public.clone(), ..recorded.clone() };
    assert_eq!(ak_as_key.verify(), Err(TpmError::Attributes { role: KeyRole::Device }));
    // The same point, with attributes that fit both roles: no TPM makes that, and it is refused before any is asked.
    let mut twin = recorded.clone();
    let point = recorded.ak_public.0.len() - 68;
    let at = twin.key_public.0.len() - 68;
    twin.key_public.0[at..].copy_from_slice(&recorded.ak_public.0[point..]);
    assert_eq!(twin.verify(), Err(TpmError::SameKey));
}

#[test]
fn an_attestation_key_with_a_policy_is_refused() {
    let mut recorded = one();
    let policy = [&[0, 32][..], &[7; 32]].concat();
    recorded.ak_public.0.splice(8..10, policy);
    assert_eq!(recorded.verify(), Err(TpmError::Attributes { role: KeyRole::Attestation }));
}

#[test]
fn names_and_signatures_with_sha_1_are_refused() {
    for pick in [
        |recorded| &mut recorded.ek_public,
        |recorded| &mut recorded.ak_public,
        |recorded: &mut Recorded| &mut recorded.key_public,
    ] as [fn(&mut Recorded) -> &mut Hex; 3]
    {
        let mut recorded = one();
        pick(&mut recorded).0[HASH_AT..HASH_AT + 2].copy_from_slice(&[0, 4]);
        assert_eq!(recorded.verify(), Err(TpmError::Algorithm));
    }
    let mut recorded = one();
    recorded.signature.0[2..4].copy_from_slice(&[0, 4]);
    assert_eq!(recorded.verify(), Err(TpmError::Algorithm));
}

#[test]
fn structures_that_are_cut_short_or_have_something_behind_them_are_refused() {
    for recorded in recorded().into_values() {
        let fields = [
            |recorded| &mut recorded.ek_public,
            |recorded| &mut recorded.ak_public,
            |recorded| &mut recorded.key_public,
            |recorded: &mut Recorded| &mut recorded.signature,
        ] as [fn(&mut Recorded) -> &mut Hex; 4];
        for field in fields {
            let whole = field(&mut recorded.clone()).0.len();
            for length in 0..whole {
                let mut cut = recorded.clone();
                field(&mut cut).0.truncate(length);
                assert!(matches!(cut.verify(), Err(TpmError::Malformed { .. } | TpmError::Algorithm)), "{length}");
            }
            let mut longer = recorded.clone();
            field(&mut longer).0.push(0);
            assert!(matches!(longer.verify(), Err(TpmError::Malformed { .. })));
        }
    }
}

#[test]
fn a_certification_is_read_to_its_last_octet_and_no_further() {
    let attest = one().attest.0;
    assert!(Certification::read(&attest).is_ok());
    for length in 0..attest.len() {
        assert!(Certification::read(&attest[..length]).is_err(), "{length}");
    }
    assert!(Certification::read(&[&attest[..], &[0]].concat()).is_err());
    let mut forged = attest.clone();
    forged[0] ^= 1;
    assert_eq!(Certification::read(&forged).err(), Some(TpmError::Malformed { structure: "TPMS_ATTEST" }));
}

#[test]
fn a_change_of_any_octet_of_what_the_tpm_signed_is_refused() {
    let recorded = one();
    for at in 0..recorded.attest.0.len() {
        let mut changed = recorded.clone();
        changed.attest.0[at] ^= 0x10;
        assert_eq!(changed.verify(), Err(TpmError::Signature), "{at}");
    }
    for at in 0..recorded.signature.0.len() {
        let mut changed = recorded.clone();
        changed.signature.0[at] ^= 0x10;
        assert!(changed.verify().is_err(), "{at}");
    }
}

#[test]
fn a_point_off_its_curve_gets_no_challenge() {
    for recorded in recorded().into_iter().filter(|(kind, _)| kind != "rsa-2048").map(|(_, recorded)| recorded) {
        let mut recorded = recorded;
        *recorded.ek_public.0.last_mut().unwrap() ^= 1;
        let refused = recorded.evidence().unwrap().challenge(&SystemRandom::new()).err();
        assert_eq!(refused, Some(TpmError::Malformed { structure: "TPMT_PUBLIC" }));
    }
}

#[test]
fn an_rsa_key_of_an_even_modulus_or_another_length_is_refused() {
    let recorded = recorded().remove("rsa-2048").unwrap();
    let mut even = recorded.clone();
    *even.ek_public.0.last_mut().unwrap() &= 0xfe;
    assert_eq!(even.verify(), Err(TpmError::Key(KeyError::Weak)));
    let mut short = recorded;
    let size_at = short.ek_public.0.len() - 256 - 2;
    short.ek_public.0.truncate(size_at + 2 + 255);
    short.ek_public.0[size_at..size_at + 2].copy_from_slice(&255_u16.to_be_bytes());
    assert_eq!(short.verify(), Err(TpmError::Malformed { structure: "TPMT_PUBLIC" }));
}

#[test]
fn nothing_tells_the_secret() {
    assert_eq!(format!("{:?}", one().secret()), "Secret(..)");
}

/// Real octets with a few of them changed, or any octets at all.
fn octets_like(real: &[u8]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let real = real.to_vec();
    let changed = proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6).prop_map(move |changes| {
        let mut octets = real.clone();
        for (at, value) in changes {
            let at = at % octets.len();
            octets[at] = value;
        }
        octets
    });
    prop_oneof![changed, proptest::collection::vec(any::<u8>(), 0..1200)]
}

proptest! {
    #[test]
    fn what_a_peer_sends_is_read_or_refused_and_never_a_panic(
        public in octets_like(&one().ek_public.0),
        attest in octets_like(&one().attest.0),
        signature in octets_like(&one().signature.0),
    ) {
        let recorded = one();
        if let Ok(evidence) = Evidence::read(&public, &recorded.ak_public.0, &recorded.key_public.0) {
            let _ = evidence.challenge(&SystemRandom::new());
        }
        let _ = Evidence::read(&recorded.ek_public.0, &public, &public);
        let _ = Certification::read(&attest);
        let signed = signature::verify(recorded.evidence().unwrap().ak.key(), &attest, &signature);
        prop_assert_eq!(signed.is_ok(), attest == recorded.attest.0 && signature == recorded.signature.0);
    }
}
