//! Step 5: who is it, and what do the facts allow?

use super::{EnrollmentRequest, request::Evidence, token, verify::Proven};
use crate::{
    authority::{Authority, Refusal, refuse_cut_off},
    identity::{FleetName, SerialNumber, Subject, Timestamp, TokenId},
    inventory::{device::Status, fleet::Policy},
    store::{CertificateRow, Holder, KeyUse, NewHolder, Role, TokenRow},
};

/// Whom the certificate would be for, and by what. Read again at each attempt.
#[derive(Debug)]
pub(super) struct Case {
    pub subject: Subject,
    pub by: By,
}

/// By what right.
#[derive(Debug)]
pub(super) enum By {
    /// A join token, as it is now.
    Token(Box<TokenRow>),
}

/// What the facts allow.
#[derive(Debug)]
pub(super) enum Decision {
    /// The same request again: the same certificate.
    Again { serial: SerialNumber, confirm_required: bool },
    /// A certificate for somebody new.
    Create(NewHolder),
    /// A certificate for somebody known.
    Admit(Box<Holder>),
}

impl Authority {
    /// Who it is, as the store has it now.
    pub(super) async fn case(&self, request: &EnrollmentRequest) -> Result<Case, Refusal> {
        match request.evidence() {
            Evidence::Token(id) => {
                let token = self.store.token(id).await?.ok_or(Refusal::NotFound("token"))?;
                Ok(Case { subject: token::subject(request, &token)?, by: By::Token(Box::new(token)) })
            }
            Evidence::Unknown(_) => Err(Refusal::MethodRefused),
        }
    }

    /// What the facts allow: in the order of `docs/issuance.md`, the first that applies is the answer.
    pub(super) async fn decide_enrollment(
        &self,
        case: &Case,
        proven: &Proven,
        now: Timestamp,
    ) -> Result<Decision, Refusal> {
        let holder = self.store.holder(&case.subject).await?;
        let key_use = self.store.key_use(&proven.key.fingerprint()).await?;
        if let Some(holder) = &holder {
            refuse_cut_off(holder)?;
        }
        if let Some(decision) = case.answered_before(&key_use, now)? {
            return Ok(decision);
        }
        case.by.check(now)?;
        let fleet = case.fleet(holder.as_ref());
        check_policy(&self.terms(case.subject.kind, fleet.as_ref()).await?.policy, proven)?;
        match (&case.by, holder) {
            (By::Token(token), Some(_)) if token.subject_id.is_none() => Err(Refusal::IdTaken),
            (By::Token(token), Some(holder)) if holder.status == Status::Active && !token.reenroll => {
                Err(Refusal::AlreadyEnrolled)
            }
            (By::Token(_), Some(holder)) => Ok(Decision::Admit(Box::new(holder))),
            (By::Token(token), None) => {
                let new = self.new_holder(&case.subject, token.fleet.clone(), token.role, now).await?;
                Ok(Decision::Create(new))
            }
        }
    }

    /// Somebody who did not exist; refused where the ID differs from an existing one in case only.
    async fn new_holder(
        &self,
        subject: &Subject,
        fleet: Option<FleetName>,
        role: Option<Role>,
        created_at: Timestamp,
    ) -> Result<NewHolder, Refusal> {
        if self.store.holder_folded(subject.kind, &subject.id.folded()).await?.is_some() {
            return Err(Refusal::IdTaken);
        }
        Ok(NewHolder { subject: subject.clone(), fleet, role, handle: self.new_handle()?, created_at })
    }
}

impl Case {
    /// The token that is used up by it.
    pub(super) fn token(&self) -> Option<&TokenId> {
        match &self.by {
            By::Token(token) => Some(&token.id),
        }
    }

    /// The fleet token by which the holder comes.
    pub(super) fn came_by(&self) -> Option<&TokenId> {
        match &self.by {
            By::Token(token) => token.subject_id.is_none().then_some(&token.id),
        }
    }

    /// Whose policy it follows.
    fn fleet(&self, _holder: Option<&Holder>) -> Option<FleetName> {
        match &self.by {
            By::Token(token) => token.fleet.clone(),
        }
    }

    /// Whether this certificate was the answer to this very enrollment.
    fn answered_with(&self, row: &CertificateRow) -> bool {
        let same = match &self.by {
            By::Token(token) => row.token.as_ref() == Some(&token.id),
        };
        same && row.holder == self.subject
    }

    /// A key that is in use: by this very enrollment, whose answer was lost, or it is refused.
    fn answered_before(&self, key_use: &KeyUse, now: Timestamp) -> Result<Option<Decision>, Refusal> {
        if key_use.banned {
            return Err(Refusal::KeyCompromised);
        }
        match key_use.certificates.iter().find(|row| self.answered_with(row)) {
            // Too late: what was answered is worth nothing any more, and a token that has uses left is for new IDs only.
            Some(row) if row.not_after < now => {
                self.by.check(now)?;
                Err(Refusal::IdTaken)
            }
            Some(row) => {
                Ok(Some(Decision::Again { serial: row.serial, confirm_required: row.position.is_unconfirmed() }))
            }
            None if key_use.certificates.is_empty() => Ok(None),
            None => Err(Refusal::KeyReused),
        }
    }
}

impl By {
    /// Whether what it rests on is worth something now.
    fn check(&self, now: Timestamp) -> Result<(), Refusal> {
        match self {
            By::Token(token) => token::check(token, now),
        }
    }
}

fn check_policy(policy: &Policy, proven: &Proven) -> Result<(), Refusal> {
    if policy.attest.contains(&proven.claims.method) { Ok(()) } else { Err(Refusal::MethodRefused) }
}
