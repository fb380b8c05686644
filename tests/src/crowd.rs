//! Many who connect, from addresses of their own: every address of 127.0.0.0/8 is this machine's.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Request, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint, Uri},
};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::{server::Server, tls};

/// Where a flood comes from. Everybody else here is at 127.0.0.1.
pub const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A TCP connection from that address.
pub async fn tcp(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A TLS connection from that address, which offers HTTP/2.
pub async fn tls(from: Ipv4Addr, to: SocketAddr, mut config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from("localhost").expect("localhost is a name");
    TlsConnector::from(Arc::new(config)).connect(name, tcp(from, to).await?).await
}

/// A TLS connection of a stranger to the devices' port.
pub async fn stranger_tls(server: &Server, from: Ipv4Addr) -> io::Result<TlsStream<TcpStream>> {
    tls(from, server.addresses().devices, tls::config(&server.control_root(), None)).await
}

/// An HTTP/2 connection from that address, which is open when this returns.
pub async fn channel(from: Ipv4Addr, to: SocketAddr, config: ClientConfig) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_static("http://localhost");
    let connector = service_fn(move |_: Uri| {
        let config = config.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(tls(from, to, config).await?)) }
    });
    endpoint.connect_with_connector(connector).await
}

/// An HTTP/2 connection of a stranger to the devices' port.
pub async fn stranger(server: &Server, from: Ipv4Addr) -> Result<Channel, tonic::transport::Error> {
    channel(from, server.addresses().devices, tls::config(&server.control_root(), None)).await
}

/// Calls, and never sends the message: gives what comes of it.
pub async fn stalled(channel: &Channel, path: &'static str) -> Result<(), Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.expect("the connection is up");
    let (path, silence) = (PathAndQuery::from_static(path), Request::new(tokio_stream::pending::<()>()));
    client.client_streaming(silence, path, ProstCodec::<(), ()>::default()).await.map(drop)
}
