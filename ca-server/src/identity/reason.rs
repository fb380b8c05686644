//! Why a certificate is revoked.

use std::{fmt, str::FromStr};

/// CRLReason (RFC 5280, section 5.3.1), with its numbers and names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum RevocationReason {
    /// 0; in a CRL it is said by leaving the reason out.
    Unspecified = 0,
    /// 1: the key is banned for ever.
    KeyCompromise = 1,
    /// 2
    CaCompromise = 2,
    /// 3
    AffiliationChanged = 3,
    /// 4: said of a certificate that waited while another took its place, and never of a holder.
    Superseded = 4,
    /// 5
    CessationOfOperation = 5,
    /// 6: may be released.
    CertificateHold = 6,
    /// 9: said of a certificate that was left out when a hold ended, and never of a holder.
    PrivilegeWithdrawn = 9,
}

/// A number or a name that is no reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown reason; known are unspecified, keyCompromise, cACompromise, affiliationChanged, superseded, \
     cessationOfOperation, certificateHold, privilegeWithdrawn"
)]
pub struct UnknownReason;

impl RevocationReason {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CaCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::CertificateHold,
        Self::PrivilegeWithdrawn,
    ];

    /// Whether lineage says it of one certificate, whose holder stays what it is. People never say it of a holder, so
    /// that a CRL tells one from the other.
    pub const fn is_lineages(self) -> bool {
        matches!(self, Self::Superseded | Self::PrivilegeWithdrawn)
    }

    /// Its number in RFC 5280.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The reason with this number.
    pub fn from_number(number: i64) -> Result<Self, UnknownReason> {
        Self::ALL.into_iter().find(|reason| i64::from(reason.number()) == number).ok_or(UnknownReason)
    }

    /// Its name in RFC 5280.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::CaCompromise => "cACompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
            Self::CertificateHold => "certificateHold",
            Self::PrivilegeWithdrawn => "privilegeWithdrawn",
        }
    }
}

impl FromStr for RevocationReason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text).ok_or(UnknownReason)
    }
}

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
