//! A connection to a gRPC port: its handshake, which place it gets, and how it ends. Everything is bounded before it is
//! begun.

use std::{future::Future, sync::Arc, time::Duration};

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::service::Routes;

use super::{
    Caller, Port,
    bounded::{Bounded, REQUEST},
};
use crate::{
    accept::{self, Visitor},
    authority::Authority,
    config::Limits,
    paced::Paced,
    pki::PeerCertificate,
    places::{Place, Places, Rules, Who},
};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A connection without a certificate that is in force may last longer than any enrollment, and no longer, so that
/// strangers who do nothing don't keep others out.
const STRANGER: Term = Term { time: Duration::from_secs(60), grace: Duration::ZERO };
/// One that gets no place lasts to hear that it has none.
const CROWDED: Term = Term { time: Duration::from_secs(5), grace: Duration::ZERO };
/// How many requests a stranger has under way on one connection.
const STRANGER_STREAMS: usize = 8;
/// What a peer may send before we take it: the window of a stream, and of a connection. A request is a message.
const WINDOW: u32 = 64 * 1024;
/// How much of an answer waits for a peer to take it.
const SEND_BUFFER: usize = 64 * 1024;
/// How much the fields of a request may take.
const HEADERS: u32 = 16 * 1024;
/// After how much silence a peer is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// A port: who may have what of it.
#[derive(Clone)]
pub struct Gate {
    authority: Arc<Authority>,
    tls: TlsAcceptor,
    routes: Routes,
    streams: usize,
    /// How long a holder may keep a connection: who was cut off meanwhile comes as a stranger then.
    holding: Term,
    handshakes: Places,
    strangers: Room,
    holders: Room,
}

/// What strangers share among themselves, and what holders of certificates do.
#[derive(Clone)]
struct Room {
    connections: Places,
    requests: Places,
}

impl Gate {
    /// The places of a port.
    pub fn new(port: Port, tls: Arc<ServerConfig>, routes: Routes, authority: Arc<Authority>, limits: &Limits) -> Self {
        let name = port.name();
        let ruled = |kind, rules| Places::new(name, kind, rules, authority.telemetry.clone());
        let places = |kind, limit| ruled(kind, limits.rules(limit));
        let each = limits.connections_per_holder;
        Self {
            handshakes: places("handshakes", limits.handshakes),
            strangers: Room {
                connections: places("stranger_connections", limits.stranger_connections),
                requests: places("stranger_requests", limits.stranger_requests),
            },
            holders: Room {
                connections: ruled("connections", Rules { each, ..limits.rules(limits.connections) }),
                requests: places("requests", limits.requests),
            },
            streams: limits.requests_per_connection,
            holding: Term { time: Duration::from_secs(limits.connection_seconds), grace: REQUEST },
            tls: TlsAcceptor::from(tls),
            routes: routes.prepare(),
            authority,
        }
    }

    /// Serves until `shutdown`.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let handshakes = self.handshakes.clone();
        // Who gets no place for a handshake can't be told: the connection ends.
        accept::serve(listener, handshakes, shutdown, drop, |visitor| self.clone().attend(visitor)).await;
    }

    async fn attend(self, visitor: Visitor) {
        let Visitor { stream, who, mut place, mut stopped } = visitor;
        // A peer that fails here is gone: there is nobody to tell.
        let secured = tokio::select! {
            secured = tokio::time::timeout(HANDSHAKE, self.secure(stream)) => secured.ok().flatten(),
            () = place.lost() => None,
            _ = stopped.wait_for(|stopped| *stopped) => None,
        };
        let Some((stream, caller, holder)) = secured else { return };
        let known = holder.is_some();
        let (who, room) = holder.map_or((who, &self.strangers), |holder| (holder, &self.holders));
        let (place, crowded) = match room.connections.enter(who.clone()) {
            Some(better) => {
                drop(place);
                (better, false)
            }
            None => (place, true),
        };
        let requests = (!crowded).then(|| room.requests.clone());
        let service = Bounded::new(self.routes.clone(), self.authority.clone(), caller, who, requests);
        let streams = if known { self.streams } else { self.streams.min(STRANGER_STREAMS) };
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE)
            .max_concurrent_streams(u32::try_from(streams).unwrap_or(u32::MAX))
            .max_header_list_size(HEADERS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .serve_connection(TokioIo::new(Paced::in_one_piece(stream)), service);
        let term = match (crowded, known) {
            (true, _) => CROWDED,
            (false, true) => self.holding,
            (false, false) => STRANGER,
        };
        converse(connection, place, term, stopped).await;
    }

    /// Who is at the other end; a holder is one whose certificate is in force.
    async fn secure(&self, socket: TcpStream) -> Option<(TlsStream<TcpStream>, Caller, Option<Who>)> {
        socket.set_nodelay(true).ok()?;
        let stream = self.tls.accept(socket).await.ok()?;
        let certificate = match stream.get_ref().1.peer_certificates() {
            Some([leaf, ..]) => Some(PeerCertificate::parse(leaf, &self.authority.domain().trust_domain).ok()?),
            _ => None,
        };
        // Who was cut off, or comes with what has expired, gets an answer, but no better place than a stranger.
        let holder = match &certificate {
            Some(certificate) => self.authority.authenticate(certificate).await.ok(),
            None => None,
        };
        Some((stream, Caller::new(certificate), holder.map(|peer| Who::Holder(peer.holder.subject))))
    }
}

type Http2 = http2::Connection<TokioIo<Paced<TlsStream<TcpStream>>>, Bounded, TokioExecutor>;

/// How long a connection may last, and how long requests that are under way then go on: no new one begins.
#[derive(Clone, Copy)]
struct Term {
    time: Duration,
    grace: Duration,
}

/// Until the peer has gone, its place is lost, its time is over, or the port has stopped.
async fn converse(connection: Http2, mut place: Place, term: Term, mut stopped: tokio::sync::watch::Receiver<bool>) {
    tokio::pin!(connection);
    let grace = tokio::select! {
        // Strangers' broken connections are no news.
        _ = connection.as_mut() => return,
        () = place.lost() => return,
        () = tokio::time::sleep(term.time) => term.grace,
        // The port itself ends what is left then.
        _ = stopped.wait_for(|stopped| *stopped) => REQUEST,
    };
    if grace.is_zero() {
        return;
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        _ = connection => {}
        () = place.lost() => {}
        () = tokio::time::sleep(grace) => {}
    }
}
