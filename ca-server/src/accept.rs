//! The accept loop of every port: each connection has a place before anything is done for it, and ends with the port.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use crate::places::{Place, Places, Source, Who};

/// How long what is under way may go on once a port is told to stop.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long the loop rests when the system has no more sockets to give.
const EXHAUSTED: Duration = Duration::from_millis(100);
/// How often somebody is told of that.
const TELL: Duration = Duration::from_secs(60);

/// A connection that has been accepted.
pub struct Visitor {
    /// The connection.
    pub stream: TcpStream,
    /// From where.
    pub who: Who,
    /// Its place, which it holds for as long as it lasts, or until it has a better one.
    pub place: Place,
    /// Whether the port is to stop.
    pub stopped: watch::Receiver<bool>,
}

/// Accepts connections until `shutdown` is done, and attends to each; then no more, and those that are there may end by
/// themselves, for five seconds. One that gets no place is handed to `refuse`, which must not wait.
pub async fn serve<F>(
    listener: TcpListener,
    places: Places,
    shutdown: impl Future<Output = ()>,
    refuse: impl Fn(TcpStream),
    attend: impl Fn(Visitor) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let stop = watch::Sender::new(false);
    let mut visits = JoinSet::new();
    let mut told: Option<Instant> = None;
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = visits.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let who = Who::Stranger(Source::of(address.ip()));
                match places.enter(who.clone()) {
                    Some(place) => {
                        visits.spawn(attend(Visitor { stream, who, place, stopped: stop.subscribe() }));
                    }
                    None => refuse(stream),
                }
            }
            Err(error) => {
                if told.is_none_or(|told| told.elapsed() >= TELL) {
                    tracing::warn!(%error, "a connection can't be accepted");
                    told = Some(Instant::now());
                }
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
    drop(listener);
    stop.send_replace(true);
    let all_gone = async { while visits.join_next().await.is_some() {} };
    // What is left after that is aborted with the set.
    let _ = tokio::time::timeout(FAREWELL, all_gone).await;
}
