//! A request has a place from its first octet to the last one of its answer, and so long a time. Whoever finds none, or
//! loses it to somebody else, is told to come again.

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Body as _, Frame, Incoming},
    service::Service,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, body::Body, service::Routes};
use tower::ServiceExt;

use super::Caller;
use crate::{
    authority::{Authority, Refusal},
    places::{Place, Places, Who},
};

/// How long a request may take, with its answer.
pub(super) const REQUEST: Duration = Duration::from_secs(300);

/// The longest frame that h2 copies.
const SMALL_FRAME: usize = 1023;
/// Up to which length an answer is copied: with one certificate and its issuer it has some 1400 octets.
const SMALL_ANSWER: usize = 4096;

type Next = Result<Frame<Bytes>, Status>;

/// The services, for one connection.
#[derive(Clone)]
pub struct Bounded {
    routes: Routes,
    authority: Arc<Authority>,
    caller: Caller,
    who: Who,
    /// `None` where the connection has no place: every request is refused.
    places: Option<Places>,
}

impl Bounded {
    /// The services for this caller, whose requests have these places.
    pub fn new(routes: Routes, authority: Arc<Authority>, caller: Caller, who: Who, places: Option<Places>) -> Self {
        Self { routes, authority, caller, who, places }
    }

    async fn answer(self, mut request: Request<Incoming>) -> Response<Body> {
        let place = self.places.as_ref().and_then(|places| places.enter(self.who.clone()));
        let Some(mut place) = place else { return self.refused(Refusal::Overloaded) };
        let end = Instant::now() + REQUEST;
        request.extensions_mut().insert(self.caller.clone());
        let answered = tokio::select! {
            Ok(answered) = self.routes.clone().oneshot(request.map(Body::new)) => answered,
            () = place.lost() => return self.refused(Refusal::Overloaded),
            () = tokio::time::sleep_until(end) => return self.refused(Refusal::TimedOut),
        };
        if is_unread(answered.headers()) {
            return self.refused(Refusal::Protocol("not a message of this call, or over 64 KiB"));
        }
        let (head, body) = answered.into_parts();
        Response::from_parts(head, hold(body, place, end, self.authority).await)
    }

    fn refused(&self, refusal: Refusal) -> Response<Body> {
        self.authority.status(refusal).into_http()
    }
}

impl Service<Request<Incoming>> for Bounded {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let bounded = self.clone();
        Box::pin(async move { Ok(bounded.answer(request).await) })
    }
}

/// Whether the library could not read the request: our own refusals have details, its own have none.
fn is_unread(headers: &HeaderMap) -> bool {
    let unread = [Code::OutOfRange, Code::Internal].map(|code| (code as i32).to_string());
    let status = headers.get(Status::GRPC_STATUS);
    status.is_some_and(|status| unread.iter().any(|code| status == code.as_str()))
        && !headers.contains_key("grpc-status-details-bin")
}

/// An answer that holds its place until it is made. What is made at once is passed on as it is; the rest goes through a
/// task of its own, so that a peer who stands still keeps no more than one message of it.
async fn hold(mut body: Body, place: Place, end: Instant, authority: Arc<Authority>) -> Body {
    // A refusal is its headers alone. They have to end the stream, or a client looks for the status behind them.
    if body.is_end_stream() {
        return body;
    }
    let mut first: Vec<Next> = Vec::new();
    // A message, and the trailers.
    while first.len() <= 2 {
        match futures::poll!(body.frame()) {
            Poll::Ready(Some(frame)) => first.push(frame),
            Poll::Ready(None) => return Body::new(StreamBody::new(stream::iter(small_frames(first)))),
            Poll::Pending => break,
        }
    }
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(pass_on(body, first, place, end, authority, sender));
    Body::new(StreamBody::new(ReceiverStream::new(receiver)))
}

/// The same in frames that h2 copies into one piece, headers and trailers with them, so that a small answer is one
/// segment; see [`Paced`](crate::paced::Paced).
fn small_frames(frames: Vec<Next>) -> Vec<Next> {
    let mut small = Vec::with_capacity(frames.len() + 1);
    for frame in frames {
        match frame.map(Frame::into_data) {
            Ok(Ok(mut data)) => {
                let whole = data.len();
                while whole <= SMALL_ANSWER && data.len() > SMALL_FRAME {
                    small.push(Ok(Frame::data(data.split_to(SMALL_FRAME))));
                }
                small.push(Ok(Frame::data(data)));
            }
            Ok(Err(other)) => small.push(Ok(other)),
            Err(status) => small.push(Err(status)),
        }
    }
    small
}

async fn pass_on(
    mut body: Body,
    first: Vec<Next>,
    mut place: Place,
    end: Instant,
    authority: Arc<Authority>,
    sender: mpsc::Sender<Next>,
) {
    let pass = async {
        for frame in first {
            sender.send(frame).await.ok()?;
        }
        while let Some(frame) = body.frame().await {
            sender.send(frame).await.ok()?;
        }
        Some(())
    };
    let refusal = tokio::select! {
        _ = pass => return,
        () = sender.closed() => return,
        () = place.lost() => Refusal::Overloaded,
        () = tokio::time::sleep_until(end) => Refusal::TimedOut,
    };
    // From here on others may have the place, and what the answer was made from.
    drop((body, place));
    let mut trailers = HeaderMap::new();
    if authority.status(refusal).add_header(&mut trailers).is_ok() {
        let _ = sender.send(Ok(Frame::trailers(trailers))).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::atomic::{AtomicUsize, Ordering},
        task::Context,
    };

    use http_body_util::Empty;
    use hyper::{client, server, service::service_fn};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

    use super::*;
    use crate::paced::Paced;

    /// Counts what is written in one.
    struct Counted(DuplexStream, Arc<AtomicUsize>);

    impl AsyncRead for Counted {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Counted {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::SeqCst);
            Pin::new(&mut self.0).poll_write(cx, buf)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bufs: &[io::IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::SeqCst);
            Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    #[tokio::test]
    async fn a_small_answer_is_written_in_one_with_its_trailers() {
        let (near, far) = tokio::io::duplex(1 << 20);
        let writes = Arc::new(AtomicUsize::new(0));
        let stream = TokioIo::new(Paced::in_one_piece(Counted(near, writes.clone())));
        let answer = service_fn(|_| async {
            let frames = vec![Ok(Frame::data(Bytes::from(vec![7; 1400]))), Ok(Frame::trailers(HeaderMap::new()))];
            Ok::<_, Infallible>(Response::new(StreamBody::new(stream::iter(small_frames(frames)))))
        });
        let serving = server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(stream, answer);
        tokio::spawn(serving);
        let (mut sender, connection) =
            client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(far)).await.unwrap();
        tokio::spawn(connection);
        let mut before = 0;
        // The first one goes with the settings of the connection.
        for _ in 0..3 {
            before = writes.load(Ordering::SeqCst);
            let request = Request::builder().uri("https://localhost/").body(Empty::<Bytes>::new()).unwrap();
            let body = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap();
            assert_eq!(body.to_bytes().len(), 1400);
        }
        assert_eq!(writes.load(Ordering::SeqCst) - before, 1);
    }

    #[test]
    fn frames_are_cut_and_nothing_is_lost() {
        for length in [0, 1, 1023, 1024, 1400, 2046, 4096, 4097, 70_000] {
            let octets: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let cut = small_frames(vec![Ok(Frame::data(octets.clone().into()))]);
            let pieces: Vec<Bytes> = cut.into_iter().map(|frame| frame.unwrap().into_data().unwrap()).collect();
            assert_eq!(pieces.concat(), octets);
            assert!(length > SMALL_ANSWER || pieces.iter().all(|piece| piece.len() <= SMALL_FRAME));
        }
    }
}
