//! The accept loop: TCP, TLS, and what the services learn of a connection. Everything is bounded before it is begun.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Sleep,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::Caller;
use crate::{authority::Authority, config::Limits, pki::PeerCertificate};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection without a certificate that is in force may last: longer than any enrollment, so that strangers who do
/// nothing don't keep others out.
const STRANGER: Duration = Duration::from_secs(60);
/// How long the loop rests when the system has no more sockets to give.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// A connection whose handshake is done.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    caller: Caller,
    /// When a stranger's time is over.
    end: Option<Pin<Box<Sleep>>>,
    _places: [Option<OwnedSemaphorePermit>; 2],
}

/// Accepts connections: the stream gives those whose handshake is done. One that finds no place is closed at once.
pub fn accept(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    authority: Arc<Authority>,
    limits: Limits,
) -> ReceiverStream<io::Result<Connection>> {
    let (sender, receiver) = mpsc::channel(64);
    let all = Arc::new(Semaphore::new(limits.connections));
    let strangers = Arc::new(Semaphore::new(limits.stranger_connections));
    let acceptor = TlsAcceptor::from(tls);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            let Ok((socket, _)) = accepted else {
                tokio::time::sleep(EXHAUSTED).await;
                continue;
            };
            let Ok(place) = all.clone().try_acquire_owned() else { continue };
            let (sender, acceptor) = (sender.clone(), acceptor.clone());
            let (strangers, authority) = (strangers.clone(), authority.clone());
            tokio::spawn(async move {
                // A peer that fails here is gone: there is nobody to tell.
                if let Some(connection) = secure(socket, &acceptor, &strangers, &authority, place).await {
                    let _ = sender.send(Ok(connection)).await;
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}

async fn secure(
    socket: TcpStream,
    acceptor: &TlsAcceptor,
    strangers: &Arc<Semaphore>,
    authority: &Authority,
    place: OwnedSemaphorePermit,
) -> Option<Connection> {
    socket.set_nodelay(true).ok()?;
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(socket)).await.ok()?.ok()?;
    let certificate = match stream.get_ref().1.peer_certificates() {
        Some([leaf, ..]) => Some(PeerCertificate::parse(leaf, &authority.domain().trust_domain).ok()?),
        _ => None,
    };
    // Who was cut off, or comes with what has expired, gets an answer, but no better place than a stranger.
    let known = match &certificate {
        Some(certificate) => authority.authenticate(certificate).await.is_ok(),
        None => false,
    };
    let stranger = if known { None } else { Some(strangers.clone().try_acquire_owned().ok()?) };
    let end = stranger.as_ref().map(|_| Box::pin(tokio::time::sleep(STRANGER)));
    let caller = Caller::new(certificate);
    Some(Connection { stream, caller, end, _places: [Some(place), stranger] })
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(end) = &mut self.end
            && end.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
