//! A fleet's policy: what it demands of its devices and what it grants them. Data, validated when it is set.

mod error;

use std::{collections::BTreeSet, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

pub use error::PolicyError;

use super::{
    partition::{MOST_NAMED, Spread},
    quota::Quotas,
    unknown::Unknown,
};
use crate::{
    attestation::chain::{Pinned, Roots, Validity},
    identity::{HardwareId, KeyFingerprint, Timestamp},
    pki::KeyKind,
};

/// How a device proves itself when it enrolls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Method {
    /// A one-time join token.
    Token,
    /// A key and certificate that its maker put in (IEEE 802.1AR).
    Factory,
    /// A key that an operator has registered for it (RFC 7523).
    RegisteredKey,
    /// A TPM 2.0.
    Tpm,
    /// An expired certificate of this CA.
    Previous,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 5] = [Self::Token, Self::Factory, Self::RegisteredKey, Self::Tpm, Self::Previous];

    /// Its name on the wire, in the transcript and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::Token => "token",
            Method::Factory => "factory",
            Method::RegisteredKey => "registered-key",
            Method::Tpm => "tpm",
            Method::Previous => "previous",
        }
    }

    /// How much it proves. `previous` proves nothing new: whoever comes by it keeps the tier that was recorded.
    pub const fn tier(self) -> Option<Tier> {
        match self {
            Method::Token => Some(Tier::Token),
            Method::Factory => Some(Tier::Factory),
            Method::RegisteredKey => Some(Tier::Registered),
            Method::Tpm => Some(Tier::Hardware),
            Method::Previous => None,
        }
    }

    /// Whether a key of this kind can be certified by this method: of what lives in TPMs, only what TPMs make.
    pub const fn vouches_for(self, kind: KeyKind) -> bool {
        !matches!((self, kind), (Method::Tpm, KeyKind::Ed25519))
    }
}

impl std::str::FromStr for Method {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        // `previous` is no way to begin: whether it is accepted is what a policy's grace says.
        let first = |method: &Method| *method != Method::Previous;
        Self::ALL.into_iter().filter(first).find(|method| method.as_str() == text).ok_or(PolicyError::Method)
    }
}

/// How much the evidence of an enrollment proves, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Somebody was handed a token.
    Token,
    /// The device holds a key that was registered for it.
    Registered,
    /// The device holds the key that its maker gave it.
    Factory,
    /// The certificate's own key lives in hardware that the device can't take it out of.
    Hardware,
}

impl Tier {
    /// Every tier, least first.
    pub const ALL: [Self; 4] = [Self::Token, Self::Registered, Self::Factory, Self::Hardware];

    /// The tier of this word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.as_str() == word)
    }

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Tier::Token => "token",
            Tier::Registered => "registered",
            Tier::Factory => "factory",
            Tier::Hardware => "hardware",
        }
    }
}

/// What happens when two holders of one identity appear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFork {
    /// The device goes on hold.
    Hold,
    /// The caller is refused and an event raised; the device stays active.
    Alert,
}

/// Where the CRL distribution point of its certificates leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CrlScope {
    /// To the issuer's complete CRL.
    Full,
    /// To the device's own list.
    Device,
}

/// Why a policy does not take an enrollment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// Not by this method.
    Method,
    /// It proves too little.
    Tier,
}

/// The shortest and the longest validity that a policy may grant.
pub const VALIDITY: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(5 * 60)..=Duration::from_secs(7 * 24 * 3600);

/// How many roots a list has at most.
const MOST_ROOTS: usize = 16;
/// How many octets all roots of a fleet have at most: its policy fits into a message.
const MOST_ROOT_OCTETS: usize = 24 * 1024;
/// How many keys are banned at most.
const MOST_BANNED: usize = 100;

/// Certificates (DER); in JSON they are base64.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Certificates(pub Vec<Vec<u8>>);

impl TryFrom<Vec<String>> for Certificates {
    type Error = base64::DecodeError;

    fn try_from(texts: Vec<String>) -> Result<Self, Self::Error> {
        texts.iter().map(|text| BASE64_STANDARD.decode(text)).collect::<Result<_, _>>().map(Self)
    }
}

impl From<Certificates> for Vec<String> {
    fn from(certificates: Certificates) -> Self {
        certificates.0.iter().map(|der| BASE64_STANDARD.encode(der)).collect()
    }
}

/// At which time a factory's chain is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FactoryValidity {
    /// There was a time when all of it was valid: what has expired since strands no device that is sold already.
    #[default]
    Birth,
    /// All of it is valid now.
    Now,
}

impl FactoryValidity {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Birth, Self::Now];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            FactoryValidity::Birth => "birth",
            FactoryValidity::Now => "now",
        }
    }

    /// As a rule for a chain.
    pub const fn rule(self) -> Validity {
        match self {
            FactoryValidity::Birth => Validity::AtBirth,
            FactoryValidity::Now => Validity::Now,
        }
    }
}

/// The longest grace that a policy may grant. Certificates are kept longer than that.
pub const LONGEST_GRACE: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a fleet demands and grants. Kept as JSON in the store; fields are only ever added, with a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Methods accepted, most wanted first.
    pub attest: Vec<Method>,
    /// Validity of a certificate, counted from its issuance, in seconds.
    pub validity_secs: u64,
    /// Keys accepted.
    pub key_types: Vec<KeyKind>,
    /// What a fork does.
    pub on_fork: OnFork,
    /// Where the CRL distribution point leads.
    pub crl_scope: CrlScope,
    /// The least tier that an enrollment has to prove.
    #[serde(default = "default_least_tier")]
    pub least_tier: Tier,
    /// From which tier on an active device may enroll again by itself; `None`: never.
    #[serde(default = "default_reenroll")]
    pub reenroll: Option<Tier>,
    /// Roots of the makers whose IDevIDs count.
    #[serde(default)]
    pub factory_roots: Certificates,
    /// At which time a factory's chain is judged.
    #[serde(default)]
    pub factory_validity: FactoryValidity,
    /// Roots of the makers whose TPMs count. Another list: a maker of boards must not vouch for TPMs.
    #[serde(default)]
    pub tpm_roots: Certificates,
    /// Keys that are refused wherever they are in a factory's chain.
    #[serde(default)]
    pub banned_keys: Vec<KeyFingerprint>,
    /// How long after its certificate has expired a device may come back with it, in seconds. 0: never.
    #[serde(default = "default_grace")]
    pub grace_secs: u64,
    /// What becomes of devices that nobody registered.
    #[serde(default)]
    pub unknown: Unknown,
    /// How many devices it may have, and how many may enroll in an hour.
    #[serde(default)]
    pub quotas: Quotas,
    /// Which issuing CAs its devices are spread over.
    #[serde(default)]
    pub spread: Spread,
}

const fn default_least_tier() -> Tier {
    Tier::Token
}

const fn default_reenroll() -> Option<Tier> {
    Some(Tier::Factory)
}

/// 30 days.
const fn default_grace() -> u64 {
    30 * 24 * 3600
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            attest: vec![Method::Token],
            validity_secs: 24 * 3600,
            key_types: vec![KeyKind::P256, KeyKind::P384, KeyKind::Ed25519],
            on_fork: OnFork::Hold,
            crl_scope: CrlScope::Full,
            factory_roots: Certificates::default(),
            factory_validity: FactoryValidity::default(),
            tpm_roots: Certificates::default(),
            banned_keys: Vec::new(),
            least_tier: default_least_tier(),
            reenroll: default_reenroll(),
            grace_secs: default_grace(),
            unknown: Unknown::default(),
            quotas: Quotas::default(),
            spread: Spread::default(),
        }
    }
}

impl Policy {
    /// Checks every field; a policy that was not checked is never stored.
    pub fn validate(&self) -> Result<(), PolicyError> {
        if self.attest.is_empty() {
            return Err(PolicyError::NoMethod);
        }
        if let Some(method) = twice(&self.attest) {
            return Err(PolicyError::Twice(method.as_str()));
        }
        if let Some(kind) = twice(&self.key_types) {
            return Err(PolicyError::Twice(kind.as_str()));
        }
        if !VALIDITY.contains(&self.validity()) {
            return Err(PolicyError::Validity);
        }
        if self.key_types.is_empty() {
            return Err(PolicyError::NoKeyKind);
        }
        let certified = |method: &Method| self.key_types.iter().any(|kind| method.vouches_for(*kind));
        if !self.attest.iter().all(certified) {
            return Err(PolicyError::TpmKeys);
        }
        if self.attest.contains(&Method::Factory) && self.factory_roots.0.is_empty() {
            return Err(PolicyError::NoFactoryRoots);
        }
        let octets: usize = self.factory_roots.0.iter().chain(&self.tpm_roots.0).map(Vec::len).sum();
        for (method, roots) in [("factory", &self.factory_roots.0), ("tpm", &self.tpm_roots.0)] {
            if roots.len() > MOST_ROOTS || octets > MOST_ROOT_OCTETS {
                return Err(PolicyError::Roots);
            }
            for (at, root) in (1..).zip(roots) {
                let read = Roots::read([root.as_slice()]).and(Pinned::read([root.as_slice()]).map(|_| ()));
                read.map_err(|why| PolicyError::Root { method, at, why })?;
            }
        }
        if self.banned_keys.len() > MOST_BANNED {
            return Err(PolicyError::Banned);
        }
        if !self.attest.iter().any(|method| method.tier() >= Some(self.least_tier)) {
            return Err(PolicyError::LeastTier);
        }
        if self.grace() > LONGEST_GRACE {
            return Err(PolicyError::Grace);
        }
        let named: BTreeSet<_> = self.spread.named.iter().collect();
        if named.len() != self.spread.named.len() || named.len() > MOST_NAMED {
            return Err(PolicyError::Issuers);
        }
        Ok(self.unknown.validate(&self.vouched())?)
    }

    /// Checks what one that takes the place of another says anew.
    pub fn validate_after(&self, was: &Policy) -> Result<(), PolicyError> {
        self.validate()?;
        let given = |method: &Method| !self.roots(*method).is_empty() && self.roots(*method) != was.roots(*method);
        let mut others = [Method::Factory, Method::Tpm].into_iter().filter(|method| !self.attest.contains(method));
        others.find(given).map_or(Ok(()), |method| Err(PolicyError::RootsOfOther(method.as_str())))
    }

    /// Leaves of each root that was given more than once the first.
    pub fn drop_repeated_roots(&mut self) {
        for Certificates(roots) in [&mut self.factory_roots, &mut self.tpm_roots] {
            let mut seen = BTreeSet::new();
            roots.retain(|root| seen.insert(root.clone()));
        }
    }

    /// The methods that are enough, and in which a pinned root vouches for devices.
    pub fn vouched(&self) -> Vec<Method> {
        let pinned = |method: &&Method| match method {
            Method::Factory => !self.factory_roots.0.is_empty(),
            Method::Tpm => !self.tpm_roots.0.is_empty(),
            Method::Token | Method::RegisteredKey | Method::Previous => false,
        };
        let enough = |method: &&Method| method.tier() >= Some(self.least_tier);
        self.attest.iter().filter(pinned).filter(enough).copied().collect()
    }

    /// The roots that vouch for devices by this method.
    pub fn roots(&self, method: Method) -> &[Vec<u8>] {
        match method {
            Method::Factory => &self.factory_roots.0,
            Method::Tpm => &self.tpm_roots.0,
            Method::Token | Method::RegisteredKey | Method::Previous => &[],
        }
    }

    /// Whether this hardware is refused for a key that is banned: a TPM's endorsement key, or that of whoever issued an IDevID.
    pub fn bans(&self, hardware: &HardwareId) -> bool {
        let (HardwareId::Ek(key) | HardwareId::IdevId { issuer: key, .. }) = hardware;
        self.banned_keys.contains(&KeyFingerprint::from_bytes(*key))
    }

    /// Whether an enrollment by this method, which proved this much, is enough.
    pub fn admit(&self, method: Method, tier: Tier) -> Result<(), NotAdmitted> {
        if !self.attest.contains(&method) {
            return Err(NotAdmitted::Method);
        }
        if tier < self.least_tier { Err(NotAdmitted::Tier) } else { Ok(()) }
    }

    /// How long after its certificate has expired a device may come back with it.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_secs)
    }

    /// How long its certificates are valid.
    pub fn validity(&self) -> Duration {
        Duration::from_secs(self.validity_secs)
    }
}

/// What is there more than once.
fn twice<T: Copy + PartialEq>(all: &[T]) -> Option<T> {
    all.iter().enumerate().find(|(at, one)| all[..*at].contains(one)).map(|(_, one)| *one)
}

/// The interval in which a certificate that is valid from `issued_at` to `not_after` renews: from a third to two
/// thirds of it.
pub fn renewal_window(issued_at: Timestamp, not_after: Timestamp) -> (Timestamp, Timestamp) {
    let third = not_after.since(issued_at) / 3;
    (issued_at + third, issued_at + third * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_outside_its_bounds_is_refused() {
        let with = |change: fn(&mut Policy)| {
            let mut policy = Policy::default();
            change(&mut policy);
            policy.validate()
        };
        assert_eq!(with(|_| ()), Ok(()));
        assert_eq!(with(|policy| policy.attest.clear()), Err(PolicyError::NoMethod));
        assert_eq!(with(|policy| policy.key_types.clear()), Err(PolicyError::NoKeyKind));
        let policy = Policy { grace_secs: 365 * 24 * 3600 + 1, ..Policy::default() };
        assert_eq!(policy.validate(), Err(PolicyError::Grace));
        for secs in [0, 299, 7 * 24 * 3600 + 1, u64::MAX] {
            let policy = Policy { validity_secs: secs, ..Policy::default() };
            assert_eq!(policy.validate(), Err(PolicyError::Validity), "{secs}");
        }
    }

    #[test]
    fn a_policy_that_cannot_work_is_refused() {
        let policy = |attest: &[Method], key_types: &[KeyKind]| {
            Policy { attest: attest.into(), key_types: key_types.into(), ..Policy::default() }.validate()
        };
        assert_eq!(policy(&[Method::Tpm], &[KeyKind::Ed25519]), Err(PolicyError::TpmKeys));
        assert_eq!(policy(&[Method::Token, Method::Tpm], &[KeyKind::Ed25519]), Err(PolicyError::TpmKeys));
        assert_eq!(policy(&[Method::Tpm], &[KeyKind::Ed25519, KeyKind::P384]), Ok(()));
        assert_eq!(policy(&[Method::Token], &[KeyKind::Ed25519]), Ok(()));
        assert_eq!(
            policy(&[Method::Tpm, Method::Token, Method::Tpm], &[KeyKind::P256]),
            Err(PolicyError::Twice("tpm"))
        );
        assert_eq!(policy(&[Method::Token], &[KeyKind::P256, KeyKind::P256]), Err(PolicyError::Twice("P-256")));
    }

    #[test]
    fn a_policy_of_an_older_version_gets_what_it_does_not_say_by_default() {
        let old = r#"{"attest":["token"],"validity_secs":86400,"key_types":["p256","p384","ed25519"],"on_fork":"hold",
            "crl_scope":"full"}"#;
        assert_eq!(serde_json::from_str::<Policy>(old).unwrap(), Policy::default());
    }

    #[test]
    fn a_certificate_renews_between_a_third_and_two_thirds() {
        let at = Timestamp::from_secs;
        assert_eq!(renewal_window(at(1000), at(1900)), (at(1300), at(1600)));
    }
}
