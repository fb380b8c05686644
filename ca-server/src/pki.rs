//! X.509: reading what devices send, making certificates and CRLs, and checking both before they are signed.
//!
//! **Pure**: bytes, keys, serials and instants come in as arguments; nothing here signs, reads a clock or draws a
//! random number. A certificate is made in three steps, and the signer stands in the gap between the last two:
//!
//! 1. [`Issuer::prepare_leaf`] (or [`Issuer::prepare_authority`], [`prepare_root`]) builds a certificate from its
//!    profile and what was proven, and lints the very bytes that are to be signed;
//! 2. the caller has [`Prepared::tbs`] signed;
//! 3. [`Prepared::assemble`] puts the signature in. `Prepared` moves, so it is used once.
//!
//! What is written here (`encode`) is read back by another implementation (x509-cert) in the lints and in the tests.

mod ca_csr;
mod crl;
mod csr;
mod draft;
mod encode;
mod extensions;
mod foreign;
mod holder;
mod issuance;
mod issuer;
mod jwk;
mod key;
mod lint;
mod locations;
mod names;
mod ocsp;
mod p384;
mod peer;
mod pem;
mod policy;
mod profile;
mod signature;
mod signed;

pub use ca_csr::{PreparedCsr, prepare_csr};
pub use crl::{
    CrlEntry, CrlError, CrlSteps, CrlTemplate, Edit, EntryList, ParsedCrl, ParsedDelta, PreparedCrl, RETENTION,
    RootEntry, SuccessorError, check_root_successor, check_successor,
};
pub use csr::{Csr, CsrError, LONGEST_CSR};
pub use draft::{Certificate, Prepared};
pub use foreign::{ForeignError, judge_issuing, judge_root};
pub use holder::Holder;
pub use issuance::{CaRequest, IssuanceError, Issuer, LeafRequest, ResponderRequest, prepare_root};
pub use issuer::{IssuerCertificate, IssuerError};
pub use jwk::{JwkError, from_jwk};
pub use key::{BadSignature, KeyError, KeyKind, PublicKey};
pub use lint::LintError;
pub use locations::{CrlScope, LocationError, Locations};
pub use names::is_named;
pub use ocsp::{
    BadOcspRequest, CertId, IssuerHashes, LONGEST_OCSP_REQUEST, MOST_CERT_IDS, OcspAnswer, OcspFailure, OcspRequest,
    OcspStatus, OcspTemplate, PreparedOcsp,
};
pub use p384::P384Signature;
pub use peer::{PeerCertificate, PeerError};
pub use pem::{PemError, PemLabel, PemPieces, from_pem, to_pem};
pub use policy::{NotAnArc, PolicyArc};
pub use profile::{CA_VALIDITY, CaRole, Profile, ROOT_VALIDITY};
pub use signature::SignatureAlgorithm;

#[cfg(test)]
pub(crate) mod fixture;
