//! A CA's memory of one device, as `authority/renew` and the store keep it, and its backup.

use super::*;

/// The number of a certificate, in the order of their making.
pub(super) type Serial = usize;
/// The number of a key, in the order of their making.
pub(super) type Key = u8;
/// The table, or one that was tampered with.
pub(super) type Table = fn(Facts) -> Decision;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Message {
    Renew(Serial, Key),
    Confirm(Serial),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reply {
    Issued { serial: Serial, confirm: bool },
    Confirmed,
    Refused(Decision),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Certificate {
    pub(super) key: Key,
    pub(super) presented: Option<Serial>,
    pub(super) was_head: bool,
    /// Made in a lost time, and forgotten.
    pub(super) forgotten: bool,
}

/// What `authority/renew` and the store do with the table's decisions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ca {
    pub(super) status: Status,
    pub(super) lineage: Lineage,
    pub(super) certificates: Vec<Certificate>,
    pub(super) past: Past,
}

/// Whether the CA was backed up and restored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Past {
    /// Neither.
    Whole,
    /// A backup: state, lineage, and of each certificate whether it was the head.
    BackedUp { status: Status, lineage: Lineage, heads: Vec<bool> },
    /// Restored: certificates from this one on were made since.
    Restored { since: Serial, adopted: bool },
}

pub(super) fn number(serial: Serial) -> SerialNumber {
    SerialNumber::from_bytes([serial as u8; 16])
}

impl Ca {
    pub(super) fn position(&self, serial: Serial) -> Position {
        self.lineage.position(number(serial), self.certificates[serial].was_head)
    }

    /// What is known of the holder of a certificate that was forgotten.
    pub(super) fn lost(&self, serial: Serial) -> Option<Lost> {
        let Past::Restored { since, adopted } = self.past else { return None };
        let made_since = |known: SerialNumber| (since..self.certificates.len()).any(|serial| number(serial) == known);
        let renewed_since = [self.lineage.head, self.lineage.pending].into_iter().flatten().any(made_since);
        self.certificates[serial].forgotten.then_some(Lost { adopted, renewed_since })
    }

    pub(super) fn back_up(&mut self) {
        let heads = self.certificates.iter().map(|certificate| certificate.was_head).collect();
        self.past = Past::BackedUp { status: self.status, lineage: self.lineage.clone(), heads };
    }

    pub(super) fn restore(&mut self) {
        let since = self.certificates.len();
        let past = std::mem::replace(&mut self.past, Past::Restored { since, adopted: false });
        let Past::BackedUp { status, lineage, heads } = past else { return };
        (self.status, self.lineage) = (status, lineage);
        for (serial, certificate) in self.certificates.iter_mut().enumerate() {
            certificate.was_head = heads.get(serial).copied().unwrap_or(false);
            certificate.forgotten = serial >= heads.len();
        }
    }

    /// Whether the next certificate could come from this one.
    pub(super) fn accepts(&self, serial: Serial) -> bool {
        self.status == Status::Active
            && !self.certificates[serial].forgotten
            && matches!(self.position(serial), Position::Head | Position::Pending)
    }

    pub(super) fn answer(&mut self, message: Message, table: Table) -> Reply {
        let (presented, key) = match message {
            Message::Renew(presented, key) => (presented, Some(key)),
            Message::Confirm(presented) => (presented, None),
        };
        let known = |other: &Certificate| !other.forgotten;
        let answers = |other: &Certificate| other.presented == Some(presented) && Some(other.key) == key;
        let answered = self.certificates.iter().position(|other| known(other) && answers(other));
        let position = known(&self.certificates[presented]).then(|| self.position(presented));
        let decision = table(Facts {
            status: self.status,
            on_fork: OnFork::Hold,
            presented: position,
            lost: self.lost(presented),
            revoked: false,
            expired: false,
            request: key.map_or(Request::Confirm, |_| Request::Renew { answered: answered.is_some() }),
            has_pending: self.lineage.pending.is_some(),
            replacements: self.lineage.replacements,
        });
        match (decision, key, answered) {
            (Decision::Again, _, Some(serial)) => {
                Reply::Issued { serial, confirm: self.position(serial).is_unconfirmed() }
            }
            (Decision::Issue { promote, .. }, Some(key), _) => {
                if self.certificates.iter().any(|other| known(other) && other.key == key) {
                    return Reply::Refused(decision);
                }
                let serial = self.certificates.len();
                let certificate = Certificate { key, presented: Some(presented), was_head: false, forgotten: false };
                self.certificates.push(certificate);
                self.certificates[presented].was_head |= promote;
                self.lineage = self.lineage.issued(promote, number(serial));
                Reply::Issued { serial, confirm: true }
            }
            (Decision::Promote, ..) => {
                self.certificates[presented].was_head = true;
                self.lineage = self.lineage.promoted();
                Reply::Confirmed
            }
            (Decision::Done { .. }, ..) => Reply::Confirmed,
            (Decision::Adopt, ..) => {
                let adopted = &mut self.certificates[presented];
                (adopted.forgotten, adopted.was_head) = (false, true);
                self.lineage = self.lineage.kept(number(presented));
                if let Past::Restored { adopted, .. } = &mut self.past {
                    *adopted = true;
                }
                self.answer(message, table)
            }
            (Decision::Fork { hold: true } | Decision::Exhausted { hold: true }, ..) => {
                self.status = Status::Held;
                Reply::Refused(decision)
            }
            _ => Reply::Refused(decision),
        }
    }
}
