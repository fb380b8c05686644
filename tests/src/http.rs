//! A small HTTP/1.1 client that hides nothing: one request a connection, headers and body as they came.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
};

use crate::wait::SOON;

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// The body, as it travelled.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The body of an answer that must be 200.
    pub fn ok(self) -> Vec<u8> {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.body
    }
}

/// `GET`, with nothing else said.
pub fn get(url: &str) -> Response {
    request("GET", url, &[])
}

/// One request to an `http://HOST:PORT/PATH`.
pub fn request(method: &str, url: &str, headers: &[(&str, &str)]) -> Response {
    try_request(method, url, headers).unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// As [`request`], to a server that may be gone.
pub fn try_request(method: &str, url: &str, headers: &[(&str, &str)]) -> io::Result<Response> {
    let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("not an http URL: {url}"));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(authority)?;
    stream.set_read_timeout(Some(SOON)).expect("a timeout can be set");
    let mut request = format!("{method} /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n");
    headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
    request.push_str("\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer).ok_or_else(|| io::Error::other(format!("not HTTP: {}", String::from_utf8_lossy(&answer))))
}

/// Reads a whole answer, whose body ends with the connection.
pub fn parse(answer: &[u8]) -> Option<Response> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let headers: Option<Vec<_>> = lines
        .map(|line| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())))
        .collect();
    Some(Response { status, headers: headers?, body: answer[end + 4..].to_vec() })
}
