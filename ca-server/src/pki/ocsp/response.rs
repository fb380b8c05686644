//! Writes responses (section 4.2).

use const_oid::db::rfc6960::{ID_PKIX_OCSP_BASIC, ID_PKIX_OCSP_NONCE};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::CertId;
use crate::identity::{RevocationReason, Timestamp};
use crate::pki::draft::Certificate;
use crate::pki::encode::{Der, ENUMERATED, OCTET_STRING, SEQUENCE, context, context_constructed};
use crate::pki::extensions::extension;
use crate::pki::key::PublicKey;
use crate::pki::signature::SignatureAlgorithm;
use crate::pki::signed;

/// What is said of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OcspStatus {
    /// It was issued, and is not revoked.
    Good,
    /// It is revoked, or on hold.
    Revoked {
        /// Since when; whole seconds count.
        at: Timestamp,
        /// Why. `Unspecified` is said by saying nothing.
        reason: RevocationReason,
    },
    /// This issuer never issued it.
    Unknown,
}

/// Why there is no answer (section 2.3). Nobody signs these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OcspFailure {
    /// The request can't be read.
    Malformed,
    /// Not now.
    TryLater,
    /// Not for this issuer.
    Unauthorized,
}

impl OcspFailure {
    /// The OCSPResponse (DER).
    pub fn der(self) -> Vec<u8> {
        let status = match self {
            OcspFailure::Malformed => 1,
            OcspFailure::TryLater => 3,
            OcspFailure::Unauthorized => 6,
        };
        Der::build(SEQUENCE, |response| response.primitive(ENUMERATED, &[status]))
    }
}

/// One of the answers in a response.
#[derive(Clone, Copy, Debug)]
pub struct OcspAnswer<'a> {
    /// For whom was asked.
    pub id: &'a CertId,
    /// What is said.
    pub status: OcspStatus,
}

/// A response to be made.
#[derive(Clone, Copy, Debug)]
pub struct OcspTemplate<'a> {
    /// Who signs.
    pub key: &'a PublicKey,
    /// When it is made, and when what it says was known to be so; whole seconds count.
    pub this_update: Timestamp,
    /// Until when it is good; whole seconds count.
    pub next_update: Timestamp,
    /// In the order of the request.
    pub answers: &'a [OcspAnswer<'a>],
    /// The request's.
    pub nonce: Option<&'a [u8]>,
}

impl OcspTemplate<'_> {
    /// Builds what is to be signed: ResponseData.
    pub fn prepare(&self) -> PreparedOcsp {
        let mut der = Der::with_capacity(512);
        der.nest(SEQUENCE, |data| {
            // The key's hash is SHA-1 by definition (KeyHash), a name and nothing more.
            let key = digest(&SHA1_FOR_LEGACY_USE_ONLY, self.key.raw());
            data.nest(context_constructed(2), |id| id.primitive(OCTET_STRING, key.as_ref()));
            data.generalized_time(self.this_update);
            data.nest(SEQUENCE, |list| self.answers.iter().for_each(|answer| self.single(list, answer)));
            if let Some(nonce) = self.nonce {
                data.nest(context_constructed(1), |tagged| {
                    tagged.nest(SEQUENCE, |list| {
                        extension(list, &ID_PKIX_OCSP_NONCE, false, |value| value.primitive(OCTET_STRING, nonce));
                    });
                });
            }
        });
        PreparedOcsp { tbs: der.into_bytes(), algorithm: SignatureAlgorithm::usual(self.key.kind()) }
    }

    fn single(&self, list: &mut Der, answer: &OcspAnswer<'_>) {
        list.nest(SEQUENCE, |single| {
            single.raw(answer.id.der());
            match answer.status {
                OcspStatus::Good => single.primitive(context(0), &[]),
                OcspStatus::Revoked { at, reason } => single.nest(context_constructed(1), |revoked| {
                    revoked.generalized_time(at);
                    if reason != RevocationReason::Unspecified {
                        revoked.nest(context_constructed(0), |why| why.primitive(ENUMERATED, &[reason.number()]));
                    }
                }),
                OcspStatus::Unknown => single.primitive(context(2), &[]),
            }
            single.generalized_time(self.this_update);
            single.nest(context_constructed(0), |next| next.generalized_time(self.next_update));
        });
    }
}

/// A response built, not signed yet. It can be used once.
#[derive(Debug)]
pub struct PreparedOcsp {
    tbs: Vec<u8>,
    algorithm: SignatureAlgorithm,
}

impl PreparedOcsp {
    /// What is to be signed.
    pub fn tbs(&self) -> &[u8] {
        &self.tbs
    }

    /// Puts the signature in, and the certificate of who signed; gives the OCSPResponse (DER). That it verifies is not
    /// checked here.
    pub fn assemble(self, signature: &[u8], responder: &Certificate) -> Vec<u8> {
        let mut fields = self.tbs;
        signed::append_signature(&mut fields, self.algorithm, signature);
        Der::build(SEQUENCE, |response| {
            response.primitive(ENUMERATED, &[0]);
            response.nest(context_constructed(0), |tagged| {
                tagged.nest(SEQUENCE, |bytes| {
                    bytes.oid(&ID_PKIX_OCSP_BASIC);
                    bytes.nest(OCTET_STRING, |octets| {
                        octets.nest(SEQUENCE, |basic| {
                            basic.raw(&fields);
                            basic.nest(context_constructed(0), |certificates| {
                                certificates.nest(SEQUENCE, |list| list.raw(&responder.der));
                            });
                        });
                    });
                });
            });
        })
    }
}
