//! OCSP (RFC 6960): requests read, responses written here and signed elsewhere.
//!
//! Of a request only the question is taken: who is meant, and a nonce. Who asks is nobody's business, so that names and
//! signatures of requestors are not even read. Which status a certificate has is decided in `authority`.

mod request;
mod response;

use ring::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

use super::issuer::IssuerCertificate;

pub use request::{BadOcspRequest, CertId, LONGEST_OCSP_REQUEST, MOST_CERT_IDS, OcspRequest};
pub use response::{OcspAnswer, OcspFailure, OcspStatus, OcspTemplate, PreparedOcsp};

/// The hash functions by which a request names an issuer. Both stand for names only, and protect nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IdHash {
    Sha1,
    Sha256,
}

/// By what requests name an issuer (CertID, section 4.1.1): the hashes of its name and of its key.
#[derive(Clone, Debug)]
pub struct IssuerHashes {
    sha1: [Vec<u8>; 2],
    sha256: [Vec<u8>; 2],
}

impl IssuerHashes {
    /// Those of this issuer.
    pub fn of(issuer: &IssuerCertificate) -> Self {
        let hash = |algorithm: &'static Algorithm| {
            [issuer.subject_der(), issuer.public_key().raw()].map(|octets| digest(algorithm, octets).as_ref().to_vec())
        };
        Self { sha1: hash(&SHA1_FOR_LEGACY_USE_ONLY), sha256: hash(&SHA256) }
    }

    /// Whether the issuer that a request names is this one.
    pub fn are_named_by(&self, id: &CertId) -> bool {
        let named = match id.hash {
            Some(IdHash::Sha1) => &self.sha1,
            Some(IdHash::Sha256) => &self.sha256,
            None => return false,
        };
        *named == [id.name_hash.as_slice(), id.key_hash.as_slice()]
    }
}

#[cfg(test)]
mod tests;
