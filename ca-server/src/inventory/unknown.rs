//! Devices that nobody registered: what a fleet does with them, and how they are named.
//!
//! They come by a maker's root that the fleet pins, so by `factory` or `tpm`. What names them is what they have proven,
//! and never what they say.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::fleet::Method;
use crate::{
    attestation::tpm::EndorsementKind,
    identity::{DeviceId, HardwareId, hex},
};

/// How many devices of a fleet may wait for approval, by its policy.
const MOST_PENDING: std::ops::RangeInclusive<u32> = 1..=10_000;

/// The longest template.
const LONGEST_TEMPLATE: usize = 128;

/// What becomes of a device that nobody registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownDevices {
    /// It is refused.
    #[default]
    Refuse,
    /// It waits for an operator's approval.
    Pending,
    /// It is registered by itself: a maker's root admits every device of that maker in the world.
    Register,
}

impl UnknownDevices {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Refuse, Self::Pending, Self::Register];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            UnknownDevices::Refuse => "refuse",
            UnknownDevices::Pending => "pending",
            UnknownDevices::Register => "register",
        }
    }
}

/// Why a policy about unknown devices can't be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnknownError {
    /// Nothing vouches for a device that nobody registered.
    #[error(
        "nothing vouches for unknown devices: accept factory with --factory-roots, or tpm with --tpm-roots, by a tier that \
         is enough"
    )]
    NoRoots,
    /// More than an operator could look at.
    #[error("from 1 to 10000 devices may wait for approval")]
    MostPending,
    /// Nobody has said it aloud.
    #[error(
        "a maker's root admits every device of that maker in the world, whoever holds it; say --accept-any-holder, also with \
         every change of methods or roots"
    )]
    AnyHolder,
    /// It was said where it means nothing.
    #[error("--accept-any-holder is for --unknown-devices register")]
    NotRegistering,
    /// Nothing names them.
    #[error(
        "devices that register themselves are named by --id-template, such as board-{{issuer}}-{{serial}} or tpm-{{ek}}"
    )]
    NoTemplate,
    /// Their names would look like anybody's.
    #[error(
        "the ID template of devices that register themselves begins with letters that tell them from others: board-…"
    )]
    NoPrefix,
    /// Two makers, and two CAs of one maker, number alike.
    #[error(
        "the ID template of devices that register themselves by factory must have {{issuer}} beside {{serial}}: a maker's \
         CAs may number alike"
    )]
    NoIssuer,
    /// A TPM has several identities.
    #[error(
        "a TPM has an endorsement key of each kind, and would be a device by each: say which one counts, --ek-kind rsa-2048, \
         p-256 or p-384"
    )]
    NoKind,
    /// Not the grammar.
    #[error(
        "an ID template has 1 to 128 characters: those of IDs, and {{serial}}, {{issuer}} (of an IDevID) or {{ek}} (of a \
         TPM), and what it makes begins with a letter or digit"
    )]
    Template,
    /// It does not tell devices apart that come by one of the fleet's methods.
    #[error("the ID template must have {{serial}}, and no {{ek}}, for factory; {{ek}}, and nothing else, for tpm")]
    Ambiguous,
}

/// A fleet's policy about devices that nobody registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unknown {
    /// What becomes of them.
    pub devices: UnknownDevices,
    /// It was said aloud that whoever holds a device of the maker's gets in.
    pub accept_any_holder: bool,
    /// How they are named.
    pub id_template: Option<IdTemplate>,
    /// How many may wait for approval.
    pub most_pending: u32,
    /// The one kind of endorsement key by which a TPM that nobody registered counts.
    pub ek_kind: Option<EndorsementKind>,
}

impl Default for Unknown {
    fn default() -> Self {
        Self {
            devices: UnknownDevices::Refuse,
            accept_any_holder: false,
            id_template: None,
            most_pending: 100,
            ek_kind: None,
        }
    }
}

impl Unknown {
    /// Refuses them from here on; how they are named stays, for whoever takes them again.
    pub fn close(&mut self) {
        (self.devices, self.accept_any_holder) = (UnknownDevices::Refuse, false);
    }

    /// Checks it, for a fleet in which makers vouch for devices by these methods.
    pub fn validate(&self, vouched: &[Method]) -> Result<(), UnknownError> {
        if let Some(template) = &self.id_template
            && !vouched.iter().all(|method| template.names(*method))
        {
            return Err(UnknownError::Ambiguous);
        }
        if self.accept_any_holder && self.devices != UnknownDevices::Register {
            return Err(UnknownError::NotRegistering);
        }
        if !MOST_PENDING.contains(&self.most_pending) {
            return Err(UnknownError::MostPending);
        }
        if self.devices != UnknownDevices::Refuse && vouched.is_empty() {
            return Err(UnknownError::NoRoots);
        }
        if self.devices != UnknownDevices::Refuse && vouched.contains(&Method::Tpm) && self.ek_kind.is_none() {
            return Err(UnknownError::NoKind);
        }
        if self.devices == UnknownDevices::Register {
            let template = self.id_template.as_ref().ok_or(UnknownError::NoTemplate)?;
            if !matches!(template.0.first(), Some(Part::Literal(_))) {
                return Err(UnknownError::NoPrefix);
            }
            if vouched.contains(&Method::Factory) && !template.0.contains(&Part::Issuer) {
                return Err(UnknownError::NoIssuer);
            }
            if !self.accept_any_holder {
                return Err(UnknownError::AnyHolder);
            }
        }
        Ok(())
    }
}

/// Makes an ID of what a device has proven: `board-{serial}`.
///
/// Letters, digits, `.`, `_`, `-`, and placeholders. What comes out is an ID by the grammar of IDs or none at all: it is
/// never repaired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdTemplate(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// The serial number of an IDevID's subject.
    Serial,
    /// The first 16 hexadecimal digits of the SHA-256 of its issuer's key.
    Issuer,
    /// The first 16 hexadecimal digits of the SHA-256 of an endorsement key.
    Ek,
}

impl IdTemplate {
    /// The ID of the device with this hardware; none where the template says nothing of such hardware, or what it makes
    /// is no ID.
    pub fn name(&self, hardware: &HardwareId) -> Option<DeviceId> {
        let mut text = String::new();
        for part in &self.0 {
            match (part, hardware) {
                (Part::Literal(literal), _) => text.push_str(literal),
                (Part::Serial, HardwareId::IdevId { serial, .. }) => text.push_str(serial),
                (Part::Issuer, HardwareId::IdevId { issuer, .. }) => text.push_str(&short(issuer)),
                (Part::Ek, HardwareId::Ek(hash)) => text.push_str(&short(hash)),
                _ => return None,
            }
        }
        text.parse().ok()
    }

    /// Whether it tells devices apart that come by this method.
    fn names(&self, method: Method) -> bool {
        let (own, sample) = match method {
            Method::Factory => (Part::Serial, HardwareId::IdevId { issuer: [0; 32], serial: "0".into() }),
            Method::Tpm => (Part::Ek, HardwareId::Ek([0; 32])),
            Method::Token | Method::RegisteredKey | Method::Previous => return true,
        };
        self.0.contains(&own) && self.name(&sample).is_some()
    }
}

/// 64 bits, in hexadecimal.
fn short(hash: &[u8; 32]) -> String {
    hex(&hash[..8])
}

impl FromStr for IdTemplate {
    type Err = UnknownError;

    fn from_str(text: &str) -> Result<Self, UnknownError> {
        if text.is_empty() || text.len() > LONGEST_TEMPLATE {
            return Err(UnknownError::Template);
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let literal = rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte)).count();
            if literal > 0 {
                parts.push(Part::Literal(rest[..literal].to_owned()));
                rest = &rest[literal..];
                continue;
            }
            let known = [("{serial}", Part::Serial), ("{issuer}", Part::Issuer), ("{ek}", Part::Ek)];
            let found = known.into_iter().find_map(|(word, part)| Some((rest.strip_prefix(word)?, part)));
            let (left, part) = found.ok_or(UnknownError::Template)?;
            parts.push(part);
            rest = left;
        }
        Ok(Self(parts))
    }
}

impl TryFrom<String> for IdTemplate {
    type Error = UnknownError;

    fn try_from(text: String) -> Result<Self, UnknownError> {
        text.parse()
    }
}

impl From<IdTemplate> for String {
    fn from(template: IdTemplate) -> Self {
        template.to_string()
    }
}

impl fmt::Display for IdTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| {
            f.write_str(match part {
                Part::Literal(literal) => literal,
                Part::Serial => "{serial}",
                Part::Issuer => "{issuer}",
                Part::Ek => "{ek}",
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> IdTemplate {
        text.parse().unwrap()
    }

    fn idevid(serial: &str) -> HardwareId {
        HardwareId::of_idevid([0xab; 32], serial).unwrap()
    }

    #[test]
    fn a_template_makes_an_id_of_what_was_proven() {
        let name = |text: &str, hardware: &HardwareId| template(text).name(hardware).map(|id| id.to_string());
        assert_eq!(name("board-{serial}", &idevid("SN-1")).unwrap(), "board-SN-1");
        assert_eq!(name("{issuer}.{serial}", &idevid("7")).unwrap(), "abababababababab.7");
        assert_eq!(name("tpm-{ek}", &HardwareId::Ek([1; 32])).unwrap(), "tpm-0101010101010101");
        // What it says nothing of.
        assert_eq!(name("board-{serial}", &HardwareId::Ek([1; 32])), None);
        assert_eq!(name("tpm-{ek}", &idevid("1")), None);
    }

    #[test]
    fn what_is_no_id_is_never_made_one() {
        for serial in ["a/b", "a b", "hw:1.2.3:0a", "../x", "a'b", "{ek}", &"x".repeat(59)] {
            assert_eq!(template("board-{serial}").name(&idevid(serial)), None, "{serial}");
        }
        assert!(template("board-{serial}").name(&idevid(&"x".repeat(58))).is_some());
        assert_eq!(template("{serial}").name(&idevid("-x")), None);
    }

    #[test]
    fn a_template_outside_its_grammar_is_refused() {
        let long = "x".repeat(129);
        for text in [
            "",
            "{",
            "}",
            "{}",
            "{id}",
            "{SERIAL}",
            "{serial",
            "a b",
            "a/{serial}",
            "{{serial}}",
            "ä{ek}",
            long.as_str(),
        ] {
            assert_eq!(text.parse::<IdTemplate>(), Err(UnknownError::Template), "{text}");
        }
        for text in ["board-{serial}", "{ek}", "a.{issuer}_{serial}-z"] {
            assert_eq!(template(text).to_string(), text);
            assert_eq!(serde_json::to_string(&template(text)).unwrap(), format!("\"{text}\""));
        }
    }

    #[test]
    fn devices_register_themselves_only_where_it_was_said_aloud_and_they_have_names() {
        let policy = |devices, accept_any_holder, text: &str| Unknown {
            devices,
            ek_kind: Some(EndorsementKind::P256),
            accept_any_holder,
            id_template: (!text.is_empty()).then(|| template(text)),
            ..Unknown::default()
        };
        let register =
            |aloud, text: &str, methods: &[Method]| policy(UnknownDevices::Register, aloud, text).validate(methods);
        let (factory, tpm) = ([Method::Factory], [Method::Tpm]);
        assert_eq!(register(true, "board-{issuer}-{serial}", &factory), Ok(()));
        assert_eq!(register(true, "tpm-{ek}", &tpm), Ok(()));
        assert_eq!(register(false, "board-{issuer}-{serial}", &factory), Err(UnknownError::AnyHolder));
        assert_eq!(register(true, "", &factory), Err(UnknownError::NoTemplate));
        assert_eq!(register(true, "board-{issuer}-{serial}", &[]), Err(UnknownError::NoRoots));
        // Names that any other CA of a maker could give out as well, and names that look like anybody's.
        assert_eq!(register(true, "board-{serial}", &factory), Err(UnknownError::NoIssuer));
        for text in ["{issuer}-{serial}", "{serial}-{issuer}"] {
            assert_eq!(register(true, text, &factory), Err(UnknownError::NoPrefix), "{text}");
        }
        assert_eq!(register(true, "{ek}", &tpm), Err(UnknownError::NoPrefix));
        // One name for all, a name for the other kind of hardware, or one that is never an ID.
        for text in ["board", "{issuer}", "tpm-{ek}", "{serial}{ek}", "-{serial}"] {
            assert_eq!(register(true, text, &factory), Err(UnknownError::Ambiguous), "{text}");
        }
        assert_eq!(register(true, "{ek}", &[Method::Factory, Method::Tpm]), Err(UnknownError::Ambiguous));
        assert_eq!(policy(UnknownDevices::Refuse, true, "").validate(&factory), Err(UnknownError::NotRegistering));
        assert_eq!(Unknown::default().validate(&[]), Ok(()));
        assert_eq!(policy(UnknownDevices::Pending, false, "").validate(&factory), Ok(()));
        assert_eq!(policy(UnknownDevices::Pending, false, "").validate(&[]), Err(UnknownError::NoRoots));
        assert_eq!(policy(UnknownDevices::Pending, false, "tpm-{ek}").validate(&factory), Err(UnknownError::Ambiguous));
        // A TPM would come again by its other keys.
        for devices in [UnknownDevices::Pending, UnknownDevices::Register] {
            let unknown = Unknown { ek_kind: None, ..policy(devices, devices == UnknownDevices::Register, "tpm-{ek}") };
            assert_eq!(unknown.validate(&tpm), Err(UnknownError::NoKind));
        }
        assert_eq!(Unknown { ek_kind: None, ..policy(UnknownDevices::Refuse, false, "") }.validate(&tpm), Ok(()));
        for most_pending in [0, 10_001] {
            let unknown = Unknown { most_pending, ..Unknown::default() };
            assert_eq!(unknown.validate(&factory), Err(UnknownError::MostPending));
        }
    }
}
