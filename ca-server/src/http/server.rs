//! A connection over plain HTTP: so large a head, so long a wait, and no longer.

use std::{future::Future, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    accept::{self, Visitor},
    paced::Paced,
    places::Places,
};

/// How long a caller may take to send a request's head; a connection that is idle this long ends.
const HEAD: Duration = Duration::from_secs(10);
/// The largest head.
const HEAD_SIZE: usize = 16 * 1024;
const HEAD_FIELDS: usize = 64;
/// How long a connection may last: then it ends with the response that is under way.
const CONNECTION: Duration = Duration::from_secs(300);
/// What a connection hears that finds no place.
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Serves until `shutdown` is done; then no more connections, and those that are there end with the response under
/// way, or after five seconds.
pub async fn serve(listener: TcpListener, app: Router, places: Places, shutdown: impl Future<Output = ()>) {
    accept::serve(listener, places, shutdown, refuse, |visitor| converse(visitor, app.clone())).await;
}

fn refuse(stream: TcpStream) {
    // A buffer that is new has room; who does not read it does not hear it.
    let _ = stream.try_write(BUSY);
}

async fn converse(visitor: Visitor, app: Router) {
    let Visitor { stream, mut place, mut stopped, .. } = visitor;
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
        () = place.lost() => return,
        () = told => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        // Strangers' broken connections are no news.
        _ = connection => {}
        () = place.lost() => {}
    }
}
