//! What goes into each kind of certificate: facts only, in one place. `issuance` builds from them, `lint` holds the
//! result to them.

use std::time::Duration;

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5280::{
    ID_CE_AUTHORITY_KEY_IDENTIFIER, ID_CE_BASIC_CONSTRAINTS, ID_CE_CERTIFICATE_POLICIES, ID_CE_CRL_DISTRIBUTION_POINTS,
    ID_CE_EXT_KEY_USAGE, ID_CE_KEY_USAGE, ID_CE_SUBJECT_ALT_NAME, ID_CE_SUBJECT_KEY_IDENTIFIER, ID_KP_CLIENT_AUTH,
    ID_KP_OCSP_SIGNING, ID_KP_SERVER_AUTH, ID_PE_AUTHORITY_INFO_ACCESS,
};
use const_oid::db::rfc6960::ID_PKIX_OCSP_NOCHECK;

use crate::identity::Kind;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How far a notBefore may lie before the moment of issuance, on top of the validity.
const BACKDATING: Duration = Duration::from_secs(60 * 60);
/// How long a root is valid: 20 years.
pub const ROOT_VALIDITY: Duration = Duration::from_secs(20 * 365 * 24 * 60 * 60);
/// How long an issuing CA is valid: 3 years.
pub const CA_VALIDITY: Duration = Duration::from_secs(3 * 365 * 24 * 60 * 60);

/// Which certification authority: two hierarchies, each with a root and what it signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CaRole {
    /// The root that clients pin.
    ControlRoot,
    /// Signs the server's, the operators' and the gateways' certificates, and heads of the audit log.
    ControlCa,
    /// The root that gateways load.
    DeviceRoot,
    /// Signs devices' certificates; several may live side by side.
    DeviceIssuing,
}

impl CaRole {
    /// Every one: each root before what it signs.
    pub const ALL: [Self; 4] = [Self::ControlRoot, Self::ControlCa, Self::DeviceRoot, Self::DeviceIssuing];

    /// Its word in the store, in lists and in file names.
    pub const fn as_str(self) -> &'static str {
        match self {
            CaRole::ControlRoot => "control-root",
            CaRole::ControlCa => "control",
            CaRole::DeviceRoot => "device-root",
            CaRole::DeviceIssuing => "device",
        }
    }

    /// Whether it signs itself.
    pub const fn is_root(self) -> bool {
        matches!(self, CaRole::ControlRoot | CaRole::DeviceRoot)
    }

    /// The root of its hierarchy; a root's is itself.
    pub const fn root(self) -> CaRole {
        match self {
            CaRole::ControlRoot | CaRole::ControlCa => CaRole::ControlRoot,
            CaRole::DeviceRoot | CaRole::DeviceIssuing => CaRole::DeviceRoot,
        }
    }

    /// What its common name begins with. Its issuer ID follows, so that no subject name is ever used again.
    pub const fn label(self) -> &'static str {
        match self {
            CaRole::ControlRoot => "Fleet CA control root",
            CaRole::ControlCa => "Fleet CA control",
            CaRole::DeviceRoot => "Fleet CA device root",
            CaRole::DeviceIssuing => "Fleet CA device issuing",
        }
    }
}

/// A kind of certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// A CA's.
    Authority(CaRole),
    /// A device's, a gateway's, an operator's or the server's.
    Leaf(Kind),
    /// That of whoever answers OCSP requests for the CA in this role.
    Responder(CaRole),
}

/// Bits of keyUsage, the first named bit highest.
pub(super) mod key_usage {
    pub(crate) const DIGITAL_SIGNATURE: u16 = 0x8000;
    pub(crate) const KEY_CERT_SIGN: u16 = 0x0400;
    pub(crate) const CRL_SIGN: u16 = 0x0200;
}

impl Profile {
    /// Which CA signs it.
    pub const fn issuer(self) -> CaRole {
        match self {
            Profile::Authority(role) => role.root(),
            Profile::Responder(role) => role,
            Profile::Leaf(Kind::Device) => CaRole::DeviceIssuing,
            Profile::Leaf(Kind::Gateway | Kind::Operator | Kind::Server) => CaRole::ControlCa,
        }
    }

    /// The longest time from notBefore to notAfter, backdating included.
    pub fn longest_validity(self) -> Duration {
        BACKDATING
            + match self {
                Profile::Authority(role) if role.is_root() => ROOT_VALIDITY + 5 * DAY,
                Profile::Authority(_) => CA_VALIDITY + DAY,
                Profile::Leaf(Kind::Device | Kind::Gateway) => 7 * DAY,
                Profile::Leaf(Kind::Operator) => 30 * DAY,
                Profile::Leaf(Kind::Server) => 90 * DAY,
                Profile::Responder(_) => DAY,
            }
    }

    pub(super) const fn key_usage(self) -> u16 {
        match self {
            // The control root signs trust bundles, too, and the control CA the heads of the audit log.
            Profile::Authority(CaRole::ControlRoot | CaRole::ControlCa) => {
                key_usage::DIGITAL_SIGNATURE | key_usage::KEY_CERT_SIGN | key_usage::CRL_SIGN
            }
            Profile::Authority(_) => key_usage::KEY_CERT_SIGN | key_usage::CRL_SIGN,
            Profile::Leaf(_) | Profile::Responder(_) => key_usage::DIGITAL_SIGNATURE,
        }
    }

    pub(super) const fn extended_key_usage(self) -> Option<ObjectIdentifier> {
        match self {
            Profile::Authority(_) => None,
            Profile::Leaf(Kind::Server) => Some(ID_KP_SERVER_AUTH),
            Profile::Leaf(_) => Some(ID_KP_CLIENT_AUTH),
            Profile::Responder(_) => Some(ID_KP_OCSP_SIGNING),
        }
    }

    /// basicConstraints' pathLenConstraint, for a CA that has one.
    pub(super) const fn path_length(self) -> Option<u8> {
        match self {
            Profile::Authority(role) if !role.is_root() => Some(0),
            _ => None,
        }
    }

    pub(super) const fn is_authority(self) -> bool {
        matches!(self, Profile::Authority(_))
    }

    /// Exactly the extensions that it has, in their order, each with its criticality. Only a device's certificate may do
    /// with a policy or without.
    pub(super) const fn extensions(self, policy: bool) -> &'static [(ObjectIdentifier, bool)] {
        match self {
            Profile::Authority(role) if role.is_root() => {
                &[(ID_CE_BASIC_CONSTRAINTS, true), (ID_CE_KEY_USAGE, true), (ID_CE_SUBJECT_KEY_IDENTIFIER, false)]
            }
            Profile::Authority(_) => &[
                (ID_CE_BASIC_CONSTRAINTS, true),
                (ID_CE_KEY_USAGE, true),
                (ID_CE_CERTIFICATE_POLICIES, false),
                (ID_CE_SUBJECT_KEY_IDENTIFIER, false),
                (ID_CE_AUTHORITY_KEY_IDENTIFIER, false),
                (ID_CE_CRL_DISTRIBUTION_POINTS, false),
                (ID_PE_AUTHORITY_INFO_ACCESS, false),
            ],
            Profile::Leaf(Kind::Device) if policy => &[
                (ID_CE_KEY_USAGE, true),
                (ID_CE_EXT_KEY_USAGE, false),
                (ID_CE_SUBJECT_ALT_NAME, false),
                (ID_CE_CERTIFICATE_POLICIES, false),
                (ID_CE_SUBJECT_KEY_IDENTIFIER, false),
                (ID_CE_AUTHORITY_KEY_IDENTIFIER, false),
                (ID_CE_CRL_DISTRIBUTION_POINTS, false),
                (ID_PE_AUTHORITY_INFO_ACCESS, false),
            ],
            Profile::Leaf(_) => &[
                (ID_CE_KEY_USAGE, true),
                (ID_CE_EXT_KEY_USAGE, false),
                (ID_CE_SUBJECT_ALT_NAME, false),
                (ID_CE_SUBJECT_KEY_IDENTIFIER, false),
                (ID_CE_AUTHORITY_KEY_IDENTIFIER, false),
                (ID_CE_CRL_DISTRIBUTION_POINTS, false),
                (ID_PE_AUTHORITY_INFO_ACCESS, false),
            ],
            // It is good until it ends, and nobody asks who has just been told: RFC 6960, section 4.2.2.2.1.
            Profile::Responder(_) => &[
                (ID_CE_KEY_USAGE, true),
                (ID_CE_EXT_KEY_USAGE, false),
                (ID_CE_SUBJECT_KEY_IDENTIFIER, false),
                (ID_CE_AUTHORITY_KEY_IDENTIFIER, false),
                (ID_PKIX_OCSP_NOCHECK, false),
            ],
        }
    }
}
