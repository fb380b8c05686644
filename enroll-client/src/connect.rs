//! The way to the server: TLS 1.3, accepted only under the control root, by its name, and with the SPIFFE ID of a
//! server. There is no trust on first use, and nothing that turns checking off.

mod server_url;
#[cfg(test)]
mod tests;
mod verifier;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fleetca_proto::{
    MAX_MESSAGE_BYTES,
    v1::{
        enrollment_client::EnrollmentClient, operator_client::OperatorClient, renewal_client::RenewalClient,
        revocation_client::RevocationClient,
    },
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig,
    client::Resumption,
    pki_types::{CertificateDer, ServerName},
};
pub use server_url::ServerUrl;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;
use verifier::ControlVerifier;
pub use verifier::Distrust;

use crate::{
    certificate::{Certificate, CertificateError},
    credential::Credential,
    identity::{SpiffeId, TrustDomain},
    renewal::Action,
    trust::{Roots, Trust, TrustError},
};

const DIAL_TIMEOUT: Duration = Duration::from_secs(15);
/// After how much silence a server is asked whether it is still there, while something is under way.
const KEEPALIVE: Duration = Duration::from_secs(30);
const CALL_TIMEOUT: Duration = Duration::from_secs(45);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Not `https://host[:port]`.
    #[error("a server's URL has the form https://host:port")]
    Url,
    /// The network did not carry us there.
    #[error("{server} cannot be reached: {source}")]
    Unreachable {
        /// Where to.
        server: ServerUrl,
        /// What the network said.
        source: io::Error,
    },
    /// It took too long.
    #[error("{0} does not answer")]
    TimedOut(ServerUrl),
    /// The server is not one that we trust.
    #[error("{server} is not trusted: {reason}")]
    Untrusted {
        /// Who it claims to be.
        server: ServerUrl,
        /// Why not.
        reason: Distrust,
    },
    /// What answers there does not speak TLS.
    #[error(
        "{0} does not speak TLS: CRLs and metrics have ports of their own, devices enroll and renew at 7443 by default, \
         operators work at 7444"
    )]
    NotTls(ServerUrl),
    /// TLS failed in another way.
    #[error("TLS with {server} failed: {source}")]
    Tls {
        /// Where to.
        server: ServerUrl,
        /// What TLS said.
        source: io::Error,
    },
    /// Our own credential does not work for TLS.
    #[error("the credential cannot be used for TLS: {0}")]
    Credential(rustls::Error),
    /// HTTP/2 could not be set up.
    #[error("{server}: {source}")]
    Transport {
        /// Where to.
        server: ServerUrl,
        /// What went wrong.
        source: tonic::transport::Error,
    },
    /// The server's certificate, accepted by TLS, cannot be read.
    #[error("the server's certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// The server's root cannot be taken.
    #[error("the server's root: {0}")]
    Root(#[from] TrustError),
}

impl ConnectError {
    /// What a command that runs once should say: a server that is not trusted needs somebody to look, all else is
    /// worth another try.
    pub fn action(&self) -> Action {
        match self {
            ConnectError::Untrusted { reason: Distrust::Dates(_), .. } => Action::Retry { after: None },
            ConnectError::Url | ConnectError::Untrusted { .. } | ConnectError::Credential(_) => Action::Stop,
            ConnectError::Unreachable { .. }
            | ConnectError::TimedOut(_)
            | ConnectError::NotTls(_)
            | ConnectError::Tls { .. }
            | ConnectError::Transport { .. }
            | ConnectError::Certificate(_)
            | ConnectError::Root(_) => Action::Retry { after: None },
        }
    }
}

/// An open connection. It dials again by itself, under the same conditions, when it breaks.
///
/// ```no_run
/// use enroll_client::{connect::Connection, trust::{Roots, Trust}};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let roots = Roots::from_pem(&std::fs::read("control-root.pem")?)?;
/// let server = "https://ca.example:7443".parse()?;
/// let connection = Connection::open(&server, &Trust::Roots(roots), None).await?;
/// println!("this is {}", connection.server_id());
/// let bundle = connection.enrollment().get_trust_bundle(fleetca_proto::v1::GetTrustBundleRequest {}).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Connection {
    channel: Channel,
    server_id: SpiffeId,
    roots: Roots,
}

impl Connection {
    /// Opens a connection, with a client certificate where a credential is given. Handshake included: what this
    /// returns has been accepted.
    pub async fn open(
        server: &ServerUrl,
        trust: &Trust,
        credential: Option<&Credential>,
    ) -> Result<Self, ConnectError> {
        Self::open_with_patience(server, trust, credential, CALL_TIMEOUT).await
    }

    /// The same, where a call may take so long. That the server is gone is found out sooner all the same.
    pub async fn open_with_patience(
        server: &ServerUrl,
        trust: &Trust,
        credential: Option<&Credential>,
        patience: Duration,
    ) -> Result<Self, ConnectError> {
        let trust_domain = credential.map(|credential| credential.state().trust_domain.clone());
        let dialer = Arc::new(Dialer { server: server.clone(), tls: tls_config(trust, trust_domain, credential)? });
        let first = dialer.dial().await?;
        let chain = first.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
        let server_id = Certificate::parse(chain.first().map_or(&[], |leaf| leaf.as_ref()))?.spiffe_id()?;
        let roots = roots_of(trust, &chain)?;
        let channel = channel_over(dialer, first, patience).await?;
        Ok(Self { channel, server_id, roots })
    }

    /// Opens a connection with what a credential folder holds: its server, its roots, its certificate.
    pub async fn with_credential(credential: &Credential) -> Result<Self, ConnectError> {
        let trust = Trust::Roots(credential.control_roots().clone());
        Self::open(&credential.state().server, &trust, Some(credential)).await
    }

    /// The server's SPIFFE ID.
    pub fn server_id(&self) -> &SpiffeId {
        &self.server_id
    }

    /// The environment that the server belongs to.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.server_id.trust_domain
    }

    /// The control roots under which the server was accepted: those given, or the one found by its fingerprint.
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// The channel itself, for any client of the wire.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Service `Enrollment`.
    pub fn enrollment(&self) -> EnrollmentClient<Channel> {
        EnrollmentClient::new(self.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Service `Renewal`. Needs a credential.
    pub fn renewal(&self) -> RenewalClient<Channel> {
        RenewalClient::new(self.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Service `Revocation`. Needs a credential.
    pub fn revocation(&self) -> RevocationClient<Channel> {
        RevocationClient::new(self.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Service `Operator`. Needs an operator's credential, and the operators' port.
    pub fn operator(&self) -> OperatorClient<Channel> {
        OperatorClient::new(self.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}

#[derive(Debug)]
struct Dialer {
    server: ServerUrl,
    tls: Arc<ClientConfig>,
}

impl Dialer {
    async fn dial(&self) -> Result<TlsStream<TcpStream>, ConnectError> {
        let timed_out = |_| ConnectError::TimedOut(self.server.clone());
        timeout(DIAL_TIMEOUT, self.handshake()).await.map_err(timed_out)?
    }

    async fn handshake(&self) -> Result<TlsStream<TcpStream>, ConnectError> {
        let name = ServerName::try_from(self.server.host().to_owned()).map_err(|_| ConnectError::Url)?;
        let unreachable = |source| ConnectError::Unreachable { server: self.server.clone(), source };
        let stream = TcpStream::connect((self.server.host(), self.server.port())).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        TlsConnector::from(self.tls.clone()).connect(name, stream).await.map_err(|source| match Distrust::of(&source) {
            Some(reason) => ConnectError::Untrusted { server: self.server.clone(), reason },
            None if is_no_tls(&source) => ConnectError::NotTls(self.server.clone()),
            None => ConnectError::Tls { server: self.server.clone(), source },
        })
    }
}

/// Whether the other side's first octets were no TLS record.
fn is_no_tls(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(tls, Some(rustls::Error::InvalidMessage(_)))
}

fn tls_config(
    trust: &Trust,
    trust_domain: Option<TrustDomain>,
    credential: Option<&Credential>,
) -> Result<Arc<ClientConfig>, ConnectError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = ControlVerifier::new(trust.clone(), trust_domain, &provider);
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(ConnectError::Credential)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match credential {
        Some(credential) => builder.with_client_cert_resolver(
            credential.key().for_tls(credential.chain_der(), &provider).map_err(ConnectError::Credential)?,
        ),
        None => builder.with_no_client_auth(),
    };
    // A resumed session would skip the verifier, and carry the old client certificate.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

async fn channel_over(
    dialer: Arc<Dialer>,
    first: TlsStream<TcpStream>,
    patience: Duration,
) -> Result<Channel, ConnectError> {
    let server = dialer.server.clone();
    let transport = |source| ConnectError::Transport { server: server.clone(), source };
    let authority = server.authority();
    let origin: Uri = format!("https://{authority}").parse().map_err(|_| ConnectError::Url)?;
    // TLS is this module's own business, and tonic takes only `http` where it has none.
    let endpoint = Endpoint::from_shared(format!("http://{authority}")).map_err(transport)?;
    let endpoint = endpoint.origin(origin).timeout(patience).connect_timeout(DIAL_TIMEOUT);
    let endpoint = endpoint.http2_keep_alive_interval(KEEPALIVE).keep_alive_timeout(DIAL_TIMEOUT);
    let first = Arc::new(Mutex::new(Some(first)));
    let connector = service_fn(move |_: Uri| {
        let (dialer, first) = (dialer.clone(), first.clone());
        async move {
            let opened = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            match opened {
                Some(stream) => Ok::<_, ConnectError>(TokioIo::new(stream)),
                None => Ok(TokioIo::new(dialer.dial().await?)),
            }
        }
    });
    endpoint.connect_with_connector(connector).await.map_err(transport)
}

fn roots_of(trust: &Trust, chain: &[CertificateDer<'_>]) -> Result<Roots, ConnectError> {
    match trust {
        Trust::Roots(roots) => Ok(roots.clone()),
        Trust::Fingerprint(fingerprint) => {
            let found: Vec<_> = verifier::root_by_fingerprint(chain, fingerprint).into_iter().collect();
            Ok(Roots::from_ders(&found)?)
        }
    }
}
