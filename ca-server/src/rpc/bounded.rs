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
            Poll::Ready(None) => return Body::new(StreamBody::new(stream::iter(first))),
            Poll::Pending => break,
        }
    }
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(pass_on(body, first, place, end, authority, sender));
    Body::new(StreamBody::new(ReceiverStream::new(receiver)))
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
