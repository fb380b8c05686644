//! The use cases, one file each: the only place where the rooms meet.
//!
//! Every one follows the same way: read the facts, let a pure room decide, sign where there is something to sign, record
//! it all in one transaction, and only then answer. Where the facts have changed in between, the store says `Conflict`
//! and the case is decided anew.

mod adopt;
mod bulk;
mod bundle;
mod ceremony;
mod clock_check;
mod devices;
mod enroll;
mod fleets;
mod initialize;
mod issuers;
mod local;
mod notice;
mod ocsp;
mod partitions;
mod proof;
mod publish;
mod recognize;
mod refusal;
mod renew;
mod restore;
mod revoke;
mod root_crl;
mod seal;
mod struck;
mod tokens;

use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};

use crate::{
    clock::Clock,
    identity::{FleetName, Kind, SerialNumber, Subject, Timestamp, hex},
    inventory::fleet::{CrlScope, Policy, Tier, renewal_window},
    pki::{self, Holder as LeafHolder, KeyKind, LeafRequest, PolicyArc, PublicKey},
    store::{Domain, Holder, NewCertificate, Store},
    telemetry::Telemetry,
};

pub use bulk::BulkOutcome;
pub use bundle::TrustBundle;
pub use ceremony::{CeremonyError, RootKey, Roots};
pub use clock_check::{ClockError, check_clock};
pub use devices::NewDevice;
pub use enroll::{Answer, Challenge, EnrollmentRequest, Explained, Outcome, Seen, Trail, Way};
pub use initialize::{ForeignRoot, InitializeError, Initialized, Plan, initialize};
pub use issuers::{IssuerKeys, Issuers, IssuersError, OnlineIssuer, Place, ends_too_soon};
pub use local::{issue_server_certificate, recover_operator};
pub use notice::HeldCrl;
pub use ocsp::{OcspReply, OcspResponder, SignedReply};
pub use proof::{LoadedAt, LoadedBy, LoadedCrl, Shown, Takes, Watching};
pub use publish::{Leap, PublishError, Published, Publisher};
pub use refusal::{Refusal, Refused};
pub use restore::{
    LONGEST_WINDOW, Looked, RestoreError, TakenBack, UnknownCrl, latest, look_at, notice_restored, resume, take_back,
    undecided,
};
pub use revoke::Receipt;
pub use root_crl::{ROOT_CRL_LIFETIME, is_dated_ahead, judge_root_crl, root_crl};
pub use seal::seal_once;
pub use struck::{Struck, struck};
pub use tokens::{NewToken, TokenFor};

/// How long a gateway's certificate is valid.
const GATEWAY_VALIDITY: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 3600);
/// How long an operator's and the server's certificates are valid.
const OPERATOR_VALIDITY: std::time::Duration = std::time::Duration::from_secs(30 * 24 * 3600);
/// How often a use case is decided anew because the facts changed meanwhile, before it gives up.
const MAX_ATTEMPTS: usize = 16;

/// The record of a lost time that was noticed: by whom, and by which CRL.
const RESTORED: &str = "ca.restored";

/// The record of a CRL of a lost time that was taken in, and of what follows from it.
const TAKEN_BACK: &str = "crl.taken_back";

/// The record, and the event, of a root's CRL that somebody holds and that was forgotten here.
const ROOT_FORGOTTEN: &str = "crl.root_forgotten";

/// The certificate authority: everything that a use case needs.
pub struct Authority {
    /// What it remembers.
    pub store: Arc<dyn Store>,
    /// Its CRLs.
    pub publisher: Arc<Publisher>,
    /// What it tells its keepers.
    pub telemetry: Arc<Telemetry>,
    clock: Arc<dyn Clock>,
    domain: Domain,
    issuers: Arc<Issuers>,
    bundle: bundle::KeptBundle,
    kept: enroll::Kept,
    word: Arc<proof::Word>,
    backdate: std::time::Duration,
    policy_arc: Option<PolicyArc>,
    ocsp: bool,
    random: SystemRandom,
}

/// What a caller gets who is given a certificate.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The leaf, then its issuing CA (DER).
    pub chain: Vec<Vec<u8>>,
    /// In which to renew.
    pub window: (Timestamp, Timestamp),
    /// The trust bundle in force.
    pub trust_bundle: Arc<TrustBundle>,
    /// It waits for Confirm.
    pub confirm_required: bool,
    /// The server's clock.
    pub now: Timestamp,
}

impl Authority {
    /// The CA over this store, with these issuers.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        domain: Domain,
        issuers: Arc<Issuers>,
        publisher: Arc<Publisher>,
        telemetry: Arc<Telemetry>,
        backdate: std::time::Duration,
    ) -> Self {
        let (bundle, kept) = (bundle::KeptBundle::default(), enroll::Kept::default());
        let (policy_arc, ocsp, random, word) = (None, false, SystemRandom::new(), Arc::default());
        Self {
            store,
            publisher,
            telemetry,
            clock,
            domain,
            issuers,
            bundle,
            kept,
            word,
            backdate,
            policy_arc,
            ocsp,
            random,
        }
    }

    /// The same, with what devices have proven in their certificates, under this arc.
    pub fn with_policy_arc(self, policy_arc: Option<PolicyArc>) -> Self {
        Self { policy_arc, ..self }
    }

    /// The same; devices' certificates say who answers OCSP requests, if so.
    pub fn with_ocsp_in_certificates(self, ocsp: bool) -> Self {
        Self { ocsp, ..self }
    }

    /// Who answers OCSP requests by what this CA knows.
    pub fn ocsp_responder(&self) -> Arc<OcspResponder> {
        let (store, publisher, issuers) = (self.store.clone(), self.publisher.clone(), self.issuers.clone());
        OcspResponder::new(store, publisher, issuers, self.telemetry.clone(), self.clock.clone(), self.backdate)
    }

    /// Now, by the CA's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What `init` fixed for ever.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The issuers whose keys are at hand.
    pub fn issuers(&self) -> &Issuers {
        &self.issuers
    }

    /// `N` octets from the system's secure random source.
    pub fn random<const N: usize>(&self) -> Result<[u8; N], Refusal> {
        random(&self.random)
    }

    /// A handle for a holder's own CRL: 32 random hexadecimal digits.
    fn new_handle(&self) -> Result<String, Refusal> {
        new_handle(&self.random)
    }

    /// The policy that a certificate for this subject follows: its fleet's, or the fixed one of its kind.
    async fn terms(&self, kind: Kind, fleet: Option<&FleetName>) -> Result<Terms, Refusal> {
        let policy = match fleet {
            Some(name) => self.store.policy(name).await?,
            None => None,
        };
        Terms::new(kind, fleet, policy)
    }

    /// Builds, lints and signs a certificate for a holder who has proven so much. Not recorded yet: nobody may see it.
    fn sign_leaf(
        &self,
        subject: &Subject,
        handle: &str,
        terms: &Terms,
        key: &PublicKey,
        tier: Option<Tier>,
        now: Timestamp,
    ) -> Result<NewCertificate, Refusal> {
        if subject.kind == Kind::Device {
            refuse_key_kind(&terms.policy, key.kind())?;
        }
        let not_after = now + terms.validity;
        let issuer = self.issuers.for_subject(subject, &terms.policy.spread, not_after, self.publisher.now())?;
        let holder = match (subject.kind, &terms.fleet) {
            (Kind::Device, Some(fleet)) => LeafHolder::Device { id: &subject.id, fleet },
            (Kind::Gateway, _) => LeafHolder::Gateway(&subject.id),
            (Kind::Operator, _) => LeafHolder::Operator(&subject.id),
            (Kind::Device | Kind::Server, _) => return Err(Refusal::NotFound("fleet")),
        };
        let crl = match terms.policy.crl_scope {
            CrlScope::Device if subject.kind == Kind::Device => pki::CrlScope::Device(handle),
            _ => pki::CrlScope::Full,
        };
        let device = subject.kind == Kind::Device;
        let policy = self.policy_arc.zip(tier).filter(|_| device).map(|(arc, tier)| arc.policy(tier));
        let request = LeafRequest {
            holder,
            key,
            serial: SerialNumber::new(now, self.random()?),
            not_before: now - self.backdate,
            not_after,
            crl,
            policy,
            ocsp: self.ocsp && device,
        };
        issuer.sign_leaf(&request)
    }

    /// The answer that hands out a recorded certificate.
    fn grant(
        &self,
        certificate: NewCertificate,
        trust_bundle: Arc<TrustBundle>,
        confirm_required: bool,
    ) -> Result<Grant, Refusal> {
        let issuer = self.issuers.certificate(&certificate.issuer).ok_or(Refusal::Internal("issuer unknown"))?;
        let issued_at = certificate.not_before + self.backdate;
        Ok(Grant {
            window: renewal_window(issued_at, certificate.not_after),
            chain: vec![certificate.der, issuer.der().to_vec()],
            trust_bundle,
            confirm_required,
            now: self.now(),
        })
    }

    /// The window in which a certificate of these dates renews.
    pub fn window(&self, not_before: Timestamp, not_after: Timestamp) -> (Timestamp, Timestamp) {
        renewal_window(not_before + self.backdate, not_after)
    }

    /// Hands out a certificate that was recorded before.
    async fn grant_again(&self, serial: SerialNumber, confirm_required: bool) -> Result<Grant, Refusal> {
        let (row, der) = self.store.certificate(serial).await?.ok_or(Refusal::NotFound("certificate"))?;
        let certificate = NewCertificate {
            serial,
            issuer: row.issuer,
            key: row.key,
            hash: row.hash,
            not_before: row.not_before,
            not_after: row.not_after,
            presented: row.presented,
            token: row.token,
            der,
        };
        self.grant(certificate, self.trust_bundle().await?, confirm_required)
    }
}

/// What a certificate is made by.
struct Terms {
    policy: Policy,
    validity: std::time::Duration,
    fleet: Option<FleetName>,
}

impl Terms {
    /// `policy` is the fleet's as it was read; a fleet without one does not exist.
    fn new(kind: Kind, fleet: Option<&FleetName>, policy: Option<Policy>) -> Result<Self, Refusal> {
        let policy = match (fleet, policy) {
            (None, _) => Policy::default(),
            (Some(_), Some(policy)) => policy,
            (Some(_), None) => return Err(Refusal::NotFound("fleet")),
        };
        let validity = match kind {
            Kind::Device => policy.validity(),
            Kind::Gateway => GATEWAY_VALIDITY,
            Kind::Operator | Kind::Server => OPERATOR_VALIDITY,
        };
        Ok(Terms { policy, validity, fleet: fleet.cloned() })
    }
}

/// Whether a fleet's devices may have such keys.
fn refuse_key_kind(policy: &Policy, kind: KeyKind) -> Result<(), Refusal> {
    if policy.key_types.contains(&kind) { Ok(()) } else { Err(Refusal::KeyTypeRefused) }
}

/// Does what is recorded to its end, though the caller be gone: who hangs up must not keep it from being told.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::spawn(work).await.unwrap_or(Err(Refusal::Internal("what was to be recorded was cut off")))
}

/// `N` octets from a secure random source.
fn random<const N: usize>(source: &SystemRandom) -> Result<[u8; N], Refusal> {
    let mut octets = [0; N];
    source.fill(&mut octets).map_err(|_| Refusal::Internal("no randomness"))?;
    Ok(octets)
}

fn new_handle(source: &SystemRandom) -> Result<String, Refusal> {
    let octets: [u8; 16] = random(source)?;
    Ok(hex(&octets))
}

/// A holder that cannot get anything in its state is told so.
fn refuse_cut_off(holder: &Holder) -> Result<(), Refusal> {
    use crate::inventory::device::Status;
    match holder.status {
        Status::Held => Err(Refusal::Held),
        Status::Revoked => Err(Refusal::Revoked),
        Status::Decommissioned => Err(Refusal::Decommissioned),
        Status::Registered | Status::Pending | Status::Active => Ok(()),
    }
}

/// The same where somebody enrolls: who is revoked may do so once more where an admin has allowed it.
fn refuse_barred(holder: &Holder, now: Timestamp) -> Result<(), Refusal> {
    if holder.may_reenroll(now) { Ok(()) } else { refuse_cut_off(holder) }
}

#[cfg(test)]
mod tests;
