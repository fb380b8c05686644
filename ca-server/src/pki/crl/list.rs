//! The entries of a CRL as they stand in it, encoded: read without copying them, found by serial, edited by steps that
//! copy what stays.

use std::{cmp::Ordering, fmt};

use bytes::Bytes;
use fleetca_proto::v1::CrlPatchStep;

use super::super::encode::{SEQUENCE, TimeWriter};
use super::CrlError;
use super::entry::{CrlEntry, KnownDay, serial_of};
use super::root::read_entry;
use crate::identity::SerialNumber;

/// How long a stretch is, about: a serial is found in a short walk, and what stays is known by comparing few of them.
const STRIDE: usize = 4096;

/// What becomes of the entry of a serial: another one takes its place, or (`None`) it is taken off.
pub type Edit = (SerialNumber, Option<CrlEntry>);

/// The entries of a CRL, encoded. Every one was read when the list was.
#[derive(Clone, Default)]
pub struct EntryList {
    octets: Bytes,
    count: usize,
    /// Serials grow from each entry to the next.
    ascending: bool,
    /// One stretch of entries behind the other.
    stretches: Vec<Stretch>,
}

/// Entries that stand together, at least one.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    /// Where the first one begins.
    at: usize,
    count: usize,
    first: SerialNumber,
    last: SerialNumber,
}

impl EntryList {
    /// Reads the content of `revokedCertificates`. `base` was read before: what stands in both, octet by octet, is not read
    /// again.
    pub(super) fn read_after(octets: Bytes, base: &Self) -> Result<Self, CrlError> {
        let mut list = Self { ascending: true, ..Self::default() };
        let (mut at, mut days) = (0, KnownDay::default());
        let mut known = base.stretches_with_octets().filter(|_| base.ascending).peekable();
        while at < octets.len() {
            let entry = first(&octets[at..]).ok_or(CrlError::Malformed)?;
            let serial = serial_of(entry);
            while known.next_if(|(known, _)| known.first < serial).is_some() {}
            let same = |(known, stretch): &(Stretch, &[u8])| known.first == serial && octets[at..].starts_with(stretch);
            if let Some((known, stretch)) = known.next_if(same) {
                list.append(Stretch { at, ..known }, stretch.len());
                at += stretch.len();
                continue;
            }
            if !CrlEntry::is_plain(entry, &mut days) {
                CrlEntry::decode(entry)?;
                days.learn(entry);
            }
            list.append(Stretch { at, count: 1, first: serial, last: serial }, entry.len());
            at += entry.len();
        }
        Ok(Self { octets, ..list })
    }

    /// Reads entries that any CA may have made, in any order. No serial is looked for in such a list, and it is never edited.
    pub(super) fn read_any(octets: Bytes) -> Result<Self, CrlError> {
        let (mut at, mut count) = (0, 0);
        while at < octets.len() {
            let entry = first(&octets[at..]).ok_or(CrlError::Malformed)?;
            read_entry(entry)?;
            (at, count) = (at + entry.len(), count + 1);
        }
        Ok(Self { octets, count, ..Self::default() })
    }

    /// Puts a stretch of this length behind the last one, or makes both one where the last one is short.
    fn append(&mut self, next: Stretch, length: usize) {
        self.count += next.count;
        let last = self.stretches.last_mut();
        self.ascending &= last.as_ref().is_none_or(|last| last.last < next.first);
        match last.filter(|last| next.at - last.at < STRIDE && next.at + length - last.at <= 2 * STRIDE) {
            Some(last) => (last.count, last.last) = (last.count + next.count, next.last),
            None => self.stretches.push(next),
        }
    }

    /// Every stretch and what stands in it.
    fn stretches_with_octets(&self) -> impl Iterator<Item = (Stretch, &[u8])> {
        let ends = self.stretches.iter().skip(1).map(|next| next.at).chain([self.octets.len()]);
        self.stretches.iter().zip(ends).map(|(stretch, end)| (*stretch, &self.octets[stretch.at..end]))
    }

    /// The serials that are listed here and not in `new`, in their order. Both are ascending.
    pub(super) fn missing_in(&self, new: &Self) -> Vec<SerialNumber> {
        let (mut at, mut missing) = (0, Vec::new());
        let next = |at: usize| new.octets.get(at..).and_then(first).map(|entry| (serial_of(entry), entry.len()));
        let catch_up = |at: &mut usize, serial: SerialNumber| loop {
            match next(*at) {
                Some((other, length)) if other < serial => *at += length,
                found => return found.is_some_and(|(other, _)| other == serial),
            }
        };
        for (stretch, octets) in self.stretches_with_octets() {
            catch_up(&mut at, stretch.first);
            if new.octets[at..].starts_with(octets) {
                at += octets.len();
                continue;
            }
            missing.extend(entries_of(octets).map(serial_of).filter(|serial| !catch_up(&mut at, *serial)));
        }
        missing
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Every entry, in the order of the CRL.
    pub fn iter(&self) -> impl Iterator<Item = CrlEntry> + '_ {
        self.raw().filter_map(|entry| CrlEntry::decode(entry).ok())
    }

    /// Every serial, in the order of the CRL.
    pub fn serials(&self) -> impl Iterator<Item = SerialNumber> + '_ {
        self.raw().map(serial_of)
    }

    /// Whether serials grow from each entry to the next, as in every CRL of ours.
    pub fn is_ascending(&self) -> bool {
        self.ascending
    }

    /// The entry of this serial. The list is ascending.
    pub fn get(&self, serial: &SerialNumber) -> Option<CrlEntry> {
        let (start, end) = self.place(serial);
        CrlEntry::decode(&self.octets[start..end]).ok()
    }

    /// The octets as they stand in the CRL.
    pub(super) fn octets(&self) -> &Bytes {
        &self.octets
    }

    /// Writes the list with these edits, which come in the order of their serials, behind what `octets` hold. The list is
    /// ascending. What comes out of its order is left out; an edit that changes nothing is no step.
    ///
    /// `steps`, where they are wanted: they make the new list of this one. What is left of it behind the last step is
    /// dropped, so that the last one copies it.
    pub(super) fn edit(
        &self,
        edits: impl IntoIterator<Item = Edit>,
        octets: &mut Vec<u8>,
        mut steps: Option<&mut Vec<CrlPatchStep>>,
    ) {
        let (mut times, mut insert) = (TimeWriter::default(), Vec::new());
        let (mut at, mut skip, mut last) = (0, 0, None);
        for (serial, edit) in edits {
            let (start, end) = self.place(&serial);
            if start < at || last.is_some_and(|last| last >= serial) {
                continue;
            }
            last = Some(serial);
            insert.clear();
            if let Some(entry) = edit {
                entry.encode(&mut times, &mut insert);
            }
            if self.octets[start..end] == insert {
                continue;
            }
            octets.extend_from_slice(&self.octets[at..start]);
            octets.extend_from_slice(&insert);
            if let Some(steps) = &mut steps {
                match steps.last_mut() {
                    // Nothing stays between this edit and the one before it.
                    Some(last) if start == at => last.insert.extend_from_slice(&insert),
                    _ => {
                        steps.push(CrlPatchStep { skip, copy: (start - at) as u64, insert: insert.clone() });
                        skip = 0;
                    }
                }
            }
            skip += (end - start) as u64;
            at = end;
        }
        octets.extend_from_slice(&self.octets[at..]);
        if let Some(steps) = steps.filter(|_| at < self.octets.len()) {
            steps.push(CrlPatchStep { skip, copy: (self.octets.len() - at) as u64, insert: Vec::new() });
        }
    }

    /// Where the entry of this serial stands, or (both the same) where it would.
    fn place(&self, serial: &SerialNumber) -> (usize, usize) {
        let found = self.stretches.partition_point(|stretch| stretch.first <= *serial).checked_sub(1);
        let Some(Stretch { mut at, .. }) = found.map(|found| self.stretches[found]) else { return (0, 0) };
        while let Some(entry) = self.octets.get(at..).and_then(first) {
            match serial_of(entry).cmp(serial) {
                Ordering::Less => at += entry.len(),
                Ordering::Equal => return (at, at + entry.len()),
                Ordering::Greater => break,
            }
        }
        (at, at)
    }

    /// Every entry (DER).
    pub(super) fn raw(&self) -> impl Iterator<Item = &[u8]> + '_ {
        entries_of(&self.octets)
    }
}

/// One entry after the other.
fn entries_of(octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let entry = first(octets.get(at..)?)?;
        at += entry.len();
        Some(entry)
    })
}

/// The SEQUENCE that these octets begin with, whole. Entries of this CA have less than 128 octets; another's are bounded
/// by 64 KiB.
pub(super) fn first(octets: &[u8]) -> Option<&[u8]> {
    let (&[tag, length], rest) = octets.split_first_chunk::<2>()?;
    let (header, length) = match (length, rest) {
        (0..=0x7f, _) => (2, usize::from(length)),
        (0x81, [one, ..]) if *one >= 0x80 => (3, usize::from(*one)),
        (0x82, [high, low, ..]) if *high > 0 => (4, usize::from(*high) << 8 | usize::from(*low)),
        _ => return None,
    };
    (tag == SEQUENCE).then(|| octets.get(..header + length))?
}

impl PartialEq for EntryList {
    fn eq(&self, other: &Self) -> bool {
        self.octets == other.octets
    }
}

impl Eq for EntryList {}

impl fmt::Debug for EntryList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
