//! The judgement on a set of CRLs: each verified, none missing, none mixed in, none older than before. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Fetched, Form, Held, IssuerId, SyncError,
    crl::{Crl, CrlError, CrlNumber, verify_issuer},
    state::{Kept, State},
};
use crate::{
    certificate::{Certificate, hex, pem, sha256},
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

struct Issuer<'a> {
    certificate: &'a Certificate,
    is_root: bool,
}

impl Verdict {
    /// Judges what was fetched.
    pub(super) fn of(fetched: &Fetched, form: &Form, kept: &State, now: WallTime) -> Result<Self, SyncError> {
        let known = known_issuers(fetched);
        let mut verdict = Self { pem: String::new(), held: Vec::new(), kept: BTreeMap::new() };
        let mut revoked_issuers = BTreeSet::new();
        for der in &fetched.crls {
            let crl = Crl::parse(der).map_err(|_| SyncError::NotCrls("it cannot be read"))?;
            let id = IssuerId::of_key_identifier(crl.authority_key).ok_or(SyncError::NotCrls("no issuer"))?;
            let issuer = known.get(&id).ok_or_else(|| SyncError::Mixed(id.clone()))?;
            if matches!(form, Form::Full(asked) if *asked != id) || verdict.kept.contains_key(&id) {
                return Err(SyncError::Mixed(id));
            }
            verify_issuer(issuer.certificate, &fetched.roots, now)
                .map_err(|reason| SyncError::Issuer { issuer: id.clone(), reason })?;
            let refused = |reason| SyncError::Crl { issuer: id.clone(), reason };
            crl.verify(issuer.certificate, now).map_err(refused)?;
            check_number(&crl, kept.crls.get(&id)).map_err(refused)?;
            if issuer.is_root {
                revoked_issuers.extend(crl.serials().map_err(refused)?);
            }
            verdict.take(&crl, id.clone(), issuer).map_err(refused)?;
        }
        verdict.check_complete(fetched, form, kept, &revoked_issuers, now)?;
        Ok(verdict)
    }

    /// What to remember from now on: what is held, and the numbers of issuers that are no longer in the file, as long
    /// as their certificates last.
    pub(super) fn state(&self, before: &State, form: &Form) -> State {
        let mut crls = before.crls.clone();
        crls.values_mut().for_each(|crl| crl.in_file = false);
        crls.extend(self.kept.clone());
        State { form: form.to_string(), file_sha256: hex(&sha256(self.pem.as_bytes())), crls, ..State::default() }
    }

    fn take(&mut self, crl: &Crl<'_>, id: IssuerId, issuer: &Issuer<'_>) -> Result<(), CrlError> {
        self.pem.push_str(&pem("X509 CRL", crl.der()));
        self.held.push(Held {
            issuer: id.clone(),
            number: crl.number.as_str().to_owned(),
            entries: crl.count()?,
            this_update: crl.this_update,
            next_update: crl.next_update,
            is_root: issuer.is_root,
        });
        let kept = Kept {
            number: crl.number.as_str().to_owned(),
            sha256: hex(&sha256(crl.der())),
            this_update: crl.this_update,
            issuer_serial: issuer.certificate.serial(),
            issuer_not_after: issuer.certificate.not_after(),
            in_file: true,
        };
        self.kept.insert(id, kept);
        Ok(())
    }

    fn check_complete(
        &self,
        fetched: &Fetched,
        form: &Form,
        kept: &State,
        revoked_issuers: &BTreeSet<String>,
        now: WallTime,
    ) -> Result<(), SyncError> {
        let missing = |id: &IssuerId| !self.kept.contains_key(id);
        if let Form::Full(asked) = form {
            return if missing(asked) { Err(SyncError::Missing(asked.clone())) } else { Ok(()) };
        }
        if self.held.iter().all(|crl| crl.is_root) {
            return Err(SyncError::Empty);
        }
        let roots = fetched.roots.certificates().iter();
        let absent_root = roots.filter(|root| self.needs_root(root, fetched)).map(IssuerId::of).find(missing);
        let known = known_issuers(fetched);
        let same_form = kept.form == form.to_string();
        // Gone for good: expired, revoked by its root, or no longer named by a closed list.
        let is_gone = |id: &IssuerId, crl: &Kept| {
            crl.issuer_not_after < now
                || revoked_issuers.contains(&crl.issuer_serial)
                || (fetched.is_closed && !known.contains_key(id))
        };
        let dropped = kept
            .crls
            .iter()
            .find(|(id, crl)| same_form && crl.in_file && missing(id) && !is_gone(id, crl))
            .map(|(id, _)| id.clone());
        let unsent = fetched
            .issuers
            .iter()
            .filter(|_| fetched.is_closed && *form == Form::Bundle)
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

fn check_number(crl: &Crl<'_>, kept: Option<&Kept>) -> Result<(), CrlError> {
    let Some(kept) = kept else { return Ok(()) };
    let before = CrlNumber::from_hex(&kept.number);
    if crl.number < before {
        let found = crl.number.as_str().to_owned();
        return Err(CrlError::Lower { found, kept: before.as_str().to_owned() });
    }
    if crl.number == before && kept.sha256 != hex(&sha256(crl.der())) {
        return Err(CrlError::Forked(before.as_str().to_owned()));
    }
    Ok(())
}
