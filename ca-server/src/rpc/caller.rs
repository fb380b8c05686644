//! Who is at the other end of a connection: what the handshake has proven, and what the store says of it now.

use std::sync::Arc;

use tonic::{Request, Status};

use super::status::status;
use crate::{
    authority::{Authority, Refusal, Refused},
    identity::{Kind, Subject},
    pki::PeerCertificate,
    store::{Peer, Role},
};

/// What a handshake has proven: the certificate whose key the peer holds, if it showed one.
#[derive(Clone, Debug)]
pub struct Caller {
    certificate: Option<Arc<PeerCertificate>>,
}

impl Caller {
    /// From the certificate of a handshake.
    pub fn new(certificate: Option<PeerCertificate>) -> Self {
        Self { certificate: certificate.map(Arc::new) }
    }

    /// The certificate of the connection that a request came over.
    pub fn certificate<T>(request: &Request<T>) -> Result<Arc<PeerCertificate>, Refused> {
        let caller = request.extensions().get::<Caller>();
        caller.and_then(|caller| caller.certificate.clone()).ok_or(Refusal::CertificateRequired.into())
    }
}

impl Authority {
    /// Maps a use case's refusal.
    pub(super) fn status(&self, refused: impl Into<Refused>) -> Status {
        status(refused.into(), &self.telemetry, self.now())
    }

    /// Who calls, live: judged anew at every call. While the CA stands still, who is not known any more hears that it
    /// does: an operator whose certificate ended with it, or somebody of the lost time.
    pub(super) async fn caller<T>(&self, request: &Request<T>) -> Result<Peer, Refused> {
        use Refusal::{CertificateRevoked, CertificateUnknown, NotEnrolled};
        match self.authenticate(Caller::certificate(request)?.as_ref()).await {
            Err(Refused { why: CertificateRevoked | CertificateUnknown | NotEnrolled, subject, trail })
                if self.publisher.is_halted() =>
            {
                Err(Refused { why: Refusal::Restored, subject, trail })
            }
            peer => peer,
        }
    }

    /// An operator with at least this role: who it is, for the audit log.
    pub(super) async fn operator<T>(&self, request: &Request<T>, needed: Role) -> Result<String, Status> {
        let peer = self.caller(request).await.map_err(|refused| self.status(refused))?;
        let subject: &Subject = &peer.holder.subject;
        let refuse = |why| Err(self.status(Refused::about(subject)(why)));
        if subject.kind != Kind::Operator {
            return refuse(Refusal::KindRefused(subject.kind.as_str()));
        }
        match peer.holder.role {
            Some(role) if role >= needed => Ok(subject.to_string()),
            _ => refuse(Refusal::RoleRequired(needed)),
        }
    }
}
