//! A number of places, and who may have one: how overload is shared out, so that whoever takes much keeps nobody out.
//!
//! As long as there is room, everybody may have any number. Then a newcomer takes a place from whoever holds most, if
//! that is more than he would hold himself: so a flood from few addresses, or with few keys, displaces itself. Among
//! equals, whoever has had a place for long enough gives it up; where nobody has, the newcomer is refused, so that a
//! crowd of honest ones is served in turn instead of being thrown out half way.

mod source;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

pub use source::Source;

use crate::{identity::Subject, telemetry::Telemetry};

/// How places of one kind are shared out.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How many there are.
    pub limit: usize,
    /// How many one holder has at most, though there be room.
    pub each: usize,
    /// How long everybody may keep a place, unless he holds more than others: enough for a handshake, or for the answer
    /// to a challenge, over a slow line.
    pub turn: Duration,
}

/// Who holds places.
#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Nobody that we know, from there.
    Stranger(Source),
    /// The holder of a certificate that is in force.
    Holder(Subject),
}

/// Places of one kind. A clone is the same ones.
#[derive(Clone)]
pub struct Places {
    table: Arc<Mutex<Table>>,
    port: &'static str,
    kind: &'static str,
    telemetry: Arc<Telemetry>,
}

/// A place that is held: free again when this is dropped.
pub struct Place {
    table: Arc<Mutex<Table>>,
    who: Who,
    number: u64,
    /// Ends when the place is given to somebody else.
    lost: Option<oneshot::Receiver<()>>,
}

impl Places {
    /// By these rules. Port and kind are what the metrics call them.
    pub fn new(port: &'static str, kind: &'static str, rules: Rules, telemetry: Arc<Telemetry>) -> Self {
        Self { table: Arc::new(Mutex::new(Table::new(rules))), port, kind, telemetry }
    }

    /// A place, somebody else's if need be; `None` where it is nobody's turn to go.
    pub fn enter(&self, who: Who) -> Option<Place> {
        let entered = locked(&self.table).enter(&who, Instant::now());
        match entered {
            Some(Entered { displaced: true, .. }) => self.telemetry.overload(self.port, self.kind, "displaced"),
            None => self.telemetry.overload(self.port, self.kind, "refused"),
            Some(_) => {}
        }
        entered.map(|Entered { number, lost, .. }| Place { table: self.table.clone(), who, number, lost: Some(lost) })
    }
}

impl Place {
    /// Waits until the place is lost. It may be asked again.
    pub fn lost(&mut self) -> impl Future<Output = ()> + use<'_> {
        std::future::poll_fn(|cx| self.poll_lost(cx))
    }

    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(lost) = &mut self.lost {
            std::task::ready!(Pin::new(lost).poll(cx).map(drop));
            self.lost = None;
        }
        Poll::Ready(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        locked(&self.table).leave(&self.who, self.number);
    }
}

fn locked(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who holds what. Every step costs the logarithm of how much is held.
struct Table {
    rules: Rules,
    next: u64,
    held: usize,
    /// Each one's places, in the order in which they were taken.
    of: HashMap<Who, BTreeMap<u64, Taken>>,
    /// How many each one has and the number of the oldest: the last is who holds most, among equals for longest.
    order: BTreeSet<(usize, Reverse<u64>, Who)>,
}

struct Taken {
    since: Instant,
    /// Dropped with the place.
    _lost: oneshot::Sender<()>,
}

struct Entered {
    number: u64,
    lost: oneshot::Receiver<()>,
    displaced: bool,
}

impl Table {
    fn new(rules: Rules) -> Self {
        Self { rules, next: 0, held: 0, of: HashMap::new(), order: BTreeSet::new() }
    }

    fn enter(&mut self, who: &Who, now: Instant) -> Option<Entered> {
        let displaced = match self.must_go(who) {
            None => false,
            Some((victim, at_once)) => {
                let (&number, taken) = self.of.get(&victim)?.first_key_value()?;
                if !at_once && now.saturating_duration_since(taken.since) < self.rules.turn {
                    return None;
                }
                self.leave(&victim, number);
                true
            }
        };
        let (sender, lost) = oneshot::channel();
        let number = self.next;
        self.next += 1;
        self.held += 1;
        self.change(who, |places| {
            places.insert(number, Taken { since: now, _lost: sender });
        });
        Some(Entered { number, lost, displaced })
    }

    /// Whose oldest place a newcomer needs, and whether it is his at once; `None` where there is room.
    fn must_go(&self, who: &Who) -> Option<(Who, bool)> {
        let mine = self.of.get(who).map_or(0, BTreeMap::len);
        if mine >= self.rules.each {
            return Some((who.clone(), false));
        }
        let (most, _, heaviest) = self.order.last().filter(|_| self.held >= self.rules.limit)?;
        Some((heaviest.clone(), *most > mine + 1))
    }

    fn leave(&mut self, who: &Who, number: u64) {
        // It may have been given away before.
        if self.of.get(who).is_some_and(|places| places.contains_key(&number)) {
            self.held -= 1;
            self.change(who, |places| {
                places.remove(&number);
            });
        }
    }

    /// Changes somebody's places, and his rank with them.
    fn change(&mut self, who: &Who, change: impl FnOnce(&mut BTreeMap<u64, Taken>)) {
        let rank = |places: &BTreeMap<u64, Taken>| {
            places.first_key_value().map(|(&oldest, _)| (places.len(), Reverse(oldest), who.clone()))
        };
        let places = self.of.entry(who.clone()).or_default();
        if let Some(before) = rank(places) {
            self.order.remove(&before);
        }
        change(places);
        match rank(places) {
            Some(after) => {
                self.order.insert(after);
            }
            None => {
                self.of.remove(who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: Duration = Duration::from_secs(3);

    fn table(limit: usize, each: usize) -> Table {
        Table::new(Rules { limit, each, turn: TURN })
    }

    fn from(last: u8) -> Who {
        Who::Stranger(Source::of(std::net::Ipv4Addr::new(192, 0, 2, last).into()))
    }

    /// Has `count` places taken at `now`.
    fn fill(table: &mut Table, who: &Who, count: usize, now: Instant) -> Vec<Entered> {
        (0..count).map(|_| table.enter(who, now).expect("a place")).collect()
    }

    fn is_lost(entered: &mut Entered) -> bool {
        entered.lost.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn who_is_alone_may_have_everything() {
        let (mut table, now) = (table(10, usize::MAX), Instant::now());
        assert!(fill(&mut table, &from(1), 10, now).iter().all(|entered| !entered.displaced));
        assert!(table.enter(&from(1), now).is_none(), "his own have not had their turn");
    }

    #[test]
    fn a_newcomer_takes_the_oldest_place_of_who_holds_most() {
        let (mut table, now) = (table(10, usize::MAX), Instant::now());
        let mut flood = fill(&mut table, &from(1), 8, now);
        let mut honest = fill(&mut table, &from(2), 2, now);
        let entered = table.enter(&from(3), now).expect("a place at once");
        assert!(entered.displaced);
        assert!(is_lost(&mut flood[0]) && !is_lost(&mut flood[1]));
        assert!(honest.iter_mut().all(|entered| !is_lost(entered)));
    }

    #[test]
    fn a_flood_displaces_itself_only() {
        let (mut table, now) = (table(100, usize::MAX), Instant::now());
        let mut honest = fill(&mut table, &from(2), 3, now);
        fill(&mut table, &from(1), 97, now);
        for second in 1..50 {
            for _ in 0..1000 {
                table.enter(&from(1), now + Duration::from_secs(second));
            }
        }
        assert!(honest.iter_mut().all(|entered| !is_lost(entered)));
        assert_eq!(table.held, 100);
    }

    #[test]
    fn among_equals_who_has_had_a_turn_goes_and_before_that_the_newcomer_is_refused() {
        let (mut table, now) = (table(4, usize::MAX), Instant::now());
        let mut crowd: Vec<_> = (1..=4).map(|n| table.enter(&from(n), now).expect("a place")).collect();
        assert!(table.enter(&from(5), now + TURN - Duration::from_millis(1)).is_none());
        assert!(crowd.iter_mut().all(|entered| !is_lost(entered)));
        assert!(table.enter(&from(5), now + TURN).is_some());
        assert!(is_lost(&mut crowd[0]) && !is_lost(&mut crowd[1]));
    }

    #[test]
    fn a_flood_from_many_networks_of_one_customer_displaces_itself_only() {
        let (mut table, now) = (table(1024, usize::MAX), Instant::now());
        for network in 0..1024 {
            let address = std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, network, 0, 0, 0, 1);
            table.enter(&Who::Stranger(Source::of(address.into())), now).expect("a place");
        }
        assert!(table.enter(&from(1), now).is_some_and(|entered| entered.displaced), "at once");
    }

    #[test]
    fn nobody_has_more_than_his_share_though_there_is_room() {
        let (mut table, now) = (table(100, 2), Instant::now());
        let mut mine = fill(&mut table, &from(1), 2, now);
        assert!(table.enter(&from(1), now).is_none());
        assert!(table.enter(&from(1), now + TURN).is_some_and(|entered| entered.displaced));
        assert!(is_lost(&mut mine[0]));
        assert_eq!(table.held, 2);
    }

    #[test]
    fn what_is_left_is_free_again_once() {
        let (mut table, now) = (table(1, usize::MAX), Instant::now());
        let first = table.enter(&from(1), now).expect("a place").number;
        table.leave(&from(1), first);
        table.leave(&from(1), first);
        assert_eq!((table.held, table.of.len(), table.order.len()), (0, 0, 0));
        assert!(table.enter(&from(2), now).is_some_and(|entered| !entered.displaced));
    }

    #[tokio::test]
    async fn a_place_that_is_lost_says_so_and_one_that_is_dropped_is_free() {
        let places = Places::new("test", "places", Rules { limit: 2, each: 2, turn: TURN }, Arc::default());
        let mut first = places.enter(from(1)).expect("a place");
        let second = places.enter(from(1)).expect("a place");
        let _newcomer = places.enter(from(2)).expect("the first one's");
        first.lost().await;
        first.lost().await;
        drop(second);
        assert!(places.enter(from(3)).is_some());
    }
}
