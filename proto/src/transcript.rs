//! The exact bytes that signatures of this protocol cover: one function each, which both sides call.
//!
//! Each begins with 64 spaces and a label of its own, like TLS 1.3's CertificateVerify (RFC 8446, section 4.4.3), so
//! that no signature made for one purpose can be taken for another, nor for a certificate (DER begins with 0x30).

use ring::digest::{SHA256, digest};

const PADDING: [u8; 64] = [0x20; 64];

/// Which of the two keys of an enrollment signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The key that proves which device this is: a token's, a factory identity's, a TPM's.
    Evidence,
    /// The key in the CSR, which the certificate will carry.
    Subject,
}

impl Role {
    fn label(self) -> &'static str {
        match self {
            Role::Evidence => "evidence",
            Role::Subject => "subject",
        }
    }
}

/// What a proof of enrollment signs:
/// `64 × 0x20 ‖ "fleetca-enroll-v1/" ‖ method ‖ "/" ‖ role ‖ 0x00 ‖ SHA-256(start) ‖ SHA-256(challenge)`.
///
/// `start` and `challenge` are the serialized messages as they travelled; `method` is the name of the field of
/// `Start.evidence`, with `-` for `_`.
///
/// ```
/// use fleetca_proto::transcript::{Role, enrollment};
/// let bytes = enrollment("token", Role::Subject, b"start", b"challenge");
/// assert_eq!(&bytes[64..96], b"fleetca-enroll-v1/token/subject\0");
/// assert_eq!(bytes.len(), 96 + 32 + 32);
/// ```
pub fn enrollment(method: &str, role: Role, start: &[u8], challenge: &[u8]) -> Vec<u8> {
    let label = format!("fleetca-enroll-v1/{method}/{}", role.label());
    labelled(&label, &[digest(&SHA256, start).as_ref(), digest(&SHA256, challenge).as_ref()])
}

/// What binds evidence that is no signature of ours to an enrollment: the SHA-256 of [`enrollment`]'s bytes with role
/// `evidence`. A JWT carries it as a claim, a TPM as extraData and in a MAC.
pub fn binding(method: &str, start: &[u8], challenge: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, &enrollment(method, Role::Evidence, start, challenge)).as_ref());
    hash
}

/// What a control root signs of a trust bundle, given as the serialized `TrustBundle`.
pub fn trust_bundle(bundle: &[u8]) -> Vec<u8> {
    labelled("fleetca-trust-bundle-v1", &[bundle])
}

/// What the control CA signs of the audit log: all integers are big-endian, 8 octets each; `head` is the chain's hash
/// after record `last_sequence`.
pub fn audit_head(last_sequence: u64, at_millis: i64, head: &[u8; 32]) -> Vec<u8> {
    labelled("fleetca-audit-head-v1", &[&last_sequence.to_be_bytes(), &at_millis.to_be_bytes(), head])
}

/// What the control CA signs of a CRL that it gives out: `issuer` is the issuer's ID as text, 16 octets; integers are
/// big-endian, 8 octets each; `sha256` is that of the CRL's DER.
pub fn crl_head(issuer: &str, number: u64, this_update_secs: i64, sha256: &[u8; 32]) -> Vec<u8> {
    let (number, date) = (number.to_be_bytes(), this_update_secs.to_be_bytes());
    labelled("fleetca-crl-head-v1", &[issuer.as_bytes(), &number, &date, sha256])
}

fn labelled(label: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + label.len() + 1 + parts.iter().map(|part| part.len()).sum::<usize>());
    bytes.extend_from_slice(&PADDING);
    bytes.extend_from_slice(label.as_bytes());
    bytes.push(0);
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}
