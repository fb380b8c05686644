//! Lineage: may this certificate renew, and is it the only one of its kind?
//!
//! A device has one *head* certificate and at most one *pending* one. Each renewal presents the head and makes a new
//! pending certificate; `Confirm`, over a connection that presents it, makes it the head. Whoever copied an older key
//! comes with a certificate that is no longer the head: two holders of one identity. [`decide`] is the whole table, in
//! the order of `docs/renewal.md`; it decides and changes nothing; the methods of [`Lineage`] carry
//! a decision out.

#[cfg(test)]
mod model;
mod recover;

use super::{device::Status, fleet::OnFork};
use crate::identity::SerialNumber;

pub use recover::{Recovery, recover};

/// How often the pending certificate of one head may be replaced by one for another key.
pub const MAX_REPLACEMENTS: u8 = 2;

/// Which certificates of a device count.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Lineage {
    /// The certificate in force.
    pub head: Option<SerialNumber>,
    /// The one that waits for Confirm.
    pub pending: Option<SerialNumber>,
    /// How many certificates have been the head.
    pub generation: u64,
    /// How often this head's pending certificate was replaced.
    pub replacements: u8,
}

/// What a certificate is to its device's lineage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Position {
    /// In force.
    Head,
    /// Waits for Confirm.
    Pending,
    /// Was the head once.
    Former,
    /// Was pending, and another took its place.
    Superseded,
}

impl Position {
    /// Its word in lists.
    pub const fn as_str(self) -> &'static str {
        match self {
            Position::Head => "head",
            Position::Pending => "pending",
            Position::Former => "former",
            Position::Superseded => "superseded",
        }
    }

    /// Whether a device that is given such a certificate again has to confirm it. One that was superseded before the
    /// device ever had it, too: that is how the device, and the CA, learn of it at once.
    pub const fn is_unconfirmed(self) -> bool {
        matches!(self, Position::Pending | Position::Superseded)
    }
}

/// What the caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// A new certificate.
    Renew {
        /// The certificate presented has been answered before with a certificate for this same CSR key.
        answered: bool,
    },
    /// The certificate presented put in force.
    Confirm,
}

/// What the store knows of the holder of a certificate that it has forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lost {
    /// Another certificate of this holder was taken in out of the same lost time.
    pub adopted: bool,
    /// The holder has been given a certificate since the lost time.
    pub renewed_since: bool,
}

/// All that the decision rests on, as the store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Facts {
    /// The device's state.
    pub status: Status,
    /// Its fleet's choice.
    pub on_fork: OnFork,
    /// What the certificate presented is; `None`: not in the store.
    pub presented: Option<Position>,
    /// It is not in the store, but the CA made it within a lost time out of which certificates are taken in.
    pub lost: Option<Lost>,
    /// It was taken from its holder by an operator's release, and its device was not. That a pending certificate was
    /// replaced is no such revocation: it is what [`Position::Superseded`] says.
    pub revoked: bool,
    /// It is past its notAfter.
    pub expired: bool,
    /// What is asked.
    pub request: Request,
    /// Another certificate of the device waits for Confirm.
    pub has_pending: bool,
    /// [`Lineage::replacements`].
    pub replacements: u8,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Give the same certificate again.
    Again,
    /// Make a new pending certificate.
    Issue {
        /// The certificate presented was pending and becomes the head first.
        promote: bool,
        /// The certificate that was pending is superseded and revoked; `lineage.second_key` is raised.
        supersede: bool,
    },
    /// The certificate presented becomes the head.
    Promote,
    /// The certificate presented, which the store has forgotten, becomes the head; then what is asked is decided anew.
    Adopt,
    /// It is, or was, the head already.
    Done {
        /// It no longer is: a late duplicate looks so. `lineage.late_confirm` is raised.
        late: bool,
    },
    /// Two holders of one identity: refused. `lineage.fork` is raised.
    Fork {
        /// And the device goes on hold.
        hold: bool,
    },
    /// The pending certificate of one head was replaced too often: as a fork.
    Exhausted {
        /// And the device goes on hold.
        hold: bool,
    },
    /// Refused: prove yourself again. Never a hold: an old flash image must not stop a live device.
    Expired,
    /// Refused: this certificate alone was revoked. Never a hold: an operator has decided already.
    CertificateRevoked,
    /// Refused: not a certificate of ours.
    Unknown,
    /// Refused: the device is not active.
    NotActive(Status),
}

/// Decides. Total: there is an answer to every combination, and the order of the questions is the table's.
pub fn decide(facts: Facts) -> Decision {
    let Some(presented) = facts.presented else {
        return facts.lost.map_or(Decision::Unknown, |lost| decide_lost(facts, lost));
    };
    if facts.status != Status::Active {
        return Decision::NotActive(facts.status);
    }
    if facts.request == (Request::Renew { answered: true }) {
        return Decision::Again;
    }
    if facts.expired {
        return Decision::Expired;
    }
    if facts.revoked {
        return Decision::CertificateRevoked;
    }
    let hold = facts.on_fork == OnFork::Hold;
    match (presented, facts.request) {
        (Position::Head, Request::Renew { .. }) => match facts.has_pending {
            true if facts.replacements >= MAX_REPLACEMENTS => Decision::Exhausted { hold },
            supersede => Decision::Issue { promote: false, supersede },
        },
        (Position::Pending, Request::Renew { .. }) => Decision::Issue { promote: true, supersede: false },
        (Position::Pending, Request::Confirm) => Decision::Promote,
        (Position::Head, Request::Confirm) => Decision::Done { late: false },
        (Position::Former, Request::Confirm) => Decision::Done { late: true },
        (Position::Former, Request::Renew { .. }) | (Position::Superseded, _) => Decision::Fork { hold },
    }
}

/// Decides upon a certificate of a lost time. An honest holder has one newest certificate, and shows no other: whoever
/// comes second, or after one that was given since, is another holder.
fn decide_lost(facts: Facts, lost: Lost) -> Decision {
    // A holder that was first enrolled in the lost time is not known at all, or registered only.
    if !matches!(facts.status, Status::Active | Status::Registered) {
        return Decision::NotActive(facts.status);
    }
    if facts.expired {
        return Decision::Expired;
    }
    if facts.revoked {
        return Decision::CertificateRevoked;
    }
    if lost.adopted || lost.renewed_since {
        return Decision::Fork { hold: facts.on_fork == OnFork::Hold };
    }
    Decision::Adopt
}

impl Lineage {
    /// The lineage of a first enrollment.
    pub fn begun_by(head: SerialNumber) -> Self {
        Self { head: Some(head), pending: None, generation: 1, replacements: 0 }
    }

    /// The lineage of a device that was revoked and may enroll once more: none of its certificates counts.
    pub fn restarted(&self) -> Self {
        Self { head: None, pending: None, generation: self.generation, replacements: 0 }
    }

    /// Whether a certificate has been in force: then the next one has to be confirmed.
    pub fn has_begun(&self) -> bool {
        self.generation > 0
    }

    /// What the certificate `serial` of this device is. `was_head` is the store's memory of it.
    pub fn position(&self, serial: SerialNumber, was_head: bool) -> Position {
        match serial {
            _ if self.head == Some(serial) => Position::Head,
            _ if self.pending == Some(serial) => Position::Pending,
            _ if was_head => Position::Former,
            _ => Position::Superseded,
        }
    }

    /// The lineage with its pending certificate in force.
    pub fn promoted(&self) -> Self {
        Self { head: self.pending, pending: None, generation: self.generation + 1, replacements: 0 }
    }

    /// The lineage with a new pending certificate, after a [`Decision::Issue`].
    pub fn issued(&self, promote: bool, pending: SerialNumber) -> Self {
        let mut next = if promote { self.promoted() } else { self.clone() };
        // Who attests anew may do so more often than this counts.
        next.replacements = next.replacements.saturating_add(u8::from(next.pending.is_some()));
        next.pending = Some(pending);
        next
    }

    /// The lineage after an operator has said which certificate is the honest one's, or after a [`Decision::Adopt`].
    pub fn kept(&self, keep: SerialNumber) -> Self {
        let generation = self.generation + u64::from(self.head != Some(keep));
        Self { head: Some(keep), pending: None, generation, replacements: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POSITIONS: [Option<Position>; 5] =
        [None, Some(Position::Head), Some(Position::Pending), Some(Position::Former), Some(Position::Superseded)];
    const LOST: [Option<Lost>; 5] = [
        None,
        Some(Lost { adopted: false, renewed_since: false }),
        Some(Lost { adopted: false, renewed_since: true }),
        Some(Lost { adopted: true, renewed_since: false }),
        Some(Lost { adopted: true, renewed_since: true }),
    ];
    const REQUESTS: [Request; 3] =
        [Request::Renew { answered: true }, Request::Renew { answered: false }, Request::Confirm];

    pub(super) fn every_fact() -> Vec<Facts> {
        let mut every = Vec::new();
        for (presented, lost) in POSITIONS.into_iter().flat_map(|position| LOST.map(|lost| (position, lost))) {
            for status in Status::ALL {
                for request in REQUESTS {
                    for bits in 0..16u8 {
                        for replacements in 0..4 {
                            let bit = |n: u8| bits >> n & 1 == 1;
                            let on_fork = if bit(0) { OnFork::Hold } else { OnFork::Alert };
                            let (revoked, expired, has_pending) = (bit(1), bit(2), bit(3));
                            every.push(Facts {
                                status,
                                on_fork,
                                presented,
                                lost,
                                revoked,
                                expired,
                                request,
                                has_pending,
                                replacements,
                            });
                        }
                    }
                }
            }
        }
        every
    }

    /// The table of `docs/renewal.md`, row by row, written a second time as conditions: exactly the first that holds
    /// decides.
    fn by_the_table(f: Facts) -> Decision {
        use Position::*;
        let renew = matches!(f.request, Request::Renew { .. });
        let hold = f.on_fork == OnFork::Hold;
        let lost = f.presented.is_none();
        let once = f.lost.is_some_and(|lost| !lost.adopted && !lost.renewed_since);
        let rows: [(bool, Decision); 19] = [
            (lost && f.lost.is_none(), Decision::Unknown),
            (lost && !matches!(f.status, Status::Active | Status::Registered), Decision::NotActive(f.status)),
            (lost && f.expired, Decision::Expired),
            (lost && f.revoked, Decision::CertificateRevoked),
            (lost && !once, Decision::Fork { hold }),
            (lost, Decision::Adopt),
            (f.status != Status::Active, Decision::NotActive(f.status)),
            (f.request == Request::Renew { answered: true }, Decision::Again),
            (f.expired, Decision::Expired),
            (f.revoked, Decision::CertificateRevoked),
            (f.presented == Some(Superseded), Decision::Fork { hold }),
            (f.presented == Some(Former) && renew, Decision::Fork { hold }),
            (f.presented == Some(Former), Decision::Done { late: true }),
            (f.presented == Some(Pending) && renew, Decision::Issue { promote: true, supersede: false }),
            (f.presented == Some(Pending), Decision::Promote),
            (!renew, Decision::Done { late: false }),
            (f.has_pending && f.replacements >= 2, Decision::Exhausted { hold }),
            (f.has_pending, Decision::Issue { promote: false, supersede: true }),
            (true, Decision::Issue { promote: false, supersede: false }),
        ];
        rows.into_iter().find(|(holds, _)| *holds).map(|(_, decision)| decision).unwrap()
    }

    #[test]
    fn every_combination_of_facts_is_decided_as_the_table_says() {
        let mut walked = 0;
        for facts in every_fact() {
            assert_eq!(decide(facts), by_the_table(facts), "{facts:?}");
            walked += 1;
        }
        assert_eq!(walked, 5 * 5 * 6 * 3 * 16 * 4);
    }

    #[test]
    fn nothing_expired_and_nothing_unknown_ever_holds_a_device() {
        for facts in every_fact().into_iter().filter(|f| f.expired || (f.presented, f.lost) == (None, None)) {
            let decision = decide(facts);
            assert!(!matches!(decision, Decision::Fork { .. } | Decision::Exhausted { .. }), "{facts:?}");
        }
    }

    #[test]
    fn only_an_active_device_gets_anything() {
        for facts in every_fact().into_iter().filter(|facts| facts.status != Status::Active) {
            // One that was first enrolled in a lost time is active already, and the store has forgotten it.
            let forgotten = facts.status == Status::Registered && facts.presented.is_none();
            assert!(forgotten || matches!(decide(facts), Decision::NotActive(_) | Decision::Unknown), "{facts:?}");
        }
    }

    #[test]
    fn out_of_a_lost_time_one_certificate_is_taken_in_and_no_second_one() {
        for facts in every_fact().into_iter().filter(|facts| decide(*facts) == Decision::Adopt) {
            assert_eq!(facts.presented, None, "{facts:?}");
            assert!(!facts.revoked && !facts.expired && !facts.status.is_cut_off(), "{facts:?}");
            for lost in [Lost { adopted: true, renewed_since: false }, Lost { adopted: false, renewed_since: true }] {
                let second = decide(Facts { lost: Some(lost), ..facts });
                assert_eq!(second, Decision::Fork { hold: facts.on_fork == OnFork::Hold }, "{facts:?}");
            }
        }
    }
}
