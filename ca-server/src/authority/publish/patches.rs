//! Patches: from a CRL that was served of late to the one that is served now.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use fleetca_proto::{
    patch::compose,
    v1::{CrlPatch, CrlPatchStep},
};
use prost::Message;

use super::{Published, Publisher};

/// How many publications are remembered at most.
const MOST: usize = 64;
/// How long a patch may be, and how many octets of publications, and of patches made, are remembered of each issuer. Who
/// is further behind gets the whole.
const LONGEST: usize = 1 << 20;
/// A patch of this length is always worth its while: it is one message, as the smallest CRL is.
const LEAST: usize = 2048;

/// The publications of late of one issuer.
#[derive(Default)]
pub(super) struct Patches {
    /// Each as the steps from the one before it, the newest last.
    links: VecDeque<Arc<Link>>,
    /// The patches to the newest, by the number that they begin with, as far as somebody asked; `None`: the whole CRL is
    /// the shorter way, or there is no room for the patch. So none is made twice.
    made: HashMap<u64, Option<Bytes>>,
}

struct Link {
    from: u64,
    from_sha256: [u8; 32],
    to: u64,
    steps: Vec<CrlPatchStep>,
}

impl Patches {
    /// A CRL took the place of the one with this number and hash.
    pub fn add(&mut self, (from, from_sha256): (u64, [u8; 32]), to: u64, steps: Vec<CrlPatchStep>) {
        self.made.clear();
        if self.links.back().is_some_and(|last| last.to != from) {
            self.links.clear();
        }
        self.links.push_back(Arc::new(Link { from, from_sha256, to, steps }));
        let mut room = LONGEST;
        let fits = |link: &&Arc<Link>| {
            let left = room.checked_sub(octets(&link.steps));
            room = left.unwrap_or(0);
            left.is_some()
        };
        let kept = self.links.iter().rev().take(MOST).take_while(fits).count();
        self.links.drain(..self.links.len() - kept);
    }

    /// The way from the CRL of this number, and of this hash where that is said, to `to`, the newest one.
    fn way(&self, to: u64, from: u64, sha256: Option<&[u8; 32]>) -> Option<Way> {
        if self.links.back()?.to != to {
            return None;
        }
        let begins = |link: &Arc<Link>| link.from == from && sha256.is_none_or(|sha256| link.from_sha256 == *sha256);
        let first = self.links.iter().position(begins)?;
        match self.made.get(&from) {
            Some(made) => Some(Way::Made(made.clone())),
            None => Some(Way::Links(self.links.range(first..).cloned().collect())),
        }
    }

    /// Remembers a patch, if it still leads to the newest; where there is no room for all, those from further behind go.
    fn keep(&mut self, to: u64, from: u64, patch: &Option<Bytes>) {
        if self.links.back().is_none_or(|last| last.to != to) {
            return;
        }
        self.made.insert(from, patch.clone());
        while self.made.values().flatten().map(Bytes::len).sum::<usize>() > LONGEST {
            let longest_way = self.made.iter_mut().filter(|(_, made)| made.is_some()).min_by_key(|(from, _)| **from);
            let Some((_, made)) = longest_way else { break };
            *made = None;
        }
    }
}

enum Way {
    Made(Option<Bytes>),
    Links(Vec<Arc<Link>>),
}

/// One patch that does what these do one after the other, if it is short.
fn whole(links: &[Arc<Link>], to: &Published) -> Option<Bytes> {
    let most = (to.der.len() / 2).clamp(LEAST, LONGEST);
    let (last, before) = links.split_last()?;
    let mut steps = last.steps.clone();
    for link in before.iter().rev() {
        steps = compose(&link.steps, &steps);
        // It grows with each: there is no need to see how long it would become.
        if octets(&steps) > most + LEAST {
            return None;
        }
    }
    let first = links.first()?;
    let patch = CrlPatch {
        issuer: to.issuer.to_string(),
        from: first.from,
        from_sha256: first.from_sha256.to_vec(),
        number: to.number,
        length: to.der.len() as u64,
        sha256: to.sha256.to_vec(),
        steps,
    };
    (patch.encoded_len() <= most).then(|| patch.encode_to_vec().into())
}

/// About how long steps are on the wire.
fn octets(steps: &[CrlPatchStep]) -> usize {
    steps.iter().map(|step| 16 + step.insert.len()).sum()
}

impl Publisher {
    /// The patch (a serialized [`CrlPatch`]) that turns the CRL with this number, and with this SHA-256 where it is said,
    /// into the one given, if that is the one that is served and there is a short one. It may have to be made: one at a
    /// time, however many ask, so that they take neither the processors nor the threads from publications.
    pub async fn patch(self: &Arc<Self>, to: &Arc<Published>, from: u64, sha256: Option<&[u8; 32]>) -> Option<Bytes> {
        let way = || self.patches_of(to.issuer, |patches| patches.way(to.number, from, sha256));
        if let Way::Made(made) = way()? {
            return made;
        }
        let bench = self.bench.clone().acquire_owned().await.ok()?;
        // Who has waited finds it made, mostly.
        let links = match way()? {
            Way::Made(made) => return made,
            Way::Links(links) => links,
        };
        let (publisher, to) = (self.clone(), to.clone());
        let work = move || {
            // Whoever asked may be gone: it is made and kept all the same, and nothing else is made before that.
            let _bench = bench;
            let made = whole(&links, &to);
            publisher.patches_of(to.issuer, |patches| patches.keep(to.number, from, &made));
            made
        };
        tokio::task::spawn_blocking(work).await.ok()?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(patches: &mut Patches, to: u64, octets: usize) {
        let steps = vec![CrlPatchStep { skip: 0, copy: 1, insert: vec![7; octets] }];
        patches.add((to - 1, [0; 32]), to, steps);
    }

    #[test]
    fn no_more_is_remembered_than_is_said() {
        let mut patches = Patches::default();
        (1..=200).for_each(|to| add(&mut patches, to, 10));
        assert_eq!((patches.links.len(), patches.links[0].from), (MOST, 200 - MOST as u64));
        (201..=210).for_each(|to| add(&mut patches, to, LONGEST / 3));
        assert_eq!(patches.links.len(), 2, "the newest, as far as there is room");
        add(&mut patches, 211, LONGEST + 1);
        assert!(patches.links.is_empty() && patches.way(211, 210, None).is_none());
        // What was made has a bound of its own, and leads to the newest only.
        add(&mut patches, 212, 10);
        let half = Some(Bytes::from(vec![7; LONGEST / 2 + 1]));
        patches.keep(211, 210, &half);
        assert!(patches.made.is_empty());
        for order in [[211, 210], [210, 211]] {
            patches.made.clear();
            order.iter().for_each(|from| patches.keep(212, *from, &half));
            assert_eq!(
                (patches.made[&211].is_some(), patches.made[&210].is_some()),
                (true, false),
                "and not made again"
            );
        }
        add(&mut patches, 213, 10);
        assert!(patches.made.is_empty());
    }
}
