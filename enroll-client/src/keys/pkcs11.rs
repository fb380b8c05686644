//! A maker's key in a PKCS#11 token (a smart card, a secure element, an HSM), which signs and is never seen.
//!
//! The module that speaks to the token is a library of the token's maker. It is loaded when it is named and not before,
//! in builds with the feature `pkcs11` only: `token` is where that happens, and the one place that knows of cryptoki.

#[cfg(any(test, not(feature = "pkcs11")))]
#[cfg_attr(test, allow(dead_code))]
mod absent;
#[cfg(feature = "pkcs11")]
mod token;
mod uri;

use std::{fmt, io, path::PathBuf};

use der::asn1::ObjectIdentifier;
use ring::{
    digest::{Algorithm, SHA256, SHA384, digest},
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
        VerificationAlgorithm,
    },
};
pub use uri::Uri;

#[cfg(not(feature = "pkcs11"))]
use self::absent::Token;
#[cfg(feature = "pkcs11")]
use self::token::Token;
use super::ecdsa;
use crate::certificate::{Certificate, hex, sha256};

const ID_EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP_256_R_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SECP_384_R_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// Signed to see whether the key is the certificate's. No transcript begins like this.
const TRIAL: &[u8] = b"fleetca pkcs11 trial";

/// What can go wrong with a token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Pkcs11Error {
    /// The URI. Its values are not repeated: one of them may be a PIN.
    #[error("not a PKCS#11 URI (RFC 7512) that is taken here: {0}")]
    Uri(&'static str),
    /// This program cannot load modules.
    #[error(
        "this enroll-client was built without PKCS#11; \
         cargo build --release -p enroll-client --features pkcs11 makes one with it"
    )]
    NotBuiltIn,
    /// The module.
    #[error("the module {} cannot be used: {why}", .module.display())]
    Module {
        /// Its file.
        module: PathBuf,
        /// What the system or the module says.
        why: String,
    },
    /// The file of the PIN.
    #[error("the PIN's file {}: {source}", .file.display())]
    PinFile {
        /// Its path.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not one token.
    #[error("{0} tokens fit the URI, where exactly one has to: token, serial, manufacturer and model tell them apart")]
    Tokens(usize),
    /// Not one key.
    #[error("{found} private keys fit the URI, where exactly one has to: object and id tell them apart{}", hint(*.logged_in))]
    Keys {
        /// How many.
        found: usize,
        /// Whether private objects could be seen.
        logged_in: bool,
    },
    /// The PIN was tried once, and it is not tried again.
    #[error("the token says that the PIN is wrong; tokens lock themselves after a few of these")]
    WrongPin,
    /// No PIN is accepted any more.
    #[error("the token is locked after wrong PINs; its security officer can unlock it")]
    Locked,
    /// The next wrong PIN would lock the token.
    #[error("one more wrong PIN locks the token, so none is tried: log in with the right one by other means first")]
    LastTry,
    /// Keys of signatures by which somebody consents.
    #[error("this key wants the PIN for each signature, which is not supported")]
    PinEachTime,
    /// The certificate's key is of a kind that is not taken.
    #[error("the certificate's key is none that is taken from a token (P-256, P-384, RSA)")]
    Kind,
    /// The key in the token is another one.
    #[error("the key in the token is not the certificate's")]
    OtherKey,
    /// Anything else that the module answers.
    #[error("the token refuses: {0}")]
    Refused(String),
}

fn hint(logged_in: bool) -> &'static str {
    if logged_in { "" } else { "; without pin-source=FILE only public ones are seen" }
}

/// A certificate's key in a token.
pub struct Pkcs11Key {
    token: Token,
    kind: Kind,
    public: Vec<u8>,
    fingerprint: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    P256,
    P384,
    Rsa,
}

impl Kind {
    fn of(certificate: &Certificate) -> Option<Self> {
        let info = certificate.parsed().tbs_certificate().subject_public_key_info();
        let curve = || info.algorithm.parameters.as_ref()?.decode_as::<ObjectIdentifier>().ok();
        match info.algorithm.oid {
            RSA_ENCRYPTION => Some(Kind::Rsa),
            ID_EC_PUBLIC_KEY if curve()? == SECP_256_R_1 => Some(Kind::P256),
            ID_EC_PUBLIC_KEY if curve()? == SECP_384_R_1 => Some(Kind::P384),
            _ => None,
        }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Kind::P256 => &ECDSA_P256_SHA256_ASN1,
            Kind::P384 => &ECDSA_P384_SHA384_ASN1,
            Kind::Rsa => &RSA_PKCS1_2048_8192_SHA256,
        }
    }
}

impl Pkcs11Key {
    /// Finds the token and the key, with one attempt at the PIN, and sees by a signature that the key is the
    /// certificate's.
    pub fn open(uri: &Uri, certificate: &Certificate) -> Result<Self, Pkcs11Error> {
        let kind = Kind::of(certificate).ok_or(Pkcs11Error::Kind)?;
        let info = certificate.parsed().tbs_certificate().subject_public_key_info();
        let public = info.subject_public_key.raw_bytes().to_vec();
        let fingerprint = hex(&sha256(&certificate.spki()));
        let key = Self { token: Token::open(uri, kind)?, kind, public, fingerprint };
        key.sign(TRIAL)?;
        Ok(key)
    }

    /// A signature as the evidence's: ECDSA in ASN.1 DER, with the curve's own SHA-2, or RSA PKCS#1 v1.5 with SHA-256.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Pkcs11Error> {
        let signature = match self.kind {
            Kind::P256 => self.ecdsa(&SHA256, message)?,
            Kind::P384 => self.ecdsa(&SHA384, message)?,
            Kind::Rsa => self.token.rsa_pkcs1_sha256(message)?,
        };
        let public = UnparsedPublicKey::new(self.kind.verification(), &self.public);
        public.verify(message, &signature).map_err(|_| Pkcs11Error::OtherKey)?;
        Ok(signature)
    }

    fn ecdsa(&self, algorithm: &'static Algorithm, message: &[u8]) -> Result<Vec<u8>, Pkcs11Error> {
        let numbers = self.token.ecdsa(digest(algorithm, message).as_ref())?;
        let (r, s) = numbers.split_at(numbers.len() / 2);
        ecdsa::to_der(r, s).map_err(|_| Pkcs11Error::OtherKey)
    }

    /// SHA-256 of the SubjectPublicKeyInfo, in hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

impl fmt::Debug for Pkcs11Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pkcs11Key").field("kind", &self.kind).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_pkcs11_says_how_to_build_one_with_it() {
        let uri = "pkcs11:object=idevid?module-path=/module.so".parse().unwrap();
        let Err(refused) = absent::Token::open(&uri, Kind::P256);
        assert!(refused.to_string().contains("--features pkcs11"), "{refused}");
    }
}
