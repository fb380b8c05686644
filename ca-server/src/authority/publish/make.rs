//! From entries, and what becomes of them, to a signed CRL that was read back: none is served that is not what was to come.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{PublishError, pending::Turn, sha256};
use crate::{
    identity::SerialNumber,
    pki::{
        CrlEntry, CrlError, CrlSteps, CrlTemplate, Edit, IssuerCertificate, ParsedCrl, PreparedCrl, check_successor,
    },
    signer::SignerError,
    step::{Step, reached},
    store::CrlHead,
};

/// A CRL, signed and read back.
pub(super) struct Made {
    pub crl: ParsedCrl,
    /// How it is made of the one before it; none where it was written anew.
    pub steps: Option<CrlSteps>,
    /// Where it was written anew: what was wrong with what was made of the one before it.
    pub instead_of: Option<PublishError>,
    /// How long it was read back.
    pub checked: Duration,
}

/// Makes the CRL with this head, which gets its signature and hash. `edit` is to make it of the one before it, `base`. Where
/// that comes to something else, as by a fault of ours, all entries are written anew: those of the one before it that
/// nothing takes off, and what has changed.
pub(super) fn make(
    issuer: &IssuerCertificate,
    sign: impl Fn(&[u8]) -> Result<Vec<u8>, SignerError>,
    head: &mut CrlHead,
    base: Option<&ParsedCrl>,
    turn: &Turn<'_>,
    edit: impl FnOnce(&CrlTemplate<'_>) -> PreparedCrl,
) -> Result<Made, PublishError> {
    let signed = |head: &mut CrlHead, prepared: PreparedCrl| {
        head.signature = sign(prepared.tbs())?;
        let (der, steps) = prepared.assemble_with_steps(&head.signature);
        reached(Step::CrlSigned);
        let began = Instant::now();
        head.sha256 = sha256(&der);
        Ok::<(Bytes, CrlSteps, Instant), SignerError>((der, steps, began))
    };
    let prepared = edit(&template(issuer, head));
    let (der, steps, began) = signed(head, prepared)?;
    let crl = match base {
        Some(base) => ParsedCrl::parse_next(der, base),
        None => ParsedCrl::parse(der),
    };
    match (check(issuer, base, turn, crl), base) {
        (Ok(crl), _) => Ok(Made { crl, steps: Some(steps), instead_of: None, checked: began.elapsed() }),
        (Err(why), None) => Err(why),
        (Err(why), Some(last)) => {
            let prepared = template(issuer, head).prepare(None, union(last, turn));
            let (der, _, began) = signed(head, prepared)?;
            let crl = check(issuer, base, turn, ParsedCrl::parse(der))?;
            Ok(Made { crl, steps: None, instead_of: Some(why), checked: began.elapsed() })
        }
    }
}

/// All that is on the CRL before and nothing takes off, and what has changed, in the order of serials.
fn union(base: &ParsedCrl, turn: &Turn<'_>) -> impl Iterator<Item = Edit> {
    let mut all: BTreeMap<SerialNumber, CrlEntry> = base.entries().iter().map(|entry| (entry.serial, entry)).collect();
    for (serial, entry) in turn.edits() {
        match entry {
            Some(entry) => all.insert(serial, entry),
            None => all.remove(&serial),
        };
    }
    all.into_iter().map(|(serial, entry)| (serial, Some(entry)))
}

/// Our issuer's signature, all that was to change, and a fit successor of the CRL before it.
fn check(
    issuer: &IssuerCertificate,
    base: Option<&ParsedCrl>,
    turn: &Turn<'_>,
    crl: Result<ParsedCrl, CrlError>,
) -> Result<ParsedCrl, PublishError> {
    let crl = crl?;
    crl.verify(issuer)?;
    if !crl.entries().is_ascending() {
        return Err(PublishError::Order);
    }
    // A date is what can be said of it: whole seconds.
    let reason = |entry: CrlEntry| entry.reason;
    let lacks = |(serial, entry): &Edit| crl.entries().get(serial).map(reason) != entry.map(reason);
    if let Some((serial, _)) = turn.edits().find(lacks) {
        return Err(PublishError::LosesEntry(serial.into()));
    }
    let Some(base) = base else { return Ok(crl) };
    match check_successor(base, &crl)?.into_iter().find(|lost| !turn.takes_off(lost)) {
        Some(lost) => Err(PublishError::LosesEntry(lost.into())),
        None => Ok(crl),
    }
}

/// What a CRL with this head has besides its entries.
pub(super) fn template<'a>(issuer: &'a IssuerCertificate, head: &CrlHead) -> CrlTemplate<'a> {
    CrlTemplate {
        issuer,
        number: head.number,
        this_update: head.this_update,
        next_update: head.next_update,
        distribution_point: None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        authority::publish::Pending,
        identity::{RevocationReason, Timestamp},
        pki::{
            CaRole, SuccessorError,
            fixture::{NOW, TestCa, serial},
        },
        store::{Change, Revoked},
    };

    const KEY_COMPROMISE: RevocationReason = RevocationReason::KeyCompromise;

    fn head(ca: &TestCa, number: u64) -> CrlHead {
        CrlHead {
            issuer: ca.issuer.certificate().id(),
            number,
            this_update: NOW,
            next_update: NOW + Duration::from_secs(3600),
            watermark: 0,
            horizon: Timestamp::default(),
            sha256: [0; 32],
            signature: Vec::new(),
            der: None,
        }
    }

    fn entry(n: u8) -> Edit {
        (serial(n), Some(CrlEntry { serial: serial(n), revoked_at: NOW, reason: KEY_COMPROMISE }))
    }

    /// What is made of a CRL with 1, 3 and 5 where 3 is released and 7 revoked, and these edits are done instead.
    fn made(number: u64, edits: &[Edit]) -> (Result<Made, PublishError>, CrlHead) {
        let ca = TestCa::root(CaRole::DeviceRoot);
        let before = template(ca.issuer.certificate(), &head(&ca, 8)).prepare(None, [1, 3, 5].map(entry));
        let signature = ca.key.sign(before.tbs());
        let before = ParsedCrl::parse(before.assemble(&signature)).unwrap();
        let mut pending = Pending::default();
        for (sequence, n, revoked) in [(1, 7, Some(Revoked { at: NOW, reason: KEY_COMPROMISE })), (2, 3, None)] {
            assert!(pending.apply(&Change { sequence, serial: serial(n), not_after: NOW, revoked }));
        }
        let turn = pending.until(Timestamp::default(), []);
        let mut head = head(&ca, number);
        let sign = |tbs: &[u8]| Ok(ca.key.sign(tbs));
        let edit = |template: &CrlTemplate<'_>| template.prepare(Some(&before), edits.iter().copied());
        let made = make(ca.issuer.certificate(), sign, &mut head, Some(&before), &turn, edit);
        (made, head)
    }

    #[test]
    fn what_loses_an_entry_or_lacks_a_change_is_written_anew() {
        let off = |n: u8| (serial(n), None);
        for (edits, lost) in [
            (vec![off(1), off(3), entry(7)], Some(1)),
            (vec![off(3), off(5), entry(7)], Some(5)),
            (vec![off(3)], Some(7)),
            (vec![entry(7)], Some(3)),
            (vec![off(3), entry(7)], None),
        ] {
            let (made, head) = made(9, &edits);
            let made = made.unwrap();
            let listed: Vec<_> = made.crl.entries().serials().collect();
            assert_eq!(listed, [1, 5, 7].map(serial), "{edits:?}");
            assert_eq!((made.crl.number(), head.sha256), (9, sha256(made.crl.der())));
            let why = made.instead_of.map(|why| match why {
                PublishError::LosesEntry(of) => of,
                other => panic!("{other:?}"),
            });
            assert_eq!((why, made.steps.is_some()), (lost.map(|n| serial(n).into()), lost.is_none()), "{edits:?}");
        }
    }

    #[test]
    fn what_is_wrong_either_way_is_published_in_no_way() {
        let (made, _) = made(8, &[(serial(3), None), entry(7)]);
        let why = made.err().unwrap();
        assert!(matches!(why, PublishError::Successor(SuccessorError::Number { .. })), "{why:?}");
    }
}
