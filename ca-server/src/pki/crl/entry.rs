//! One revoked certificate, and how it is written: a list has a million of them, so each is put together in place and
//! copied once.

use super::super::encode::{INTEGER, SEQUENCE, TimeWriter};
use crate::identity::{RevocationReason, SerialNumber, Timestamp};

/// How many octets an entry takes at most: SEQUENCE, a serial with a leading zero, a GeneralizedTime, a reason.
pub(super) const LONGEST: usize = 2 + 19 + 17 + REASON_PREFIX.len() + 1;

/// crlEntryExtensions with a reasonCode, but for the last octet, which is the reason.
const REASON_PREFIX: [u8; 13] = [0x30, 12, 0x30, 10, 6, 3, 0x55, 0x1d, 0x15, 4, 3, 0x0a, 1];

/// One revoked certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrlEntry {
    /// Its serial number.
    pub serial: SerialNumber,
    /// Since when; whole seconds count.
    pub revoked_at: Timestamp,
    /// Why. `Unspecified` is said by saying nothing (section 5.3.1).
    pub reason: RevocationReason,
}

impl CrlEntry {
    /// Writes the entry behind what `der` holds.
    pub(super) fn encode(&self, times: &mut TimeWriter, der: &mut Vec<u8>) {
        let mut octets = [0; LONGEST];
        let serial = self.serial.as_bytes();
        // As few octets as it takes; a zero before a first bit that is set, or where nothing is left.
        let skip = serial.iter().position(|octet| *octet != 0).unwrap_or(serial.len());
        let pad = usize::from(serial.get(skip).is_none_or(|first| *first >= 0x80));
        octets[2..4].copy_from_slice(&[INTEGER, (serial.len() - skip + pad) as u8]);
        let mut at = 4 + pad;
        if skip == 0 {
            octets[at..at + 16].copy_from_slice(serial);
        } else {
            octets[at..at + 16 - skip].copy_from_slice(&serial[skip..]);
        }
        at += 16 - skip;
        let (tag, text, length) = times.text(self.revoked_at);
        octets[at..at + 2].copy_from_slice(&[tag, length as u8]);
        octets[at + 2..at + 17].copy_from_slice(&text);
        at += 2 + length;
        if self.reason != RevocationReason::Unspecified {
            octets[at..at + REASON_PREFIX.len()].copy_from_slice(&REASON_PREFIX);
            at += REASON_PREFIX.len();
            octets[at] = self.reason.number();
            at += 1;
        }
        octets[..2].copy_from_slice(&[SEQUENCE, (at - 2) as u8]);
        der.extend_from_slice(&octets[..at]);
    }
}
