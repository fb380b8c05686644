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
    pem::read_certificates,
    wait::SOON,
};

/// Asks `https://localhost:PORT/`, presenting a device's credential if one is given, and trusting the CA in the PEM file
/// `root`.
///
/// # Errors
///
/// Where the handshake or the connection fails: with TLS 1.3, a server's refusal of the certificate comes as an alert on
/// the first read.
pub fn get(port: u16, root: &Path, device: Option<&Presented>) -> io::Result<Response> {
    let mut stream = connect(port, root, device)?;
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
    let credential = device.map(|device| {
        let key = PrivateKeyDer::from_pem_file(&device.key).expect("the device's key is PEM");
        (read_certificates(&device.chain), key)
    });
    let name = ServerName::try_from("localhost").expect("localhost is a name");
    let config = Arc::new(config(root, credential));
    let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    socket.set_read_timeout(Some(SOON))?;
    Ok(StreamOwned::new(connection, socket))
}

/// A client that trusts the CA in the PEM file `root`, and presents a chain where one is given.
pub fn config(root: &Path, credential: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(root).expect("the root is PEM")).expect("the root is a CA");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots);
    match credential {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).expect("the key fits its certificate"),
    }
}
