//! The server's TLS credential: a key and its chain in one file, so that they can only change together.

use std::{io::ErrorKind, path::Path};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use zeroize::Zeroizing;

use super::ServerError;
use crate::{
    folder,
    identity::{HostName, Timestamp, TrustDomain},
    pki::{PeerCertificate, PemLabel, to_pem},
    signer::{Passphrase, SignerError, SoftwareSigner, decode_key, read_secret},
};

/// A chain, and the key as it lies beside it in the file.
pub struct ServerCredential {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf.
    pub leaf: PeerCertificate,
    names: Vec<HostName>,
    text: Zeroizing<String>,
}

impl ServerCredential {
    /// Reads the file. `None`: there is none, or what is in it can't be used; a new one is to be made. A file that others
    /// can read, or that can't be read, is an error: somebody has to look.
    pub fn read(path: &Path, trust_domain: &TrustDomain) -> Result<Option<Self>, SignerError> {
        let text = match read_secret(path) {
            Ok(text) => text,
            Err(SignerError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
            // Not text: damaged.
            Err(SignerError::Io { source, .. }) if source.kind() == ErrorKind::InvalidData => Zeroizing::default(),
            Err(error) => return Err(error),
        };
        let found = Self::parse(text, trust_domain);
        if found.is_none() {
            tracing::warn!(path = %path.display(), "the server's own certificate can't be read: making another");
        }
        Ok(found)
    }

    fn parse(text: Zeroizing<String>, trust_domain: &TrustDomain) -> Option<Self> {
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().ok()?;
        let leaf = PeerCertificate::parse(chain.first()?, trust_domain).ok()?;
        let names = names_of(chain.first()?)?;
        Some(Self { chain, leaf, names, text })
    }

    /// The key, decrypted where it is encrypted. `path` is where this was read from, for errors.
    pub fn key(&self, passphrase: Option<&Passphrase>, path: &Path) -> Result<PrivateKeyDer<'static>, SignerError> {
        let pkcs8 = decode_key(&self.text, passphrase, path)?;
        Ok(PrivatePkcs8KeyDer::from(pkcs8.to_vec()).into())
    }

    /// Whether it is time for a new one: a third of its validity has passed, or its names are not these.
    pub fn is_due(&self, names: &[HostName], now: Timestamp) -> bool {
        let third = self.leaf.not_after.since(self.leaf.not_before) / 3;
        let mut wanted = names.to_vec();
        let mut has = self.names.clone();
        wanted.sort_by_key(ToString::to_string);
        has.sort_by_key(ToString::to_string);
        wanted != has || now >= self.leaf.not_before + third || now < self.leaf.not_before
    }
}

/// The hosts in a certificate's subjectAltName.
fn names_of(der: &[u8]) -> Option<Vec<HostName>> {
    use der::Decode;
    use x509_cert::ext::pkix::{SubjectAltName, name::GeneralName};
    let certificate = x509_cert::Certificate::from_der(der).ok()?;
    let (_, names) = certificate.tbs_certificate().get_extension::<SubjectAltName>().ok()??;
    let host = |name: &GeneralName| match name {
        GeneralName::DnsName(name) => name.as_str().parse().ok(),
        GeneralName::IpAddress(octets) => match octets.as_bytes() {
            [a, b, c, d] => Some(HostName::Ip([*a, *b, *c, *d].into())),
            octets => <[u8; 16]>::try_from(octets).ok().map(|octets| HostName::Ip(octets.into())),
        },
        _ => None,
    };
    Some(names.0.iter().filter_map(host).collect())
}

/// Puts a key and its chain (DER, leaf first) in place of those before.
pub fn save(
    path: &Path,
    key: &SoftwareSigner,
    passphrase: Option<&Passphrase>,
    chain: &[&[u8]],
) -> Result<(), ServerError> {
    let key = key.to_pem(passphrase)?;
    let chain: String = chain.iter().map(|der| to_pem(PemLabel::Certificate, der)).collect();
    // All the room at once: a text that grows would leave pieces of the key behind.
    let mut text = Zeroizing::new(String::with_capacity(key.len() + chain.len()));
    text.push_str(&key);
    text.push_str(&chain);
    folder::write(path, text.as_bytes(), 0o600).map_err(|source| ServerError::Write { path: path.to_owned(), source })
}
