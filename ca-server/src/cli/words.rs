//! The words for the wire's enumerations, as options take them and as output shows them.

use fleetca_proto::v1;

use crate::identity::{RevocationReason, SerialNumber};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident of $wire:ty { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[value(name = $word)] #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// The wire's value.
            pub fn wire(self) -> $wire {
                match self {
                    $(Self::$variant => <$wire>::$variant,)*
                }
            }

            /// From the wire; `None` where it says nothing, or something newer than this program.
            pub fn from_wire(number: i32) -> Option<Self> {
                match <$wire>::try_from(number).ok()? {
                    $(<$wire>::$variant => Some(Self::$variant),)*
                    #[allow(unreachable_patterns)]
                    _ => None,
                }
            }

            /// The word itself.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

words! {
    /// What an operator may do.
    Role of v1::Role {
        /// Look at everything.
        Viewer = "viewer",
        /// And cut off, hold and release.
        Revoker = "revoker",
        /// And all the rest.
        Admin = "admin",
    }
}

words! {
    /// Whom a token or a certificate is for.
    Kind of v1::Kind {
        /// A device of a fleet.
        Device = "device",
        /// A gateway, which fetches CRLs.
        Gateway = "gateway",
        /// An operator of the CA.
        Operator = "operator",
    }
}

words! {
    /// Where a device, gateway or operator stands.
    Status of v1::DeviceStatus {
        /// Known, and not enrolled yet.
        Registered = "registered",
        /// Waits for approval.
        Pending = "pending",
        /// Enrolled.
        Active = "active",
        /// Cut off until it is released.
        Held = "held",
        /// Cut off.
        Revoked = "revoked",
        /// Cut off for good.
        Decommissioned = "decommissioned",
    }
}

words! {
    /// What happens when two holders of one identity show up.
    OnFork of v1::OnFork {
        /// The device goes on hold.
        Hold = "hold",
        /// The latecomer is refused and reported; the device stays active.
        Alert = "alert",
    }
}

words! {
    /// A kind of device key.
    KeyType of v1::KeyType {
        /// ECDSA on P-256.
        P256 = "p256",
        /// ECDSA on P-384.
        P384 = "p384",
        /// Ed25519.
        Ed25519 = "ed25519",
        /// RSA of 2048 to 4096 bits.
        Rsa = "rsa",
    }
}

words! {
    /// Where the CRL distribution point in a certificate leads.
    CrlScope of v1::CrlScope {
        /// The issuing CA's complete CRL.
        Full = "full",
        /// The device's own list.
        Device = "device",
    }
}

words! {
    /// What devices are sorted by.
    Sort of v1::list_devices_request::Sort {
        /// Their ID.
        Id = "id",
        /// The end of their certificate.
        ExpiresAt = "expires",
        /// When they became known.
        CreatedAt = "created",
    }
}

/// The wire's value of a reason for which something is revoked: the numbers are RFC 5280's on both sides.
pub fn reason_wire(reason: RevocationReason) -> i32 {
    i32::from(reason.number())
}

/// The name of a reason in RFC 5280.
pub fn reason_word(number: i32) -> &'static str {
    RevocationReason::from_number(i64::from(number)).map_or("unknown", RevocationReason::as_str)
}

/// Those for which people cut something off.
const SAID: [RevocationReason; 4] = [
    RevocationReason::Unspecified,
    RevocationReason::KeyCompromise,
    RevocationReason::AffiliationChanged,
    RevocationReason::CessationOfOperation,
];

/// Reads a reason for cutting something off by its name in RFC 5280. `certificateHold` is none: that is what
/// `device hold` says; and some are what the CA says of single certificates.
pub fn parse_reason(text: &str) -> Result<RevocationReason, String> {
    match text.parse() {
        Ok(RevocationReason::CertificateHold) => {
            Err("to cut a device off until it is released, use `device hold`".into())
        }
        Ok(reason) if reason.is_lineages() => Err(format!(
            "{reason} is what the CA says of single certificates; for who or what is not needed any more say \
             cessationOfOperation"
        )),
        Ok(reason) if SAID.contains(&reason) => Ok(reason),
        _ => Err(format!("unknown here; known are {}", SAID.map(RevocationReason::as_str).join(", "))),
    }
}

/// Reads a serial number, as this CA or OpenSSL writes it.
pub fn parse_serial(text: &str) -> Result<SerialNumber, &'static str> {
    text.parse().map_err(|_| "a serial number is 32 hexadecimal digits, with or without colons")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_read_by_their_names_and_have_the_wires_numbers() {
        assert_eq!(parse_reason("keyCompromise"), Ok(RevocationReason::KeyCompromise));
        for reason in RevocationReason::ALL {
            assert!(v1::RevocationReason::try_from(reason_wire(reason)).is_ok(), "{reason}");
            assert_eq!(reason_word(reason_wire(reason)), reason.as_str());
        }
    }

    #[test]
    fn other_reasons_are_refused_with_the_list_of_those_there_are() {
        for unknown in ["stolen", "cACompromise"] {
            let expected =
                "unknown here; known are unspecified, keyCompromise, affiliationChanged, cessationOfOperation";
            assert_eq!(parse_reason(unknown).unwrap_err(), expected);
        }
        assert!(parse_reason("keycompromise").is_err());
        assert!(parse_reason("certificateHold").unwrap_err().contains("device hold"));
        for lineages in ["superseded", "privilegeWithdrawn"] {
            assert!(parse_reason(lineages).unwrap_err().contains("cessationOfOperation"));
        }
    }

    #[test]
    fn words_and_the_wire_agree() {
        assert_eq!(Status::from_wire(Status::Held.wire().into()), Some(Status::Held));
        assert_eq!(Status::from_wire(0), None);
        assert_eq!(Role::from_wire(77), None);
        assert_eq!(serde_json::to_string(&KeyType::P256).unwrap(), "\"p256\"");
    }
}
