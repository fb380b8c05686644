//! Who is at the other end of a connection: what the handshake has proven, and what the store says of it now.

use std::{ops::Deref, sync::Arc};

use tonic::{Request, Status};

use super::status::status;
use crate::{
    authority::{Authority, Refusal, Refused},
    identity::Kind,
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

/// An operator who calls: who it is, for the audit log.
#[derive(Debug)]
pub(super) struct Actor {
    subject: String,
    certificate: Arc<PeerCertificate>,
    needed: Role,
}

impl Deref for Actor {
    type Target = str;

    fn deref(&self) -> &str {
        &self.subject
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
        self.judge(Caller::certificate(request)?.as_ref()).await
    }

    async fn judge(&self, certificate: &PeerCertificate) -> Result<Peer, Refused> {
        use Refusal::{CertificateRevoked, CertificateUnknown, NotEnrolled};
        match self.authenticate(certificate).await {
            Err(Refused { why: CertificateRevoked | CertificateUnknown | NotEnrolled, subject, trail })
                if self.publisher.is_halted() =>
            {
                Err(Refused { why: Refusal::Restored, subject, trail })
            }
            peer => peer,
        }
    }

    /// An operator with at least this role.
    pub(super) async fn operator<T>(&self, request: &Request<T>, needed: Role) -> Result<Actor, Status> {
        let judged = async {
            let certificate = Caller::certificate(request)?;
            let subject = self.judge_operator(&certificate, needed).await?;
            Ok::<_, Refused>(Actor { subject, certificate, needed })
        };
        judged.await.map_err(|refused| self.status(refused))
    }

    /// Whether the operator still may: a caller who sends one message after the other decides how long that takes, and may
    /// have been cut off meanwhile. To be asked when all has come, before anything is done.
    pub(super) async fn still_may(&self, actor: &Actor) -> Result<(), Refusal> {
        let judged = self.judge_operator(&actor.certificate, actor.needed).await;
        judged.map(drop).map_err(|refused| refused.why)
    }

    async fn judge_operator(&self, certificate: &PeerCertificate, needed: Role) -> Result<String, Refused> {
        let Peer { holder, .. } = self.judge(certificate).await?;
        let refuse = |why| Err(Refused::about(&holder.subject)(why));
        if holder.subject.kind != Kind::Operator {
            return refuse(Refusal::KindRefused(holder.subject.kind.as_str()));
        }
        match holder.role {
            Some(role) if role >= needed => Ok(holder.subject.to_string()),
            _ => refuse(Refusal::RoleRequired(needed)),
        }
    }
}
