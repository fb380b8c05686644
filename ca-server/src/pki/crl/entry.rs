//! One revoked certificate, and how it is written and read: a list has a million of them, so each is put together in
//! place and copied once, and those that are written as ours are read without a general parser.

use const_oid::db::rfc5280::ID_CE_CRL_REASONS;
use der::Decode;
use x509_cert::crl::RevokedCert;
use x509_cert::ext::pkix::CrlReason;

use super::super::encode::{INTEGER, SEQUENCE, TimeWriter};
use super::super::signed::timestamp;
use super::{CrlError, Edit};
use crate::identity::{RevocationReason, SerialNumber, Timestamp};

/// How many octets an entry takes at most: SEQUENCE, a serial with a leading zero, a GeneralizedTime, a reason.
pub(super) const LONGEST: usize = 2 + 19 + 17 + REASON_PREFIX.len() + 1;

/// crlEntryExtensions with a reasonCode, but for the last octet, which is the reason.
const REASON_PREFIX: [u8; 13] = [0x30, 12, 0x30, 10, 6, 3, 0x55, 0x1d, 0x15, 4, 3, 0x0a, 1];

/// removeFromCRL: no reason for a revocation.
const REMOVE_FROM_CRL: u8 = 8;

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
        write(&self.serial, self.revoked_at, self.reason.number(), times, der);
    }

    /// Writes, for a delta CRL only, that this certificate is on the list no more.
    pub(super) fn encode_removal(serial: SerialNumber, at: Timestamp, times: &mut TimeWriter, der: &mut Vec<u8>) {
        write(&serial, at, REMOVE_FROM_CRL, times, der);
    }

    /// Reads one entry: all of `der`. A serial that this CA cannot have given and a reason that it does not give are
    /// refused, and so is a critical extension.
    pub(super) fn decode(der: &[u8]) -> Result<Self, CrlError> {
        let (_, entry) = Self::decode_change(der)?;
        entry.ok_or(CrlError::Entry)
    }

    /// The same of a delta CRL, where an entry may say that its certificate is on the list no more.
    pub(super) fn decode_change(der: &[u8]) -> Result<Edit, CrlError> {
        let read: RevokedCert = RevokedCert::from_der(der).map_err(|_| CrlError::Malformed)?;
        let mut reason = Some(RevocationReason::Unspecified);
        for extension in read.crl_entry_extensions.as_deref().unwrap_or_default() {
            if extension.extn_id == ID_CE_CRL_REASONS {
                let read = CrlReason::from_der(extension.extn_value.as_bytes()).map_err(|_| CrlError::Entry)?;
                reason = match read {
                    CrlReason::RemoveFromCRL => None,
                    read => Some(RevocationReason::from_number(i64::from(read as u32)).map_err(|_| CrlError::Entry)?),
                };
            } else if extension.critical {
                return Err(CrlError::Entry);
            }
        }
        let serial = read_serial(read.serial_number.as_bytes()).ok_or(CrlError::Entry)?;
        let revoked_at = timestamp(read.revocation_date);
        Ok((serial, reason.map(|reason| Self { serial, revoked_at, reason })))
    }

    /// Whether `der` is an entry written as ours are, whose date lies on a day that was read before: then nothing of it
    /// needs a general parser.
    pub(super) fn is_plain(der: &[u8], days: &mut KnownDay) -> bool {
        let Some((serial, rest)) = integer(der.get(2..).unwrap_or_default()) else { return false };
        if read_serial(serial).is_none() || rest.len() < 2 {
            return false;
        }
        let length = usize::from(rest[1]);
        let Some((time, rest)) = rest.split_at_checked(2 + length) else { return false };
        let reason = match rest.split_last() {
            None => true,
            Some((reason, prefix)) => {
                *reason != 0 && prefix == REASON_PREFIX && RevocationReason::from_number(i64::from(*reason)).is_ok()
            }
        };
        reason && days.holds(time)
    }
}

/// Writes an entry with this number of a reason; 0 is said by saying nothing.
fn write(serial: &SerialNumber, revoked_at: Timestamp, reason: u8, times: &mut TimeWriter, der: &mut Vec<u8>) {
    let mut octets = [0; LONGEST];
    let serial = serial.as_bytes();
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
    let (tag, text, length) = times.text(revoked_at);
    octets[at..at + 2].copy_from_slice(&[tag, length as u8]);
    octets[at + 2..at + 17].copy_from_slice(&text);
    at += 2 + length;
    if reason != RevocationReason::Unspecified.number() {
        octets[at..at + REASON_PREFIX.len()].copy_from_slice(&REASON_PREFIX);
        at += REASON_PREFIX.len();
        octets[at] = reason;
        at += 1;
    }
    octets[..2].copy_from_slice(&[SEQUENCE, (at - 2) as u8]);
    der.extend_from_slice(&octets[..at]);
}

/// The serial of an entry whose form was checked before.
pub(super) fn serial_of(entry: &[u8]) -> SerialNumber {
    let header = match entry.get(1) {
        Some(0x81) => 3,
        Some(0x82) => 4,
        _ => 2,
    };
    let serial = integer(entry.get(header..).unwrap_or_default()).and_then(|(serial, _)| read_serial(serial));
    serial.unwrap_or(SerialNumber::from_bytes([0; 16]))
}

/// The content of the INTEGER that these octets begin with, in its shortest form and of at most 127 octets; and the rest.
fn integer(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[tag, length], rest) = der.split_first_chunk::<2>()?;
    let (content, rest) = rest.split_at_checked(usize::from(length))?;
    let shortest = match content {
        [] => false,
        [0, second, ..] => *second >= 0x80,
        [0xff, second, ..] => *second < 0x80,
        _ => true,
    };
    (tag == INTEGER && length < 0x80 && shortest).then_some((content, rest))
}

/// A serial of at most 16 octets, which may be shorter than ours are, or carry the octet that makes it positive. A
/// negative one is none: other software reads it as another number or not at all.
fn read_serial(octets: &[u8]) -> Option<SerialNumber> {
    if octets.first().is_some_and(|first| *first >= 0x80) {
        return None;
    }
    let octets = octets.strip_prefix(&[0]).unwrap_or(octets);
    let mut serial = [0; 16];
    serial[16usize.checked_sub(octets.len())?..].copy_from_slice(octets);
    Some(SerialNumber::from_bytes(serial))
}

/// Times on one day after the other: that a day exists is looked up once for all that lie on it.
#[derive(Default)]
pub(super) struct KnownDay {
    /// Tag, length and date of a time that was read.
    day: Vec<u8>,
}

impl KnownDay {
    /// Whether a Time (DER) is well-formed and its day known.
    fn holds(&self, time: &[u8]) -> bool {
        let Some((day, clock)) = time.split_last_chunk::<7>() else { return false };
        let [hours @ .., _, _, _, _, zone] = clock;
        let [_, _, minutes @ .., _, _, _] = clock;
        let [_, _, _, _, seconds @ .., _] = clock;
        let below = |digits: &[u8; 2], limit: &[u8; 2]| digits.iter().all(u8::is_ascii_digit) && digits < limit;
        !day.is_empty()
            && *day == *self.day
            && below(hours, b"24")
            && below(minutes, b"60")
            && below(seconds, b"60")
            && *zone == b'Z'
    }

    /// Takes the day of a whole entry that a general parser has read.
    pub(super) fn learn(&mut self, entry: &[u8]) {
        let time = entry.get(2..).and_then(integer).map(|(_, rest)| rest);
        let Some(time) = time.and_then(|rest| rest.get(..2 + usize::from(*rest.get(1)?))) else { return };
        if let Some((day, _)) = time.split_last_chunk::<7>() {
            self.day = day.to_vec();
        }
    }
}
