//! Chains as makers, and those who would like to be one, would make them.

mod reach;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256, PublicKeyData, SigningKey,
};
use time::OffsetDateTime;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);
const YEAR: i64 = 365 * 24 * 3600;
const EK: &[u64] = &[2, 23, 133, 8, 1];

/// What a certificate is made of; the rest never differs.
struct Plan {
    name: &'static str,
    /// Years from now.
    valid: (i64, i64),
    is_authority: bool,
    usages: Vec<KeyUsagePurpose>,
    purposes: Vec<ExtendedKeyUsagePurpose>,
    extensions: Vec<CustomExtension>,
}

struct Made {
    der: Vec<u8>,
    params: CertificateParams,
    key: KeyPair,
}

fn authority(name: &'static str) -> Plan {
    let usages = vec![KeyUsagePurpose::KeyCertSign];
    Plan { name, valid: (-1, 9), is_authority: true, usages, purposes: vec![], extensions: vec![] }
}

fn ek() -> Plan {
    let usages = vec![KeyUsagePurpose::KeyAgreement];
    let purposes = vec![ExtendedKeyUsagePurpose::Other(EK.to_vec())];
    Plan { name: "", valid: (-1, 9), is_authority: false, usages, purposes, extensions: vec![] }
}

fn idevid() -> Plan {
    Plan { name: "pump", usages: vec![KeyUsagePurpose::DigitalSignature], purposes: vec![], ..ek() }
}

impl Plan {
    fn made_by(self, issuer: Option<&Made>) -> Made {
        let key = KeyPair::generate().unwrap();
        let (der, params) = self.certificate(&key, issuer, &key);
        Made { der, params, key }
    }

    fn certificate(
        self,
        subject: &impl PublicKeyData,
        issuer: Option<&Made>,
        own: &impl SigningKey,
    ) -> (Vec<u8>, CertificateParams) {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if !self.name.is_empty() {
            params.distinguished_name.push(DnType::CommonName, self.name);
        }
        let at = |years: i64| OffsetDateTime::from_unix_timestamp(NOW.secs() + years * YEAR).unwrap();
        (params.not_before, params.not_after) = (at(self.valid.0), at(self.valid.1));
        params.is_ca = if self.is_authority { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
        params.key_usages = self.usages;
        params.extended_key_usages = self.purposes;
        params.custom_extensions = self.extensions;
        let certificate = match issuer {
            Some(issuer) => params.signed_by(subject, &Issuer::from_params(&issuer.params, &issuer.key)),
            None => params.self_signed(own),
        };
        (certificate.unwrap().der().to_vec(), params)
    }
}

struct Maker {
    root: Made,
    intermediate: Made,
}

impl Maker {
    fn new() -> Self {
        let root = authority("maker").made_by(None);
        let intermediate = authority("line 1").made_by(Some(&root));
        Self { root, intermediate }
    }

    fn leaf(&self, plan: Plan) -> Vec<u8> {
        plan.made_by(Some(&self.intermediate)).der
    }

    fn check(&self, chain: &[&[u8]], leaf: Leaf) -> Result<Verified, ChainError> {
        self.check_with(chain, leaf, Validity::AtBirth, &BTreeSet::new())
    }

    fn check_with(
        &self,
        chain: &[&[u8]],
        leaf: Leaf,
        validity: Validity,
        banned: &BTreeSet<KeyFingerprint>,
    ) -> Result<Verified, ChainError> {
        let roots = Roots::read([self.root.der.as_slice()]).unwrap();
        let chain: Vec<_> = chain.iter().map(|der| der.to_vec()).collect();
        let verified = verify(&chain, &Rules { roots: &roots, leaf, validity, banned }, NOW);
        // Where a verifier finds a way, whoever looks for every way finds one.
        let pinned = Pinned::read([self.root.der.as_slice()]).unwrap();
        assert!(verified.is_err() || pinned.reached(&chain).unwrap().anchors.len() == 1);
        verified
    }

    fn check_leaf(&self, plan: Plan, leaf: Leaf) -> Result<Verified, ChainError> {
        self.check(&[&self.leaf(plan), &self.intermediate.der], leaf)
    }
}

fn fingerprint(made: &Made) -> KeyFingerprint {
    KeyFingerprint::of(&made.key.subject_public_key_info())
}

#[test]
fn a_chain_leads_to_the_root_and_names_who_signed_its_leaf() {
    let maker = Maker::new();
    for (plan, kind) in [(ek(), Leaf::EndorsementKey), (idevid(), Leaf::FactoryIdentity)] {
        let leaf = plan.made_by(Some(&maker.intermediate));
        let verified = maker.check(&[&leaf.der, &maker.intermediate.der], kind).unwrap();
        assert_eq!(verified.leaf_key(), fingerprint(&leaf));
        assert_eq!(verified.issuer_key(), fingerprint(&maker.intermediate));
        assert_eq!(verified.leaf().to_der().unwrap(), leaf.der);
    }
    let direct = ek().made_by(Some(&maker.root));
    let verified = maker.check(&[&direct.der], Leaf::EndorsementKey).unwrap();
    assert_eq!(verified.issuer_key(), fingerprint(&maker.root));
}

#[test]
fn certificates_between_may_come_in_any_order() {
    let maker = Maker::new();
    let second = authority("line 2").made_by(Some(&maker.intermediate));
    let leaf = ek().made_by(Some(&second)).der;
    for between in [[&second.der, &maker.intermediate.der], [&maker.intermediate.der, &second.der]] {
        let verified = maker.check(&[&leaf, between[0], between[1]], Leaf::EndorsementKey).unwrap();
        assert_eq!(verified.issuer_key(), fingerprint(&second));
    }
}

#[test]
fn who_may_not_sign_certificates_issues_no_leaf() {
    let maker = Maker::new();
    for (plan, kind) in [(ek(), Leaf::EndorsementKey), (idevid(), Leaf::FactoryIdentity)] {
        // A CA by its constraints, whose key usage is for something else.
        let usages = vec![KeyUsagePurpose::DigitalSignature];
        let other = Plan { usages, ..authority("signs firmware") }.made_by(Some(&maker.root));
        let leaf = plan.made_by(Some(&other));
        assert_eq!(maker.check(&[&leaf.der, &other.der], kind).err(), Some(ChainError::Untrusted));
    }
}

#[test]
fn what_is_no_ca_is_pinned_as_none() {
    let maker = Maker::new();
    let usages = vec![KeyUsagePurpose::DigitalSignature];
    for der in [maker.leaf(idevid()), maker.leaf(ek()), Plan { usages, ..authority("x") }.made_by(None).der] {
        assert_eq!(Roots::read([&der[..]]).err(), Some(ChainError::NoAuthority));
    }
    assert!(Roots::read([&maker.root.der[..], &maker.intermediate.der]).is_ok());
}

#[test]
fn a_same_named_attacker_ca_does_not_lead_anywhere() {
    let (maker, attacker) = (Maker::new(), Maker::new());
    let leaf = attacker.leaf(ek());
    for between in [&attacker.intermediate.der, &maker.intermediate.der] {
        assert_eq!(maker.check(&[&leaf, between], Leaf::EndorsementKey).err(), Some(ChainError::Untrusted));
    }
    let with_root: [&[u8]; 3] = [&leaf, &attacker.intermediate.der, &attacker.root.der];
    assert_eq!(maker.check(&with_root, Leaf::EndorsementKey).err(), Some(ChainError::Untrusted));
    assert_eq!(maker.check(&[&maker.leaf(ek())], Leaf::EndorsementKey).err(), Some(ChainError::Untrusted));
}

#[test]
fn a_certificate_for_another_purpose_is_no_endorsement_keys() {
    let maker = Maker::new();
    let purpose = |purposes| maker.check_leaf(Plan { purposes, ..ek() }, Leaf::EndorsementKey).err();
    assert_eq!(purpose(vec![]), Some(ChainError::Purpose));
    assert_eq!(purpose(vec![ExtendedKeyUsagePurpose::ServerAuth]), Some(ChainError::Purpose));
    assert_eq!(purpose(vec![ExtendedKeyUsagePurpose::Any]), Some(ChainError::Purpose));
    let usages = vec![KeyUsagePurpose::DigitalSignature];
    assert_eq!(maker.check_leaf(Plan { usages, ..ek() }, Leaf::EndorsementKey).err(), Some(ChainError::Purpose));
}

#[test]
fn an_authority_is_no_leaf() {
    let maker = Maker::new();
    let ca = || Plan { is_authority: true, ..ek() };
    assert_eq!(maker.check_leaf(ca(), Leaf::EndorsementKey).err(), Some(ChainError::Authority));
    let usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::KeyAgreement];
    assert_eq!(maker.check_leaf(Plan { usages, ..ek() }, Leaf::EndorsementKey).err(), Some(ChainError::Authority));
    assert_eq!(maker.check(&[&maker.root.der], Leaf::FactoryIdentity).err(), Some(ChainError::Authority));
}

#[test]
fn an_idevid_without_digital_signature_is_refused() {
    let maker = Maker::new();
    for usages in [vec![], vec![KeyUsagePurpose::KeyEncipherment]] {
        let refused = maker.check_leaf(Plan { usages, ..idevid() }, Leaf::FactoryIdentity).err();
        assert_eq!(refused, Some(ChainError::Purpose));
    }
}

#[test]
fn a_banned_key_is_refused_wherever_it_stands() {
    let maker = Maker::new();
    let leaf = ek().made_by(Some(&maker.intermediate));
    for made in [&leaf, &maker.intermediate, &maker.root] {
        let banned = BTreeSet::from([fingerprint(made)]);
        let chain: [&[u8]; 2] = [&leaf.der, &maker.intermediate.der];
        let refused = maker.check_with(&chain, Leaf::EndorsementKey, Validity::AtBirth, &banned).err();
        assert_eq!(refused, Some(ChainError::Banned));
    }
}

#[test]
fn an_authority_that_expired_since_strands_no_device_unless_it_is_to() {
    let maker = Maker::new();
    let line = Plan { valid: (-5, -1), ..authority("line 0") }.made_by(Some(&maker.root));
    let leaf = Plan { valid: (-3, 5), ..idevid() }.made_by(Some(&line)).der;
    let check =
        |validity| maker.check_with(&[&leaf, &line.der], Leaf::FactoryIdentity, validity, &BTreeSet::new()).map(|_| ());
    assert_eq!(check(Validity::AtBirth), Ok(()));
    assert_eq!(check(Validity::Now), Err(ChainError::Validity));
    // Signed when the authority had expired already.
    let leaf = Plan { valid: (0, 5), ..idevid() }.made_by(Some(&line)).der;
    let check = maker.check(&[&leaf, &line.der], Leaf::FactoryIdentity);
    assert_eq!(check.err(), Some(ChainError::Validity));
}

#[test]
fn a_certificate_of_the_future_is_refused_and_one_without_end_is_not() {
    let maker = Maker::new();
    for validity in [Validity::Now, Validity::AtBirth] {
        let check = |valid| {
            let leaf = maker.leaf(Plan { valid, ..idevid() });
            let chain: [&[u8]; 2] = [&leaf, &maker.intermediate.der];
            maker.check_with(&chain, Leaf::FactoryIdentity, validity, &BTreeSet::new()).map(|_| ())
        };
        assert_eq!(check((1, 5)), Err(ChainError::Validity));
        assert_eq!(check((-1, 7900)), Ok(()));
    }
}

#[test]
fn chains_are_bounded_before_any_signature_is_looked_at() {
    let maker = Maker::new();
    let leaf = maker.leaf(ek());
    let between = maker.intermediate.der.as_slice();
    let long = [vec![leaf.as_slice()], vec![between; 100]].concat();
    assert_eq!(maker.check(&long, Leaf::EndorsementKey).err(), Some(ChainError::Size));
    // No signature of it holds, which would be another refusal.
    let broken = |der: &[u8]| [&der[..der.len() - 1], &[der[der.len() - 1] ^ 1]].concat();
    let (broken_leaf, broken) = (broken(&leaf), broken(between));
    assert_eq!(maker.check(&[&broken_leaf, &broken], Leaf::EndorsementKey).err(), Some(ChainError::Untrusted));
    let long = [vec![broken_leaf.as_slice()], vec![broken.as_slice(); 100]].concat();
    assert_eq!(maker.check(&long, Leaf::EndorsementKey).err(), Some(ChainError::Size));
    assert_eq!(maker.check(&[], Leaf::EndorsementKey).err(), Some(ChainError::Size));
    let large = vec![0x30; LONGEST_CERTIFICATE + 1];
    assert_eq!(maker.check(&[&leaf, &large], Leaf::EndorsementKey).err(), Some(ChainError::Size));
    // Its signature is rubbish, which would be another refusal.
    let (huge, _) = authority("huge").certificate(&HugeKey, None, &HugeKey);
    assert!(huge.len() < LONGEST_CERTIFICATE);
    assert_eq!(maker.check(&[&leaf, &huge], Leaf::EndorsementKey).err(), Some(ChainError::KeySize));
    assert_eq!(Roots::read([huge.as_slice()]).err(), Some(ChainError::KeySize));
}

/// RSA of 16384 bits, which signs nothing.
struct HugeKey;

impl PublicKeyData for HugeKey {
    fn der_bytes(&self) -> &[u8] {
        static KEY: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
            [&[0x30, 0x82, 8, 9, 2, 0x82, 8, 1, 0][..], &[0xff; 2048], &[2, 2, 1, 1]].concat()
        });
        &KEY
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_RSA_SHA256
    }
}

impl SigningKey for HugeKey {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(vec![7; 2048])
    }
}

#[test]
fn what_is_no_certificate_is_an_error_and_never_a_panic() {
    let maker = Maker::new();
    let leaf = maker.leaf(ek());
    for length in 0..leaf.len() {
        let refused = maker.check(&[&leaf[..length], &maker.intermediate.der], Leaf::EndorsementKey).err();
        assert_eq!(refused, Some(ChainError::Malformed), "{length}");
    }
    let longer = [&leaf[..], &[0]].concat();
    assert_eq!(maker.check(&[&longer], Leaf::EndorsementKey).err(), Some(ChainError::Malformed));
    for at in 0..leaf.len() {
        let mut changed = leaf.clone();
        changed[at] ^= 0x20;
        assert!(maker.check(&[&changed, &maker.intermediate.der], Leaf::EndorsementKey).is_err(), "{at}");
    }
}

#[test]
fn extensions_that_are_empty_malformed_or_unknown_and_critical_are_refused() {
    let maker = Maker::new();
    let check = |oid: &[u64], content: &[u8], critical: bool| {
        let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
        extension.set_criticality(critical);
        let plan = Plan { purposes: vec![], extensions: vec![extension], ..ek() };
        maker.check_leaf(plan, Leaf::EndorsementKey).err()
    };
    let purposes = &[2, 5, 29, 37];
    assert_eq!(check(purposes, &[0x30, 0], false), Some(ChainError::Purpose));
    assert_eq!(check(purposes, &[0x30, 5, 6], true), Some(ChainError::Malformed));
    assert_eq!(check(purposes, &[], true), Some(ChainError::Malformed));
    let extension = {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
        extension.set_criticality(true);
        extension
    };
    let refused = maker.check_leaf(Plan { extensions: vec![extension], ..ek() }, Leaf::EndorsementKey).err();
    assert_eq!(refused, Some(ChainError::Untrusted));
}
