//! Enroll: from a proof to a certificate. The steps are those of `docs/issuance.md`.

use fleetca_proto::{transcript, v1};
use prost::Message;

use super::{Authority, Grant, MAX_ATTEMPTS, Refusal, Refused, refuse_cut_off};
use crate::{
    attestation::{self, AttestationError, Claims},
    audit::Draft,
    identity::{DeviceId, Kind, Subject, Timestamp, TokenId},
    inventory::{device::Status, fleet::Method, lineage::Lineage},
    pki::{Csr, PublicKey},
    store::{Attested, Enrollment, EnrollmentHolder, Holder, KeyUse, NewHolder, StoreError, TokenRow, TokenState},
};

/// The first message of an enrollment, read: nothing in it is proven yet.
#[derive(Debug)]
pub struct EnrollmentRequest {
    /// The bytes as they travelled: what the proofs sign.
    start: Vec<u8>,
    kind: Kind,
    id: Option<DeviceId>,
    csr: Vec<u8>,
    token: TokenId,
}

/// The two signatures of `Proof`.
#[derive(Clone, Copy, Debug)]
pub struct Proofs<'a> {
    /// By the evidence key.
    pub evidence: &'a [u8],
    /// By the CSR's key.
    pub subject: &'a [u8],
}

impl EnrollmentRequest {
    /// Step 1: reads `Start`. Anything that is not what it must be is refused, never repaired.
    pub fn read(start: Vec<u8>, trust_domain: &str) -> Result<Self, Refusal> {
        let message = v1::Start::decode(start.as_slice()).map_err(|_| Refusal::Protocol("Start can't be read"))?;
        if message.trust_domain != trust_domain {
            return Err(Refusal::TrustDomain);
        }
        let kind = match v1::Kind::try_from(message.kind) {
            Ok(v1::Kind::Device) => Kind::Device,
            Ok(v1::Kind::Gateway) => Kind::Gateway,
            Ok(v1::Kind::Operator) => Kind::Operator,
            _ => return Err(Refusal::invalid("kind", "must be device, gateway or operator")),
        };
        let id = match message.id.as_str() {
            "" => None,
            id => Some(id.parse().map_err(Refusal::name("id"))?),
        };
        let Some(v1::start::Evidence::Token(evidence)) = message.evidence else {
            return Err(Refusal::Protocol("Start has no evidence of a method that this server knows"));
        };
        let token = evidence.token_id.parse().map_err(Refusal::name("token_id"))?;
        Ok(Self { start, kind, id, csr: message.csr, token })
    }
}

/// Everything that is proven about an enrollment when the decision is made.
struct Proven {
    claims: Claims,
    key: PublicKey,
}

/// What the facts allow.
enum Decision {
    /// The same request again: the same certificate.
    Again { serial: crate::identity::SerialNumber, confirm_required: bool },
    /// A certificate for somebody new.
    Create(NewHolder),
    /// A certificate for somebody known.
    Admit(Box<Holder>),
}

impl Authority {
    /// Steps 3 to 8: verifies the proofs over `Start` and the serialized `Challenge`, decides, signs, records, answers.
    pub async fn enroll(
        &self,
        request: &EnrollmentRequest,
        challenge: &[u8],
        proofs: Proofs<'_>,
    ) -> Result<Grant, Refused> {
        self.refuse_restored()?;
        let token = self.store.token(&request.token).await.map_err(Refusal::from)?;
        let proven = verify(request, token.as_ref(), challenge, proofs)?;
        let token = token.ok_or(Refusal::Attestation(AttestationError::Signature))?;
        let subject = subject(request, &token)?;
        let about = Refused::about(&subject);
        for _ in 0..MAX_ATTEMPTS {
            let now = self.now();
            // Read again each time: what was read before may be why the attempt failed.
            let token = self.store.token(&request.token).await.map_err(Refusal::from).map_err(&about)?;
            let token = token.ok_or(Refusal::NotFound("token")).map_err(&about)?;
            let decision = self.decide_enrollment(&subject, &token, &proven, now).await.map_err(&about)?;
            match self.carry_out(decision, &subject, &token, &proven, now).await {
                Err(Refusal::Contended) => continue,
                outcome => return outcome.map_err(&about),
            }
        }
        Err(about(Refusal::Contended))
    }

    /// Step 5: what the facts allow.
    async fn decide_enrollment(
        &self,
        subject: &Subject,
        token: &TokenRow,
        proven: &Proven,
        now: Timestamp,
    ) -> Result<Decision, Refusal> {
        // In the order of `docs/issuance.md`: the first that applies is the answer.
        let holder = self.store.holder(subject).await?;
        let key_use = self.store.key_use(&proven.key.fingerprint()).await?;
        if let Some(holder) = &holder {
            refuse_cut_off(holder)?;
        }
        if let Some(decision) = answered_before(subject, token, &key_use, now)? {
            return Ok(decision);
        }
        check_token(token, now)?;
        check_method(self.terms(subject.kind, token.fleet.as_ref()).await?.policy.attest.as_slice(), &proven.claims)?;
        match holder {
            Some(_) if token.subject_id.is_none() => Err(Refusal::IdTaken),
            Some(holder) if holder.status == Status::Active && !token.reenroll => Err(Refusal::AlreadyEnrolled),
            Some(holder) => Ok(Decision::Admit(Box::new(holder))),
            None if self.store.holder_folded(subject.kind, &subject.id.folded()).await?.is_some() => {
                Err(Refusal::IdTaken)
            }
            None => Ok(Decision::Create(NewHolder {
                subject: subject.clone(),
                fleet: token.fleet.clone(),
                role: token.role,
                handle: self.new_handle()?,
                created_at: now,
            })),
        }
    }

    /// Steps 6 to 8: signs, records, answers.
    async fn carry_out(
        &self,
        decision: Decision,
        subject: &Subject,
        token: &TokenRow,
        proven: &Proven,
        now: Timestamp,
    ) -> Result<Grant, Refusal> {
        let (holder, handle, fleet, known) = match decision {
            Decision::Again { serial, confirm_required } => return self.grant_again(serial, confirm_required).await,
            Decision::Create(new) => (EnrollmentHolder::New(new.clone()), new.handle, new.fleet, Lineage::default()),
            Decision::Admit(holder) => {
                (EnrollmentHolder::Known(holder.version), holder.handle, holder.fleet, holder.lineage)
            }
        };
        // Step 6: the certificate, which nobody sees yet.
        let terms = self.terms(subject.kind, fleet.as_ref()).await?;
        let mut certificate = self.sign_leaf(subject, &handle, &terms, &proven.key, now)?;
        certificate.token = Some(token.id.clone());
        let again = known.head.is_some();
        let lineage =
            if again { known.issued(false, certificate.serial) } else { Lineage::begun_by(certificate.serial) };
        let mut audit = Draft::done(now, &subject.to_string(), "certificate.issued", subject.to_string())
            .serial(certificate.serial)
            .fact("by", "enrollment")
            .fact("method", proven.claims.method.as_str())
            .fact("attested_identity", proven.claims.identity.as_str())
            .fact("key", certificate.key.to_string())
            .fact("confirm_required", again);
        // Step 7: the record. From here on the same request gets the same certificate.
        if let Some(serial) = known.pending {
            audit = audit.fact("superseded", serial.to_string());
        }
        let record = Enrollment {
            holder,
            lineage,
            superseded: known.pending,
            attested: Attested {
                method: proven.claims.method.as_str().into(),
                tier: proven.claims.method.tier().into(),
                identity: proven.claims.identity.clone(),
            },
            token: Some(token.id.clone()),
            came_by: token.subject_id.is_none().then(|| token.id.clone()),
            certificate: certificate.clone(),
            at: now,
            audit,
        };
        self.store.record_enrollment(record).await?;
        self.telemetry.issued(subject.kind.as_str(), "enrollment");
        self.publisher.wake_if(known.pending.is_some());
        // Step 8: the answer.
        self.grant(certificate, self.store.trust_bundle().await?, again)
    }
}

/// Steps 3 and 4: the evidence, then the CSR and the fresh proof that its key is the caller's.
fn verify(
    request: &EnrollmentRequest,
    token: Option<&TokenRow>,
    challenge: &[u8],
    proofs: Proofs<'_>,
) -> Result<Proven, Refusal> {
    // A token that does not exist fails like one whose signature does not hold: nobody learns which ones exist.
    let token = token.ok_or(Refusal::Attestation(AttestationError::Signature))?;
    let signed = |spki: &[u8]| {
        let expected = attestation::token::Expected { id: &token.id, public_key: &token.public_key, csr_spki: spki };
        attestation::token::verify(&request.start, challenge, proofs.evidence, expected)
    };
    signed(&[]).map_err(Refusal::Attestation)?;
    let key = Csr::parse(&request.csr)?.into_public_key();
    let claims = signed(key.spki_der()).map_err(Refusal::Attestation)?;
    let bytes = transcript::enrollment(Method::Token.as_str(), transcript::Role::Subject, &request.start, challenge);
    key.verify(&bytes, proofs.subject).map_err(|_| Refusal::PossessionFailed)?;
    Ok(Proven { claims, key })
}

/// Whom the certificate would be for: the token's word, or the caller's within the token's pattern.
fn subject(request: &EnrollmentRequest, token: &TokenRow) -> Result<Subject, Refusal> {
    if request.kind != token.kind {
        return Err(Refusal::IdRefused);
    }
    let id = match (&token.subject_id, &request.id) {
        (Some(bound), None) => bound.clone(),
        (Some(bound), Some(asked)) if bound == asked => bound.clone(),
        (Some(_), Some(_)) => return Err(Refusal::IdRefused),
        (None, None) => return Err(Refusal::invalid("id", "a fleet token needs the device's ID")),
        (None, Some(asked)) => {
            let pattern = token.id_pattern.as_deref().unwrap_or("*");
            if !matches(pattern, asked.as_str()) {
                return Err(Refusal::IdRefused);
            }
            asked.clone()
        }
    };
    Ok(Subject::new(token.kind, id))
}

/// A key that is in use: by this very enrollment, whose answer was lost, or it is refused.
fn answered_before(
    subject: &Subject,
    token: &TokenRow,
    key_use: &KeyUse,
    now: Timestamp,
) -> Result<Option<Decision>, Refusal> {
    if key_use.banned {
        return Err(Refusal::KeyCompromised);
    }
    let same = |row: &&crate::store::CertificateRow| row.token.as_ref() == Some(&token.id) && row.holder == *subject;
    match key_use.certificates.iter().find(same) {
        // Too late: what was answered is worth nothing any more, and a token that has uses left is for new IDs only.
        Some(row) if row.not_after < now => {
            check_token(token, now)?;
            Err(Refusal::IdTaken)
        }
        Some(row) => Ok(Some(Decision::Again { serial: row.serial, confirm_required: row.position.is_unconfirmed() })),
        None if key_use.certificates.is_empty() => Ok(None),
        None => Err(Refusal::KeyReused),
    }
}

fn check_token(token: &TokenRow, now: Timestamp) -> Result<(), Refusal> {
    match token.state {
        TokenState::Revoked | TokenState::Suspended => Err(Refusal::TokenRevoked),
        TokenState::Live if token.uses_left == 0 => Err(Refusal::TokenSpent),
        TokenState::Live if token.expires_at < now => Err(Refusal::TokenExpired),
        TokenState::Live => Ok(()),
    }
}

fn check_method(accepted: &[Method], claims: &Claims) -> Result<(), Refusal> {
    if accepted.contains(&claims.method) { Ok(()) } else { Err(Refusal::MethodRefused) }
}

/// Whether an ID fits a pattern in which `*` stands for any run of characters.
fn matches(pattern: &str, id: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = id.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    let mut rest = rest;
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// A conflict is decided anew; every other fault of the store is the answer.
impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Refusal::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_whole_ids() {
        for (pattern, id) in
            [("*", "a"), ("pump-*", "pump-7"), ("*-7", "pump-7"), ("p*-*7", "pump-17"), ("a", "a"), ("a*", "a")]
        {
            assert!(matches(pattern, id), "{pattern} {id}");
        }
        for (pattern, id) in [("pump-*", "pum"), ("pump-*", "xpump-7"), ("a", "ab"), ("*-7", "pump-8"), ("ab*b", "ab")]
        {
            assert!(!matches(pattern, id), "{pattern} {id}");
        }
    }
}
