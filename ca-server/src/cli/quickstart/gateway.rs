//! A small TLS gateway, as the ones that devices talk to: it takes clients under the device root and refuses those that
//! its CRL file holds.

use std::{path::Path, sync::Arc};

use enroll_client::credential::Credential;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::cli::{CommandError, local};

/// The gateway's own certificate: not of this CA, as a gateway's usually isn't.
pub struct Gateway {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
    listener: TcpListener,
}

impl Gateway {
    /// Takes a port on loopback.
    pub async fn bind() -> Result<Self, CommandError> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(local)?;
        Ok(Self {
            certificate: made.cert.der().clone(),
            key: PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()),
            listener: TcpListener::bind(("127.0.0.1", 0)).await?,
        })
    }

    /// Whether the gateway, having loaded these files, lets this device in: what it said, or how it refused.
    pub async fn meet(
        &self,
        device_root: &Path,
        crls: &Path,
        device: &Credential,
    ) -> Result<Result<String, String>, CommandError> {
        let acceptor = TlsAcceptor::from(Arc::new(self.server_config(device_root, crls)?));
        let connector = TlsConnector::from(Arc::new(self.client_config(device)?));
        let address = self.listener.local_addr()?;
        let serve = async {
            let (socket, _) = self.listener.accept().await?;
            let mut stream = acceptor.accept(socket).await?;
            stream.write_all(b"welcome").await?;
            stream.shutdown().await
        };
        let call = async {
            let socket = TcpStream::connect(address).await?;
            let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
            let mut stream = connector.connect(name, socket).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.map(|_| answer)
        };
        let (served, answer) = tokio::join!(serve, call);
        Ok(match (served, answer) {
            (Ok(()), Ok(answer)) => Ok(answer),
            (Err(error), _) | (_, Err(error)) => Err(error.to_string()),
        })
    }

    fn server_config(&self, device_root: &Path, crls: &Path) -> Result<ServerConfig, CommandError> {
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(device_root).map_err(local)?).map_err(local)?;
        let crls: Vec<CertificateRevocationListDer<'static>> =
            CertificateRevocationListDer::pem_file_iter(crls).and_then(|crls| crls.collect()).map_err(local)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .with_crls(crls)
            .enforce_revocation_expiration()
            .build()
            .map_err(local)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(local)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key().into())
            .map_err(local)?;
        // A resumed session would bring an old answer back.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn client_config(&self, device: &Credential) -> Result<ClientConfig, CommandError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).map_err(local)?;
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(local)?
            .with_root_certificates(roots);
        let key = device.key().for_tls(device.chain_der(), &provider).map_err(local)?;
        Ok(builder.with_client_cert_resolver(key))
    }
}
