//! Whoever holds a certificate and its key, honest or not: renews and confirms when the test says so, over a new
//! connection each time.

use std::{future::Future, io, pin::Pin, sync::Arc};

use fleetca_proto::v1::{
    ConfirmRequest, ConfirmResponse, Issued, RenewRequest, operator_client::OperatorClient,
    renewal_client::RenewalClient, revocation_client::RevocationClient,
};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Status,
    transport::{Channel, Endpoint, Uri},
};
use tower::{Service, service_fn};

use crate::{device::Device, pem, server::Server, stranger::SubjectKey, tls};

type Connecting = Pin<Box<dyn Future<Output = io::Result<TokioIo<TlsStream<TcpStream>>>> + Send>>;

/// A certificate and its key.
#[derive(Debug)]
pub struct Holder {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Holder {
    /// One who has copied a device's folder as it is now.
    pub fn copy(device: &Device) -> Holder {
        let key = PrivateKeyDer::from_pem_file(device.presented().key).expect("the device's key is PEM");
        Holder { chain: device.chain(), key }
    }

    /// One who has got this answer for this key.
    pub fn of(issued: &Issued, key: &SubjectKey) -> Holder {
        let chain = issued.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        Holder { chain, key: key.to_der() }
    }

    /// The leaf (DER).
    pub fn certificate(&self) -> &[u8] {
        &self.chain[0]
    }

    /// The serial number of its certificate: 32 lower-case hexadecimal digits.
    pub fn serial(&self) -> String {
        pem::serial(self.certificate())
    }

    /// A TLS client that presents the certificate.
    pub fn tls(&self, server: &Server) -> ClientConfig {
        tls::config(&server.control_root(), Some((self.chain.clone(), self.key.clone_key())))
    }

    /// The chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The private key.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    /// A new connection to one of the server's ports, which presents the certificate. The handshake comes with the
    /// first call.
    pub fn connect(&self, server: &Server, port: u16) -> Channel {
        let (endpoint, connector) = self.endpoint(server, port);
        endpoint.connect_with_connector_lazy(connector)
    }

    /// The same, with the handshake done.
    pub async fn connect_now(&self, server: &Server, port: u16) -> Result<Channel, tonic::transport::Error> {
        let (endpoint, connector) = self.endpoint(server, port);
        endpoint.connect_with_connector(connector).await
    }

    fn endpoint(
        &self,
        server: &Server,
        port: u16,
    ) -> (
        Endpoint,
        impl Service<Uri, Response = TokioIo<TlsStream<TcpStream>>, Error = io::Error, Future = Connecting> + Send + 'static,
    ) {
        let mut config = self.tls(server);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let endpoint = Endpoint::from_shared(format!("http://localhost:{port}")).expect("an address");
        let connect = service_fn(move |_: Uri| {
            let connector = connector.clone();
            let connect = async move {
                let name = ServerName::try_from("localhost").expect("localhost is a name");
                let stream = TcpStream::connect(("127.0.0.1", port)).await?;
                stream.set_nodelay(true)?;
                Ok(TokioIo::new(connector.connect(name, stream).await?))
            };
            Box::pin(connect) as Connecting
        });
        (endpoint, connect)
    }

    /// Service `Renewal`, over a new connection.
    pub fn renewal(&self, server: &Server) -> RenewalClient<Channel> {
        RenewalClient::new(self.connect(server, server.addresses().devices.port()))
    }

    /// Service `Revocation`, over a new connection.
    pub fn revocation(&self, server: &Server) -> RevocationClient<Channel> {
        RevocationClient::new(self.connect(server, server.addresses().devices.port()))
    }

    /// Service `Operator`, over a new connection.
    pub fn operator(&self, server: &Server) -> OperatorClient<Channel> {
        OperatorClient::new(self.connect(server, server.addresses().operators.port()))
    }

    /// Asks for a certificate for `key`.
    pub async fn renew(&self, server: &Server, key: &SubjectKey) -> Result<Issued, Status> {
        Ok(self.renewal(server).renew(RenewRequest { csr: key.csr(), ..Default::default() }).await?.into_inner())
    }

    /// Puts the presented certificate in force.
    pub async fn confirm(&self, server: &Server) -> Result<ConfirmResponse, Status> {
        Ok(self.renewal(server).confirm(ConfirmRequest {}).await?.into_inner())
    }

    /// Renews and confirms, as an honest agent does; gives the next holder.
    pub async fn renew_and_confirm(&self, server: &Server) -> Holder {
        let key = SubjectKey::generate();
        let issued = self.renew(server, &key).await.expect("a certificate");
        assert!(issued.confirm_required);
        let next = Holder::of(&issued, &key);
        next.confirm(server).await.expect("it is in force");
        next
    }
}
