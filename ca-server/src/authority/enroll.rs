//! Enroll: from a proof to a certificate. The steps are those of `docs/issuance.md`.
//!
//! What differs between methods is in [`request`] (what `Start` says), [`verify`](mod@verify) (what was proven) and
//! [`admit`] (who that is, and what the facts allow). What follows is the same for all.

mod admit;
mod explain;
mod factory;
mod known;
mod previous;
mod registered_key;
mod request;
mod takers;
mod token;
mod tpm;
mod trail;
mod unknown;
mod verify;

use fleetca_proto::v1;

use admit::{Case, Decision};
use verify::Proven;

use super::{Authority, Grant, MAX_ATTEMPTS, Refusal, Refused, Terms, to_its_end};
use crate::{
    audit::Draft,
    identity::Timestamp,
    inventory::{device::Status, lineage::Lineage},
    store::{Asking, Enrollment, EnrollmentHolder, Holder, StoreError},
};

pub use explain::{Answer, Explained, Way};
pub use request::EnrollmentRequest;
pub(super) use takers::Kept;
pub use trail::Trail;
pub use unknown::Seen;
pub use verify::Challenge;

/// What comes of an enrollment that was not refused.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A certificate.
    Issued(Grant),
    /// It waits for an operator's approval: of this.
    Waits(Box<Asking>),
}

impl Authority {
    /// Steps 3 to 8: verifies the proofs over `Start` and `Challenge`, decides, signs, records, answers.
    pub async fn enroll(
        &self,
        request: &EnrollmentRequest,
        challenge: &Challenge,
        proof: &v1::Proof,
    ) -> Result<Outcome, Refused> {
        let mut trail = Trail::of(request);
        let outcome = self.attempt(request, challenge, proof, &mut trail).await;
        outcome.map_err(|refused| refused.on(trail))
    }

    async fn attempt(
        &self,
        request: &EnrollmentRequest,
        challenge: &Challenge,
        proof: &v1::Proof,
        trail: &mut Trail,
    ) -> Result<Outcome, Refused> {
        self.refuse_restored()?;
        let proven = self.verify_enrollment(request, challenge, proof, trail).await?;
        for _ in 0..MAX_ATTEMPTS {
            // Again: a restored past may be why the attempt failed.
            self.refuse_restored()?;
            let now = self.now();
            // Read again each time: what was read before may be why the attempt failed.
            let case = self.case(request, &proven).await?;
            // A device that nobody registered has proven no name: what becomes of it is about nobody.
            let subject = case.newcomer().is_none().then(|| case.subject.clone());
            let about = |why| Refused { why, subject: subject.clone(), trail: None };
            trail.fleet(case.fleet());
            // One policy for what is decided, signed and recorded.
            let terms = self.terms(case.subject.kind, case.fleet()).await.map_err(&about)?;
            let decision = match self.decide_enrollment(&case, &proven, &terms.policy, now).await {
                Err(Refusal::Contended) => continue,
                decision => decision.map_err(&about)?,
            };
            match self.carry_out(decision, &case, &proven, &terms, now).await {
                Err(Refusal::Contended) => continue,
                outcome => return outcome.map_err(&about),
            }
        }
        Err(Refusal::Contended.into())
    }

    /// Steps 6 to 8: signs, records, answers.
    async fn carry_out(
        &self,
        decision: Decision,
        case: &Case,
        proven: &Proven,
        terms: &Terms,
        now: Timestamp,
    ) -> Result<Outcome, Refusal> {
        let subject = &case.subject;
        let approved = matches!(decision, Decision::Approved(_));
        let (holder, handle, known) = match decision {
            Decision::Again { serial, confirm_required } => {
                return self.grant_again(serial, confirm_required).await.map(Outcome::Issued);
            }
            Decision::Wait(asking) => return Ok(Outcome::Waits(asking)),
            Decision::Ask(asking, most) => return self.ask(*asking, most, now).await,
            Decision::Create(new) | Decision::Approved(new) => {
                (EnrollmentHolder::New(new.clone()), new.handle, Lineage::default())
            }
            Decision::Admit { holder, promote } => {
                let known = continued(&holder, promote);
                (EnrollmentHolder::Known(holder.version), holder.handle, known)
            }
        };
        // Step 6: the certificate, which nobody sees yet.
        let mut certificate = self.sign_leaf(subject, &handle, terms, &proven.key, case.tier(&proven.claims), now)?;
        (certificate.token, certificate.presented) = (case.token().cloned(), case.presented());
        let again = known.has_begun();
        let lineage =
            if again { known.issued(false, certificate.serial) } else { Lineage::begun_by(certificate.serial) };
        let mut audit = Draft::done(now, &subject.to_string(), "certificate.issued", subject.to_string())
            .serial(certificate.serial)
            .fact("by", "enrollment")
            .fact("method", proven.claims.method.as_str())
            .fact("attested_identity", proven.claims.identity.as_str())
            .fact("key", certificate.key.to_string())
            .fact("confirm_required", again);
        if let Some(presented) = case.presented() {
            audit = audit.fact("presented", presented.to_string());
        }
        if let Some(newcomer) = case.newcomer() {
            audit = audit.fact("registered", newcomer.hardware.kind()).fact("fleet", newcomer.fleet.as_str());
            audit = audit.fact("approved", approved);
        }
        // Step 7: the record. From here on the same request gets the same certificate.
        if let Some(serial) = known.pending {
            audit = audit.fact("superseded", serial.to_string());
        }
        let record = Enrollment {
            holder,
            lineage,
            superseded: known.pending,
            attested: case.attested(&proven.claims),
            hardware: case.newcomer().map(|newcomer| newcomer.hardware.clone()),
            approved,
            policy: case.fleet().map(|fleet| (fleet.clone(), terms.policy.clone())),
            local: false,
            token: case.token().cloned(),
            assertion: proven.assertion.map(|used| (used.hash, used.expires_at)),
            came_by: case.came_by().cloned(),
            certificate: certificate.clone(),
            at: now,
            audit,
        };
        let (serial, superseded) = (certificate.serial, known.pending);
        let presented = case.presented().is_some();
        let (subject, store) = (subject.clone(), self.store.clone());
        let (telemetry, publisher) = (self.telemetry.clone(), self.publisher.clone());
        to_its_end(async move {
            store.record_enrollment(record).await?;
            telemetry.issued(subject.kind.as_str(), "enrollment");
            if let Some(replaced) = superseded.filter(|_| presented) {
                let detail = format!("pending {replaced} replaced by {serial}");
                telemetry.event("lineage.second_key", &subject.to_string(), &detail, now);
            }
            publisher.wake_if(superseded.is_some());
            Ok(())
        })
        .await?;
        // Step 8: the answer.
        self.grant(certificate, self.trust_bundle().await?, again).map(Outcome::Issued)
    }
}

/// The lineage that a known holder goes on with.
fn continued(holder: &Holder, promote: bool) -> Lineage {
    match holder.status {
        Status::Revoked => holder.lineage.restarted(),
        _ if promote => holder.lineage.promoted(),
        _ => holder.lineage.clone(),
    }
}

/// A conflict is decided anew; every other fault of the store is the answer.
impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Refusal::from(error).into()
    }
}
