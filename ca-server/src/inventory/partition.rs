//! Which issuing CA signs for a device. A partition is an issuing CA: its own key, its own complete CRL, its own end.
//!
//! A CA and those that take over from it, one after another, are one *line*: a device stays in its line when the CA in it
//! changes. Devices are spread over lines by rendezvous hashing, so that a line that comes or goes moves its own share of
//! them and nobody else.

use serde::{Deserialize, Serialize};

use crate::identity::{DeviceId, IssuerId, KeyFingerprint};

/// Where an issuing CA stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It signs, once gateways have had time to take its CRL.
    Active,
    /// It signs no certificate any more, and its CRL until its last certificate has expired.
    Retired,
    /// It signs nothing: the root's CRL says that it has ceased.
    Ended,
    /// It signs nothing: the root's CRL says that its key is not its own any more.
    Revoked,
}

impl Standing {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Active, Self::Retired, Self::Ended, Self::Revoked];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Standing::Active => "active",
            Standing::Retired => "retired",
            Standing::Ended => "ended",
            Standing::Revoked => "revoked",
        }
    }

    /// The same, but that it signs no certificate any more.
    pub const fn without_signing(self) -> Self {
        match self {
            Standing::Active => Standing::Retired,
            other => other,
        }
    }

    /// Whether it publishes a CRL, which belongs into bundles.
    pub const fn publishes(self) -> bool {
        matches!(self, Standing::Active | Standing::Retired)
    }
}

/// An issuing CA of devices, as far as the choice is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Which.
    pub id: IssuerId,
    /// Where it stands.
    pub standing: Standing,
    /// The one that it takes over from.
    pub replaces: Option<IssuerId>,
    /// Gateways have had time to take its CRL, or have said that they have it.
    pub ready: bool,
    /// They have said so: whatever bundle each of them takes.
    pub loaded: bool,
}

/// How many issuing CAs a fleet can name.
pub const MOST_NAMED: usize = 64;

/// Which issuing CAs a fleet's devices are spread over. Kept as JSON in the store, within the fleet's policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spread {
    /// Those that were named; each stands for its line. None: all that are active.
    pub named: Vec<IssuerId>,
    /// Since when, in Unix milliseconds: from then on they are in the fleet's bundle.
    pub since_millis: i64,
    /// Those that might sign for the fleet just before: they go on until gateways have had time to take what is new.
    pub before: Vec<IssuerId>,
}

/// The choice for one fleet.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// Every issuing CA of devices.
    pub all: &'a [Partition],
    /// The fleet's.
    pub spread: &'a Spread,
    /// Gateways have had time to take the fleet's bundle since its issuing CAs were named.
    pub settled: bool,
}

impl<'a> Choice<'a> {
    /// Who may sign for this device now, best first.
    pub fn signers(&self, device: &DeviceId) -> Vec<IssuerId> {
        let mut signers: Vec<_> = self.lines().filter_map(|line| Some((line.first, line.signer?))).collect();
        if signers.is_empty() && !self.settled {
            signers.extend(self.stand_ins().map(|id| (id, id)));
        }
        signers.sort_by_key(|(line, _)| std::cmp::Reverse(weight(*line, device)));
        signers.into_iter().map(|(_, signer)| signer).collect()
    }

    /// Who may sign now for some device or other.
    pub fn all_signers(&self) -> Vec<IssuerId> {
        let mut signers: Vec<_> = self.lines().filter_map(|line| line.signer).collect();
        if signers.is_empty() && !self.settled {
            signers.extend(self.stand_ins());
        }
        signers
    }

    /// Those whose CRLs belong into the fleet's bundle, whoever has certificates already: who may sign, and who is about to.
    pub fn members(&self) -> Vec<IssuerId> {
        let mut members: Vec<_> = self.lines().flat_map(|line| line.walked).collect();
        if !self.settled {
            members.extend(self.stand_ins());
        }
        members.sort();
        members.dedup();
        members
    }

    /// Those in its bundle that no line of the fleet's needs.
    pub fn leaving(&self) -> Vec<IssuerId> {
        let walked: Vec<_> = self.lines().flat_map(|line| line.walked).collect();
        self.members().into_iter().filter(|id| !walked.contains(id)).collect()
    }

    /// Those that signed for the fleet before, and can.
    fn stand_ins(&self) -> impl Iterator<Item = IssuerId> + use<'a> {
        let spread = self.spread;
        let stands = move |one: &&Partition| spread.before.contains(&one.id) && one.standing.publishes();
        self.all.iter().filter(stands).map(|one| one.id)
    }

    fn lines(&self) -> impl Iterator<Item = Line> + use<'a> {
        let choice = *self;
        let newest = |one: &&Partition| !choice.all.iter().any(|other| other.replaces == Some(one.id));
        choice.all.iter().filter(newest).filter_map(move |newest| choice.line(newest))
    }

    /// From the newest of a line back to the one that signs; `None` where the fleet does not want the line.
    fn line(&self, newest: &Partition) -> Option<Line> {
        let before = |one: &Partition| self.all.iter().find(|other| Some(other.id) == one.replaces);
        // No longer than all there are, whatever the rows say.
        let chain: Vec<&Partition> =
            std::iter::successors(self.all.iter().find(|one| one.id == newest.id), |one| before(one))
                .take(self.all.len())
                .collect();
        let named = &self.spread.named;
        if !named.is_empty() && !chain.iter().any(|one| named.contains(&one.id)) {
            return None;
        }
        let mut line = Line { first: chain.last()?.id, signer: None, walked: Vec::new() };
        if newest.standing != Standing::Active {
            return Some(line);
        }
        for one in chain.into_iter().take_while(|one| one.standing.publishes()) {
            line.walked.push(one.id);
            if self.may_sign(one) {
                line.signer = Some(one.id);
                break;
            }
        }
        Some(line)
    }

    /// That it stands in its line as it does is known already.
    fn may_sign(&self, one: &Partition) -> bool {
        one.ready && (self.settled || one.loaded || self.spread.before.contains(&one.id))
    }
}

/// A line that a fleet wants.
struct Line {
    /// The one that it began with: what devices are spread by.
    first: IssuerId,
    signer: Option<IssuerId>,
    /// From the newest back to the one that signs.
    walked: Vec<IssuerId>,
}

/// How much a device belongs to a line: it is in the one where this is greatest.
fn weight(line: IssuerId, device: &DeviceId) -> KeyFingerprint {
    KeyFingerprint::of(format!("{line}/{device}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> IssuerId {
        format!("{n:016x}").parse().unwrap()
    }

    fn active(n: u8) -> Partition {
        Partition { id: id(n), standing: Standing::Active, replaces: None, ready: true, loaded: false }
    }

    fn device(n: usize) -> DeviceId {
        format!("pump-{n}").parse().unwrap()
    }

    fn settled<'a>(all: &'a [Partition], spread: &'a Spread) -> Choice<'a> {
        Choice { all, spread, settled: true }
    }

    fn first(choice: Choice<'_>, n: usize) -> Option<IssuerId> {
        choice.signers(&device(n)).first().copied()
    }

    fn named(ids: &[u8]) -> Spread {
        Spread { named: ids.iter().map(|n| id(*n)).collect(), ..Spread::default() }
    }

    #[test]
    fn devices_are_spread_evenly_and_a_new_issuer_moves_its_own_share_only() {
        let (two, three) = ([active(1), active(2)], [active(1), active(2), active(3)]);
        let all = Spread::default();
        let (mut at_first, mut moved) = (0, 0);
        for n in 0..3000 {
            let (was, is) = (first(settled(&two, &all), n).unwrap(), first(settled(&three, &all), n).unwrap());
            at_first += usize::from(was == id(1));
            assert!(is == was || is == id(3), "nobody moves between those that were there");
            moved += usize::from(is != was);
        }
        assert!((1350..1650).contains(&at_first), "{at_first}");
        assert!((850..1150).contains(&moved), "{moved}");
    }

    #[test]
    fn a_new_issuer_that_gateways_have_had_no_time_for_signs_nothing_and_is_in_the_bundle() {
        let all = [active(1), Partition { ready: false, ..active(2) }];
        let spread = Spread::default();
        let choice = settled(&all, &spread);
        assert!((0..100).all(|n| choice.signers(&device(n)) == [id(1)]));
        assert_eq!(choice.members(), [id(1), id(2)]);
        let alone = named(&[2]);
        assert_eq!(settled(&all, &alone).signers(&device(1)), []);
    }

    #[test]
    fn a_successor_takes_the_devices_of_its_line_and_nobody_elses_once_it_is_ready() {
        let spread = Spread::default();
        let retired = Partition { standing: Standing::Retired, ..active(1) };
        let successor = Partition { replaces: Some(id(1)), ..active(3) };
        let before = [active(1), active(2)];
        let waiting = [retired, active(2), Partition { ready: false, ..successor }];
        let after = [retired, active(2), successor];
        for n in 0..300 {
            let was = first(settled(&before, &spread), n).unwrap();
            assert_eq!(first(settled(&waiting, &spread), n), Some(was));
            let is = first(settled(&after, &spread), n).unwrap();
            assert_eq!(is, if was == id(1) { id(3) } else { was });
        }
        assert_eq!(settled(&waiting, &spread).members(), [id(1), id(2), id(3)]);
        assert_eq!(settled(&after, &spread).members(), [id(2), id(3)]);
        // Who was named stands for its line.
        assert_eq!(first(settled(&after, &named(&[1])), 7), Some(id(3)));
    }

    #[test]
    fn who_is_retired_ended_or_revoked_signs_nothing_unless_it_stands_in_for_its_successor() {
        let spread = Spread::default();
        for standing in [Standing::Retired, Standing::Ended, Standing::Revoked] {
            let all = [Partition { standing, ..active(1) }];
            let choice = settled(&all, &spread);
            assert!(choice.signers(&device(1)).is_empty() && choice.members().is_empty());
            let successor = Partition { replaces: Some(id(1)), ready: false, ..active(2) };
            let stands_in = standing == Standing::Retired;
            let all = [all[0], successor];
            assert_eq!(settled(&all, &spread).signers(&device(1)).is_empty(), !stands_in);
        }
    }

    #[test]
    fn what_a_fleet_names_anew_waits_until_its_gateways_have_had_time_and_those_before_go_on() {
        let all = [active(1), active(2), Partition { loaded: true, ..active(3) }];
        let spread = Spread { before: vec![id(1)], ..named(&[2]) };
        let choice = Choice { all: &all, spread: &spread, settled: false };
        assert_eq!((choice.signers(&device(1)), choice.members()), (vec![id(1)], vec![id(1), id(2)]));
        assert_eq!((choice.leaving(), settled(&all, &spread).leaving()), (vec![id(1)], vec![]));
        assert_eq!(settled(&all, &spread).signers(&device(1)), [id(2)]);
        assert_eq!(settled(&all, &spread).members(), [id(2)]);
        // Where every gateway has it there is nothing to wait for.
        let spread = Spread { before: vec![id(1)], ..named(&[3]) };
        let choice = Choice { all: &all, spread: &spread, settled: false };
        assert_eq!((choice.signers(&device(1)), choice.leaving()), (vec![id(3)], vec![id(1)]));
    }

    #[test]
    fn rows_that_go_round_in_circles_end() {
        let all = [
            Partition { replaces: Some(id(2)), ..active(1) },
            Partition { replaces: Some(id(1)), ..active(2) },
            Partition { replaces: Some(id(9)), ..active(3) },
        ];
        assert_eq!(settled(&all, &Spread::default()).signers(&device(1)), [id(3)]);
    }
}
