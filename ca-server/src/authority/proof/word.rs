//! What gateways say they have loaded: said often and by many, so it is kept in memory, and written down now and then.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use crate::{
    identity::{FleetName, IssuerId, Subject, Timestamp},
    store::Acknowledged,
};

/// How many revocations are timed at once, until gateways have loaded them.
const MOST_TIMED: usize = 4096;

/// A CRL that a gateway has loaded, by its word.
pub struct SaidCrl {
    /// Which, and when it was said.
    pub crl: Acknowledged,
    /// The last change that it holds, where it is the one that is served.
    pub watermark: Option<u64>,
}

/// What gateways have said since the server started, and which of them watch.
#[derive(Default)]
pub struct Word {
    gateways: Mutex<HashMap<Subject, Said>>,
    timed: Mutex<BTreeMap<(IssuerId, u64), Instant>>,
    told: watch::Sender<()>,
}

/// Which CRLs a gateway loads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Takes {
    /// Those of all issuing CAs.
    All,
    /// Those that a fleet needs.
    Fleet(FleetName),
    /// One issuer's.
    One(IssuerId),
}

/// What one of them has said.
#[derive(Clone, Default)]
pub struct Said {
    /// What it has loaded, by issuer.
    pub loaded: BTreeMap<IssuerId, Acknowledged>,
    /// When it acknowledged anything last, loaded or not.
    pub heard_at: Option<Timestamp>,
    /// What it asked for last; unknown until it asks.
    pub takes: Option<Takes>,
    /// How many watches it has open.
    pub watches: usize,
    /// The last change that is known to be loaded.
    watermarks: BTreeMap<IssuerId, u64>,
    unwritten: bool,
}

impl Word {
    /// A gateway has acknowledged, and has loaded this much. Says how long ago each revocation was that it has now and had
    /// not before.
    pub fn heard(&self, gateway: &Subject, at: Timestamp, loaded: Vec<SaidCrl>) -> Vec<Duration> {
        let (mut new, now) = (Vec::new(), Instant::now());
        let mut gateways = self.gateways();
        let said = gateways.entry(gateway.clone()).or_default();
        said.heard_at = Some(at);
        for SaidCrl { crl, watermark } in loaded {
            if let Some(watermark) = watermark
                && let Some(before) = said.watermarks.insert(crl.issuer, watermark)
                && before < watermark
            {
                let range = (crl.issuer, before + 1)..=(crl.issuer, watermark);
                new.extend(lock(&self.timed).range(range).map(|(_, cut)| now.duration_since(*cut)));
            }
            said.loaded.insert(crl.issuer, crl);
            said.unwritten = true;
        }
        drop(gateways);
        self.told.send_replace(());
        new
    }

    /// Changes that cut somebody off were recorded, the request of which began then.
    pub fn cut_off(&self, changes: &[(IssuerId, u64)], began: Instant) {
        let mut timed = lock(&self.timed);
        for change in changes {
            // Said again it is no other revocation.
            timed.entry(*change).or_insert(began);
        }
        while timed.len() > MOST_TIMED {
            let Some(oldest) = timed.iter().min_by_key(|(_, began)| **began).map(|(change, _)| *change) else { break };
            timed.remove(&oldest);
        }
    }

    /// What all of them have said.
    pub fn all(&self) -> HashMap<Subject, Said> {
        self.gateways().clone()
    }

    /// A gateway asks for these.
    pub fn takes(&self, gateway: &Subject, what: Takes) {
        self.gateways().entry(gateway.clone()).or_default().takes = Some(what);
    }

    /// Whether a gateway has loaded these CRLs or later ones.
    pub fn has(&self, gateway: &Subject, crls: &[(IssuerId, u64)]) -> bool {
        let gateways = self.gateways();
        let Some(said) = gateways.get(gateway) else { return crls.is_empty() };
        crls.iter().all(|(issuer, number)| said.loaded.get(issuer).is_some_and(|crl| crl.number >= *number))
    }

    /// Tells of everything that is heard.
    pub fn listen(&self) -> watch::Receiver<()> {
        self.told.subscribe()
    }

    /// What was said and is not written down; it is from here on.
    pub fn take_unwritten(&self) -> Vec<(Subject, Vec<Acknowledged>)> {
        let mut gateways = self.gateways();
        let unwritten = gateways.iter_mut().filter_map(|(gateway, said)| {
            let loaded = || (gateway.clone(), said.loaded.values().copied().collect());
            std::mem::take(&mut said.unwritten).then(loaded)
        });
        unwritten.collect()
    }

    /// It could not be written down.
    pub fn put_back(&self, unwritten: &[(Subject, Vec<Acknowledged>)]) {
        let mut gateways = self.gateways();
        for (gateway, _) in unwritten {
            gateways.entry(gateway.clone()).or_default().unwritten = true;
        }
    }

    /// A gateway watches until this is dropped.
    pub fn watching(self: &Arc<Self>, gateway: &Subject) -> Watching {
        self.gateways().entry(gateway.clone()).or_default().watches += 1;
        Watching { word: self.clone(), gateway: gateway.clone() }
    }

    fn gateways(&self) -> MutexGuard<'_, HashMap<Subject, Said>> {
        lock(&self.gateways)
    }
}

/// A watch that is open.
pub struct Watching {
    word: Arc<Word>,
    gateway: Subject,
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(said) = self.word.gateways().get_mut(&self.gateway) {
            said.watches = said.watches.saturating_sub(1);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Kind;

    fn issuer() -> IssuerId {
        "0123456789abcdef".parse().unwrap()
    }

    fn eu_7() -> Subject {
        Subject::new(Kind::Gateway, "eu-7".parse().unwrap())
    }

    fn said(number: u64, watermark: Option<u64>) -> Vec<SaidCrl> {
        vec![SaidCrl { crl: Acknowledged { issuer: issuer(), number, at: Timestamp::default() }, watermark }]
    }

    #[test]
    fn each_revocation_is_timed_once_a_gateway_that_had_not_loaded_it() {
        let word = Word::default();
        let heard = |number, watermark| word.heard(&eu_7(), Timestamp::default(), said(number, watermark)).len();
        word.cut_off(&[(issuer(), 3)], Instant::now());
        assert_eq!(heard(1, Some(3)), 0, "who comes with it may have had it long ago");
        word.cut_off(&[(issuer(), 4), (issuer(), 5)], Instant::now());
        assert_eq!(heard(2, None), 0, "not served any more: what it holds is not known here");
        assert_eq!(heard(3, Some(5)), 2);
        assert_eq!(heard(3, Some(5)), 0);
    }

    #[test]
    fn what_is_timed_stays_bounded_and_the_oldest_go() {
        let (word, began) = (Word::default(), Instant::now());
        for change in 0..5000 {
            word.cut_off(&[(issuer(), change)], began + Duration::from_millis(change));
        }
        let timed = lock(&word.timed);
        assert_eq!((timed.len(), timed.keys().next()), (MOST_TIMED, Some(&(issuer(), 5000 - MOST_TIMED as u64))));
    }

    #[test]
    fn the_newest_word_of_each_gateway_is_written_down_once() {
        let word = Word::default();
        for number in [7, 8, 5] {
            word.heard(&eu_7(), Timestamp::default(), said(number, None));
        }
        let unwritten = word.take_unwritten();
        let numbers: Vec<_> = unwritten.iter().flat_map(|(_, crls)| crls.iter().map(|crl| crl.number)).collect();
        assert_eq!(numbers, [5]);
        assert!(word.take_unwritten().is_empty());
        word.put_back(&unwritten);
        assert_eq!(word.take_unwritten(), unwritten);
    }
}
