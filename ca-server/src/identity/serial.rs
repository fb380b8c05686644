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
}
