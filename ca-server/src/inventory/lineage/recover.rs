//! Recovery: may a device whose certificate has expired come back with it?
//!
//! Nobody is ever put on hold here: an old flash image comes with an old certificate, and must not stop a live device.

use super::{Facts, MAX_REPLACEMENTS, Position, Request};
use crate::inventory::device::Status;

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Recovery {
    /// Give the same certificate again.
    Again,
    /// Make a new pending certificate.
    Issue {
        /// The certificate presented was pending and becomes the head first.
        promote: bool,
    },
    /// Refused: it has not expired, and renews.
    NotExpired,
    /// Refused: expired too long ago. Attest anew.
    TooLate,
    /// Refused: another took its place, or too many came with it. Attest anew.
    Stale,
    /// Refused: this certificate alone was revoked. Attest anew.
    CertificateRevoked,
    /// Refused: the device is not active.
    NotActive(Status),
}

/// Decides upon a certificate that the store knows. Total; the order of the questions is that of `docs/issuance.md`.
pub fn recover(facts: Facts, within_grace: bool) -> Recovery {
    if facts.status != Status::Active {
        return Recovery::NotActive(facts.status);
    }
    if facts.request == (Request::Renew { answered: true }) {
        return Recovery::Again;
    }
    if facts.revoked {
        return Recovery::CertificateRevoked;
    }
    let promote = match facts.presented {
        Some(Position::Head) if facts.has_pending && facts.replacements >= MAX_REPLACEMENTS => return Recovery::Stale,
        Some(Position::Head) => false,
        Some(Position::Pending) => true,
        Some(Position::Former | Position::Superseded) | None => return Recovery::Stale,
    };
    match (facts.expired, within_grace) {
        (false, _) => Recovery::NotExpired,
        (true, false) => Recovery::TooLate,
        (true, true) => Recovery::Issue { promote },
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::every_fact, *};

    #[test]
    fn only_the_newest_expired_certificate_of_an_active_device_comes_back_and_in_time() {
        for facts in every_fact() {
            for within_grace in [false, true] {
                let answered = facts.request == (Request::Renew { answered: true });
                let newest = matches!(facts.presented, Some(Position::Head | Position::Pending));
                match recover(facts, within_grace) {
                    Recovery::Again => assert!(answered && facts.status == Status::Active, "{facts:?}"),
                    Recovery::Issue { promote } => {
                        assert!(newest && facts.expired && within_grace && !facts.revoked, "{facts:?}");
                        assert_eq!(facts.status, Status::Active, "{facts:?}");
                        assert_eq!(promote, facts.presented == Some(Position::Pending), "{facts:?}");
                        let exhausted = facts.has_pending && facts.replacements >= MAX_REPLACEMENTS;
                        assert!(promote || !exhausted, "{facts:?}");
                    }
                    Recovery::TooLate => assert!(!within_grace && facts.expired && newest, "{facts:?}"),
                    Recovery::NotExpired => assert!(!facts.expired && newest, "{facts:?}"),
                    Recovery::CertificateRevoked => assert!(facts.revoked, "{facts:?}"),
                    Recovery::NotActive(status) => assert_ne!(status, Status::Active),
                    Recovery::Stale => assert!(!newest || facts.replacements >= MAX_REPLACEMENTS, "{facts:?}"),
                }
            }
        }
    }
}
