//! The table driven: a CA's memory, an honest device that follows the client's algorithm, a network that loses, delays
//! and repeats, and a thief with a copy of the device's folder.
//!
//! The CA may be restored from a backup once: what it made and decided since is lost, and with it the connections.
//!
//! Requests once sent stay in the network for ever, and each may reach the CA at any time and any number of times:
//! that is every loss, delay and duplicate. A device that gives up waiting and one that is killed and started again
//! are the same: both go on from what is on disk.

mod ca;

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashSet},
};

use proptest::{
    collection::vec,
    prelude::any,
    sample::Index,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use self::ca::{Ca, Certificate, Key, Message, Past, Reply, Serial, Table, number};
use super::*;

/// The client. The first three fields are on disk; the last two are lost when it is killed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Device {
    current: Serial,
    confirm: bool,
    /// Made for a renewal of `current`.
    next: Option<Key>,
    asked: Option<Message>,
    reply: Option<Reply>,
}

/// One step that somebody takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    /// The device makes its next key durable.
    MakeKey,
    /// It asks for what is outstanding.
    Ask,
    /// A request reaches the CA, whose reply is kept for the device if it still waits for it, or is lost.
    Deliver { message: Message, lose_reply: bool },
    /// The device acts on the reply: swaps, or notes that it is confirmed.
    TakeReply,
    /// The device is killed, or gives up waiting.
    Crash,
    /// The CA is backed up.
    BackUp,
    /// It is restored: whoever waits for an answer waits in vain, and no request of before arrives any more.
    Restore,
    /// Somebody copies the device's folder.
    Steal,
    /// The thief asks; it makes a key first where the request names one that does not exist.
    Thief(Message),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    ca: Ca,
    device: Device,
    network: BTreeSet<Message>,
    keys: Key,
    /// Keys that the thief has, since the theft. What has been certified is public.
    thief: Option<BTreeSet<Key>>,
    /// How many keys there were at the theft.
    stolen_at: Key,
}

impl World {
    /// A device right after its enrollment.
    fn new() -> Self {
        let first = Certificate { key: 0, presented: None, was_head: true, forgotten: false };
        let lineage = Lineage::begun_by(number(0));
        Self {
            ca: Ca { status: Status::Active, lineage, certificates: vec![first], past: Past::Whole },
            device: Device { current: 0, confirm: false, next: None, asked: None, reply: None },
            network: BTreeSet::new(),
            keys: 1,
            thief: None,
            stolen_at: 0,
        }
    }

    /// What the device can do, with so many keys at most, and what it waits for.
    fn devices_moves(&self, most_keys: Key) -> Vec<Move> {
        let device = &self.device;
        match (device.asked, device.reply) {
            (None, _) if device.confirm || device.next.is_some() => vec![Move::Ask],
            (None, _) if self.keys < most_keys => vec![Move::MakeKey],
            (None, _) => vec![],
            (Some(_), Some(_)) => vec![Move::TakeReply, Move::Crash],
            (Some(message), None) => vec![Move::Deliver { message, lose_reply: false }, Move::Crash],
        }
    }

    /// What the network can do beside that: nobody hears of it.
    fn networks_moves(&self) -> Vec<Move> {
        self.network.iter().map(|&message| Move::Deliver { message, lose_reply: true }).collect()
    }

    /// What the CA's keepers can do: a backup once, and then a restoration.
    fn keepers_moves(&self) -> Vec<Move> {
        match self.ca.past {
            Past::Whole => vec![Move::BackUp],
            Past::BackedUp { .. } => vec![Move::Restore],
            Past::Restored { .. } => vec![],
        }
    }

    /// What a thief can do: steal once, then confirm or renew with every certificate whose key he has.
    fn thiefs_moves(&self, most_keys: Key) -> Vec<Move> {
        let Some(keys) = &self.thief else { return vec![Move::Steal] };
        let fresh = (self.keys < most_keys).then_some(self.keys);
        let certified = self.ca.certificates.iter().enumerate();
        let his = certified.filter(|(_, certificate)| keys.contains(&certificate.key));
        his.flat_map(|(serial, _)| {
            let renewals = keys.iter().copied().chain(fresh).map(move |key| Message::Renew(serial, key));
            renewals.chain([Message::Confirm(serial)]).map(Move::Thief)
        })
        .collect()
    }

    fn make(&mut self, step: Move, table: Table) {
        let device = &mut self.device;
        match step {
            Move::MakeKey => {
                device.next = Some(self.keys);
                self.keys += 1;
            }
            Move::Ask => {
                let message = match device.next {
                    Some(key) if !device.confirm => Message::Renew(device.current, key),
                    _ => Message::Confirm(device.current),
                };
                self.network.insert(message);
                device.asked = Some(message);
            }
            Move::Deliver { message, lose_reply } => {
                let reply = self.ca.answer(message, table);
                device.reply = device.reply.or((!lose_reply).then_some(reply));
            }
            Move::TakeReply => {
                device.asked = None;
                match device.reply.take() {
                    Some(Reply::Issued { serial, confirm }) => {
                        (device.current, device.confirm, device.next) = (serial, confirm, None);
                    }
                    Some(Reply::Confirmed) => device.confirm = false,
                    Some(Reply::Refused(_)) | None => {}
                }
            }
            Move::Crash => (device.asked, device.reply) = (None, None),
            Move::BackUp => self.ca.back_up(),
            Move::Restore => {
                self.ca.restore();
                self.network.clear();
                if device.reply.is_none() {
                    device.asked = None;
                }
            }
            Move::Steal => {
                let current = self.ca.certificates[device.current].key;
                self.thief = Some(device.next.into_iter().chain([current]).collect());
                self.stolen_at = self.keys;
            }
            Move::Thief(message) => {
                if let (Message::Renew(_, key), Some(keys)) = (message, &mut self.thief) {
                    self.keys = self.keys.max(key + 1);
                    keys.insert(key);
                }
                self.ca.answer(message, table);
            }
        }
    }

    /// The device alone, with a network that works, until it has a certificate in force whose key was made after now.
    /// `false`: it was refused.
    fn renews_undisturbed(&mut self) -> bool {
        let fresh = self.keys;
        self.make(Move::Crash, decide);
        loop {
            let device = &self.device;
            if !device.confirm && self.ca.certificates[device.current].key >= fresh {
                return true;
            }
            if !device.confirm && device.next.is_none() {
                self.make(Move::MakeKey, decide);
            }
            self.make(Move::Ask, decide);
            let Some(message) = self.device.asked else { return false };
            self.make(Move::Deliver { message, lose_reply: false }, decide);
            if matches!(self.device.reply, Some(Reply::Refused(_))) {
                return false;
            }
            self.make(Move::TakeReply, decide);
        }
    }

    fn is_held(&self) -> bool {
        self.ca.status != Status::Active
    }

    /// Whether a certificate is accepted whose key only this side has, made after the theft.
    fn lives_apart(&self, thief: bool) -> bool {
        self.certified_apart(thief).any(|serial| self.ca.accepts(serial))
    }

    fn certified_apart(&self, thief: bool) -> impl Iterator<Item = Serial> {
        let of_thief = |key: Key| self.thief.as_ref().is_some_and(|keys| keys.contains(&key));
        let keys = self.ca.certificates.iter().map(|certificate| certificate.key).enumerate();
        keys.filter(move |(_, key)| *key >= self.stolen_at && of_thief(*key) == thief).map(|(serial, _)| serial)
    }
}

/// How many renewals the walk goes.
const RENEWALS: Key = 6;

/// How many renewals it goes where the CA may be restored on the way.
const RENEWALS_AROUND_A_RESTORATION: Key = 4;

/// Every state of an honest device that makes so many renewals at most, whatever the network does.
fn walk(table: Table) -> HashSet<World> {
    walk_with(table, RENEWALS, |_| vec![])
}

/// The same, whenever the CA is backed up and restored.
fn walk_through_a_restoration(table: Table) -> HashSet<World> {
    walk_with(table, RENEWALS_AROUND_A_RESTORATION, World::keepers_moves)
}

fn walk_with(table: Table, renewals: Key, others: fn(&World) -> Vec<Move>) -> HashSet<World> {
    let mut seen = HashSet::from([World::new()]);
    let mut open = vec![World::new()];
    while let Some(world) = open.pop() {
        for step in [world.devices_moves(1 + renewals), world.networks_moves(), others(&world)].concat() {
            let mut next = world.clone();
            next.make(step, table);
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    seen
}

#[test]
fn an_honest_device_is_held_nowhere_and_can_renew_from_everywhere() {
    let states = walk(decide);
    for world in &states {
        assert!(!world.is_held(), "{world:#?}");
        assert!(!matches!(world.device.reply, Some(Reply::Refused(_))), "{world:#?}");
        assert!(world.clone().renews_undisturbed(), "{world:#?}");
    }
    let last = states.iter().map(|world| world.ca.lineage.generation).max();
    assert_eq!(last, Some(1 + u64::from(RENEWALS)), "{} states", states.len());
}

#[test]
fn an_honest_device_goes_on_after_a_restoration_whatever_was_lost() {
    let states = walk_through_a_restoration(decide);
    for world in &states {
        assert!(!world.is_held(), "{world:#?}");
        assert!(!matches!(world.device.reply, Some(Reply::Refused(_))), "{world:#?}");
        assert!(world.clone().renews_undisturbed(), "{world:#?}");
    }
    let adopted = |world: &&World| matches!(world.ca.past, Past::Restored { adopted: true, .. });
    assert!(states.iter().filter(adopted).count() > 100, "{} states", states.len());
}

#[test]
fn without_adoption_honest_devices_would_be_stranded_by_a_restoration() {
    let without = |facts: Facts| decide(Facts { lost: None, ..facts });
    assert!(
        walk_through_a_restoration(without)
            .iter()
            .any(|world| { matches!(world.device.reply, Some(Reply::Refused(Decision::Unknown))) })
    );
}

#[test]
fn without_the_row_for_a_late_confirm_honest_devices_would_be_held() {
    let without = |facts: Facts| match decide(facts) {
        Decision::Done { late: true } => Decision::Fork { hold: true },
        decision => decision,
    };
    assert!(walk(without).iter().any(World::is_held));
}

#[test]
fn without_the_same_answer_again_honest_devices_would_be_held() {
    let without = |facts: Facts| match facts.request {
        Request::Renew { .. } => decide(Facts { request: Request::Renew { answered: false }, ..facts }),
        Request::Confirm => decide(facts),
    };
    assert!(walk(without).iter().any(World::is_held));
}

/// What came of the lives.
#[derive(Clone, Copy, Debug, Default)]
struct Outcomes {
    held: usize,
    locked_out: usize,
    one_alone: usize,
}

/// One life of an honest device and a thief: whose turn it is, and which of its steps it takes.
fn live(turns: &[(u8, Index)], outcomes: &mut Outcomes) {
    let mut world = World::new();
    for (turn, step) in turns {
        let moves = match turn {
            0..3 => world.thiefs_moves(12),
            3..6 => world.networks_moves(),
            20.. => world.keepers_moves(),
            _ => world.devices_moves(12),
        };
        if !moves.is_empty() {
            world.make(*step.get(&moves), decide);
        }
        assert!(!(world.lives_apart(true) && world.lives_apart(false)), "two lineages side by side: {world:#?}");
    }
    let thiefs: Vec<Serial> = world.certified_apart(true).collect();
    if thiefs.is_empty() || world.certified_apart(false).next().is_none() {
        outcomes.one_alone += 1;
        return;
    }
    // Both have renewed. The device goes on in peace: it comes through and the thief has nothing, or both are stopped.
    if !world.renews_undisturbed() {
        assert!(world.is_held(), "{world:#?}");
        outcomes.held += 1;
        return;
    }
    assert!(!world.is_held() && !world.lives_apart(true), "{world:#?}");
    outcomes.locked_out += 1;
    for serial in thiefs {
        let (mut world, fresh) = (world.clone(), world.keys);
        world.make(Move::Thief(Message::Renew(serial, fresh)), decide);
        assert!(world.is_held(), "the thief comes back and is not found: {world:#?}");
    }
}

#[test]
fn when_thief_and_device_have_both_renewed_one_is_locked_out_or_both_are_held() {
    live_many(20);
}

#[test]
fn a_restoration_gives_a_thief_no_life_beside_the_device() {
    live_many(22);
}

/// Many lives, with so many sides taking turns.
fn live_many(sides: u8) {
    let outcomes = RefCell::new(Outcomes::default());
    let config = Config { cases: 5000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let lives = vec((0..sides, any::<Index>()), 1..80);
    let run = runner.run(&lives, |turns| {
        live(&turns, &mut outcomes.borrow_mut());
        Ok(())
    });
    run.unwrap();
    let outcomes = outcomes.into_inner();
    assert!(outcomes.held > 50 && outcomes.locked_out > 50, "{outcomes:?}");
}
