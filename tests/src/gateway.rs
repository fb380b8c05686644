//! Gateways: real TLS servers that let in devices with a certificate under the device root which no CRL lists.
//!
//! A gateway reads two files that Fleet CA provides, the device root and the bundle of CRLs that `enroll-client
//! sync-crls` writes, and is told of a new one by a command. It is set up as its recipe in `docs/gateways.md` says. Its
//! own server certificate comes from a CA of the test's own: Fleet CA has no part in that.

pub mod apache;
pub mod envoy;
pub mod haproxy;
pub mod identity;
pub mod matrix;
pub mod mosquitto;
pub mod nginx;
pub mod place;
pub mod postgres;
pub mod stunnel;
pub mod visitor;

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use self::{place::Place, visitor::Visitor};
use crate::{process::Running, wait::SOON, wait::until};

/// What a device that came to a gateway got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It got in.
    Admitted,
    /// It did not; the text says how the gateway put it.
    Refused(String),
}

impl Admission {
    /// Whether it got in.
    pub fn is_admitted(&self) -> bool {
        *self == Admission::Admitted
    }
}

/// A credential that a device presents: PEM files, as in `DIR/current` of a credential folder.
#[derive(Clone, Debug)]
pub struct Presented {
    /// The leaf, then the issuing CA.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Presented {
    /// The newest credential of a credential folder.
    pub fn of(folder: &Path) -> Presented {
        Presented { chain: folder.join("current/credential.pem"), key: folder.join("current/key.pem") }
    }
}

/// A gateway that is running.
pub trait Gateway {
    /// Its name in messages.
    fn name(&self) -> &'static str;
    /// The process that signals go to.
    fn pid(&self) -> u32;
    /// The command that tells it of a new file, as `--on-change` of `sync-crls`.
    fn reload(&self) -> String {
        format!("kill -HUP {}", self.pid())
    }
    /// Whether a new list makes it close the connections that it has, where nothing is going on in them.
    fn closes_connections(&self) -> bool {
        false
    }
    /// A client of it that remembers TLS sessions and keeps connections.
    fn visitor(&self, device: &Presented) -> Visitor;
    /// Lets a device try to get in.
    fn admit(&self, device: &Presented) -> Admission {
        self.visitor(device).admission()
    }
}

/// Starts a server on a free port of the loopback interface, and waits until it listens.
///
/// A port that was free can be taken before the server comes to it: then the next one is tried.
fn start_on_free_port(name: &str, place: &Place, command: impl Fn(u16) -> Command) -> (Running, u16) {
    until(SOON, &format!("{name} starts"), || {
        let port = free_port();
        let mut process = Running::start(name, command(port), place.path());
        let listens = until(SOON, &format!("{name} listens on port {port}"), || {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Some(true);
            }
            process.ended().map(|_| false)
        });
        let complaint = process.stderr();
        if listens && process.ended().is_none() {
            return Some((process, port));
        }
        let taken = complaint.contains("in use") || complaint.contains("cannot bind socket");
        assert!(taken, "{name} does not start:\n{complaint}{}", process.stdout());
        None
    })
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback interface has a free port");
    listener.local_addr().expect("a listener knows its address").port()
}
