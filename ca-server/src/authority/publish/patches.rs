//! Patches: from a CRL that was served of late to the one that is served now.

use std::{
    collections::{BTreeMap, VecDeque},
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
    /// The patches to the newest and to the one before it, by the numbers to which and from which they lead, as far as
    /// somebody asked; `None`: the whole CRL is the shorter way, or there is no room for the patch. So none is made twice.
    made: BTreeMap<(u64, u64), Option<Bytes>>,
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
        self.made.retain(|(made_to, _), _| *made_to == from);
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

    /// The way from the CRL of this number, and of this hash where that is said, to the one with the number `to`: not always
    /// the newest, since others may be published while somebody waits.
    fn way(&self, to: u64, from: u64, sha256: Option<&[u8; 32]>) -> Option<Way> {
        let begins = |link: &Arc<Link>| link.from == from && sha256.is_none_or(|sha256| link.from_sha256 == *sha256);
        let first = self.links.iter().position(begins)?;
        let last = self.links.iter().skip(first).position(|link| link.to == to)? + first;
        match self.made.get(&(to, from)) {
            Some(made) => Some(Way::Made(made.clone())),
            None => Some(Way::Links(self.links.range(first..=last).cloned().collect())),
        }
    }

    /// Remembers a patch that leads to the newest or to the one before it. Where there is no room for all, those go that lead
    /// to the latter, then those from further behind.
    fn keep(&mut self, to: u64, from: u64, patch: &Option<Bytes>) {
        if self.links.back().is_none_or(|last| last.to != to && last.from != to) {
            return;
        }
        self.made.insert((to, from), patch.clone());
        while self.made.values().flatten().map(Bytes::len).sum::<usize>() > LONGEST {
            let Some(made) = self.made.values_mut().find(|made| made.is_some()) else { break };
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
    /// into the one given, if that was served of late and there is a short one. It may have to be made: one at a time,
    /// however many ask, so that they take neither the processors nor the threads from publications. What is published
    /// meanwhile takes nothing from who waits.
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
        // What was made has a bound of its own, and leads to the newest, or to the one before it.
        add(&mut patches, 212, 10);
        let half = Some(Bytes::from(vec![7; LONGEST / 2 + 1]));
        patches.keep(210, 209, &half);
        assert!(patches.made.is_empty());
        for order in [[211, 210], [210, 211]] {
            patches.made.clear();
            order.iter().for_each(|from| patches.keep(212, *from, &half));
            let kept = [211, 210].map(|from| patches.made[&(212, from)].is_some());
            assert_eq!(kept, [true, false], "and not made again");
        }
        patches.keep(211, 210, &half);
        assert_eq!([(212, 211), (211, 210)].map(|made| patches.made[&made].is_some()), [true, false]);
        add(&mut patches, 213, 10);
        assert!(patches.made.keys().all(|(to, _)| *to == 212));
        add(&mut patches, 214, 10);
        assert!(patches.made.is_empty());
    }
}
