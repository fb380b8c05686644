//! Step 5: who is it, and what do the facts allow?

use super::{
    EnrollmentRequest, known, previous,
    request::{Asks, Evidence},
    token, tpm,
    unknown::{self, Newcomer},
    verify::Proven,
};
use crate::{
    attestation::Claims,
    authority::{Authority, Refusal, refuse_barred},
    identity::{FleetName, HardwareId, SerialNumber, Subject, Timestamp, TokenId},
    inventory::{
        device::Status,
        fleet::{Policy, Tier},
    },
    store::{Asking, Attested, CertificateRow, Holder, KeyUse, NewHolder, RenewalFacts, Role, TokenRow},
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
    /// What was registered for this device.
    Known(Box<Holder>),
    /// A maker's root, for a device that nobody registered.
    Unknown(Box<Newcomer>),
    /// An expired certificate, its holder and what is known of the CSR's key.
    Previous(Box<RenewalFacts>),
}

/// What was proven beside a token, and where its key was seen before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown<'a> {
    pub claims: &'a Claims,
    pub key_use: &'a KeyUse,
}

/// What the facts allow.
#[derive(Debug)]
pub(super) enum Decision {
    /// The same request again: the same certificate.
    Again { serial: SerialNumber, confirm_required: bool },
    /// A certificate for somebody new.
    Create(NewHolder),
    /// A certificate for somebody new whom an operator has approved.
    Approved(NewHolder),
    /// An operator has not decided yet.
    Wait(Box<Asking>),
    /// An operator has to decide; how many may wait for that.
    Ask(Box<Asking>, u32),
    /// A certificate for somebody known.
    Admit {
        holder: Box<Holder>,
        /// What was pending is in force first.
        promote: bool,
    },
}

impl Authority {
    /// Who it is, as the store has it now.
    pub(super) async fn case(&self, request: &EnrollmentRequest, proven: &Proven) -> Result<Case, Refusal> {
        match request.evidence() {
            Evidence::Token(id) => {
                let token = self.store.token(id).await?.ok_or(Refusal::NotFound("token"))?;
                Ok(Case { subject: token::subject(request, &token)?, by: By::Token(Box::new(token)) })
            }
            Evidence::Factory(_) => {
                let id = HardwareId::idevid(&proven.claims.identity).map_err(|_| Refusal::Internal("no identity"))?;
                self.case_of_hardware(request.asks(), &id, proven.newcomer.as_ref()).await
            }
            Evidence::RegisteredKey(id) => {
                let (key, holder) = self.store.registered_key(id).await?.ok_or(Refusal::NotFound("registered key"))?;
                if !key.is_in_force(self.now()) {
                    return Err(Refusal::KeyNotInForce(holder.subject));
                }
                known::check_name(request.asks(), &holder)?;
                Ok(Case { subject: holder.subject.clone(), by: By::Known(Box::new(holder)) })
            }
            Evidence::Tpm(evidence) => {
                self.case_of_hardware(request.asks(), &tpm::identity(evidence), proven.newcomer.as_ref()).await
            }
            Evidence::Previous(certificate) => {
                let facts = previous::facts(self, request.id(), certificate, proven).await?;
                Ok(Case { subject: facts.peer.holder.subject.clone(), by: By::Previous(Box::new(facts)) })
            }
        }
    }

    /// Whose hardware it is: a device's, or one's that nobody registered.
    pub(super) async fn case_of_hardware(
        &self,
        asks: Asks<'_>,
        id: &HardwareId,
        newcomer: Option<&Newcomer>,
    ) -> Result<Case, Refusal> {
        match (known::owner(self, id).await?, newcomer) {
            // Registered meanwhile, where the evidence was not held against the fleet's rules.
            (Some(holder), Some(newcomer)) if holder.fleet.as_ref() != Some(&newcomer.fleet) => Err(Refusal::Contended),
            (Some(holder), _) => {
                known::check_name(asks, &holder)?;
                Ok(Case { subject: holder.subject.clone(), by: By::Known(Box::new(holder)) })
            }
            (None, Some(newcomer)) => {
                let subject = unknown::subject(self, asks, newcomer).await?;
                Ok(Case { subject, by: By::Unknown(Box::new(newcomer.clone())) })
            }
            (None, None) => Err(Refusal::NotFound("device")),
        }
    }

    /// What the facts allow: in the order of `docs/issuance.md`, the first that applies is the answer.
    pub(super) async fn decide_enrollment(
        &self,
        case: &Case,
        proven: &Proven,
        policy: &Policy,
        now: Timestamp,
    ) -> Result<Decision, Refusal> {
        let token = match &case.by {
            By::Token(token) => token,
            By::Known(holder) => return known::decide(self, holder, proven, policy, now).await,
            By::Unknown(newcomer) => {
                let wanted = (&proven.key).into();
                return unknown::decide(self, newcomer, &case.subject, &proven.claims, wanted, policy, now).await;
            }
            By::Previous(facts) => return previous::decide(self, facts, proven, policy, now),
        };
        let holder = self.store.holder(&case.subject).await?;
        let key_use = self.store.key_use(&proven.key.fingerprint()).await?;
        // Whoever spends the token or cuts its device off meanwhile changes both: what was read of two moments is read again.
        let standing = |token: &TokenRow| (token.state, token.uses_left > 0);
        let token_now = self.store.token(&token.id).await?.ok_or(Refusal::NotFound("token"))?;
        if standing(&token_now) != standing(token) {
            return Err(Refusal::Contended);
        }
        let shown = Shown { claims: &proven.claims, key_use: &key_use };
        self.decide_by_token(&case.subject, holder, token, shown, policy, now).await
    }

    /// What a token allows. The token is judged before its device is looked at: whoever holds one that is worth nothing
    /// learns nothing of any device; and with one that is for any new device, of those that are there only that they are.
    pub(super) async fn decide_by_token(
        &self,
        subject: &Subject,
        holder: Option<Holder>,
        token: &TokenRow,
        shown: Shown<'_>,
        policy: &Policy,
        now: Timestamp,
    ) -> Result<Decision, Refusal> {
        let Shown { claims, key_use } = shown;
        if let Some(decision) = answered_before(token, subject, holder.as_ref(), key_use, now)? {
            return Ok(decision);
        }
        token::check(token, now)?;
        refuse_used(key_use)?;
        policy.admit(claims.method, claims.tier)?;
        match holder {
            Some(_) if token.subject_id.is_none() => Err(Refusal::IdTaken),
            Some(holder) => {
                refuse_barred(&holder, now)?;
                if known::recorded_tier(&holder) > claims.tier {
                    return Err(Refusal::TierRefused);
                }
                if holder.status == Status::Active && !token.reenroll {
                    return Err(Refusal::AlreadyEnrolled(claims.method));
                }
                Ok(Decision::Admit { holder: Box::new(holder), promote: false })
            }
            None => {
                let new = self.new_holder(subject, token.fleet.clone(), token.role, now).await?;
                Ok(Decision::Create(new))
            }
        }
    }

    /// Somebody who did not exist; refused where the ID differs from an existing one in case only.
    pub(super) async fn new_holder(
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
            By::Known(_) | By::Unknown(_) | By::Previous(_) => None,
        }
    }

    /// The fleet token by which the holder comes.
    pub(super) fn came_by(&self) -> Option<&TokenId> {
        match &self.by {
            By::Token(token) => token.subject_id.is_none().then_some(&token.id),
            By::Known(_) | By::Unknown(_) | By::Previous(_) => None,
        }
    }

    /// The fleet whose policy counts.
    pub(super) fn fleet(&self) -> Option<&FleetName> {
        match &self.by {
            By::Token(token) => token.fleet.as_ref(),
            By::Known(holder) => holder.fleet.as_ref(),
            By::Unknown(newcomer) => Some(&newcomer.fleet),
            By::Previous(facts) => facts.peer.holder.fleet.as_ref(),
        }
    }

    /// The device that nobody registered.
    pub(super) fn newcomer(&self) -> Option<&Newcomer> {
        match &self.by {
            By::Unknown(newcomer) => Some(newcomer),
            By::Token(_) | By::Known(_) | By::Previous(_) => None,
        }
    }

    /// The certificate that was presented for it.
    pub(super) fn presented(&self) -> Option<SerialNumber> {
        match &self.by {
            By::Token(_) | By::Known(_) | By::Unknown(_) => None,
            By::Previous(facts) => Some(facts.peer.certificate.serial),
        }
    }

    /// What the certificate says was proven: with one that was presented, what that one descends from, and no more.
    pub(super) fn tier(&self, claims: &Claims) -> Option<Tier> {
        match &self.by {
            By::Token(_) | By::Known(_) | By::Unknown(_) => Some(claims.tier),
            By::Previous(facts) => facts.peer.certificate.attested.as_ref().and_then(Attested::tier),
        }
    }

    /// What is kept of how the holder proved itself.
    pub(super) fn attested(&self, claims: &Claims) -> Attested {
        match &self.by {
            By::Token(_) | By::Known(_) | By::Unknown(_) => Attested {
                method: claims.method.as_str().into(),
                tier: claims.tier.as_str().into(),
                identity: claims.identity.clone(),
            },
            By::Previous(facts) => facts.peer.holder.attested.clone().unwrap_or_else(Attested::restored),
        }
    }
}

/// The answer to this very enrollment, where its reply was lost: whoever has its token and its key, is its device.
fn answered_before(
    token: &TokenRow,
    subject: &Subject,
    holder: Option<&Holder>,
    key_use: &KeyUse,
    now: Timestamp,
) -> Result<Option<Decision>, Refusal> {
    let same = |row: &&CertificateRow| row.token.as_ref() == Some(&token.id) && row.holder == *subject;
    let (Some(row), Some(holder)) = (key_use.certificates.iter().find(same), holder) else { return Ok(None) };
    refuse_barred(holder, now)?;
    if key_use.banned {
        return Err(Refusal::KeyCompromised);
    }
    // Too late: what was answered is worth nothing any more, and a token that has uses left is for new IDs only.
    if holder.status == Status::Revoked || row.not_after < now || row.revoked.is_some() {
        token::check(token, now)?;
        return Err(Refusal::IdTaken);
    }
    Ok(Some(Decision::Again { serial: row.serial, confirm_required: row.position.is_unconfirmed() }))
}

/// A key that was certified before, or is banned, is no new one.
fn refuse_used(key_use: &KeyUse) -> Result<(), Refusal> {
    match key_use.banned {
        true => Err(Refusal::KeyCompromised),
        false if key_use.certificates.is_empty() => Ok(()),
        false => Err(Refusal::KeyReused),
    }
}
