//! Certification requests (PKCS#10, RFC 2986): a public key, and proof that the sender holds its private half.
//!
//! **A request contributes nothing else.** Its subject and its attributes, requested extensions among them, are
//! skipped unread: the CA decides every field.

use const_oid::ObjectIdentifier;
use der::asn1::AnyRef;
use der::{Decode, Reader, SliceReader, Tag, TagNumber};

use super::key::{KeyError, PublicKey};
use super::signature::SignatureAlgorithm;
use super::signed::Signed;

/// The longest request that is looked at, in octets.
pub const LONGEST_CSR: usize = 16 * 1024;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CsrError {
    /// Longer than [`LONGEST_CSR`].
    #[error("the request has {length} octets; at most 16384 are taken")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// Not the DER of a PKCS#10 request of version 1 (encoded as 0).
    #[error("the request is not the DER of a PKCS#10 request")]
    Malformed,
    /// Its key is of no kind that is taken.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Signed with an algorithm that is not taken, SHA-1 among them.
    #[error("the request is signed with {oid}, which is not supported; use SHA-256 or SHA-384 with ECDSA, or Ed25519")]
    SignatureAlgorithm {
        /// The algorithm.
        oid: ObjectIdentifier,
    },
    /// Its signature does not verify under its own key: no proof of possession.
    #[error("the request's signature does not verify under its own key")]
    ProofOfPossession,
}

/// A request that was read and whose signature verified.
///
/// The signature is not fresh: somebody may have captured the request. Freshness comes from the protocol around it.
#[derive(Clone, Debug)]
pub struct Csr {
    key: PublicKey,
}

impl Csr {
    /// Reads a request and verifies its signature under its own key.
    pub fn parse(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > LONGEST_CSR {
            return Err(CsrError::TooLong { length: der.len() });
        }
        let request = Signed::read(der).map_err(|_| CsrError::Malformed)?;
        let key = PublicKey::from_spki_der(key_of(request.content).map_err(|_| CsrError::Malformed)?)?;
        let algorithm =
            SignatureAlgorithm::read(&request.algorithm).map_err(|oid| CsrError::SignatureAlgorithm { oid })?;
        let signature = request.signature.as_bytes().ok_or(CsrError::Malformed)?;
        key.verify_as(algorithm, request.content, signature).map_err(|_| CsrError::ProofOfPossession)?;
        Ok(Self { key })
    }

    /// The key whose possession the request proved.
    pub fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// The same, owned.
    pub fn into_public_key(self) -> PublicKey {
        self.key
    }
}

/// Reads a CertificationRequestInfo as far as it matters: its version, and where its key is.
fn key_of(info: &[u8]) -> der::Result<&[u8]> {
    let mut reader = SliceReader::new(info)?;
    let spki = reader.sequence(|fields| -> der::Result<&[u8]> {
        if fields.decode::<u8>()? != 0 {
            return Err(Tag::Integer.value_error().into());
        }
        skip(fields, Tag::Sequence)?;
        let spki = fields.tlv_bytes()?;
        // Some tools leave the attributes out when there are none.
        if !fields.is_finished() {
            skip(fields, Tag::ContextSpecific { constructed: true, number: TagNumber(0) })?;
        }
        Ok(spki)
    })?;
    reader.finish()?;
    Ok(spki)
}

fn skip<'a>(fields: &mut impl Reader<'a>, tag: Tag) -> der::Result<()> {
    AnyRef::decode(fields)?.header().tag().assert_eq(tag).map(|_| ())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::signature::{Ed25519KeyPair, KeyPair};

    use super::super::encode::{Der, INTEGER, SEQUENCE, context_constructed};
    use super::super::fixture::TestKey;
    use super::super::names::name;
    use super::super::signed::assemble;
    use super::*;

    /// A request for `spki` with this version, subject and attributes, signed by `sign`.
    struct Request<'a> {
        version: u8,
        subject: Vec<u8>,
        spki: &'a [u8],
        attributes: Option<&'a [u8]>,
        algorithm: SignatureAlgorithm,
    }

    impl<'a> Request<'a> {
        fn of(spki: &'a [u8]) -> Self {
            Request {
                version: 0,
                subject: name("pumps", "pump-7"),
                spki,
                attributes: Some(&[]),
                algorithm: SignatureAlgorithm::EcdsaSha256,
            }
        }

        fn signed(&self, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
            let info = Der::build(SEQUENCE, |info| {
                info.primitive(INTEGER, &[self.version]);
                info.raw(&self.subject);
                info.raw(self.spki);
                if let Some(attributes) = self.attributes {
                    info.primitive(context_constructed(0), attributes);
                }
            });
            let signature = sign(&info);
            assemble(&info, self.algorithm, &signature)
        }
    }

    fn good(key: &TestKey) -> Vec<u8> {
        Request::of(key.public.spki_der()).signed(|info| key.sign(info))
    }

    #[test]
    fn a_request_gives_its_key() {
        let key = TestKey::generate();
        assert_eq!(Csr::parse(&good(&key)).unwrap().into_public_key(), key.public);
        let without_attributes = Request { attributes: None, ..Request::of(key.public.spki_der()) };
        let der = without_attributes.signed(|info| key.sign(info));
        assert_eq!(Csr::parse(&der).unwrap().public_key(), &key.public);
    }

    #[test]
    fn requests_made_by_other_software_are_taken() {
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let mut parameters = rcgen::CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
            parameters.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
            parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::Any];
            let request = parameters.serialize_request(&key).unwrap();
            let csr = Csr::parse(request.der()).unwrap();
            assert_eq!(csr.public_key().spki_der(), rcgen::PublicKeyData::subject_public_key_info(&key));
        }
    }

    #[test]
    fn what_a_request_asks_for_is_not_even_read() {
        let key = TestKey::generate();
        // A subject with a NUL inside, and octets for attributes that are no attributes.
        let hostile = Request {
            subject: name("pumps", "pump-7\0.evil.example"),
            attributes: Some(&[0xde, 0xad]),
            ..Request::of(key.public.spki_der())
        };
        let csr = Csr::parse(&hostile.signed(|info| key.sign(info))).unwrap();
        assert_eq!(csr.public_key(), &key.public);
    }

    #[test]
    fn a_request_signed_by_another_key_is_refused() {
        let (key, thief) = (TestKey::generate(), TestKey::generate());
        let der = Request::of(key.public.spki_der()).signed(|info| thief.sign(info));
        assert_eq!(Csr::parse(&der).unwrap_err(), CsrError::ProofOfPossession);
    }

    #[test]
    fn a_point_off_the_curve_proves_nothing() {
        let key = TestKey::generate();
        let mut spki = key.public.spki_der().to_vec();
        *spki.last_mut().unwrap() ^= 1;
        let der = Request::of(&spki).signed(|info| key.sign(info));
        assert_eq!(Csr::parse(&der).unwrap_err(), CsrError::ProofOfPossession);
    }

    #[test]
    fn an_algorithm_that_does_not_fit_the_key_proves_nothing() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let prefix = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
        let spki = [&prefix[..], pair.public_key().as_ref()].concat();
        let der = Request::of(&spki).signed(|info| pair.sign(info).as_ref().to_vec());
        assert_eq!(Csr::parse(&der).unwrap_err(), CsrError::ProofOfPossession);
    }

    #[test]
    fn sha_1_and_unknown_algorithms_are_refused_by_name() {
        let key = TestKey::generate();
        let der = good(&key);
        // ecdsa-with-SHA256 (…4.3.2) becomes ecdsa-with-SHA1 (…4.1), padded with a NULL to keep its length.
        let wanted = SignatureAlgorithm::EcdsaSha256.identifier();
        let at = der.windows(wanted.len()).position(|window| window == wanted).unwrap();
        let sha1 = [0x30, 10, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1];
        let patched = [&der[..at], &sha1[..], &[0][..], &der[at + wanted.len()..]].concat();
        assert_eq!(Csr::parse(&patched).unwrap_err(), CsrError::Malformed);

        let mut unknown = der.clone();
        unknown[at + 11] = 4; // ecdsa-with-SHA512
        let oid = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");
        assert_eq!(Csr::parse(&unknown).unwrap_err(), CsrError::SignatureAlgorithm { oid });
    }

    #[test]
    fn bytes_behind_ber_lengths_and_other_versions_are_refused() {
        let key = TestKey::generate();
        let der = good(&key);
        assert_eq!(Csr::parse(&[der.as_slice(), &[0]].concat()).unwrap_err(), CsrError::Malformed);
        assert_eq!(Csr::parse(&der[..der.len() - 1]).unwrap_err(), CsrError::Malformed);

        // The outer length in three octets where two do; and of indefinite form.
        assert_eq!(der[1], 0x81);
        let longer = [&[0x30, 0x82, 0, der[2]], &der[3..]].concat();
        assert_eq!(Csr::parse(&longer).unwrap_err(), CsrError::Malformed);
        let indefinite = [&[0x30, 0x80], &der[3..], &[0, 0]].concat();
        assert_eq!(Csr::parse(&indefinite).unwrap_err(), CsrError::Malformed);

        let version_two = Request { version: 1, ..Request::of(key.public.spki_der()) };
        assert_eq!(Csr::parse(&version_two.signed(|info| key.sign(info))).unwrap_err(), CsrError::Malformed);
    }

    #[test]
    fn a_megabyte_is_refused_unread() {
        let length = 1 << 20;
        assert_eq!(Csr::parse(&vec![0x30; length]).unwrap_err(), CsrError::TooLong { length });
    }

    #[test]
    fn an_unsupported_key_is_told_apart_from_a_malformed_request() {
        let key = TestKey::generate();
        let mut spki = key.public.spki_der().to_vec();
        spki[22] = 0x01; // prime192v1
        let der = Request::of(&spki).signed(|info| key.sign(info));
        assert!(matches!(Csr::parse(&der), Err(CsrError::Key(KeyError::Unsupported { .. }))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Csr::parse(&bytes);
        }

        #[test]
        fn no_change_of_a_good_request_is_taken(at in 0usize..200, octet in 1u8..) {
            let key = TestKey::generate();
            let mut der = good(&key);
            let at = at % der.len();
            der[at] ^= octet;
            prop_assert!(Csr::parse(&der).is_err());
        }
    }
}
