//! Names, parsed once: trust domains, IDs, and the SPIFFE IDs made of them. Certificates carry them, `connect` and
//! `enroll` compare them.

use std::fmt;

use fleetca_proto::v1;
use serde::{Deserialize, Serialize};

/// A text that is no name of the asked kind.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// Not 1–64 of `A-Z a-z 0-9 . _ -`, beginning with a letter or digit.
    #[error("an ID has 1 to 64 of A-Z a-z 0-9 . _ - and begins with a letter or digit")]
    Id,
    /// Not 1–255 of `a-z 0-9 . _ -`.
    #[error("a trust domain has 1 to 255 of a-z 0-9 . _ -")]
    TrustDomain,
    /// Not `spiffe://<trust-domain>/<device|gateway|operator|server>/<id>`.
    #[error("not a SPIFFE ID of this CA")]
    SpiffeId,
}

/// The ID of a device or gateway, or the name of an operator or server: 1–64 of `A-Z a-z 0-9 . _ -`, beginning with a
/// letter or digit. Compared byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

impl Id {
    /// The ID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Id {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        let fits = (1..=64).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if fits { Ok(Self(text)) } else { Err(NameError::Id) }
    }
}

/// A SPIFFE trust domain: 1–255 of `a-z 0-9 . _ -`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The trust domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        let fits = (1..=255).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
        if fits { Ok(Self(text)) } else { Err(NameError::TrustDomain) }
    }
}

macro_rules! text {
    ($($name:ident),*) => {$(
        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::try_from(text.to_owned())
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

text!(Id, TrustDomain);

/// Whom a credential is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A device of a fleet: its certificate is of the device hierarchy.
    #[default]
    Device,
    /// A gateway, which fetches CRLs: its certificate is of the control hierarchy.
    Gateway,
    /// An operator of the CA: its certificate is of the control hierarchy.
    Operator,
}

impl Kind {
    /// The path segment in a SPIFFE ID.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Device => "device",
            Kind::Gateway => "gateway",
            Kind::Operator => "operator",
        }
    }

    /// The wire's value.
    pub fn wire(self) -> v1::Kind {
        match self {
            Kind::Device => v1::Kind::Device,
            Kind::Gateway => v1::Kind::Gateway,
            Kind::Operator => v1::Kind::Operator,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the path of a SPIFFE ID says its holder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The CA's own server.
    Server,
    /// A holder of a credential folder.
    Client(Kind),
}

/// `spiffe://<trust-domain>/<role>/<id>`.
///
/// ```
/// use enroll_client::identity::{Kind, Role, SpiffeId};
/// let id: SpiffeId = "spiffe://fleet.example/device/pump-7".parse()?;
/// assert_eq!(id.role, Role::Client(Kind::Device));
/// assert_eq!(id.to_string(), "spiffe://fleet.example/device/pump-7");
/// # Ok::<(), enroll_client::identity::NameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpiffeId {
    /// The environment that the holder belongs to.
    pub trust_domain: TrustDomain,
    /// What the holder is.
    pub role: Role,
    /// Which one it is.
    pub id: Id,
}

impl std::str::FromStr for SpiffeId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let rest = text.strip_prefix("spiffe://").ok_or(NameError::SpiffeId)?;
        let (trust_domain, path) = rest.split_once('/').ok_or(NameError::SpiffeId)?;
        let (role, id) = path.split_once('/').ok_or(NameError::SpiffeId)?;
        let role = match role {
            "server" => Role::Server,
            "device" => Role::Client(Kind::Device),
            "gateway" => Role::Client(Kind::Gateway),
            "operator" => Role::Client(Kind::Operator),
            _ => return Err(NameError::SpiffeId),
        };
        Ok(Self { trust_domain: trust_domain.parse()?, role, id: id.parse()? })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::Server => "server",
            Role::Client(kind) => kind.as_str(),
        };
        write!(f, "spiffe://{}/{role}/{}", self.trust_domain, self.id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_follow_the_grammar_and_are_never_repaired() {
        for good in ["a", "Pump-7", "0._-", &"x".repeat(64)] {
            assert_eq!(good.parse::<Id>().map(String::from), Ok(good.to_owned()));
        }
        for bad in ["", ".a", "-a", "a b", "a/b", "ä", " a", &"x".repeat(65)] {
            assert_eq!(bad.parse::<Id>(), Err(NameError::Id), "{bad}");
        }
    }

    #[test]
    fn spiffe_ids_of_other_shapes_are_refused() {
        for bad in [
            "spiffe://td/device",
            "spiffe://td/device/",
            "spiffe://td/device/a/b",
            "spiffe:///device/a",
            "spiffe://TD/device/a",
            "spiffe://td:1/device/a",
            "https://td/device/a",
            "spiffe://td/admin/a",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_prints_as_it_was(text in "spiffe://[a-z.]{1,9}/(server|device|gateway|operator)/[a-zA-Z0-9][a-z._-]{0,9}") {
            prop_assert_eq!(text.parse::<SpiffeId>().unwrap().to_string(), text);
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".*") {
            let _ = text.parse::<SpiffeId>();
        }
    }
}
