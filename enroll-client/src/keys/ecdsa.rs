//! ECDSA signatures as hardware gives them, two numbers, in the form in which they travel.

use der::{Encode, Sequence, asn1::UintRef};

/// ECDSA-Sig-Value of RFC 3279, section 2.2.3.
#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// ASN.1 DER of a signature's numbers, each big-endian.
pub(super) fn to_der(r: &[u8], s: &[u8]) -> der::Result<Vec<u8>> {
    EcdsaSignature { r: UintRef::new(r)?, s: UintRef::new(s)? }.to_der()
}
