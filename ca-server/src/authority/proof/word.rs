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

/// What a gateway says of the CRLs that it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// They are in its file, and its program has not taken them in.
    InFile,
    /// Its program has taken in these, and has no others.
    Loaded,
    /// And these too, beside those of the call before.
    LoadedToo,
}

/// What gateways have said since the server started, and which of them watch.
#[derive(Default)]
pub struct Word {
    gateways: Mutex<HashMap<Subject, Said>>,
    timed: Mutex<BTreeMap<(IssuerId, u64), Instant>>,
    told: watch::Sender<()>,
    /// Held while somebody looks at what all of them have loaded, or changes which CRLs they take.
    pub looks: tokio::sync::Mutex<()>,
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
    /// What it has loaded, by issuer: all of it. None, where it has not said so yet.
    pub loaded: Option<BTreeMap<IssuerId, Acknowledged>>,
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
    /// A gateway has acknowledged these. Says how long ago each revocation was that it has loaded now and had not before.
    pub fn heard(&self, gateway: &Subject, at: Timestamp, shown: Shown, crls: Vec<SaidCrl>) -> Vec<Duration> {
        let (mut new, now) = (Vec::new(), Instant::now());
        let mut gateways = self.gateways();
        let said = gateways.entry(gateway.clone()).or_default();
        said.heard_at = Some(at);
        if shown != Shown::InFile {
            let before = said.loaded.take().filter(|_| shown == Shown::LoadedToo);
            let loaded = said.loaded.insert(before.unwrap_or_default());
            said.unwritten = true;
            for SaidCrl { crl, watermark } in crls {
                if let Some(watermark) = watermark
                    && let Some(before) = said.watermarks.insert(crl.issuer, watermark)
                    && before < watermark
                {
                    let range = (crl.issuer, before + 1)..=(crl.issuer, watermark);
                    new.extend(lock(&self.timed).range(range).map(|(_, cut)| now.duration_since(*cut)));
                }
                loaded.insert(crl.issuer, crl);
            }
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
        let loaded = gateways.get(gateway).and_then(|said| said.loaded.as_ref());
        let has = |issuer, number| loaded.and_then(|loaded| loaded.get(issuer)).is_some_and(|crl| crl.number >= number);
        crls.iter().all(|(issuer, number)| has(issuer, *number))
    }

    /// Tells of everything that is heard.
    pub fn listen(&self) -> watch::Receiver<()> {
        self.told.subscribe()
    }

    /// What was said and is not written down; it is from here on.
    pub fn take_unwritten(&self) -> Vec<(Subject, Vec<Acknowledged>)> {
        let mut gateways = self.gateways();
        let unwritten = gateways.iter_mut().filter_map(|(gateway, said)| {
            let loaded = || (gateway.clone(), said.loaded.iter().flat_map(BTreeMap::values).copied().collect());
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
        let heard =
            |number, watermark| word.heard(&eu_7(), Timestamp::default(), Shown::Loaded, said(number, watermark)).len();
        word.cut_off(&[(issuer(), 3)], Instant::now());
        assert_eq!(heard(1, Some(3)), 0, "who comes with it may have had it long ago");
        word.cut_off(&[(issuer(), 4), (issuer(), 5)], Instant::now());
        assert_eq!(heard(2, None), 0, "not served any more: what it holds is not known here");
        assert_eq!(heard(3, Some(5)), 2);
        assert_eq!(heard(3, Some(5)), 0);
    }

    #[test]
    fn what_a_gateway_does_not_name_any_more_is_loaded_no_more() {
        let other: IssuerId = "0000000000000002".parse().unwrap();
        let word = Word::default();
        let heard = |shown, issuers: &[IssuerId]| {
            let crl = |issuer: &IssuerId| SaidCrl {
                crl: Acknowledged { issuer: *issuer, ..said(7, None)[0].crl },
                watermark: None,
            };
            word.heard(&eu_7(), Timestamp::default(), shown, issuers.iter().map(crl).collect());
            [issuer(), other].map(|issuer| word.has(&eu_7(), &[(issuer, 7)]))
        };
        assert_eq!(heard(Shown::Loaded, &[issuer()]), [true, false]);
        assert_eq!(heard(Shown::LoadedToo, &[other]), [true, true], "more than one call can name");
        assert_eq!(heard(Shown::InFile, &[]), [true, true], "its program has what it had");
        assert_eq!(heard(Shown::Loaded, &[other]), [false, true], "its disk was restored");
        let written: Vec<_> = word.take_unwritten().into_iter().flat_map(|(_, crls)| crls).collect();
        assert_eq!(written.iter().map(|crl| crl.issuer).collect::<Vec<_>>(), [other]);
        assert_eq!(heard(Shown::Loaded, &[]), [false, false]);
        assert_eq!(word.take_unwritten(), [(eu_7(), Vec::new())], "that it has none is written down");
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
            word.heard(&eu_7(), Timestamp::default(), Shown::Loaded, said(number, None));
        }
        let unwritten = word.take_unwritten();
        let numbers: Vec<_> = unwritten.iter().flat_map(|(_, crls)| crls.iter().map(|crl| crl.number)).collect();
        assert_eq!(numbers, [5]);
        assert!(word.take_unwritten().is_empty());
        word.put_back(&unwritten);
        assert_eq!(word.take_unwritten(), unwritten);
    }
}
