//! Where CRLs and issuing certificates are to be fetched: the URLs inside certificates, which last as long as these.

use std::fmt;

use crate::identity::IssuerId;

/// Why a public URL is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocationError {
    /// Not of the form `http://HOST[:PORT][/PATH]`.
    #[error(
        "the public URL must be of the form http://HOST[:PORT][/PATH]: what is served there is signed, and a verifier \
         that needs TLS to check TLS would go round in circles (RFC 5280, section 8)"
    )]
    Form,
    /// A device's handle that does not fit into a URL.
    #[error("a handle must have 16 to 64 of the characters A-Z a-z 0-9 _ -")]
    Handle,
}

/// Which CRL of an issuer is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrlScope<'a> {
    /// The complete one.
    Full,
    /// One device's own list, by its random handle.
    Device(&'a str),
}

/// The URLs under a CA's public URL.
#[derive(Clone, PartialEq, Eq)]
pub struct Locations {
    base: String,
}

impl Locations {
    /// Takes the public URL, with or without a slash at its end.
    ///
    /// ```
    /// use ca_server::pki::{CrlScope, Locations};
    /// let locations = Locations::new("http://ca.example:7080").unwrap();
    /// let issuer = "0123456789abcdef".parse().unwrap();
    /// let url = locations.crl(&issuer, CrlScope::Full).unwrap();
    /// assert_eq!(url, "http://ca.example:7080/crl/0123456789abcdef/full.crl");
    /// assert!(Locations::new("https://ca.example").is_err());
    /// ```
    pub fn new(public_url: &str) -> Result<Self, LocationError> {
        let base = public_url.strip_suffix('/').unwrap_or(public_url);
        let rest = base.strip_prefix("http://").ok_or(LocationError::Form)?;
        let host = rest.split('/').next().unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/[]".contains(&byte);
        let host_plain = host.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'[');
        if !host_plain || rest.len() > 200 || rest.contains("//") || !rest.bytes().all(plain) {
            return Err(LocationError::Form);
        }
        Ok(Self { base: base.to_owned() })
    }

    /// The public URL, without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Where an issuer's CRL is.
    pub fn crl(&self, issuer: &IssuerId, scope: CrlScope<'_>) -> Result<String, LocationError> {
        match scope {
            CrlScope::Full => Ok(self.full_crl(issuer)),
            CrlScope::Device(handle) => {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
                if !(16..=64).contains(&handle.len()) || !handle.bytes().all(plain) {
                    return Err(LocationError::Handle);
                }
                Ok(format!("{}/crl/{issuer}/device/{handle}.crl", self.base))
            }
        }
    }

    /// Where an issuer's complete CRL is.
    pub fn full_crl(&self, issuer: &IssuerId) -> String {
        format!("{}/crl/{issuer}/full.crl", self.base)
    }

    /// Who answers OCSP requests.
    pub fn ocsp(&self) -> String {
        format!("{}/ocsp", self.base)
    }

    /// Where an issuer's certificate is.
    pub fn certificate(&self, issuer: &IssuerId) -> String {
        format!("{}/issuers/{issuer}.cer", self.base)
    }
}

impl fmt::Debug for Locations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Locations({})", self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_urls_that_verifiers_could_not_fetch_are_refused() {
        for bad in [
            "",
            "ca.example",
            "https://ca.example",
            "http://",
            "http:///x",
            "http://a b",
            "http://a?x",
            "http://a//b",
            "http://ä",
        ] {
            assert_eq!(Locations::new(bad), Err(LocationError::Form), "{bad}");
        }
        for good in ["http://ca.example", "http://ca.example:7080/", "http://[::1]:80/pki", "http://127.0.0.1:7080"] {
            assert!(Locations::new(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_handle_that_leaves_its_place_is_refused() {
        let locations = Locations::new("http://ca.example").unwrap();
        let issuer = "0123456789abcdef".parse().unwrap();
        for bad in ["", "short", "../../../../../full", "aaaaaaaaaaaaaaaa/b"] {
            assert_eq!(locations.crl(&issuer, CrlScope::Device(bad)), Err(LocationError::Handle), "{bad}");
        }
        assert_eq!(
            locations.crl(&issuer, CrlScope::Device("aAbBcCdDeEfFgG0-")).unwrap(),
            "http://ca.example/crl/0123456789abcdef/device/aAbBcCdDeEfFgG0-.crl"
        );
    }
}
