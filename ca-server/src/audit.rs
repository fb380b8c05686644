//! The audit log: what a record is, how records are chained, and what a seal signs.
//!
//! **Pure.** Records are written by the store in the transaction of the change that they record; `authority/seal`
//! chains those that have been committed, in batches, and signs the head.

use ring::digest::{Context, SHA256, digest};

use crate::identity::Timestamp;

/// Every action that a record can have: `docs/audit.md` says when each is written.
pub const ACTIONS: [&str; 35] = [
    "ca.initialized",
    "ca.restored",
    "ca.resumed",
    "certificate.confirmed",
    "certificate.issued",
    "clock.accepted",
    "crl.root_taken_in",
    "crl.taken_back",
    "device.approved",
    "device.asked",
    "device.decommissioned",
    "device.held",
    "device.registered",
    "device.reenroll_allowed",
    "device.rejected",
    "device.released",
    "device.revoked",
    "fleet.changed",
    "fleet.created",
    "gateway.revoked",
    "hardware.registered",
    "hardware.retired",
    "key.registered",
    "key.retired",
    "issuer.created",
    "issuer.ended",
    "issuer.retired",
    "issuer.revoked",
    "keys.encrypted",
    "newcomers.expired",
    "operator.revoked",
    "restore.adopted",
    "server.revoked",
    "token.created",
    "token.revoked",
];

/// What records and events are about: a thing that is there once, or a kind of things and, after its `/`, which.
pub const SUBJECTS: [&str; 10] =
    ["crl", "device/", "domain/", "fleet/", "gateway/", "issuer/", "keys", "operator/", "server/", "token/"];

/// A record before the store has given it a sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// When; the store moves it forward where the clock went back.
    pub at: Timestamp,
    /// Who: `operator/ana`, `device/pump-7`, `local`, `system`.
    pub actor: String,
    /// What: `certificate.issued`, `device.revoked`.
    pub action: &'static str,
    /// Which: `device/pump-7`, `fleet/sensors`, `token/9f…`.
    pub subject: String,
    /// The serial number of the certificate concerned, where it is one.
    pub serial: String,
    /// `ok`, or the reason of a refusal that changed state.
    pub outcome: &'static str,
    /// Further facts. The store adds what only the transaction knows.
    pub detail: serde_json::Map<String, serde_json::Value>,
}

impl Draft {
    /// A record of a change that was made.
    pub fn done(at: Timestamp, actor: &str, action: &'static str, subject: String) -> Self {
        Self {
            at,
            actor: actor.into(),
            action,
            subject,
            serial: String::new(),
            outcome: "ok",
            detail: Default::default(),
        }
    }

    /// The same, about this certificate.
    pub fn serial(mut self, serial: impl ToString) -> Self {
        self.serial = serial.to_string();
        self
    }

    /// The same, with a further fact.
    pub fn fact(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.detail.insert(name.into(), value.into());
        self
    }
}

/// A record as it is kept and shown: its hash covers exactly these texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// 1, 2, 3, … without a gap.
    pub sequence: u64,
    /// Unix milliseconds; never falls from one record to the next.
    pub at_millis: i64,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// Which.
    pub subject: String,
    /// Lower-case hexadecimal, or empty.
    pub serial: String,
    /// `ok`, or why not.
    pub outcome: String,
    /// A JSON object, as text.
    pub detail: String,
}

/// A record beside the hash that was taken of it when it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The record as it stands now.
    pub record: Record,
    /// [`Record::hash`] as it was. It proves nothing, but names the record that was changed by a careless hand.
    pub hash: [u8; 32],
}

impl Record {
    /// SHA-256 over the sequence number and the time (8 octets each, big-endian), then every text in the order of the
    /// fields, each after its length in octets (8 octets, big-endian).
    pub fn hash(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        context.update(&self.sequence.to_be_bytes());
        context.update(&self.at_millis.to_be_bytes());
        for text in [&self.actor, &self.action, &self.subject, &self.serial, &self.outcome, &self.detail] {
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        }
        to_array(context.finish())
    }
}

/// The hash of a chain: that of the empty log is 32 zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head(pub [u8; 32]);

impl Head {
    /// The head of a log without records.
    pub const EMPTY: Head = Head([0; 32]);

    /// The head after one more record: SHA-256 of the head before and the record's hash.
    pub fn after(self, record: &Record) -> Head {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&self.0);
        bytes[32..].copy_from_slice(&record.hash());
        Head(to_array(digest(&SHA256, &bytes)))
    }
}

/// A signed head: `signature` is by `issuer`'s key over
/// [`fleetca_proto::transcript::audit_head`]`(last_sequence, at_millis, head)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The first record that the seal before did not cover.
    pub first_sequence: u64,
    /// The last record covered.
    pub last_sequence: u64,
    /// The chain's head after it.
    pub head: Head,
    /// When it was sealed.
    pub at_millis: i64,
    /// ECDSA P-256, ASN.1 DER.
    pub signature: Vec<u8>,
    /// Which issuer signed: the control CA.
    pub issuer: crate::identity::IssuerId,
}

/// What is wrong with a log: the first thing found, in order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// A record is missing or out of order.
    #[error("record {expected} is missing: record {found} follows record {}", expected - 1)]
    Gap {
        /// The sequence number that should come next.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// A record is not what was written.
    #[error("record {sequence} was changed")]
    Altered {
        /// The record.
        sequence: u64,
    },
    /// A record among these is not what was sealed.
    #[error("a record from {first} to {last} was changed: the chain does not reach the sealed head")]
    Changed {
        /// First record under the seal.
        first: u64,
        /// Last record under the seal.
        last: u64,
    },
    /// A seal's signature is by nobody that we trust.
    #[error("the seal over records {first} to {last} is not signed by the control CA")]
    Signature {
        /// First record under the seal.
        first: u64,
        /// Last record under the seal.
        last: u64,
    },
    /// Sealed records are gone.
    #[error("the seal covers records up to {sealed}, but the log ends at {last}")]
    Truncated {
        /// Last record that was sealed.
        sealed: u64,
        /// Last record there is.
        last: u64,
    },
    /// Time went back.
    #[error("record {sequence} is dated before the one that it follows")]
    Time {
        /// The record.
        sequence: u64,
    },
    /// The head seen before is not in this log.
    #[error("the log did not grow from the head seen before: record {sequence} is not what it was")]
    NotGrown {
        /// The last record under the head seen before.
        sequence: u64,
    },
}

/// Walks a log from its first record, in any number of calls, and checks it against its seals.
///
/// Records must be fed in order. Seals are checked as their last record passes; records after the last seal are chained
/// but proven by nothing yet.
pub struct Verifier {
    head: Head,
    sequence: u64,
    at_millis: i64,
    since_seal: u64,
    sealed: u64,
}

impl Default for Verifier {
    fn default() -> Self {
        Self { head: Head::EMPTY, sequence: 0, at_millis: i64::MIN, since_seal: 1, sealed: 0 }
    }
}

impl Verifier {
    /// Takes the next record.
    pub fn record(&mut self, kept: &Kept) -> Result<Head, Broken> {
        let record = &kept.record;
        let expected = self.sequence + 1;
        if record.sequence != expected {
            return Err(Broken::Gap { expected, found: record.sequence });
        }
        if record.hash() != kept.hash {
            return Err(Broken::Altered { sequence: expected });
        }
        if record.at_millis < self.at_millis {
            return Err(Broken::Time { sequence: expected });
        }
        self.head = self.head.after(record);
        self.sequence = expected;
        self.at_millis = record.at_millis;
        Ok(self.head)
    }

    /// Takes the seal over all records up to the one taken last. `signed` says whether its signature holds.
    pub fn seal(&mut self, seal: &Seal, signed: bool) -> Result<(), Broken> {
        let (first, last) = (self.since_seal, seal.last_sequence);
        if last != self.sequence || seal.first_sequence != first {
            return Err(Broken::Truncated { sealed: last, last: self.sequence });
        }
        if seal.head != self.head {
            return Err(Broken::Changed { first, last });
        }
        if !signed {
            return Err(Broken::Signature { first, last });
        }
        self.since_seal = last + 1;
        self.sealed = last;
        Ok(())
    }

    /// The chain's head after the records taken so far.
    pub fn head(&self) -> Head {
        self.head
    }

    /// How many records were taken, and how many of them are sealed.
    pub fn counts(&self) -> (u64, u64) {
        (self.sequence, self.sealed)
    }
}

fn to_array(digest: ring::digest::Digest) -> [u8; 32] {
    let mut array = [0; 32];
    array.copy_from_slice(digest.as_ref());
    array
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{IssuerId, KeyFingerprint};

    fn record(sequence: u64, actor: &str) -> Kept {
        let record = Record {
            sequence,
            at_millis: sequence as i64,
            actor: actor.into(),
            action: "device.revoked".into(),
            subject: "device/a".into(),
            serial: String::new(),
            outcome: "ok".into(),
            detail: "{}".into(),
        };
        Kept { hash: record.hash(), record }
    }

    fn seal(first: u64, last: u64, head: Head) -> Seal {
        let issuer = IssuerId::of(&KeyFingerprint::of(b"key"));
        Seal { first_sequence: first, last_sequence: last, head, at_millis: 9, signature: vec![], issuer }
    }

    #[test]
    fn a_whole_log_verifies() {
        let mut verifier = Verifier::default();
        verifier.record(&record(1, "a")).unwrap();
        let head = verifier.record(&record(2, "b")).unwrap();
        verifier.seal(&seal(1, 2, head), true).unwrap();
        verifier.record(&record(3, "c")).unwrap();
        assert_eq!(verifier.counts(), (3, 2));
    }

    #[test]
    fn a_changed_record_breaks_the_seal_over_it() {
        let mut honest = Verifier::default();
        let head = honest.record(&record(1, "a")).unwrap();
        let mut verifier = Verifier::default();
        verifier.record(&record(1, "mallory")).unwrap();
        assert_eq!(verifier.seal(&seal(1, 1, head), true), Err(Broken::Changed { first: 1, last: 1 }));
    }

    #[test]
    fn a_record_changed_by_a_careless_hand_is_named() {
        let mut kept = record(1, "a");
        kept.record.subject = "device/b".into();
        assert_eq!(Verifier::default().record(&kept), Err(Broken::Altered { sequence: 1 }));
    }

    #[test]
    fn a_missing_record_is_named() {
        let mut verifier = Verifier::default();
        verifier.record(&record(1, "a")).unwrap();
        assert_eq!(verifier.record(&record(3, "a")), Err(Broken::Gap { expected: 2, found: 3 }));
    }

    #[test]
    fn a_seal_that_nobody_signed_is_refused() {
        let mut verifier = Verifier::default();
        let head = verifier.record(&record(1, "a")).unwrap();
        assert_eq!(verifier.seal(&seal(1, 1, head), false), Err(Broken::Signature { first: 1, last: 1 }));
    }

    #[test]
    fn texts_that_run_together_hash_apart() {
        let mut left = record(1, "ab");
        left.record.action = "c".into();
        let mut right = record(1, "a");
        right.record.action = "bc".into();
        assert_ne!(left.record.hash(), right.record.hash());
    }
}
