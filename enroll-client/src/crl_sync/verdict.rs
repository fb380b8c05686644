//! The judgement on a set of CRLs: each verified, none missing, none mixed in, none older than before. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Fetched, Form, Held, IssuerId, SyncError,
    crl::{Crl, CrlError, CrlNumber, verify_issuer},
    state::{Kept, State},
};
use crate::{
    certificate::{Certificate, hex, pem, sha256},
    trust::Roots,
    wall_time::WallTime,
};

/// A set that may be written.
pub(super) struct Verdict {
    /// The file's content: PEM, in the order in which the server sent it.
    pub(super) pem: String,
    /// What it holds.
    pub(super) held: Vec<Held>,
    kept: BTreeMap<IssuerId, Kept>,
}

/// The serial numbers of issuing CAs that their root's CRL has, by root.
#[derive(Default)]
struct Ended(BTreeMap<IssuerId, BTreeSet<String>>);

impl Ended {
    fn has(&self, issuer: &Certificate, roots: &Roots) -> bool {
        let above = roots.certificates().iter().filter(|root| root.subject() == issuer.issuer());
        let lists = above.filter_map(|root| self.0.get(&IssuerId::of(root)));
        lists.into_iter().any(|serials| serials.contains(&issuer.serial()))
    }

    /// Of an issuer whose certificate did not come.
    fn any(&self, serial: &str) -> bool {
        self.0.values().any(|serials| serials.contains(serial))
    }
}

struct Issuer<'a> {
    certificate: &'a Certificate,
    is_root: bool,
}

impl Verdict {
    /// Judges what was fetched.
    pub(super) fn of(fetched: &Fetched, form: &Form, kept: &State, now: WallTime) -> Result<Self, SyncError> {
        let known = known_issuers(fetched);
        let mut verdict = Self { pem: String::new(), held: Vec::new(), kept: BTreeMap::new() };
        let (mut seen, mut judged, mut ended) = (BTreeSet::new(), Vec::new(), Ended::default());
        let signatures = fetched.head_signatures.iter().map(Vec::as_slice).chain(std::iter::repeat([].as_slice()));
        for (der, signature) in fetched.crls.iter().zip(signatures) {
            let crl = Crl::parse(der).map_err(SyncError::Unreadable)?;
            let id = IssuerId::of_key_identifier(crl.authority_key).ok_or(SyncError::NotCrls("no issuer"))?;
            let issuer = known.get(&id).ok_or_else(|| SyncError::Mixed(id.clone()))?;
            if matches!(form, Form::Full(asked) if *asked != id) || !seen.insert(id.clone()) {
                return Err(SyncError::Mixed(id));
            }
            verify_issuer(issuer.certificate, &fetched.roots, now)
                .map_err(|reason| SyncError::Issuer { issuer: id.clone(), reason })?;
            let refused = |reason| SyncError::Crl { issuer: id.clone(), reason };
            match crl.verify(issuer.certificate, now) {
                // A root's that is held already and has run out meanwhile, as nobody signed another one, keeps no newer list of
                // an issuing CA out: it makes nothing worse than it is.
                Err(CrlError::Stale(_)) if issuer.is_root && holds(kept, &id, der) => {}
                verified => verified.map_err(refused)?,
            }
            check_number(&crl, kept.crls.get(&id)).map_err(refused)?;
            if issuer.is_root {
                ended.0.insert(id.clone(), crl.serials().map_err(refused)?.into_iter().collect());
            }
            judged.push((crl, signature, id, issuer));
        }
        for (crl, signature, id, issuer) in judged {
            // Whoever has stolen the key of a CA that has ended signs an empty list of it, and puts that in the way.
            if issuer.is_root || !ended.has(issuer.certificate, &fetched.roots) {
                let refused = |reason| SyncError::Crl { issuer: id.clone(), reason };
                verdict.take(&crl, signature, id.clone(), issuer).map_err(refused)?;
            }
        }
        verdict.check_complete(fetched, form, kept, &ended, now)?;
        Ok(verdict)
    }

    /// What to remember from now on: what is held, and the numbers of issuers that are no longer in the file.
    pub(super) fn state(&self, before: &State, form: &Form) -> State {
        let mut crls = before.crls.clone();
        crls.values_mut().for_each(|crl| crl.in_file = false);
        crls.extend(self.kept.clone());
        State { form: form.to_string(), file_sha256: hex(&sha256(self.pem.as_bytes())), crls, ..State::default() }
    }

    fn take(&mut self, crl: &Crl<'_>, signature: &[u8], id: IssuerId, issuer: &Issuer<'_>) -> Result<(), CrlError> {
        self.pem.push_str(&pem("X509 CRL", crl.der()));
        self.held.push(Held {
            issuer: id.clone(),
            number: crl.number.to_string(),
            entries: crl.count()?,
            this_update: crl.this_update,
            next_update: crl.next_update,
            is_root: issuer.is_root,
        });
        let kept = Kept {
            number: crl.number.as_hex().to_owned(),
            seen: None,
            sha256: hex(&sha256(crl.der())),
            this_update: crl.this_update,
            next_update: Some(crl.next_update),
            issuer_serial: issuer.certificate.serial(),
            issuer_not_after: issuer.certificate.not_after(),
            in_file: true,
            is_root: issuer.is_root,
            head_signature: hex(signature),
        };
        self.kept.insert(id, kept);
        Ok(())
    }

    fn check_complete(
        &self,
        fetched: &Fetched,
        form: &Form,
        kept: &State,
        ended: &Ended,
        now: WallTime,
    ) -> Result<(), SyncError> {
        let missing = |id: &IssuerId| !self.kept.contains_key(id);
        if let Form::Full(asked) = form {
            return if missing(asked) { Err(SyncError::Missing(asked.clone())) } else { Ok(()) };
        }
        let roots = fetched.roots.certificates().iter();
        let absent_root = roots.filter(|root| self.needs_root(root, fetched)).map(IssuerId::of).find(missing);
        let known = known_issuers(fetched);
        let same_form = kept.form == form.to_string();
        // Gone for good: expired, on its root's CRL, or no longer named by a closed list. Which of those named a fleet needs
        // only the server knows, who was met under its control root then.
        let is_gone = |id: &IssuerId, crl: &Kept| {
            crl.issuer_not_after < now
                || ended.any(&crl.issuer_serial)
                || (fetched.is_closed && (!known.contains_key(id) || matches!(form, Form::Fleet(_)) && !crl.is_root))
        };
        let known_before = kept.crls.iter().filter(|_| same_form);
        let dropped = known_before
            .clone()
            .find(|(id, crl)| crl.in_file && missing(id) && !is_gone(id, crl))
            .map(|(id, _)| id.clone());
        // No issuing CA is left: each that was there has expired, or its root says so, whoever else does. Then that CRL is what
        // a gateway needs, from then on.
        let issuing = known_before.filter(|(_, crl)| !crl.is_root);
        let were_there: Vec<_> = issuing.clone().filter(|(_, crl)| crl.in_file).collect();
        let has_ended = |crl: &Kept| crl.issuer_not_after < now || ended.any(&crl.issuer_serial);
        let none_left = match were_there.is_empty() {
            true => issuing.clone().any(|(_, crl)| has_ended(crl)),
            false => were_there.iter().all(|(_, crl)| has_ended(crl)),
        };
        if self.held.iter().all(|crl| crl.is_root) && !none_left {
            return Err(SyncError::Empty);
        }
        let unsent = fetched
            .issuers
            .iter()
            .filter(|issuer| fetched.is_closed && *form == Form::Bundle && issuer.not_after() >= now)
            .filter(|issuer| !ended.has(issuer, &fetched.roots))
            .map(IssuerId::of)
            .find(missing);
        match absent_root.or(dropped).or(unsent) {
            Some(id) => Err(SyncError::Missing(id)),
            None => Ok(()),
        }
    }

    /// A closed list names every root that counts; else those count from which something in the file comes.
    fn needs_root(&self, root: &Certificate, fetched: &Fetched) -> bool {
        let issued_here =
            |issuer: &Certificate| self.kept.contains_key(&IssuerId::of(issuer)) && issuer.issuer() == root.subject();
        fetched.is_closed || fetched.issuers.iter().any(issued_here)
    }
}

fn known_issuers(fetched: &Fetched) -> BTreeMap<IssuerId, Issuer<'_>> {
    let issuers = fetched.issuers.iter().map(|certificate| (certificate, false));
    let roots = fetched.roots.certificates().iter().map(|certificate| (certificate, true));
    issuers
        .chain(roots)
        .map(|(certificate, is_root)| (IssuerId::of(certificate), Issuer { certificate, is_root }))
        .collect()
}

/// Whether the file has just this CRL.
fn holds(kept: &State, id: &IssuerId, der: &[u8]) -> bool {
    kept.crls.get(id).is_some_and(|crl| crl.in_file && crl.sha256 == hex(&sha256(der)))
}

fn check_number(crl: &Crl<'_>, kept: Option<&Kept>) -> Result<(), CrlError> {
    let Some(kept) = kept else { return Ok(()) };
    let before = CrlNumber::from_hex(&kept.number);
    let least = CrlNumber::from_hex(kept.seen.as_ref().unwrap_or(&kept.number));
    if crl.number < least {
        return Err(CrlError::Lower { found: crl.number.to_string(), kept: least.to_string() });
    }
    if crl.number == before && kept.sha256 != hex(&sha256(crl.der())) {
        return Err(CrlError::Forked(before.to_string()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;
    use crate::test_pki::{Ca, House, date, now, scoped};

    fn fetched(house: &House, crls: Vec<Vec<u8>>) -> Fetched {
        Fetched {
            crls,
            head_signatures: vec![],
            roots: house.device_root.roots(),
            issuers: vec![house.device_ca.certificate.clone()],
            is_closed: true,
            etag: None,
        }
    }

    fn judge(house: &House, crls: Vec<Vec<u8>>, kept: &State) -> Result<Verdict, SyncError> {
        Verdict::of(&fetched(house, crls), &Form::Bundle, kept, now())
    }

    fn refusal(result: Result<Verdict, SyncError>) -> CrlError {
        match result.err() {
            Some(SyncError::Crl { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    fn remember(house: &House, crls: Vec<Vec<u8>>) -> State {
        judge(house, crls, &State::default()).unwrap().state(&State::default(), &Form::Bundle)
    }

    #[test]
    fn a_whole_bundle_is_taken_as_it_came() {
        let house = House::new();
        let crls = vec![house.device_ca.crl(7, &[1, 2, 3]), house.device_root.crl(1, &[])];
        let verdict = judge(&house, crls.clone(), &State::default()).unwrap();
        let held: Vec<_> = verdict.held.iter().map(|crl| (crl.number.as_str(), crl.entries, crl.is_root)).collect();
        assert_eq!(held, [("7", 3, false), ("1", 0, true)]);
        assert_eq!(verdict.pem, crls.iter().map(|crl| pem("X509 CRL", crl)).collect::<String>());
    }

    #[test]
    fn a_bundle_without_the_roots_crl_or_an_issuers_is_refused() {
        let house = House::new();
        let root = IssuerId::of(&house.device_root.certificate);
        let refused = judge(&house, vec![house.device_ca.crl(7, &[])], &State::default());
        assert!(matches!(refused, Err(SyncError::Missing(id)) if id == root));
        assert!(matches!(judge(&house, vec![house.device_root.crl(1, &[])], &State::default()), Err(SyncError::Empty)));
        assert!(matches!(judge(&house, vec![], &State::default()), Err(SyncError::Empty)));

        let other = house.device_root.issuing("second CA");
        let mut both = fetched(&house, vec![house.device_ca.crl(7, &[]), house.device_root.crl(1, &[])]);
        both.issuers.push(other.certificate.clone());
        let refused = Verdict::of(&both, &Form::Bundle, &State::default(), now());
        assert!(matches!(refused, Err(SyncError::Missing(id)) if id == IssuerId::of(&other.certificate)));
    }

    #[test]
    fn a_crl_twice_or_of_a_stranger_is_refused() {
        let house = House::new();
        let twice = vec![house.device_ca.crl(7, &[]), house.device_ca.crl(8, &[]), house.device_root.crl(1, &[])];
        assert!(matches!(judge(&house, twice, &State::default()), Err(SyncError::Mixed(_))));
        let stranger = Ca::root("device root").issuing("issuing CA");
        let mixed = vec![stranger.crl(7, &[]), house.device_root.crl(1, &[])];
        assert!(matches!(judge(&house, mixed, &State::default()), Err(SyncError::Mixed(_))));
    }

    #[test]
    fn an_issuer_that_no_trusted_root_made_is_refused() {
        let house = House::new();
        let stranger = Ca::root("device root").issuing("issuing CA");
        let mut fetched = fetched(&house, vec![stranger.crl(7, &[]), house.device_root.crl(1, &[])]);
        fetched.issuers = vec![stranger.certificate.clone()];
        fetched.is_closed = false;
        let refused = Verdict::of(&fetched, &Form::Bundle, &State::default(), now());
        assert!(matches!(refused, Err(SyncError::Issuer { reason: CrlError::Untrusted, .. })));
    }

    #[test]
    fn a_device_cannot_sign_crls_even_with_a_certificate_of_the_root() {
        let house = House::new();
        let key = crate::keys::FileKey::generate().unwrap();
        let leaf = house.device_root.leaf(&key, &["spiffe://fleet.example/device/a"], &[]);
        assert_eq!(verify_issuer(&leaf, &house.device_root.roots(), now()), Err(CrlError::NotAnIssuer));
    }

    #[test]
    fn a_changed_byte_is_refused() {
        let house = House::new();
        let mut crl = house.device_ca.crl(7, &[0x1234_5678]);
        let at = crl.windows(4).position(|bytes| bytes == [0x12, 0x34, 0x56, 0x78]).unwrap();
        crl[at] ^= 1;
        let refused = judge(&house, vec![crl, house.device_root.crl(1, &[])], &State::default());
        assert_eq!(refusal(refused), CrlError::Signature);
    }

    #[test]
    fn a_roots_crl_that_has_run_out_in_the_file_keeps_no_newer_list_of_an_issuing_ca_out() {
        let house = House::new();
        let root =
            |hours: i64| house.device_root.crl_with(1, &[], |crl| crl.next_update = date() + Duration::hours(hours));
        let roots_crl = root(1);
        let kept = remember(&house, vec![house.device_ca.crl(7, &[]), roots_crl.clone()]);
        let later = WallTime::from_unix((date() + Duration::hours(2)).unix_timestamp());
        let judge = |crls: Vec<Vec<u8>>, kept: &State| Verdict::of(&fetched(&house, crls), &Form::Bundle, kept, later);
        let verdict = judge(vec![house.device_ca.crl(8, &[1]), roots_crl.clone()], &kept).unwrap();
        assert_eq!(verdict.held[0].entries, 1);
        // No other one that has run out, none of an issuing CA, and none for a first file.
        for (crls, kept) in [
            (vec![house.device_ca.crl(8, &[1]), root(1)], &State::default()),
            (
                vec![house.device_ca.crl_with(8, &[1], |crl| crl.next_update = date() + Duration::hours(1)), root(3)],
                &kept,
            ),
        ] {
            assert!(matches!(refusal(judge(crls, kept)), CrlError::Stale(_)));
        }
    }

    #[test]
    fn stale_and_future_crls_are_refused_for_now() {
        let house = House::new();
        let root = || house.device_root.crl(1, &[]);
        let stale = house.device_ca.crl_with(7, &[], |params| params.next_update = date() - Duration::seconds(1));
        let refused = refusal(judge(&house, vec![stale, root()], &State::default()));
        assert!(matches!(refused, CrlError::Stale(_)) && refused.is_temporary());
        let future = house.device_ca.crl_with(7, &[], |params| params.this_update = date() + Duration::hours(1));
        let refused = refusal(judge(&house, vec![future, root()], &State::default()));
        assert!(matches!(refused, CrlError::NotYet(_)) && refused.is_temporary());
    }

    #[test]
    fn a_crl_limited_in_scope_is_refused() {
        let house = House::new();
        let crl = house.device_ca.crl_with(7, &[], |params| params.issuing_distribution_point = Some(scoped()));
        let refused = judge(&house, vec![crl, house.device_root.crl(1, &[])], &State::default());
        assert!(matches!(refused, Err(SyncError::Unreadable(CrlError::Scope))));
    }

    #[test]
    fn a_number_never_falls_and_never_stands_for_other_bytes() {
        let house = House::new();
        let root = house.device_root.crl(1, &[]);
        let seven = house.device_ca.crl(0x100, &[1]);
        let kept = remember(&house, vec![seven.clone(), root.clone()]);
        let lower = judge(&house, vec![house.device_ca.crl(0xff, &[1]), root.clone()], &kept);
        assert_eq!(refusal(lower), CrlError::Lower { found: "255".into(), kept: "256".into() });
        let forked = judge(&house, vec![house.device_ca.crl(0x100, &[]), root.clone()], &kept);
        assert_eq!(refusal(forked), CrlError::Forked("256".into()));
        assert!(judge(&house, vec![seven, root.clone()], &kept).is_ok());
        assert!(judge(&house, vec![house.device_ca.crl(0x101, &[]), root], &kept).is_ok());
    }

    #[test]
    fn a_number_of_more_than_twenty_octets_is_refused() {
        let house = House::new();
        let numbered = |octets: usize| {
            let number = rcgen::SerialNumber::from(vec![0x7f; octets]);
            let crl = house.device_ca.crl_with(1, &[], |params| params.crl_number = number);
            judge(&house, vec![crl, house.device_root.crl(1, &[])], &State::default())
        };
        assert!(numbered(20).is_ok());
        assert!(matches!(numbered(21), Err(SyncError::Unreadable(CrlError::Malformed(_)))));
    }

    #[test]
    fn a_fleet_loses_an_issuer_by_the_servers_word_only_where_the_server_was_proven() {
        let house = House::new();
        let other = house.device_root.issuing("second CA");
        let (one, two, root) = (house.device_ca.crl(7, &[]), other.crl(7, &[]), house.device_root.crl(1, &[]));
        let fleet: Form = "fleet:pumps".parse().unwrap();
        let with = |crls: Vec<Vec<u8>>, is_closed: bool| Fetched {
            issuers: vec![house.device_ca.certificate.clone(), other.certificate.clone()],
            is_closed,
            ..fetched(&house, crls)
        };
        let both = with(vec![one.clone(), two, root.clone()], true);
        let kept = Verdict::of(&both, &fleet, &State::default(), now()).unwrap().state(&State::default(), &fleet);
        assert!(Verdict::of(&with(vec![one.clone(), root.clone()], true), &fleet, &kept, now()).is_ok());
        let refused = Verdict::of(&with(vec![one.clone(), root], false), &fleet, &kept, now());
        assert!(matches!(refused, Err(SyncError::Missing(id)) if id == IssuerId::of(&other.certificate)));
        // The root's is never lost.
        let refused = Verdict::of(&with(vec![one], true), &fleet, &kept, now());
        assert!(matches!(refused, Err(SyncError::Missing(id)) if id == IssuerId::of(&house.device_root.certificate)));
    }

    #[test]
    fn over_http_an_issuer_that_was_there_stays_until_its_root_revokes_it() {
        let house = House::new();
        let other = house.device_root.issuing("second CA");
        let open = |crls: Vec<Vec<u8>>, issuers: &[&Ca]| Fetched {
            issuers: issuers.iter().map(|ca| ca.certificate.clone()).collect(),
            is_closed: false,
            ..fetched(&house, crls)
        };
        let (one, two, root) = (house.device_ca.crl(7, &[]), other.crl(7, &[]), house.device_root.crl(1, &[]));
        let both = open(vec![one.clone(), two, root.clone()], &[&house.device_ca, &other]);
        let verdict = Verdict::of(&both, &Form::Bundle, &State::default(), now()).unwrap();
        let kept = verdict.state(&State::default(), &Form::Bundle);

        let dropped = open(vec![one.clone(), root.clone()], &[&house.device_ca]);
        let refused = Verdict::of(&dropped, &Form::Bundle, &kept, now());
        assert!(matches!(refused, Err(SyncError::Missing(id)) if id == IssuerId::of(&other.certificate)));

        let serial =
            rcgen::SerialNumber::from_slice(other.certificate.parsed().tbs_certificate().serial_number().as_bytes());
        let revoking = house.device_root.crl_with(2, &[1], |params| params.revoked_certs[0].serial_number = serial);
        let retired = open(vec![one, revoking], &[&house.device_ca]);
        assert!(Verdict::of(&retired, &Form::Bundle, &kept, now()).is_ok());
    }

    #[test]
    fn no_list_of_an_issuer_that_its_root_has_ended_is_taken() {
        let house = House::new();
        let stolen = house.device_root.issuing("second CA");
        let serial =
            rcgen::SerialNumber::from_slice(stolen.certificate.parsed().tbs_certificate().serial_number().as_bytes());
        let revoking = house.device_root.crl_with(2, &[1], |params| params.revoked_certs[0].serial_number = serial);
        let one = house.device_ca.crl(7, &[]);
        // Whatever its place in the set.
        for crls in [
            vec![stolen.crl(9, &[]), one.clone(), revoking.clone()],
            vec![one.clone(), revoking.clone(), stolen.crl(9, &[])],
        ] {
            for is_closed in [false, true] {
                let issuers = vec![house.device_ca.certificate.clone(), stolen.certificate.clone()];
                let came = Fetched { issuers, is_closed, ..fetched(&house, crls.clone()) };
                let verdict = Verdict::of(&came, &Form::Bundle, &State::default(), now()).unwrap();
                let held: Vec<_> = verdict.held.iter().map(|crl| crl.issuer.clone()).collect();
                let [own, root] = [&house.device_ca, &house.device_root].map(|ca| IssuerId::of(&ca.certificate));
                assert_eq!(held, [own, root]);
                assert_eq!(verdict.pem, [&one, &revoking].map(|crl| pem("X509 CRL", crl)).concat());
            }
        }
        // What another root has ended under the same number is another CA.
        let other = Ca::root("other root");
        let serial =
            rcgen::SerialNumber::from_slice(stolen.certificate.parsed().tbs_certificate().serial_number().as_bytes());
        let elsewhere = other.crl_with(1, &[1], |params| params.revoked_certs[0].serial_number = serial);
        let crls = vec![one, stolen.crl(9, &[]), house.device_root.crl(1, &[]), elsewhere];
        let issuers = vec![house.device_ca.certificate.clone(), stolen.certificate.clone()];
        let pem: String = [&house.device_root, &other].map(|root| pem("CERTIFICATE", root.certificate.der())).concat();
        let came = Fetched { issuers, roots: Roots::from_pem(pem.as_bytes()).unwrap(), ..fetched(&house, crls) };
        assert_eq!(Verdict::of(&came, &Form::Bundle, &State::default(), now()).unwrap().held.len(), 4);
    }

    #[test]
    fn where_the_only_issuer_was_ended_its_roots_crl_is_taken_alone_and_nowhere_else() {
        let house = House::new();
        let (one, root) = (house.device_ca.crl(7, &[]), house.device_root.crl(1, &[]));
        let ended = house.device_root.crl_with(2, &[1], |params| {
            let certificate = house.device_ca.certificate.parsed();
            let serial = certificate.tbs_certificate().serial_number().as_bytes();
            params.revoked_certs[0].serial_number = rcgen::SerialNumber::from_slice(serial);
        });
        let fleet: Form = "fleet:pumps".parse().unwrap();
        let judge = |crls: Vec<Vec<u8>>, is_closed: bool, kept: &State| {
            Verdict::of(&Fetched { is_closed, ..fetched(&house, crls) }, &fleet, kept, now())
        };
        for is_closed in [false, true] {
            let kept = judge(vec![one.clone(), root.clone()], is_closed, &State::default()).unwrap();
            let kept = kept.state(&State::default(), &fleet);
            let taken = judge(vec![ended.clone()], is_closed, &kept).unwrap();
            assert_eq!(taken.pem, pem("X509 CRL", &ended));
            assert!(judge(vec![ended.clone()], is_closed, &taken.state(&kept, &fleet)).is_ok(), "and goes on to be");
            // Another one that was there has not ended, whatever the server says.
            let other = house.device_root.issuing("second CA");
            let both = Fetched {
                issuers: vec![house.device_ca.certificate.clone(), other.certificate.clone()],
                is_closed,
                ..fetched(&house, vec![one.clone(), other.crl(7, &[]), root.clone()])
            };
            let with_both =
                Verdict::of(&both, &fleet, &State::default(), now()).unwrap().state(&State::default(), &fleet);
            assert!(matches!(judge(vec![ended.clone()], is_closed, &with_both), Err(SyncError::Empty)));
            // The root does not say so, or says so and nothing was known of it.
            assert!(matches!(judge(vec![house.device_root.crl(3, &[9])], is_closed, &kept), Err(SyncError::Empty)));
            assert!(matches!(judge(vec![ended.clone()], is_closed, &State::default()), Err(SyncError::Empty)));
        }
    }

    #[test]
    fn full_takes_the_one_that_was_asked_for() {
        let house = House::new();
        let asked = Form::Full(IssuerId::of(&house.device_ca.certificate));
        let right = fetched(&house, vec![house.device_ca.crl(7, &[])]);
        assert!(Verdict::of(&right, &asked, &State::default(), now()).is_ok());
        let wrong = fetched(&house, vec![house.device_root.crl(7, &[])]);
        assert!(matches!(Verdict::of(&wrong, &asked, &State::default(), now()), Err(SyncError::Mixed(_))));
        let none = fetched(&house, vec![]);
        assert!(matches!(Verdict::of(&none, &asked, &State::default(), now()), Err(SyncError::Missing(_))));
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        let number = CrlNumber::from_hex;
        assert!(number("0ff") < number("100"));
        assert!(number("00") < number("01"));
        assert_eq!(number("0000"), number("00"));
        assert_eq!(number("00").as_hex(), "0");
        assert_eq!(number("0100").to_string(), "256");
        assert_eq!(number(&"f".repeat(40)).to_string(), format!("0x{}", "f".repeat(40)));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Crl::parse(&bytes);
        }

        #[test]
        fn a_crl_with_any_changed_byte_is_never_taken(at in 0usize..10_000, flip in 1u8..=255) {
            let house = House::new();
            let mut crl = house.device_ca.crl(7, &[1]);
            let at = at % crl.len();
            crl[at] ^= flip;
            proptest::prop_assert!(judge(&house, vec![crl, house.device_root.crl(1, &[])], &State::default()).is_err());
        }
    }
}
