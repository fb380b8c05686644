//! Hashes that name keys, certificates and issuers.

use std::fmt;

use ring::digest::{SHA256, digest};

use super::NameError;

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.extend([byte >> 4, byte & 15].map(|digit| char::from(DIGITS[usize::from(digit)])));
    }
    text
}

macro_rules! hash {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type([u8; 32]);

        impl $type {
            /// Takes the hash of `der`.
            pub fn of(der: &[u8]) -> Self {
                let mut hash = [0; 32];
                hash.copy_from_slice(digest(&SHA256, der).as_ref());
                Self(hash)
            }

            /// A hash taken before.
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 octets.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($type))
            }
        }
    };
}

hash! {
    /// SHA-256 of a SubjectPublicKeyInfo (DER): names a key, whatever certificate carries it.
    KeyFingerprint
}

hash! {
    /// SHA-256 of a whole certificate (DER).
    CertificateHash
}

impl std::str::FromStr for KeyFingerprint {
    type Err = NameError;

    /// 64 hexadecimal digits of either case.
    fn from_str(text: &str) -> Result<Self, NameError> {
        super::hardware::hash(text).map(Self)
    }
}

impl serde::Serialize for KeyFingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for KeyFingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Names an issuer: the first 8 octets of the SHA-256 of its SubjectPublicKeyInfo, as 16 hexadecimal digits in URLs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IssuerId([u8; 8]);

impl IssuerId {
    /// The ID of the issuer with this key.
    pub fn of(key: &KeyFingerprint) -> Self {
        let mut id = [0; 8];
        id.copy_from_slice(&key.as_bytes()[..8]);
        Self(id)
    }

    /// The ID of the issuer whose certificate has this subject key identifier: of one that is named by its key as we do
    /// it, the same.
    pub fn of_key_identifier(identifier: &[u8; 20]) -> Self {
        let mut id = [0; 8];
        id.copy_from_slice(&identifier[..8]);
        Self(id)
    }
}

impl std::str::FromStr for IssuerId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 16 || !text.bytes().all(lower) {
            return Err(NameError::Hex);
        }
        let number = u64::from_str_radix(text, 16).map_err(|_| NameError::Hex)?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for IssuerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl serde::Serialize for IssuerId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for IssuerId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for IssuerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IssuerId({self})")
    }
}
