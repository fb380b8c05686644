//! The server's TLS credential: a key and its chain in one file, so that they can only change together.

use std::{io, path::Path};

use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use zeroize::Zeroizing;

use crate::{
    folder,
    identity::{HostName, Timestamp, TrustDomain},
    pki::{KeyError, PeerCertificate, PemLabel, PublicKey, to_pem},
};

/// A fresh key for TLS.
pub struct ServerKey {
    pkcs8: Zeroizing<Vec<u8>>,
    public: PublicKey,
}

/// No key could be made.
#[derive(Debug, thiserror::Error)]
pub enum ServerKeyError {
    /// The random source failed.
    #[error("no randomness for a TLS key")]
    Random,
    /// What was made is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl ServerKey {
    /// Makes one.
    pub fn generate() -> Result<Self, ServerKeyError> {
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(|_| ServerKeyError::Random)?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random);
        let pair = pair.map_err(|_| ServerKeyError::Random)?;
        let public = PublicKey::from_p256_point(pair.public_key().as_ref())?;
        Ok(Self { pkcs8: Zeroizing::new(document.as_ref().to_vec()), public })
    }

    /// Its public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The file that holds it with its chain, leaf first (DER).
    pub fn to_pem(&self, chain: &[&[u8]]) -> Zeroizing<String> {
        let mut text = Zeroizing::new(key_pem(&self.pkcs8));
        for der in chain {
            text.push_str(&to_pem(PemLabel::Certificate, der));
        }
        text
    }
}

fn key_pem(pkcs8: &[u8]) -> String {
    // A fixed label and a short key: this encodes.
    der::pem::encode_string("PRIVATE KEY", der::pem::LineEnding::LF, pkcs8).unwrap_or_default()
}

/// A key and its chain, read.
pub struct ServerCredential {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub key: PrivateKeyDer<'static>,
    /// The leaf.
    pub leaf: PeerCertificate,
    names: Vec<HostName>,
}

impl ServerCredential {
    /// Reads the file. `None`: there is none, or none that can be used; a new one is to be made.
    pub fn read(path: &Path, trust_domain: &TrustDomain) -> Option<Self> {
        let text = Zeroizing::new(std::fs::read(path).ok()?);
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().ok()?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(&text).ok()?;
        let leaf = PeerCertificate::parse(chain.first()?, trust_domain).ok()?;
        let names = names_of(chain.first()?)?;
        Some(Self { chain, key: key.into(), leaf, names })
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

/// Puts a key and its chain in place of those before.
pub fn save(path: &Path, key: &ServerKey, chain: &[&[u8]]) -> io::Result<()> {
    folder::write(path, key.to_pem(chain).as_bytes(), 0o600)
}
