//! What a peer learns of a refusal: one exhaustive table. Reasons and actions are contract; the log keeps the rest.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    attestation::AttestationError,
    authority::{Refusal, Refused, Trail},
    identity::Timestamp,
    pki::CsrError,
    telemetry::Telemetry,
};

/// How long a client waits before it tries again, at least.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// The same where an operator has to act first: on hold, or after a fork. The device comes back untouched once it is
/// released.
pub const RETRY_AFTER_PEOPLE: Duration = Duration::from_secs(60);
/// The most that one waits for an issuing CA that is to sign.
const RETRY_AFTER_ISSUER: Duration = Duration::from_secs(300);

/// What a client does next; it follows this where it does not know the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// The same again, later.
    Retry,
    /// Enroll again.
    Reattest,
    /// Nothing: it needs people.
    Stop,
}

/// A row of the table: the gRPC code, the reason, what to do, and the security event if it is one.
struct Row(Code, &'static str, Action, Option<&'static str>);

fn row(refusal: &Refusal) -> Row {
    use Action::{Reattest, Retry, Stop};
    use Code::{
        AlreadyExists, DeadlineExceeded, FailedPrecondition, Internal, InvalidArgument, NotFound, PermissionDenied,
        ResourceExhausted, Unauthenticated, Unavailable,
    };
    match refusal {
        Refusal::Protocol(_) => Row(InvalidArgument, "PROTOCOL_ERROR", Stop, Some("protocol.error")),
        Refusal::Invalid { .. } => Row(InvalidArgument, "INVALID_ARGUMENT", Stop, None),
        Refusal::TrustDomain => Row(InvalidArgument, "TRUST_DOMAIN_MISMATCH", Stop, None),
        Refusal::Attestation(AttestationError::SameKey) => {
            Row(InvalidArgument, "CSR_REFUSED", Stop, Some("csr.refused"))
        }
        Refusal::Attestation(AttestationError::Ambiguous) => {
            Row(PermissionDenied, "ATTESTATION_FAILED", Stop, Some("attestation.ambiguous"))
        }
        Refusal::Attestation(_) => Row(PermissionDenied, "ATTESTATION_FAILED", Stop, Some("attestation.failed")),
        Refusal::MethodRefused => Row(PermissionDenied, "METHOD_REFUSED", Stop, Some("attestation.refused")),
        Refusal::TierRefused => Row(PermissionDenied, "TIER_REFUSED", Stop, Some("attestation.refused")),
        Refusal::KeyNotInForce(_) => {
            Row(PermissionDenied, "ATTESTATION_FAILED", Stop, Some("attestation.key_not_in_force"))
        }
        Refusal::HardwareRetired(_) => {
            Row(PermissionDenied, "ATTESTATION_FAILED", Stop, Some("attestation.hardware_retired"))
        }
        Refusal::TokenSpent => Row(PermissionDenied, "TOKEN_SPENT", Stop, Some("token.spent")),
        Refusal::TokenExpired => Row(PermissionDenied, "TOKEN_EXPIRED", Stop, Some("token.expired")),
        Refusal::TokenRevoked => Row(PermissionDenied, "TOKEN_REVOKED", Stop, Some("token.revoked")),
        Refusal::IdRefused => Row(PermissionDenied, "ID_REFUSED", Stop, Some("attestation.refused")),
        Refusal::IdTaken => Row(AlreadyExists, "ID_TAKEN", Stop, Some("attestation.refused")),
        Refusal::AlreadyEnrolled(_) => Row(FailedPrecondition, "ALREADY_ENROLLED", Stop, Some("attestation.refused")),
        Refusal::Held => Row(PermissionDenied, "DEVICE_HELD", Retry, Some("device.refused")),
        Refusal::Revoked => Row(PermissionDenied, "DEVICE_REVOKED", Stop, Some("device.refused")),
        Refusal::Decommissioned => Row(PermissionDenied, "DEVICE_DECOMMISSIONED", Stop, Some("device.refused")),
        Refusal::NotEnrolled => Row(FailedPrecondition, "NOT_ENROLLED", Reattest, Some("device.refused")),
        Refusal::Csr(CsrError::ProofOfPossession) => {
            Row(InvalidArgument, "CSR_POP_FAILED", Stop, Some("csr.pop_failed"))
        }
        Refusal::Csr(_) => Row(InvalidArgument, "CSR_REFUSED", Stop, Some("csr.refused")),
        Refusal::PossessionFailed => Row(PermissionDenied, "CSR_POP_FAILED", Stop, Some("csr.pop_failed")),
        Refusal::KeyTypeRefused => Row(PermissionDenied, "CSR_REFUSED", Stop, Some("csr.refused")),
        Refusal::KeyReused => Row(PermissionDenied, "KEY_REUSED", Stop, Some("key.reused")),
        Refusal::KeyCompromised => Row(PermissionDenied, "KEY_COMPROMISED", Stop, Some("key.compromised")),
        // Its event was raised where it was found.
        Refusal::Fork { .. } => Row(PermissionDenied, "LINEAGE_FORK", Retry, None),
        Refusal::CertificateExpired => {
            Row(Unauthenticated, "CERTIFICATE_EXPIRED", Reattest, Some("certificate.expired"))
        }
        Refusal::CertificateRevoked => {
            Row(Unauthenticated, "CERTIFICATE_REVOKED", Reattest, Some("certificate.revoked"))
        }
        Refusal::CertificateSuperseded => {
            Row(Unauthenticated, "CERTIFICATE_SUPERSEDED", Reattest, Some("certificate.superseded"))
        }
        Refusal::CertificateUnknown => {
            Row(Unauthenticated, "CERTIFICATE_UNKNOWN", Reattest, Some("certificate.unknown"))
        }
        Refusal::CertificateForgotten => {
            Row(Unauthenticated, "CERTIFICATE_FORGOTTEN", Retry, Some("certificate.forgotten"))
        }
        Refusal::Restored => Row(Unavailable, "RESTORED", Retry, None),
        // Its event was raised where it was found.
        Refusal::GivenUp => Row(Unavailable, "CRL_GIVEN_UP", Retry, None),
        Refusal::CertificateRequired => Row(Unauthenticated, "CERTIFICATE_REQUIRED", Reattest, None),
        Refusal::KindRefused(_) => Row(PermissionDenied, "KIND_REFUSED", Stop, Some("permission.denied")),
        Refusal::RoleRequired(_) => Row(PermissionDenied, "ROLE_REQUIRED", Stop, Some("permission.denied")),
        Refusal::NotFound(_) => Row(NotFound, "NOT_FOUND", Stop, None),
        Refusal::Exists(_) | Refusal::Taken(_) => Row(AlreadyExists, "ALREADY_EXISTS", Stop, None),
        Refusal::Line(_, why) => row(why),
        Refusal::State(_) => Row(FailedPrecondition, "STATE_REFUSED", Stop, None),
        Refusal::Contended => Row(Unavailable, "CONTENDED", Retry, None),
        Refusal::Overloaded => Row(ResourceExhausted, "OVERLOADED", Retry, None),
        Refusal::Crowded => Row(ResourceExhausted, "OVERLOADED", Retry, Some("approval.crowded")),
        Refusal::FleetFull => Row(ResourceExhausted, "FLEET_FULL", Stop, Some("quota.devices")),
        Refusal::EnrollmentQuota { .. } => Row(ResourceExhausted, "ENROLLMENT_QUOTA", Retry, Some("quota.enrollments")),
        Refusal::TimedOut => Row(DeadlineExceeded, "TIMED_OUT", Retry, None),
        Refusal::IssuerEnding => Row(Unavailable, "ISSUER_ENDING", Retry, None),
        Refusal::IssuerRevoked => Row(Unauthenticated, "ISSUER_REVOKED", Reattest, Some("certificate.issuer_revoked")),
        Refusal::NoIssuer { .. } => Row(Unavailable, "NO_ISSUER", Retry, Some("issuer.none")),
        Refusal::Unpublished => Row(Unavailable, "CRL_NOT_PUBLISHED", Retry, None),
        Refusal::Publish(_) => Row(FailedPrecondition, "CRL_REFUSED", Stop, None),
        Refusal::Store(_) => Row(Unavailable, "STORE_UNAVAILABLE", Retry, None),
        Refusal::Internal(_) => Row(Internal, "INTERNAL", Retry, None),
    }
}

/// The reason that a peer would get.
pub fn reason(refusal: &Refusal) -> &'static str {
    row(refusal).1
}

/// What operators are told, and the peer is not: which check failed, and what the enrollment had shown by then.
fn detail(reason: &str, why: &Refusal, trail: Option<&Trail>) -> String {
    let check = match why {
        Refusal::Attestation(why) => format!(": {why}"),
        Refusal::Csr(why) => format!(": {why}"),
        _ => String::new(),
    };
    let trail = trail.map(|trail| format!("; {trail}")).unwrap_or_default();
    format!("{reason}{check}{trail}")
}

/// Turns a refusal into what the peer gets, and counts it.
pub fn status(refused: Refused, telemetry: &Telemetry, now: Timestamp) -> Status {
    let Refused { why, subject, trail } = refused;
    let Row(code, reason, action, event) = row(&why);
    telemetry.refused(reason);
    let subject = subject.map(|subject| subject.to_string());
    let subject = subject.or_else(|| trail.as_ref().map(|trail| trail.subject())).unwrap_or_default();
    let detail = detail(reason, &why, trail.as_deref());
    if let Some(kind) = event {
        telemetry.event(kind, &subject, &detail, now);
    }
    match &why {
        Refusal::Store(error) => tracing::error!(%error, "the store failed"),
        Refusal::Internal(what) => tracing::error!(what, "internal error"),
        _ => tracing::debug!(reason, %subject, detail, "refused"),
    }
    let word = match action {
        Action::Retry => "retry",
        Action::Reattest => "reattest",
        Action::Stop => "stop",
    };
    let metadata = HashMap::from([("action".to_owned(), word.to_owned())]);
    let mut details = ErrorDetails::with_error_info(reason, fleetca_proto::ERROR_DOMAIN, metadata);
    if action == Action::Retry {
        let people = matches!(
            why,
            Refusal::Held
                | Refusal::Fork { .. }
                | Refusal::CertificateForgotten
                | Refusal::Restored
                | Refusal::Crowded
                | Refusal::NoIssuer { .. }
        );
        let wait = match why {
            Refusal::EnrollmentQuota { again_at } => again_at.since(now).max(RETRY_AFTER),
            // When it signs at the latest: gateways' words may let it sign sooner.
            Refusal::NoIssuer { again_at: Some(again_at) } => {
                again_at.since(now).clamp(RETRY_AFTER, RETRY_AFTER_ISSUER)
            }
            _ if people => RETRY_AFTER_PEOPLE,
            _ => RETRY_AFTER,
        };
        details.set_retry_info(Some(wait));
    }
    Status::with_error_details(code, why.to_string(), details)
}
