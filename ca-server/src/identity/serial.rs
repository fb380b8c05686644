//! Serial numbers: unique without asking anybody, ordered by time.

use std::{fmt, str::FromStr};

use super::{NameError, Timestamp, key::hex};

/// A certificate's serial number: 48 bits of Unix milliseconds, then 80 random bits. 16 octets, big-endian, positive
/// (RFC 5280, section 4.1.2.2): the first bit stays clear until the year 6429, and the time is never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SerialNumber([u8; 16]);

impl SerialNumber {
    /// The serial of a certificate made `at`, with 10 octets from a secure random source.
    pub fn new(at: Timestamp, random: [u8; 10]) -> Self {
        let mut octets = [0; 16];
        // The sign bit stays clear and the number stays 16 octets long, whatever the clock says.
        let millis = (at.millis().max(1) as u64).clamp(1 << 40, (1 << 47) - 1);
        octets[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
        octets[6..].copy_from_slice(&random);
        Self(octets)
    }

    /// A serial that was made before.
    pub fn from_bytes(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    /// When the certificate was made, by the clock of the CA: as true as the serial is one of ours.
    pub fn made_at(&self) -> Timestamp {
        let mut millis = [0; 8];
        millis[2..].copy_from_slice(&self.0[..6]);
        Timestamp::from_millis(i64::from_be_bytes(millis))
    }

    /// The 16 octets, big-endian.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// The serial number of a CA's certificate, which somebody else may have given it: a number of at most 20 octets (RFC 5280,
/// section 4.1.2.2), big-endian, with zeros before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AuthoritySerial([u8; 20]);

impl AuthoritySerial {
    /// From the content of an INTEGER. A negative one is none: other software reads it as another number or not at all.
    pub fn from_integer(octets: &[u8]) -> Option<Self> {
        if octets.first().is_none_or(|first| *first >= 0x80) {
            return None;
        }
        let octets = octets.strip_prefix(&[0]).unwrap_or(octets);
        let mut serial = [0; 20];
        serial[20usize.checked_sub(octets.len())?..].copy_from_slice(octets);
        Some(Self(serial))
    }

    /// The same, as this CA gives them; `None` for one of more than 16 octets.
    pub fn as_ours(&self) -> Option<SerialNumber> {
        let (before, octets) = self.0.split_last_chunk::<16>()?;
        (before == [0; 4]).then_some(SerialNumber(*octets))
    }
}

impl From<SerialNumber> for AuthoritySerial {
    fn from(serial: SerialNumber) -> Self {
        let mut octets = [0; 20];
        octets[4..].copy_from_slice(&serial.0);
        Self(octets)
    }
}

impl fmt::Display for AuthoritySerial {
    /// In hexadecimal, whole octets, without zeros before the first one that is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skip = self.0.iter().position(|octet| *octet != 0).unwrap_or(19);
        f.write_str(&hex(&self.0[skip..]))
    }
}

impl fmt::Debug for AuthoritySerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthoritySerial({self})")
    }
}

impl FromStr for SerialNumber {
    type Err = NameError;

    /// 32 hexadecimal digits of either case, with or without colons.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let digits: String = text.chars().filter(|c| *c != ':').collect();
        if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NameError::Length(32));
        }
        let number = u128::from_str_radix(&digits, 16).map_err(|_| NameError::Hex)?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SerialNumber({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_are_positive_sixteen_octets_and_ordered_by_time() {
        let at = |millis| SerialNumber::new(Timestamp::from_millis(millis), [0xff; 10]);
        for millis in [i64::MIN, -1, 0, 1, 1_700_000_000_000, i64::MAX] {
            let first = at(millis).as_bytes()[0];
            assert!(first < 0x80 && (first, at(millis).as_bytes()[1]) != (0, 0));
        }
        assert!(at(1_700_000_000_000) < at(1_700_000_000_001));
    }

    #[test]
    fn a_serial_reads_back_what_it_prints() {
        let serial = SerialNumber::new(Timestamp::from_millis(1_700_000_000_000), [7; 10]);
        assert_eq!(serial.to_string().parse(), Ok(serial));
        assert_eq!(serial.made_at(), Timestamp::from_millis(1_700_000_000_000));
    }

    #[test]
    fn a_serial_that_another_ca_gave_is_taken_up_to_twenty_octets() {
        let read = |octets: &[u8]| AuthoritySerial::from_integer(octets).map(|serial| serial.to_string());
        assert_eq!(read(&[0]).as_deref(), Some("00"));
        assert_eq!(read(&[0x10, 0]).as_deref(), Some("1000"));
        assert_eq!(read(&[0, 0x80]).as_deref(), Some("80"));
        assert_eq!(read(&[0x7f; 20]), Some("7f".repeat(20)));
        assert_eq!((read(&[0x7f; 21]), read(&[0x80]), read(&[])), (None, None, None));
        let ours = SerialNumber::new(Timestamp::from_millis(1_700_000_000_000), [7; 10]);
        let serial = AuthoritySerial::from_integer(ours.as_bytes()).unwrap();
        assert_eq!((serial, serial.to_string()), (ours.into(), ours.to_string()));
        assert_eq!(serial.as_ours(), Some(ours));
        assert_eq!(AuthoritySerial::from_integer(&[1; 17]).unwrap().as_ours(), None);
    }
}
