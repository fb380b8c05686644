//! Identities that come with the hardware, as they are registered and proven.

use std::{fmt, str::FromStr};

use super::{NameError, key::hex};

/// The longest serial number: a certificate's subject can have 64 characters (RFC 5280, ub-serial-number), a hardware
/// module's name is longer.
const LONGEST_SERIAL: usize = 128;

/// What a device was made with. Each is one device's, for ever.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HardwareId {
    /// A TPM's endorsement key: SHA-256 of its SubjectPublicKeyInfo. 64 hexadecimal digits.
    Ek([u8; 32]),
    /// An IDevID: SHA-256 of its issuer's SubjectPublicKeyInfo, and the serial number that this issuer gave the device.
    /// Never without the issuer: two makers number alike. `ISSUER:SERIAL`.
    IdevId {
        /// SHA-256 of the issuer's SubjectPublicKeyInfo.
        issuer: [u8; 32],
        /// 1 to 128 printable ASCII characters.
        serial: String,
    },
}

impl HardwareId {
    /// The word for its kind in the store.
    pub const fn kind(&self) -> &'static str {
        match self {
            HardwareId::Ek(_) => "ek",
            HardwareId::IdevId { .. } => "idevid",
        }
    }

    /// Reads the text of one kind.
    pub fn parse(kind: &str, text: &str) -> Result<Self, NameError> {
        match kind {
            "ek" => Self::ek(text),
            _ => Self::idevid(text),
        }
    }

    /// Reads 64 hexadecimal digits of either case, also after `ek:`.
    pub fn ek(text: &str) -> Result<Self, NameError> {
        Ok(HardwareId::Ek(hash(text.strip_prefix("ek:").unwrap_or(text))?))
    }

    /// Reads `ISSUER:SERIAL`, also after `idevid:`.
    pub fn idevid(text: &str) -> Result<Self, NameError> {
        let text = text.strip_prefix("idevid:").unwrap_or(text);
        let (issuer, serial) = text.split_once(':').ok_or(NameError::IdevId)?;
        Self::of_idevid(hash(issuer)?, serial)
    }

    /// An IDevID of this issuer.
    pub fn of_idevid(issuer: [u8; 32], serial: &str) -> Result<Self, NameError> {
        let printable = serial.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if serial.is_empty() || serial.len() > LONGEST_SERIAL || !printable {
            return Err(NameError::IdevId);
        }
        Ok(HardwareId::IdevId { issuer, serial: serial.into() })
    }
}

/// 32 octets from 64 hexadecimal digits of either case.
pub(super) fn hash(text: &str) -> Result<[u8; 32], NameError> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(NameError::Hash);
    }
    let mut octets = [0; 32];
    for (at, octet) in octets.iter_mut().enumerate() {
        *octet = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).map_err(|_| NameError::Hash)?;
    }
    Ok(octets)
}

impl fmt::Display for HardwareId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HardwareId::Ek(hash) => f.write_str(&hex(hash)),
            HardwareId::IdevId { issuer, serial } => write!(f, "{}:{serial}", hex(issuer)),
        }
    }
}

/// SHA-256 of a public key's JWK form (RFC 7638): names a registered key. On the wire and in lists it is base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Thumbprint([u8; 32]);

impl Thumbprint {
    /// One taken before.
    pub const fn from_bytes(octets: [u8; 32]) -> Self {
        Self(octets)
    }

    /// The 32 octets.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Thumbprint {
    type Err = NameError;

    /// 43 characters of base64url without padding.
    fn from_str(text: &str) -> Result<Self, NameError> {
        use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
        let octets = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| NameError::Thumbprint)?;
        octets.try_into().map(Self).map_err(|_| NameError::Thumbprint)
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_identities_read_back_as_they_print() {
        let (ek, idevid) = ("ab".repeat(32), format!("{}:SN 0815/a:b", "0f".repeat(32)));
        assert_eq!(HardwareId::ek(&ek.to_uppercase()).unwrap().to_string(), ek);
        assert_eq!(HardwareId::parse("idevid", &idevid).unwrap().to_string(), idevid);
        assert_eq!(HardwareId::parse("ek", &ek).unwrap().kind(), "ek");
    }

    #[test]
    fn what_names_no_hardware_is_refused() {
        for text in ["", "ab", &"ab".repeat(33), &"gg".repeat(32), &"é".repeat(32)] {
            assert!(HardwareId::ek(text).is_err(), "{text}");
        }
        let issuer = "ab".repeat(32);
        let none = [issuer.clone(), format!("{issuer}:"), format!("{issuer}:{}", "x".repeat(129))];
        for text in none.iter().map(String::as_str).chain([":1", "ab:1", &format!("{issuer}:a\u{7f}")]) {
            assert!(HardwareId::idevid(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_thumbprint_is_base64url_without_padding() {
        let text = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
        assert_eq!(text.parse::<Thumbprint>().unwrap().to_string(), text);
        for wrong in ["", "NzbL", &format!("{text}="), &text.replace('-', "+")] {
            assert!(wrong.parse::<Thumbprint>().is_err(), "{wrong}");
        }
    }
}
