//! An HTTP server on the loopback interface that answers whatever it is told to.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use enroll_client::crl_sync::HttpUrl;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    runtime::Runtime,
};

/// What it answers: to the request for CRLs, and to every other one.
type Answers = Arc<Mutex<[Vec<u8>; 2]>>;

/// The server.
pub struct Hostile {
    address: SocketAddr,
    answers: Answers,
}

impl Hostile {
    /// Starts it.
    pub fn start(runtime: &Runtime) -> Hostile {
        let answers = Answers::default();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("it is bound");
        runtime.spawn(serve(listener, answers.clone()));
        Hostile { address, answers }
    }

    /// Where it is.
    pub fn url(&self) -> HttpUrl {
        format!("http://{}", self.address).parse().expect("a URL")
    }

    /// From now on it answers this to the request for CRLs, and this to every other one.
    pub fn answer(&self, crls: Vec<u8>, other: Vec<u8>) {
        *self.answers.lock().expect("nobody panics") = [crls, other];
    }
}

/// An answer as it should be.
pub fn ok(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nETag: \"a\"\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

async fn serve(listener: TcpListener, answers: Answers) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        let mut request = vec![0; 4096];
        let Ok(length) = stream.read(&mut request).await else { continue };
        let other = !request[..length].starts_with(b"GET /crl/");
        let answer = answers.lock().expect("nobody panics")[usize::from(other)].clone();
        // Whoever goes away has heard enough.
        let _ = stream.write_all(&answer).await;
    }
}
