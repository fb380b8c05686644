//! TPMT_SIGNATURE, and whether it holds under an attestation key.

use der::asn1::UintRef;
use der::{Encode, Sequence};

use super::TpmError;
use super::hash::Hash;
use super::reader::Reader;
use crate::pki::{KeyKind, PublicKey};

const ALG_RSASSA: u16 = 0x0014;
const ALG_ECDSA: u16 = 0x0018;
/// The longest that is looked at, in octets: one of an RSA key of 4096 bits has 518.
const LONGEST: usize = 600;

/// ECDSA-Sig-Value of RFC 3279, section 2.2.3.
#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// Verifies `signature`, a TPMT_SIGNATURE, over `message` under `key`: ECDSA with SHA-256 on P-256 and SHA-384 on
/// P-384, RSASSA (PKCS#1 v1.5) with SHA-256.
pub(super) fn verify(key: &PublicKey, message: &[u8], signature: &[u8]) -> Result<(), TpmError> {
    let mut reader = Reader::new(signature, "TPMT_SIGNATURE");
    if signature.len() > LONGEST {
        return Err(reader.malformed());
    }
    let (algorithm, hash) = (reader.u16()?, Hash::from_id(reader.u16()?));
    let encoded = match (key.kind(), algorithm, hash) {
        (KeyKind::P256, ALG_ECDSA, Some(Hash::Sha256)) | (KeyKind::P384, ALG_ECDSA, Some(Hash::Sha384)) => {
            let (r, s) = (reader.sized()?, reader.sized()?);
            let malformed = |_| TpmError::Malformed { structure: "TPMT_SIGNATURE" };
            let pair =
                EcdsaSignature { r: UintRef::new(r).map_err(malformed)?, s: UintRef::new(s).map_err(malformed)? };
            pair.to_der().map_err(malformed)?
        }
        (KeyKind::Rsa, ALG_RSASSA, Some(Hash::Sha256)) => reader.sized()?.to_vec(),
        _ => return Err(TpmError::Algorithm),
    };
    reader.finish()?;
    key.verify(message, &encoded).map_err(|_| TpmError::Signature)
}
