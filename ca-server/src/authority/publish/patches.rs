//! Patches: from a CRL that was served of late to the one that is served now.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use fleetca_proto::{
    patch::compose,
    v1::{CrlPatch, CrlPatchStep},
};
use prost::Message;

use super::Published;

/// How many publications are remembered at most.
const MOST: usize = 256;

/// How many octets of them are remembered, where the CRL itself is shorter.
const LEAST_ROOM: usize = 64 * 1024;

/// The publications of late of one issuer.
#[derive(Default)]
pub(super) struct Patches {
    /// Each as the steps from the one before it, the newest last.
    links: VecDeque<Link>,
    /// The patches to the newest, by the number that they begin with, as far as somebody asked; `None`: the whole CRL is
    /// the shorter way.
    made: HashMap<u64, Option<Bytes>>,
}

struct Link {
    from: u64,
    from_sha256: [u8; 32],
    to: u64,
    steps: Vec<CrlPatchStep>,
}

impl Patches {
    /// A CRL, of this number and length, took the place of the one with this number and hash.
    pub fn add(&mut self, (from, from_sha256): (u64, [u8; 32]), (to, length): (u64, usize), steps: Vec<CrlPatchStep>) {
        self.made.clear();
        if self.links.back().is_some_and(|last| last.to != from) {
            self.links.clear();
        }
        self.links.push_back(Link { from, from_sha256, to, steps });
        // What is longer than the CRL itself helps nobody.
        let mut room = length.max(LEAST_ROOM);
        let fits = |link: &&Link| {
            let fits = room.checked_sub(link.octets());
            room = fits.unwrap_or(0);
            fits.is_some()
        };
        let kept = self.links.iter().rev().take(MOST).take_while(fits).count();
        self.links.drain(..self.links.len() - kept);
    }

    /// The patch that turns the CRL of this number into `to`, the newest one; none where there is no short one.
    pub fn to(&mut self, to: &Published, from: u64, sha256: Option<&[u8; 32]>) -> Option<Bytes> {
        if self.links.back()?.to != to.number {
            return None;
        }
        let begins = |link: &Link| link.from == from && sha256.is_none_or(|sha256| link.from_sha256 == *sha256);
        let first = self.links.iter().position(begins)?;
        let links = &self.links;
        self.made.entry(from).or_insert_with(|| whole(links.range(first..), to)).clone()
    }
}

/// One patch that does what these do one after the other, if it is no longer than half of what comes out.
fn whole<'a>(mut links: impl Iterator<Item = &'a Link>, to: &Published) -> Option<Bytes> {
    let first = links.next()?;
    let steps = links.fold(first.steps.clone(), |steps, link| compose(&steps, &link.steps));
    let patch = CrlPatch {
        issuer: to.issuer.to_string(),
        from: first.from,
        from_sha256: first.from_sha256.to_vec(),
        number: to.number,
        length: to.der.len() as u64,
        sha256: to.sha256.to_vec(),
        steps,
    };
    (patch.encoded_len() <= (to.der.len() / 2).max(LEAST)).then(|| patch.encode_to_vec().into())
}

/// A patch of this length is always worth its while: it is one message, as the smallest CRL is.
const LEAST: usize = 2048;

impl Link {
    /// About how much memory it takes.
    fn octets(&self) -> usize {
        self.steps.iter().map(|step| size_of_val(step) + step.insert.len()).sum()
    }
}

impl super::Publisher {
    /// The patch (a serialized [`CrlPatch`]) that turns the CRL with this number, and with this SHA-256 where it is said,
    /// into the one given, if that is the one that is served and there is a short one.
    pub fn patch(&self, to: &Published, from: u64, sha256: Option<&[u8; 32]>) -> Option<Bytes> {
        self.patches_of(to.issuer, |patches| patches.to(to, from, sha256))
    }
}
