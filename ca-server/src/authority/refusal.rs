//! Why a use case did not do what was asked. `rpc/status` turns each into what a peer may know.

use super::{PublishError, Trail};
use crate::{
    attestation::AttestationError,
    identity::{NameError, Subject, Timestamp},
    inventory::{fleet::Method, quota::Exceeded},
    pki::{CsrError, IssuanceError},
    signer::SignerError,
    store::{Role, StoreError},
};

/// Why not. No variant carries what would have been accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A message that can't be read, or in the wrong place.
    #[error("{0}")]
    Protocol(&'static str),
    /// A field of a request that can't be what it is.
    #[error("{field}: {why}")]
    Invalid {
        /// The field's name on the wire.
        field: &'static str,
        /// What it must be.
        why: String,
    },
    /// The client believes to talk to another environment.
    #[error("this server is of another trust domain")]
    TrustDomain,
    /// Evidence that does not hold, or names a token that does not exist.
    #[error("the evidence was not accepted")]
    Attestation(#[source] AttestationError),
    /// The fleet does not accept the method.
    #[error("the fleet does not accept this attestation method")]
    MethodRefused,
    /// The fleet, or the device's own past, demands more than was proven.
    #[error("more has to be proven than this: the fleet demands it, or the device has proven more before")]
    TierRefused,
    /// A registered key before or after its time.
    #[error("the evidence was not accepted")]
    KeyNotInForce(Subject),
    /// Hardware that an operator has retired, of this device.
    #[error("the evidence was not accepted")]
    HardwareRetired(Subject),
    /// A token without a use left.
    #[error("the token has been used; ask an operator for a new one")]
    TokenSpent,
    /// A token after its time.
    #[error("the token has expired; ask an operator for a new one")]
    TokenExpired,
    /// A token that was ended.
    #[error("the token was revoked; ask an operator for a new one")]
    TokenRevoked,
    /// An ID that the evidence does not allow.
    #[error("the evidence does not allow this ID")]
    IdRefused,
    /// An ID that exists, in whatever case it is written.
    #[error("this ID, or one that differs in case only, exists already")]
    IdTaken,
    /// The device is active, and what it proved by this method does not let it enroll again.
    #[error("the device has enrolled already; {}", again(*.0))]
    AlreadyEnrolled(Method),
    /// On hold.
    #[error("on hold; an operator must release it")]
    Held,
    /// Revoked.
    #[error("revoked")]
    Revoked,
    /// Out of use for good.
    #[error("decommissioned")]
    Decommissioned,
    /// Known but not active.
    #[error("not enrolled")]
    NotEnrolled,
    /// The CSR.
    #[error("the CSR was refused: {0}")]
    Csr(#[source] CsrError),
    /// The CSR key did not sign this enrollment.
    #[error("the CSR key's signature over the transcript does not hold")]
    PossessionFailed,
    /// The fleet does not accept keys of this type.
    #[error("the fleet does not accept keys of this type")]
    KeyTypeRefused,
    /// The key is certified already.
    #[error("this key has a certificate already; make a new key")]
    KeyReused,
    /// The key was revoked for compromise.
    #[error("this key was revoked for compromise; make a new key")]
    KeyCompromised,
    /// Two holders of one identity.
    #[error("this certificate was renewed by another holder; an operator must decide which one is genuine")]
    Fork {
        /// For the event: both serials.
        detail: String,
    },
    /// The certificate presented has expired.
    #[error("the certificate presented has expired; enroll again")]
    CertificateExpired,
    /// The certificate presented was revoked, its holder was not.
    #[error("the certificate presented was revoked")]
    CertificateRevoked,
    /// The certificate presented has been renewed since.
    #[error("the certificate presented was replaced by a newer one; present that")]
    CertificateSuperseded,
    /// The certificate presented is not one of ours.
    #[error("the certificate presented is not known here")]
    CertificateUnknown,
    /// The certificate presented is of our making, and the store does not know it: its past was restored, as it seems, and
    /// nobody has noticed yet.
    #[error("the certificate presented was made here, and forgotten; try again later")]
    CertificateForgotten,
    /// The past was restored, and nobody has decided yet.
    #[error(
        "the past of this CA was restored: it stands still until it is decided on the server (`ca-server restore`), and all \
         operators' certificates have ended (`ca-server operator recover`)"
    )]
    Restored,
    /// A CRL of a lost time whose revocations were given up came to light.
    #[error(
        "this gateway holds a CRL of a time that the CA has lost and given up: keep the file, for an operator takes its \
         revocations back with it (`ca-server restore --crl`); to do without them, remove the .state.json file beside it"
    )]
    GivenUp,
    /// No certificate was presented.
    #[error("this call needs a client certificate")]
    CertificateRequired,
    /// The caller is of another kind.
    #[error("this call is not for a {0}")]
    KindRefused(&'static str),
    /// The caller's role does not suffice.
    #[error("this call needs the role {}", .0.as_str())]
    RoleRequired(Role),
    /// There is no such thing.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// There is such a thing already.
    #[error("{0} exists already")]
    Exists(&'static str),
    /// What is to be registered is another's already: whose, is in the text.
    #[error("{0}")]
    Taken(String),
    /// One of many rows, by its line; so none was taken.
    #[error("line {0}: {1}")]
    Line(u32, Box<Refusal>),
    /// The state of the thing does not allow it.
    #[error("{0}")]
    State(String),
    /// The facts changed at every attempt.
    #[error("too much changed meanwhile; try again")]
    Contended,
    /// As much as there may be is under way.
    #[error("overloaded; try again later")]
    Overloaded,
    /// As many devices wait for approval as may, or this one has asked with too many keys.
    #[error("too many devices wait for approval; an operator has to decide about some first")]
    Crowded,
    /// The fleet has as many devices as it may have.
    #[error("the fleet has as many devices as it may have; decommission some, or raise --max-devices")]
    FleetFull,
    /// As many devices of the fleet have enrolled as may in an hour.
    #[error("as many devices of the fleet have enrolled as may in an hour; the next one may at {again_at}")]
    EnrollmentQuota {
        /// When the next one may.
        again_at: Timestamp,
    },
    /// The peer took too long.
    #[error("took too long")]
    TimedOut,
    /// The issuing CA ends before the certificate would.
    #[error("the issuing CA ends too soon; an operator must make a new one")]
    IssuerEnding,
    /// The issuing CA of the certificate presented was revoked.
    #[error("the issuing CA of the certificate presented was revoked; enroll again")]
    IssuerRevoked,
    /// None of the fleet's issuing CAs signs now.
    #[error(
        "no issuing CA signs for this fleet now: a new one waits until gateways have taken its CRL; try again later"
    )]
    NoIssuer {
        /// When one will, if one is to.
        again_at: Option<Timestamp>,
    },
    /// The change is recorded, the CRL that holds it is not out yet.
    #[error("the change is recorded and in force here, but the CRL that holds it is not published yet; ask again")]
    Unpublished,
    /// A CRL can't be published or taken in.
    #[error("{0}")]
    Publish(#[source] PublishError),
    /// The store can't be used.
    #[error("the store is not available{}", if let StoreError::Full = .0 { ": the CA's disk is full" } else { "" })]
    Store(#[source] StoreError),
    /// A fault of ours.
    #[error("internal error")]
    Internal(&'static str),
}

/// What an operator does so that a device enrolls again by this method.
fn again(method: Method) -> &'static str {
    match method {
        Method::Token | Method::Previous => "ask an operator for a token made with --reenroll",
        Method::RegisteredKey => "its fleet has to allow that by registered keys (`fleet set --reenroll registered`)",
        Method::Factory => "its fleet has to allow that by IDevIDs (`fleet set --reenroll factory`)",
        Method::Tpm => "its fleet has to allow that by TPMs (`fleet set --reenroll hardware`)",
    }
}

impl Refusal {
    /// An invalid field.
    pub fn invalid(field: &'static str, why: impl Into<String>) -> Self {
        Refusal::Invalid { field, why: why.into() }
    }

    /// A name outside its grammar.
    pub fn name(field: &'static str) -> impl Fn(NameError) -> Self {
        move |error| Refusal::invalid(field, error.to_string())
    }

    /// The same, of the row at this line; 0 is none.
    pub fn at_line(self, line: u32) -> Self {
        if line == 0 { self } else { Refusal::Line(line, Box::new(self)) }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(what) => Refusal::NotFound(what),
            StoreError::Exists(what) => Refusal::Exists(what),
            StoreError::Taken(whose) => Refusal::Taken(whose),
            StoreError::Conflict => Refusal::Contended,
            StoreError::Crowded => Refusal::Crowded,
            StoreError::Line(line, error) => Refusal::from(*error).at_line(line),
            StoreError::Quota(Exceeded::Devices) => Refusal::FleetFull,
            StoreError::Quota(Exceeded::Enrollments { again_at }) => Refusal::EnrollmentQuota { again_at },
            StoreError::Full | StoreError::Unusable(_) | StoreError::Damaged(_) | StoreError::Database(_) => {
                Refusal::Store(error)
            }
        }
    }
}

/// What is wrong with a CRL is its own; the store and the signer fail here as they do elsewhere, and may work again.
impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Store(error) => error.into(),
            PublishError::Signer(error) => error.into(),
            PublishError::Restored => Refusal::Restored,
            PublishError::Busy => Refusal::Contended,
            refused => Refusal::Publish(refused),
        }
    }
}

impl From<CsrError> for Refusal {
    fn from(error: CsrError) -> Self {
        Refusal::Csr(error)
    }
}

impl From<IssuanceError> for Refusal {
    fn from(error: IssuanceError) -> Self {
        match error {
            IssuanceError::OutlivesIssuer { .. } => Refusal::IssuerEnding,
            other => {
                tracing::error!(error = %other, "a certificate was not made");
                Refusal::Internal("issuance")
            }
        }
    }
}

impl From<SignerError> for Refusal {
    fn from(error: SignerError) -> Self {
        tracing::error!(%error, "the signer failed");
        Refusal::Internal("signer")
    }
}

/// A refusal, and whom it concerns where that is proven.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub why: Refusal,
    /// Proven by evidence or certificate.
    pub subject: Option<Subject>,
    /// What an enrollment had shown by then: for operators, and not for the peer.
    pub trail: Option<Box<Trail>>,
}

impl From<Refusal> for Refused {
    fn from(why: Refusal) -> Self {
        let subject = match &why {
            Refusal::KeyNotInForce(subject) | Refusal::HardwareRetired(subject) => Some(subject.clone()),
            _ => None,
        };
        Self { why, subject, trail: None }
    }
}

impl Refused {
    /// The same, about this subject.
    pub fn about(subject: &Subject) -> impl Fn(Refusal) -> Self + use<> {
        let subject = subject.clone();
        move |why| Self { why, subject: Some(subject.clone()), trail: None }
    }

    /// The same, with what the enrollment has shown.
    pub(super) fn on(self, trail: Trail) -> Self {
        Self { trail: Some(Box::new(trail)), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_fails_under_a_publication_may_be_tried_again() {
        let busy = PublishError::Store(StoreError::Conflict);
        assert!(matches!(Refusal::from(busy), Refusal::Contended));
        let full = PublishError::Store(StoreError::Full);
        assert!(matches!(Refusal::from(full), Refusal::Store(StoreError::Full)));
        assert!(matches!(Refusal::from(PublishError::UnknownIssuer), Refusal::Publish(PublishError::UnknownIssuer)));
    }
}
