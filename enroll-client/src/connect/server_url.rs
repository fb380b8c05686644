//! Where a server is: `https://host:port`.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use http::Uri;
use serde::{Deserialize, Serialize};

use super::ConnectError;

const DEFAULT_PORT: u16 = 7443;

/// A server's URL: `https`, a host name or IP address, and a port (7443 if none is written). No path, no user.
///
/// ```
/// use enroll_client::connect::ServerUrl;
/// let url: ServerUrl = "https://ca.example".parse()?;
/// assert_eq!(url.to_string(), "https://ca.example:7443");
/// assert!("http://ca.example".parse::<ServerUrl>().is_err());
/// # Ok::<(), enroll_client::connect::ConnectError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerUrl {
    host: String,
    port: u16,
}

impl ServerUrl {
    /// The host name or address; an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, as in a URL.
    pub fn authority(&self) -> String {
        match self.host.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]:{}", self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for ServerUrl {
    type Err = ConnectError;

    fn from_str(text: &str) -> Result<Self, ConnectError> {
        let uri: Uri = text.parse().map_err(|_| ConnectError::Url)?;
        let authority = uri.authority().ok_or(ConnectError::Url)?;
        let bare = uri.scheme_str() == Some("https") && uri.path() == "/" && uri.query().is_none();
        let host = authority.host();
        let port = match authority.as_str().strip_prefix(host).ok_or(ConnectError::Url)? {
            "" => DEFAULT_PORT,
            port => port.strip_prefix(':').and_then(|port| port.parse().ok()).ok_or(ConnectError::Url)?,
        };
        // An IPv6 address has many forms, and URLs are compared.
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<Ipv6Addr>().map_err(|_| ConnectError::Url)?.to_string(),
            None => host.to_owned(),
        };
        if !bare || host.is_empty() {
            return Err(ConnectError::Url);
        }
        Ok(Self { host, port })
    }
}

impl TryFrom<String> for ServerUrl {
    type Error = ConnectError;

    fn try_from(text: String) -> Result<Self, ConnectError> {
        text.parse()
    }
}

impl From<ServerUrl> for String {
    fn from(url: ServerUrl) -> String {
        url.to_string()
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_read() {
        for (text, host, port) in [
            ("https://ca.example:1", "ca.example", 1),
            ("https://127.0.0.1:7443/", "127.0.0.1", 7443),
            ("https://[::1]:8", "::1", 8),
            ("https://[0:0::0001]:8", "::1", 8),
        ] {
            let url: ServerUrl = text.parse().unwrap();
            assert_eq!((url.host(), url.port()), (host, port));
            assert_eq!(url.to_string().parse::<ServerUrl>().unwrap(), url);
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for text in [
            "",
            "ca",
            "ca:1",
            "http://ca:1",
            "https://",
            "https://ca/x",
            "https://u@ca",
            "https://ca?x",
            "https://ca:99999",
            "https://[::w1]:744",
        ] {
            assert!(text.parse::<ServerUrl>().is_err(), "{text}");
        }
    }
}
