//! A TLS client with a device's credential, on rustls: one connection, one HTTP request, what came back.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    sync::Arc,
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};

use super::Presented;
use crate::{
    http::{Response, parse},
    wait::SOON,
};

/// Asks `https://localhost:PORT/`, presenting a device's credential, and trusting the CA in the PEM file `ca`.
///
/// # Errors
///
/// Where the handshake or the connection fails: with TLS 1.3, a server's refusal of the certificate comes as an alert on
/// the first read.
pub fn get(port: u16, ca: &Path, device: &Presented) -> io::Result<Response> {
    let config = config(ca, device);
    let name = ServerName::try_from("localhost").expect("localhost is a name");
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    socket.set_read_timeout(Some(SOON))?;
    let mut stream = StreamOwned::new(connection, socket);
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

fn config(ca: &Path, device: &Presented) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).expect("the gateway's CA is PEM")).expect("the gateway's CA is a CA");
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(&device.chain).expect("the device's chain can be read").collect();
    let key = PrivateKeyDer::from_pem_file(&device.key).expect("the device's key is PEM");
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.expect("the device's chain is PEM"), key)
        .expect("the device's key fits its certificate")
}
