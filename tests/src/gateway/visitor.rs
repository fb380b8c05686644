//! A TLS client of a gateway: it says something, and waits for the answer that those get who were let in.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    sync::Arc,
};

use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};
use rustls_pki_types::{PrivateKeyDer, ServerName, pem::PemObject};

use super::{Admission, Gateway, Presented};
use crate::{
    pem::read_certificates,
    process, tls,
    wait::{SOON, until},
};

/// What to say, and what is answered to those who were let in.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// What is said before TLS begins, and all that is answered; both empty where nothing is.
    pub before_tls: (&'static [u8], &'static [u8]),
    /// What is said at first.
    pub hello: &'static [u8],
    /// What the answer holds.
    pub welcome: &'static [u8],
    /// What is said later on the same connection.
    pub again: &'static [u8],
    /// What the answer to that holds.
    pub still: &'static [u8],
}

/// A request that leaves the connection open, and the same again.
pub const HTTP: Manners = Manners { before_tls: NOTHING, hello: GET, welcome: OK, again: GET, still: OK };

/// TLS begins at once.
pub const NOTHING: (&[u8], &[u8]) = (b"", b"");

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";

/// A device that comes to a gateway, and remembers TLS sessions from one visit to the next.
#[derive(Debug)]
pub struct Visitor {
    config: Arc<ClientConfig>,
    pid: u32,
    port: u16,
    manners: Manners,
}

/// A connection of somebody who was let in.
#[derive(Debug)]
pub struct Visit {
    stream: StreamOwned<ClientConnection, TcpStream>,
    manners: Manners,
}

impl Visitor {
    /// A device that comes to `gateway` at `port`, and trusts the CA in the PEM file `root`.
    pub fn new(gateway: &impl Gateway, port: u16, root: &Path, device: &Presented, manners: Manners) -> Visitor {
        let key = PrivateKeyDer::from_pem_file(&device.key).expect("the device's key is PEM");
        let config = tls::config(root, Some((read_certificates(&device.chain), key)));
        Visitor { config: Arc::new(config), pid: gateway.pid(), port, manners }
    }

    /// Connects, and says hello.
    ///
    /// # Errors
    ///
    /// Where the gateway does not let the device in: the handshake fails, or another answer than the welcome comes.
    pub fn visit(&self) -> io::Result<Visit> {
        let name = ServerName::try_from("localhost").expect("localhost is a name");
        let connection = ClientConnection::new(self.config.clone(), name).map_err(io::Error::other)?;
        // stunnel lets go of its port for a moment at each reload; one that has ended listens no more.
        let mut socket =
            until(SOON, "somebody listens", || match TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && process::lives(self.pid) => None,
                connected => Some(connected),
            })?;
        socket.set_read_timeout(Some(SOON))?;
        let (request, agreement) = self.manners.before_tls;
        socket.write_all(request)?;
        let mut answer = vec![0; agreement.len()];
        socket.read_exact(&mut answer)?;
        if answer != agreement {
            return Err(io::Error::other("no TLS here"));
        }
        let mut visit = Visit { stream: StreamOwned::new(connection, socket), manners: self.manners };
        visit.speak(self.manners.hello, self.manners.welcome)?;
        Ok(visit)
    }

    /// One visit.
    pub fn admission(&self) -> Admission {
        match self.visit() {
            Ok(_) => Admission::Admitted,
            Err(error) => Admission::Refused(error.to_string()),
        }
    }
}

impl Visit {
    /// Speaks again: whether the connection is still there, and this device still welcome.
    pub fn goes_on(&mut self) -> bool {
        self.speak(self.manners.again, self.manners.still).is_ok()
    }

    fn speak(&mut self, words: &[u8], welcome: &[u8]) -> io::Result<()> {
        self.stream.write_all(words)?;
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        while !holds(&answer, welcome) {
            match self.stream.read(&mut piece)? {
                0 => return Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned())),
                length => answer.extend_from_slice(&piece[..length]),
            }
        }
        Ok(())
    }

    /// Whether the handshake was that of a session from before.
    pub fn was_resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

fn holds(answer: &[u8], welcome: &[u8]) -> bool {
    answer.windows(welcome.len()).any(|window| window == welcome)
}
