//! Names that people choose: devices, fleets, trust domains, hosts; and token IDs.

use std::{fmt, net::IpAddr, str::FromStr};

/// Why a text is no name of its kind. Never holds the text itself: it may come from a stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Empty, or longer than its kind allows.
    #[error("must have 1 to {0} characters")]
    Length(usize),
    /// A character that its kind does not allow.
    #[error("may have only the characters A-Z a-z 0-9 . _ - and must begin with a letter or digit")]
    Grammar,
    /// Not a DNS name in lower case.
    #[error("must be a DNS name in lower case")]
    Dns,
    /// Not 16 lower-case hexadecimal digits.
    #[error("must be 16 lower-case hexadecimal digits")]
    Hex,
    /// Not 64 hexadecimal digits.
    #[error("must be a SHA-256: 64 hexadecimal digits")]
    Hash,
    /// Not an issuer and a serial number.
    #[error("must be ISSUER:SERIAL: the SHA-256 of the issuer's public key, and 1 to 128 printable characters")]
    IdevId,
    /// Not 32 octets in base64url.
    #[error("must be a JWK thumbprint: 43 characters of base64url")]
    Thumbprint,
}

/// Refuses what is not 1–64 of `A-Z a-z 0-9 . _ -` beginning with a letter or digit.
fn check_name(text: &str) -> Result<(), NameError> {
    if text.is_empty() || text.len() > 64 {
        return Err(NameError::Length(64));
    }
    let ok = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !text.bytes().all(ok) || !text.as_bytes()[0].is_ascii_alphanumeric() {
        return Err(NameError::Grammar);
    }
    Ok(())
}

/// Refuses what is not a DNS name in lower case: labels of 1–63 of `a-z 0-9 -`, 253 characters at most.
fn check_dns(text: &str) -> Result<(), NameError> {
    if text.is_empty() || text.len() > 253 {
        return Err(NameError::Length(253));
    }
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if text.split('.').all(label_ok) { Ok(()) } else { Err(NameError::Dns) }
}

fn check_token_id(text: &str) -> Result<(), NameError> {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() == 16 && text.bytes().all(hex) { Ok(()) } else { Err(NameError::Hex) }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(String);

        impl $type {
            /// The text, as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($type), self.0)
            }
        }
    };
}

name! {
    /// The ID of a device, a gateway or an operator: 1–64 of `A-Z a-z 0-9 . _ -`, beginning with a letter or digit.
    ///
    /// Compared byte for byte. Two IDs that differ in case only never live in one store; see [`DeviceId::folded`].
    ///
    /// ```
    /// use ca_server::identity::DeviceId;
    /// assert!("pump-7".parse::<DeviceId>().is_ok());
    /// assert!("../pump".parse::<DeviceId>().is_err());
    /// ```
    DeviceId, check_name
}

name! {
    /// The name of a fleet; the same grammar as [`DeviceId`].
    FleetName, check_name
}

name! {
    /// A SPIFFE trust domain: a DNS name in lower case, which is one environment.
    TrustDomain, check_dns
}

name! {
    /// The ID of a join token: the first 16 hexadecimal digits of its public key's SHA-256.
    TokenId, check_token_id
}

impl DeviceId {
    /// The form under which an ID must be unique: ASCII lower case.
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

/// A name under which clients reach the server: a DNS name or an IP address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostName {
    /// A DNS name in lower case; a single label is allowed.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl FromStr for HostName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Ok(address) = text.parse() {
            return Ok(HostName::Ip(address));
        }
        check_dns(text)?;
        Ok(HostName::Dns(text.to_owned()))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostName::Dns(name) => f.write_str(name),
            HostName::Ip(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_could_leave_their_place_are_refused() {
        for bad in ["", "../x", "a/b", "a\nb", "a\"b", "a b", ".a", "-a", "_a", "ä", "a\0b", "a%b", "a'b"] {
            assert!(bad.parse::<DeviceId>().is_err(), "{bad:?}");
        }
        assert_eq!("a".repeat(65).parse::<DeviceId>(), Err(NameError::Length(64)));
        assert_eq!("a".repeat(300).parse::<DeviceId>(), Err(NameError::Length(64)));
    }

    #[test]
    fn ids_of_the_grammar_are_taken_as_they_are() {
        for good in ["a", "7", "pump-7", "A.b_c-D", &"x".repeat(64)] {
            assert_eq!(good.parse::<DeviceId>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_trust_domain_is_a_dns_name_in_lower_case() {
        assert!("fleet.example".parse::<TrustDomain>().is_ok());
        for bad in ["Fleet.example", "fleet..example", "-a.b", "a_b", "a/b", ""] {
            assert!(bad.parse::<TrustDomain>().is_err(), "{bad:?}");
        }
    }
}
