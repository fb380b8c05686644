//! What the fuzz targets share: a real CA to make real objects with, and the ways in which input changes them.
//!
//! A fuzzer that only throws octets at a parser of signed things never gets past the signature. So most targets read
//! their input in one of two ways (see [`variant`]): as the object itself, or as a list of changes to a real one.

pub mod hostile;
pub mod world;

use ca_server::signer::Signer;
use der::{Reader, SliceReader};

/// What a target is given: after an even first octet the object itself, after an odd one changes to `valid`.
pub fn variant(valid: &[u8], input: &[u8]) -> Vec<u8> {
    match input.split_first() {
        Some((kind, rest)) if kind % 2 == 0 => rest.to_vec(),
        Some((_, changes)) => changed(valid, changes),
        None => valid.to_vec(),
    }
}

/// As [`variant`]; where the first octet has its second-lowest bit set, `signer` signs what comes of it.
pub fn signed_variant(valid: &[u8], input: &[u8], signer: &dyn Signer) -> Vec<u8> {
    let octets = variant(valid, input);
    let sign = input.first().is_some_and(|kind| kind & 2 != 0);
    if sign { signed_anew(&octets, signer).unwrap_or(octets) } else { octets }
}

/// A certificate or CRL with a signature by `signer` in place of its own; `None` where it has no place for one.
pub fn signed_anew(signed: &[u8], signer: &dyn Signer) -> Option<Vec<u8>> {
    let parts = |reader: &mut SliceReader<'_>| -> der::Result<(Vec<u8>, Vec<u8>)> {
        let tbs = reader.tlv_bytes()?.to_vec();
        let algorithm = reader.tlv_bytes()?.to_vec();
        reader.tlv_bytes()?;
        Ok((tbs, algorithm))
    };
    let (tbs, algorithm) = SliceReader::new(signed).ok()?.sequence(parts).ok()?;
    let signature = [&[0][..], &signer.sign(&tbs).expect("it signs")].concat();
    Some(element(0x30, &[tbs, algorithm, element(3, &signature)].concat()))
}

/// A DER element.
pub fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().take_while(|octet| **octet == 0).count()..];
    let head = match content.len() {
        0 => vec![tag, 0],
        1..128 => vec![tag, length[0]],
        _ => [&[tag, 0x80 | u8::try_from(length.len()).expect("few octets")], length].concat(),
    };
    [&head, content].concat()
}

/// `valid`, changed: every four octets say what, where (two octets, big-endian) and with which octet.
pub fn changed(valid: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut octets = valid.to_vec();
    for change in changes.chunks_exact(4) {
        if octets.is_empty() {
            break;
        }
        let (at, value) = (usize::from(u16::from_be_bytes([change[1], change[2]])) % octets.len(), change[3]);
        match change[0] % 6 {
            0 => octets[at] = value,
            1 => octets[at] ^= value,
            2 => octets.insert(at, value),
            3 => drop(octets.remove(at)),
            4 => octets.truncate(at),
            _ => {
                let end = octets.len().min(at + usize::from(value));
                octets.extend_from_within(at..end);
            }
        }
    }
    octets
}

/// Splits input into what comes before and after a length of two octets (big-endian).
pub fn split(input: &[u8]) -> (&[u8], &[u8]) {
    match input {
        [high, low, rest @ ..] => rest.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(rest.len())),
        _ => (input, &[]),
    }
}

/// A temporary folder, in memory where the system has such a place: targets sync thousands of files.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary folder")
}
