//! The accept loop: so many connections, so large a head, so long a wait, and no longer.

use std::{future::Future, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};

use super::paced::Paced;

/// How many connections are served at the same time by default; who comes after them waits.
pub const MAX_CONNECTIONS: usize = 1024;
/// How long a caller may take to send a request's head; a connection that is idle this long ends.
const HEAD: Duration = Duration::from_secs(10);
/// The largest head.
const HEAD_SIZE: usize = 16 * 1024;
const HEAD_FIELDS: usize = 64;
/// How long a connection may last: then it ends with the response that is under way.
const CONNECTION: Duration = Duration::from_secs(300);
/// How long responses under way may go on once the server is told to stop.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long to wait where the system can't give us one more connection.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is done; then no more connections, and those that are there end with the response under
/// way, or after five seconds.
pub async fn serve(listener: TcpListener, app: Router, max_connections: usize, shutdown: impl Future<Output = ()>) {
    let room = Arc::new(Semaphore::new(max_connections));
    let stop = watch::Sender::new(false);
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let next = async {
            let place = room.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let (app, stopped) = (app.clone(), stop.subscribe());
                connections.spawn(async move {
                    let _place = place;
                    converse(stream, app, stopped).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection can't be accepted");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
    drop(listener);
    stop.send_replace(true);
    let all_gone = async { while connections.join_next().await.is_some() {} };
    // What is left after that is aborted with the set.
    let _ = tokio::time::timeout(FAREWELL, all_gone).await;
}

async fn converse(stream: TcpStream, app: Router, mut stopped: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_SIZE)
        .max_headers(HEAD_FIELDS)
        .serve_connection(TokioIo::new(Paced::new(stream)), TowerToHyperService::new(app));
    tokio::pin!(connection);
    let told = async {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = tokio::time::sleep(CONNECTION) => {}
        }
    };
    tokio::select! {
        _ = connection.as_mut() => return,
        () = told => connection.as_mut().graceful_shutdown(),
    }
    // Strangers' broken connections are no news.
    let _ = connection.await;
}
