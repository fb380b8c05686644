//! TLS clients on rustls: who a server is, and what it says to a device with a certificate.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    sync::Arc,
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};

use crate::{
    gateway::Presented,
    http::{Response, parse},
    wait::SOON,
};

/// Asks `https://localhost:PORT/`, presenting a device's credential, and trusting the CA in the PEM file `root`.
///
/// # Errors
///
/// Where the handshake or the connection fails: with TLS 1.3, a server's refusal of the certificate comes as an alert on
/// the first read.
pub fn get(port: u16, root: &Path, device: &Presented) -> io::Result<Response> {
    let mut stream = connect(port, root, Some(device))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        // A server may close the connection without TLS's own farewell.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !answer.is_empty() => {}
        Err(error) => return Err(error),
    }
    parse(&answer).ok_or_else(|| io::Error::other("the answer is not HTTP"))
}

/// The chain that the server on that port presents, which must lead to the CA in the PEM file `root`.
pub fn server_chain(port: u16, root: &Path) -> Vec<CertificateDer<'static>> {
    let mut stream = connect(port, root, None).expect("the server can be reached");
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).expect("the server is trusted");
    }
    let chain = stream.conn.peer_certificates().expect("a server presents certificates");
    chain.iter().map(|certificate| certificate.clone().into_owned()).collect()
}

fn connect(port: u16, root: &Path, device: Option<&Presented>) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from("localhost").expect("localhost is a name");
    let connection = ClientConnection::new(Arc::new(config(root, device)), name).map_err(io::Error::other)?;
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    socket.set_read_timeout(Some(SOON))?;
    Ok(StreamOwned::new(connection, socket))
}

fn config(root: &Path, device: Option<&Presented>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(root).expect("the root is PEM")).expect("the root is a CA");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots);
    let Some(device) = device else { return builder.with_no_client_auth() };
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(&device.chain).expect("the device's chain can be read").collect();
    let key = PrivateKeyDer::from_pem_file(&device.key).expect("the device's key is PEM");
    builder
        .with_client_auth_cert(chain.expect("the device's chain is PEM"), key)
        .expect("the device's key fits its certificate")
}
