//! Which CRLs a gateway wants in its file, and how issuers are named.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    certificate::{Certificate, hex, sha256},
    identity::Id,
};

/// A text that names no form or issuer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormError {
    /// Not `bundle`, `fleet:NAME` or `full:ISSUER`.
    #[error("a form is written bundle, fleet:NAME or full:ISSUER")]
    Form,
    /// Not 16 lower-case hexadecimal digits.
    #[error("an issuer's ID has 16 lower-case hexadecimal digits")]
    Issuer,
}

/// An issuer's ID: the first 16 hexadecimal digits of its subject key identifier, which in a CA of this software's making is
/// the beginning of the SHA-256 of its SubjectPublicKeyInfo.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IssuerId(String);

impl IssuerId {
    /// The ID of the issuer with this certificate.
    pub fn of(certificate: &Certificate) -> Self {
        let identifier = certificate.key_identifier();
        let own = identifier.as_deref().and_then(Self::of_key_identifier);
        own.unwrap_or_else(|| Self(hex(&sha256(&certificate.spki())[..8])))
    }

    /// The ID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ID that a key identifier begins with.
    pub(super) fn of_key_identifier(identifier: &[u8]) -> Option<Self> {
        identifier.get(..8).map(|start| Self(hex(start)))
    }
}

impl FromStr for IssuerId {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, FormError> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for IssuerId {
    type Error = FormError;

    fn try_from(text: String) -> Result<Self, FormError> {
        let fits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if fits { Ok(Self(text)) } else { Err(FormError::Issuer) }
    }
}

impl From<IssuerId> for String {
    fn from(id: IssuerId) -> String {
        id.0
    }
}

impl fmt::Display for IssuerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which CRLs the file holds.
///
/// ```
/// use enroll_client::crl_sync::Form;
/// assert_eq!("bundle".parse(), Ok(Form::Bundle));
/// assert_eq!("fleet:pumps".parse::<Form>().unwrap().to_string(), "fleet:pumps");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Every issuing CA's, and the device root's.
    Bundle,
    /// Those of one fleet's issuing CAs, and the device root's.
    Fleet(Id),
    /// One issuer's.
    Full(IssuerId),
}

impl FromStr for Form {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, FormError> {
        match text.split_once(':') {
            None if text == "bundle" => Ok(Form::Bundle),
            Some(("fleet", name)) => Ok(Form::Fleet(name.parse().map_err(|_| FormError::Form)?)),
            Some(("full", issuer)) => Ok(Form::Full(issuer.parse()?)),
            _ => Err(FormError::Form),
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Form::Bundle => f.write_str("bundle"),
            Form::Fleet(name) => write!(f, "fleet:{name}"),
            Form::Full(issuer) => write!(f, "full:{issuer}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_texts_are_no_forms() {
        for text in ["", "bundle:", "fleet", "fleet:", "fleet:a b", "full:ABCDEF0123456789", "full:12", "delta:x"] {
            assert!(text.parse::<Form>().is_err(), "{text}");
        }
    }
}
