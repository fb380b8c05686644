//! The entries of a CRL as they stand in it, encoded: read without copying them, found by serial, edited by steps that
//! copy what stays.

use std::{cmp::Ordering, fmt};

use bytes::Bytes;
use fleetca_proto::v1::CrlPatchStep;

use super::super::encode::{SEQUENCE, TimeWriter};
use super::CrlError;
use super::entry::{CrlEntry, KnownDay, serial_of};
use crate::identity::SerialNumber;

/// After so many octets the list is marked, so that a serial is found in a short walk.
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
    /// An entry now and then, in order: its serial, and where it begins.
    marks: Vec<(SerialNumber, usize)>,
}

impl EntryList {
    /// Reads the content of `revokedCertificates`.
    pub(super) fn read(octets: Bytes) -> Result<Self, CrlError> {
        let mut list = Self { ascending: true, ..Self::default() };
        let (mut at, mut marked, mut last, mut days) = (0, None, None, KnownDay::default());
        while at < octets.len() {
            let entry = first(&octets[at..]).ok_or(CrlError::Malformed)?;
            if !CrlEntry::is_plain(entry, &mut days) {
                CrlEntry::decode(entry)?;
                days.learn(entry);
            }
            let serial = serial_of(entry);
            list.ascending &= last.is_none_or(|last| last < serial);
            if marked.is_none_or(|mark| at - mark >= STRIDE) {
                list.marks.push((serial, at));
                marked = Some(at);
            }
            last = Some(serial);
            list.count += 1;
            at += entry.len();
        }
        Ok(Self { octets, ..list })
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

    /// The steps that make these edits, which come in the order of their serials, in an ascending list. What comes out of
    /// its order is left out; an edit that changes nothing is no step. What is left of the list behind the last step is
    /// dropped, so that the last one copies it.
    pub(super) fn edit(&self, edits: impl IntoIterator<Item = Edit>) -> Vec<CrlPatchStep> {
        let (mut steps, mut times) = (Vec::<CrlPatchStep>::new(), TimeWriter::default());
        let (mut at, mut skip, mut last) = (0, 0, None);
        for (serial, edit) in edits {
            let (start, end) = self.place(&serial);
            if start < at || last.is_some_and(|last| last >= serial) {
                continue;
            }
            last = Some(serial);
            let mut insert = Vec::new();
            if let Some(entry) = edit {
                entry.encode(&mut times, &mut insert);
            }
            if self.octets[start..end] == insert {
                continue;
            }
            match steps.last_mut() {
                // Nothing stays between this edit and the one before it.
                Some(last) if start == at => last.insert.append(&mut insert),
                _ => {
                    steps.push(CrlPatchStep { skip, copy: (start - at) as u64, insert });
                    skip = 0;
                }
            }
            skip += (end - start) as u64;
            at = end;
        }
        if at < self.octets.len() {
            steps.push(CrlPatchStep { skip, copy: (self.octets.len() - at) as u64, insert: Vec::new() });
        }
        steps
    }

    /// Where the entry of this serial stands, or (both the same) where it would.
    fn place(&self, serial: &SerialNumber) -> (usize, usize) {
        let mark = self.marks.partition_point(|(marked, _)| marked <= serial).checked_sub(1);
        let Some((_, mut at)) = mark.map(|mark| self.marks[mark]) else { return (0, 0) };
        while let Some(entry) = self.octets.get(at..).and_then(first) {
            match serial_of(entry).cmp(serial) {
                Ordering::Less => at += entry.len(),
                Ordering::Equal => return (at, at + entry.len()),
                Ordering::Greater => break,
            }
        }
        (at, at)
    }

    fn raw(&self) -> impl Iterator<Item = &[u8]> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let entry = first(self.octets.get(at..)?)?;
            at += entry.len();
            Some(entry)
        })
    }
}

/// The SEQUENCE that these octets begin with, whole. Entries of this CA have less than 128 octets; another's are bounded
/// by 64 KiB.
fn first(octets: &[u8]) -> Option<&[u8]> {
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
