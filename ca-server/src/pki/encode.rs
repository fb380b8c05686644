//! A small DER writer: what certificates and CRLs are built with. What it writes is read back by another
//! implementation (x509-cert) in the lints and in the tests.

use const_oid::ObjectIdentifier;

use crate::identity::Timestamp;

/// BOOLEAN.
const BOOLEAN: u8 = 0x01;
/// INTEGER.
pub(super) const INTEGER: u8 = 0x02;
/// BIT STRING.
pub(super) const BIT_STRING: u8 = 0x03;
/// OCTET STRING.
pub(super) const OCTET_STRING: u8 = 0x04;
/// NULL.
pub(super) const NULL: u8 = 0x05;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// ENUMERATED.
pub(super) const ENUMERATED: u8 = 0x0a;
/// UTF8String.
pub(super) const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// SEQUENCE, constructed.
pub(super) const SEQUENCE: u8 = 0x30;
/// SET, constructed.
pub(super) const SET: u8 = 0x31;

/// The last second that a GeneralizedTime can say: 9999-12-31T23:59:59Z.
const LAST_SECOND: i64 = 253_402_300_799;
/// 2050-01-01T00:00:00Z: from here on, a UTCTime cannot say it.
const FIRST_GENERALIZED: u64 = 2_524_608_000;

/// A context-specific, primitive tag.
pub(super) const fn context(number: u8) -> u8 {
    0x80 | number
}

/// A context-specific, constructed tag.
pub(super) const fn context_constructed(number: u8) -> u8 {
    0xa0 | number
}

/// DER under construction.
#[derive(Default)]
pub(super) struct Der(Vec<u8>);

impl Der {
    /// Encodes one constructed value whole.
    pub(super) fn build(tag: u8, content: impl FnOnce(&mut Der)) -> Vec<u8> {
        let mut der = Der(Vec::with_capacity(128));
        der.nest(tag, content);
        der.0
    }

    /// With room for `capacity` octets.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Der(Vec::with_capacity(capacity))
    }

    /// The octets written.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Writes a value that holds what `content` writes. The length is put in afterwards: one octet is kept for it, and
    /// the content moves up where that does not do.
    pub(super) fn nest(&mut self, tag: u8, content: impl FnOnce(&mut Der)) {
        self.0.push(tag);
        let at = self.0.len();
        self.0.push(0);
        content(self);
        let length = self.0.len() - at - 1;
        let (octets, count) = length_octets(length);
        self.0.splice(at..=at, octets[..count].iter().copied());
    }

    /// Writes tag and length of a value whose content the caller writes next.
    pub(super) fn header(&mut self, tag: u8, length: usize) {
        let (octets, count) = header(tag, length);
        self.0.extend_from_slice(&octets[..count]);
    }

    /// Writes a primitive value.
    pub(super) fn primitive(&mut self, tag: u8, content: &[u8]) {
        self.header(tag, content.len());
        self.0.extend_from_slice(content);
    }

    /// Writes octets that are DER already.
    pub(super) fn raw(&mut self, der: &[u8]) {
        self.0.extend_from_slice(der);
    }

    /// Writes an OBJECT IDENTIFIER.
    pub(super) fn oid(&mut self, oid: &ObjectIdentifier) {
        self.primitive(OBJECT_IDENTIFIER, oid.as_bytes());
    }

    /// Writes BOOLEAN TRUE. FALSE is every default, so it is never written.
    pub(super) fn true_(&mut self) {
        self.primitive(BOOLEAN, &[0xff]);
    }

    /// Writes a non-negative INTEGER, given big-endian, in as few octets as it takes.
    pub(super) fn unsigned(&mut self, big_endian: &[u8]) {
        let (octets, start) = minimal(big_endian);
        let pad = usize::from(octets[start..].first().is_none_or(|first| *first >= 0x80));
        self.header(INTEGER, octets.len() - start + pad);
        if pad == 1 {
            self.0.push(0);
        }
        self.0.extend_from_slice(&octets[start..]);
    }

    /// Writes a BIT STRING of named bits (up to 16; the first is the highest bit), without trailing zero bits.
    pub(super) fn named_bits(&mut self, bits: u16) {
        let octets = bits.to_be_bytes();
        let used = if octets[1] != 0 { 2 } else { 1 };
        let unused = if bits == 0 { 0 } else { (bits.trailing_zeros() % 8) as u8 };
        self.header(BIT_STRING, used + 1);
        self.0.push(unused);
        self.0.extend_from_slice(&octets[..used]);
    }

    /// Writes a GeneralizedTime of whole seconds, as OCSP wants it whatever the year. What lies before 1970 or after 9999
    /// becomes the nearest that can be said.
    pub(super) fn generalized_time(&mut self, at: Timestamp) {
        let (tag, text, length) = TimeWriter::default().text(at);
        let century: &[u8] = match (tag, text[0]) {
            (UTC_TIME, b'7'..=b'9') => b"19",
            (UTC_TIME, _) => b"20",
            _ => b"",
        };
        self.header(GENERALIZED_TIME, century.len() + length);
        self.raw(century);
        self.raw(&text[..length]);
    }

    /// Writes a Time as RFC 5280 (section 4.1.2.5) wants it: UTCTime up to 2049, GeneralizedTime from 2050 on, whole
    /// seconds. What lies before 1970 or after 9999 becomes the nearest that can be said.
    pub(super) fn time(&mut self, at: Timestamp) {
        let (tag, text, length) = TimeWriter::default().text(at);
        self.primitive(tag, &text[..length]);
    }
}

/// Tag and length of a value, in the first octets of so many.
pub(super) fn header(tag: u8, length: usize) -> ([u8; 10], usize) {
    let (length, count) = length_octets(length);
    let mut octets = [tag; 10];
    octets[1..].copy_from_slice(&length);
    (octets, count + 1)
}

/// Where the number's first octet that counts is.
fn minimal(big_endian: &[u8]) -> (&[u8], usize) {
    let start = big_endian.iter().position(|octet| *octet != 0).unwrap_or(big_endian.len());
    (big_endian, start)
}

fn length_octets(length: usize) -> ([u8; 9], usize) {
    let mut octets = [0; 9];
    if length < 0x80 {
        octets[0] = length as u8;
        return (octets, 1);
    }
    let bytes = length.to_be_bytes();
    let skip = length.leading_zeros() as usize / 8;
    let count = bytes.len() - skip;
    octets[0] = 0x80 | count as u8;
    octets[1..=count].copy_from_slice(&bytes[skip..]);
    (octets, count + 1)
}

/// Writes times one after the other: what lies on the day of the one before is written faster.
pub(super) struct TimeWriter {
    /// Days since 1970.
    day: u64,
    /// That day, `YYYYMMDD`.
    date: [u8; 8],
}

impl Default for TimeWriter {
    fn default() -> Self {
        Self { day: 0, date: *b"19700101" }
    }
}

impl TimeWriter {
    /// Tag, text and the text's length of a Time (see [`Der::time`]).
    pub(super) fn text(&mut self, at: Timestamp) -> (u8, [u8; 15], usize) {
        let seconds = representable(at);
        let (day, second) = (seconds / 86_400, seconds % 86_400);
        if day != self.day {
            let (year, month, date) = civil(day);
            self.day = day;
            for (place, part) in self.date.chunks_exact_mut(2).zip([year / 100, year % 100, month, date]) {
                place.copy_from_slice(&two_digits(part));
            }
        }
        let mut text = *b"00000000000000Z";
        text[8..10].copy_from_slice(&two_digits(second / 3_600));
        text[10..12].copy_from_slice(&two_digits(second / 60 % 60));
        text[12..14].copy_from_slice(&two_digits(second % 60));
        text[..8].copy_from_slice(&self.date);
        if seconds >= FIRST_GENERALIZED {
            return (GENERALIZED_TIME, text, 15);
        }
        text.copy_within(2.., 0);
        (UTC_TIME, text, 13)
    }
}

fn two_digits(number: u64) -> [u8; 2] {
    [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]
}

/// The nearest second that a Time can say.
fn representable(at: Timestamp) -> u64 {
    at.secs().clamp(0, LAST_SECOND) as u64
}

/// Year, month and day of a number of days since 1970, by eras of 400 years that begin on 1 March: the leap day is the
/// last of its year, and months have 153 days in five.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use der::{Decode, Encode, asn1::Uint};
    use proptest::prelude::*;
    use x509_cert::time::Time;

    use super::*;

    fn written(write: impl FnOnce(&mut Der)) -> Vec<u8> {
        let mut der = Der::default();
        write(&mut der);
        der.into_bytes()
    }

    #[test]
    fn times_change_form_in_2050_and_never_leave_the_range() {
        let at = |secs| written(|der| der.time(Timestamp::from_secs(secs)));
        assert_eq!(at(0), b"\x17\x0d700101000000Z");
        assert_eq!(at(2_524_607_999), b"\x17\x0d491231235959Z");
        assert_eq!(at(2_524_608_000), b"\x18\x0f20500101000000Z");
        assert_eq!(at(-1), at(0));
        assert_eq!(at(i64::MAX), b"\x18\x0f99991231235959Z");
    }

    #[test]
    fn named_bits_have_no_trailing_zeros() {
        assert_eq!(written(|der| der.named_bits(0x8000)), [3, 2, 7, 0x80]);
        assert_eq!(written(|der| der.named_bits(0x0600)), [3, 2, 1, 0x06]);
        assert_eq!(written(|der| der.named_bits(0x0080)), [3, 3, 7, 0x00, 0x80]);
        assert_eq!(written(|der| der.named_bits(0)), [3, 2, 0, 0]);
    }

    proptest! {
        #[test]
        fn numbers_are_as_another_encoder_writes_them(number in proptest::collection::vec(any::<u8>(), 0..40)) {
            let ours = written(|der| der.unsigned(&number));
            if !number.is_empty() {
                prop_assert_eq!(ours, Uint::new(&number).unwrap().to_der().unwrap());
            }
        }

        #[test]
        fn lengths_are_as_another_encoder_writes_them(length in 0usize..70_000) {
            let content = vec![7; length];
            let ours = Der::build(OCTET_STRING, |der| der.raw(&content));
            prop_assert_eq!(header(OCTET_STRING, length).1 + length, ours.len());
            prop_assert_eq!(ours, der::asn1::OctetString::new(content).unwrap().to_der().unwrap());
        }

        #[test]
        fn times_read_back(secs in 0i64..253_402_300_799) {
            let at = Timestamp::from_secs(secs);
            let ours = written(|der| der.time(at));
            let read = Time::from_der(&ours).unwrap();
            prop_assert_eq!(read.to_unix_duration().as_secs() as i64, secs);
            prop_assert_eq!(matches!(read, Time::UtcTime(_)), secs < 2_524_608_000);
        }
    }
}
