//! The first message of an enrollment, read: nothing in it is proven yet.

use fleetca_proto::v1::{self, start::Evidence as Wire};
use prost::Message;

use super::tpm::{self, Tpm};
use crate::{
    attestation::AttestationError,
    authority::Refusal,
    identity::{DeviceId, Kind, Thumbprint, TokenId, TrustDomain},
    inventory::fleet::Method,
    pki::PeerCertificate,
};

/// `Start`, read.
#[derive(Debug)]
pub struct EnrollmentRequest {
    /// The bytes as they travelled: what the proofs sign.
    start: Vec<u8>,
    kind: Kind,
    id: Option<DeviceId>,
    csr: Vec<u8>,
    evidence: Evidence,
}

/// Whom a request asks a certificate for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asks<'a> {
    pub kind: Kind,
    pub id: Option<&'a DeviceId>,
}

/// What one attestation method puts into `Start`.
#[derive(Debug)]
pub(super) enum Evidence {
    /// The ID of a join token.
    Token(TokenId),
    /// An IDevID, then what leads to its maker's root: DER, unread.
    Factory(Vec<Vec<u8>>),
    /// The thumbprint of a registered key.
    RegisteredKey(Thumbprint),
    /// A TPM's keys.
    Tpm(Box<Tpm>),
    /// A certificate of this CA, as it was presented: whether it is one, nobody has looked yet.
    Previous(Box<PeerCertificate>),
}

impl Evidence {
    /// By which method.
    pub(super) fn method(&self) -> Method {
        match self {
            Evidence::Token(_) => Method::Token,
            Evidence::Factory(_) => Method::Factory,
            Evidence::RegisteredKey(_) => Method::RegisteredKey,
            Evidence::Tpm(_) => Method::Tpm,
            Evidence::Previous(_) => Method::Previous,
        }
    }

    fn read(wire: Wire, trust_domain: &TrustDomain) -> Result<Self, Refusal> {
        Ok(match wire {
            Wire::Token(token) => Evidence::Token(token.token_id.parse().map_err(Refusal::name("token_id"))?),
            Wire::Factory(evidence) => Evidence::Factory(evidence.chain),
            Wire::RegisteredKey(evidence) => {
                Evidence::RegisteredKey(evidence.key_id.parse().map_err(Refusal::name("key_id"))?)
            }
            Wire::Tpm(evidence) => Evidence::Tpm(Box::new(tpm::read(evidence)?)),
            Wire::Previous(evidence) => {
                let certificate = PeerCertificate::parse(&evidence.certificate, trust_domain);
                let malformed = |_| Refusal::Attestation(AttestationError::Malformed);
                Evidence::Previous(Box::new(certificate.map_err(malformed)?))
            }
        })
    }
}

impl EnrollmentRequest {
    /// Step 1: reads `Start`. Anything that is not what it must be is refused, never repaired.
    pub fn read(start: Vec<u8>, trust_domain: &TrustDomain) -> Result<Self, Refusal> {
        let message = v1::Start::decode(start.as_slice()).map_err(|_| Refusal::Protocol("Start can't be read"))?;
        if message.trust_domain != trust_domain.as_str() {
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
        let evidence = message.evidence.map(|wire| Evidence::read(wire, trust_domain)).transpose()?;
        let evidence = evidence.ok_or(Refusal::Protocol("Start has no evidence of a method that this server knows"))?;
        Ok(Self { start, kind, id, csr: message.csr, evidence })
    }

    /// The bytes as they travelled: what the proofs sign.
    pub(super) fn start(&self) -> &[u8] {
        &self.start
    }

    /// For whom the caller says it enrolls.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// The ID that the caller asks for, if it asks for one.
    pub(super) fn id(&self) -> Option<&DeviceId> {
        self.id.as_ref()
    }

    /// Both.
    pub(super) fn asks(&self) -> Asks<'_> {
        Asks { kind: self.kind, id: self.id.as_ref() }
    }

    /// The CSR, unread.
    pub(super) fn csr(&self) -> &[u8] {
        &self.csr
    }

    /// What is to be proven.
    pub(super) fn evidence(&self) -> &Evidence {
        &self.evidence
    }
}
