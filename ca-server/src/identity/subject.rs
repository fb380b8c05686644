//! Who a certificate is for.

use std::{fmt, str::FromStr};

use super::{DeviceId, NameError, TrustDomain};

/// What role a holder of a certificate has in the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A device of a fleet.
    Device,
    /// A gateway, which pulls CRLs.
    Gateway,
    /// An operator, who runs the CA.
    Operator,
    /// The CA's own server.
    Server,
}

impl Kind {
    /// The word for it in SPIFFE paths, audit records and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Device => "device",
            Kind::Gateway => "gateway",
            Kind::Operator => "operator",
            Kind::Server => "server",
        }
    }
}

impl FromStr for Kind {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        Ok(match text {
            "device" => Kind::Device,
            "gateway" => Kind::Gateway,
            "operator" => Kind::Operator,
            "server" => Kind::Server,
            _ => return Err(SpiffeError::Kind),
        })
    }
}

/// Why a URI is no identity of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpiffeError {
    /// Not `spiffe://<trust-domain>/<kind>/<id>`.
    #[error("not of the form spiffe://<trust-domain>/<kind>/<id>")]
    Form,
    /// Of another trust domain.
    #[error("of another trust domain")]
    TrustDomain,
    /// A kind that does not exist.
    #[error("of an unknown kind")]
    Kind,
    /// An ID outside the grammar.
    #[error("the ID {0}")]
    Id(#[from] NameError),
}

/// A holder of certificates: a kind and an ID, unique together. Prints as `device/pump-7`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    /// Device, gateway, operator or server.
    pub kind: Kind,
    /// Its ID among its kind.
    pub id: DeviceId,
}

impl Subject {
    /// The subject with this kind and ID.
    pub fn new(kind: Kind, id: DeviceId) -> Self {
        Self { kind, id }
    }

    /// Its SPIFFE ID, which its certificates carry as their URI SAN.
    pub fn spiffe_uri(&self, trust_domain: &TrustDomain) -> String {
        format!("spiffe://{trust_domain}/{}/{}", self.kind.as_str(), self.id)
    }

    /// Reads a SPIFFE ID of this trust domain.
    pub fn from_spiffe_uri(uri: &str, trust_domain: &TrustDomain) -> Result<Self, SpiffeError> {
        let rest = uri.strip_prefix("spiffe://").ok_or(SpiffeError::Form)?;
        let (domain, path) = rest.split_once('/').ok_or(SpiffeError::Form)?;
        if domain != trust_domain.as_str() {
            return Err(SpiffeError::TrustDomain);
        }
        path.parse()
    }
}

impl FromStr for Subject {
    type Err = SpiffeError;

    /// Reads `device/pump-7`.
    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        let (kind, id) = text.split_once('/').ok_or(SpiffeError::Form)?;
        Ok(Self { kind: kind.parse()?, id: id.parse()? })
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.as_str(), self.id)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spiffe_id_reads_back_to_its_subject() {
        let domain: TrustDomain = "fleet.example".parse().unwrap();
        let subject: Subject = "device/pump-7".parse().unwrap();
        let uri = subject.spiffe_uri(&domain);
        assert_eq!(uri, "spiffe://fleet.example/device/pump-7");
        assert_eq!(Subject::from_spiffe_uri(&uri, &domain), Ok(subject));
    }

    #[test]
    fn identities_of_other_domains_and_shapes_are_refused() {
        let domain: TrustDomain = "fleet.example".parse().unwrap();
        let read = |uri| Subject::from_spiffe_uri(uri, &domain);
        assert_eq!(read("spiffe://other.example/device/a"), Err(SpiffeError::TrustDomain));
        assert_eq!(read("spiffe://fleet.example/robot/a"), Err(SpiffeError::Kind));
        assert_eq!(read("spiffe://fleet.example/device/a/b"), Err(SpiffeError::Id(NameError::Grammar)));
        assert_eq!(read("https://fleet.example/device/a"), Err(SpiffeError::Form));
        assert_eq!(read("spiffe://fleet.example"), Err(SpiffeError::Form));
    }
}
