//! TLS 1.3 for both gRPC ports: whom we accept in the handshake, and what we show.
//!
//! The handshake proves that a peer holds the key of a certificate that chains to one of our roots. Dates and
//! revocation are judged at each call, by the store: so an expired peer gets an answer, and a kept connection no
//! privilege. There is no resumption: every connection proves its key anew.

use std::sync::Arc;

use arc_swap::ArcSwap;
use der::Decode;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, ring},
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

/// Why TLS can't be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// Key and certificate don't fit, or a root can't be read.
    #[error("TLS: {0}")]
    Rustls(#[from] Error),
    /// No root to judge clients by.
    #[error("TLS: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The server's certificate and key: swapped when it renews, for the connections that come then.
#[derive(Debug)]
pub struct ServerIdentity(ArcSwap<CertifiedKey>);

impl ServerIdentity {
    /// Takes the chain (leaf first) and its key.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(certified(chain, key)?))))
    }

    /// From here on this one.
    pub fn swap(&self, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<(), TlsError> {
        self.0.store(Arc::new(certified(chain, key)?));
        Ok(())
    }
}

fn certified(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, TlsError> {
    Ok(CertifiedKey::from_der(chain, key, &ring::default_provider())?)
}

impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// Whether a port takes clients without a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// Yes: they may enroll.
    Optional,
    /// No.
    Required,
}

/// The configuration of a port: clients are judged under these roots (DER).
pub fn server_config(
    identity: Arc<ServerIdentity>,
    roots: &[&[u8]],
    client: ClientCertificate,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(CertificateDer::from(root.to_vec()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider.clone());
    let verifier = match client {
        ClientCertificate::Optional => builder.allow_unauthenticated().build()?,
        ClientCertificate::Required => builder.build()?,
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(DatesLater(verifier)))
        .with_cert_resolver(identity);
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Judges a client's chain as of a moment within its leaf's validity: dates are judged later.
#[derive(Debug)]
struct DatesLater(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for DatesLater {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0.verify_client_cert(leaf, intermediates, within_validity(leaf, now)?)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// The moment nearest to `now` at which this certificate is valid.
fn within_validity(leaf: &CertificateDer<'_>, now: UnixTime) -> Result<UnixTime, Error> {
    let certificate = x509_cert::Certificate::from_der(leaf)
        .map_err(|_| Error::InvalidCertificate(rustls::CertificateError::BadEncoding))?;
    let validity = certificate.tbs_certificate().validity();
    let first = validity.not_before.to_unix_duration();
    let last = validity.not_after.to_unix_duration();
    let now = std::time::Duration::from_secs(now.as_secs());
    Ok(UnixTime::since_unix_epoch(now.min(last).max(first)))
}
