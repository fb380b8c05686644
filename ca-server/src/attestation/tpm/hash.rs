//! The two hashes that are taken, and the TPM's ways to derive keys with them (TPM 2.0 Library, part 1, section 11.4.10).

use ring::{digest, hmac};
use zeroize::Zeroizing;

/// A hash algorithm. SHA-1 is not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha384,
}

impl Hash {
    /// From a TPM_ALG_ID.
    pub(super) fn from_id(id: u16) -> Option<Self> {
        match id {
            0x000b => Some(Hash::Sha256),
            0x000c => Some(Hash::Sha384),
            _ => None,
        }
    }

    /// Its TPM_ALG_ID.
    pub(super) fn id(self) -> u16 {
        match self {
            Hash::Sha256 => 0x000b,
            Hash::Sha384 => 0x000c,
        }
    }

    /// Length of its digest, in octets.
    pub(super) fn size(self) -> usize {
        self.algorithm().output_len()
    }

    /// The digest of these parts, one after the other.
    pub(super) fn digest(self, parts: &[&[u8]]) -> digest::Digest {
        let mut context = digest::Context::new(self.algorithm());
        parts.iter().for_each(|part| context.update(part));
        context.finish()
    }

    /// HMAC over these parts, one after the other.
    pub(super) fn hmac(self, key: &[u8], parts: &[&[u8]]) -> hmac::Tag {
        let algorithm = match self {
            Hash::Sha256 => hmac::HMAC_SHA256,
            Hash::Sha384 => hmac::HMAC_SHA384,
        };
        let mut context = hmac::Context::with_key(&hmac::Key::new(algorithm, key));
        parts.iter().for_each(|part| context.update(part));
        context.sign()
    }

    /// KDFa with an empty second context: `octets` of key from `key`, for the purpose that `label` names.
    pub(super) fn kdfa(self, key: &[u8], label: &str, context: &[u8], octets: usize) -> Zeroizing<Vec<u8>> {
        self.derive(octets, |hash, counter, bits, derived| {
            let tag = hash.hmac(key, &[counter, label.as_bytes(), &[0], context, bits]);
            derived.extend_from_slice(tag.as_ref());
        })
    }

    /// KDFe: `octets` of key from the X coordinate `z` that both parties of an ECDH come to.
    pub(super) fn kdfe(
        self,
        z: &[u8],
        label: &str,
        party_u: &[u8],
        party_v: &[u8],
        octets: usize,
    ) -> Zeroizing<Vec<u8>> {
        self.derive(octets, |hash, counter, _, derived| {
            let digest = hash.digest(&[counter, z, label.as_bytes(), &[0], party_u, party_v]);
            derived.extend_from_slice(digest.as_ref());
        })
    }

    /// Blocks, counted from 1, until there is enough. The number of bits asked for is given to each as well.
    fn derive(self, octets: usize, block: impl Fn(Self, &[u8], &[u8], &mut Vec<u8>)) -> Zeroizing<Vec<u8>> {
        let bits = (octets as u32 * 8).to_be_bytes();
        // Room for all, so that no copy of it is left behind.
        let mut derived = Zeroizing::new(Vec::with_capacity(octets.next_multiple_of(self.size())));
        for counter in 1_u32.. {
            if derived.len() >= octets {
                break;
            }
            block(self, &counter.to_be_bytes(), &bits, &mut derived);
        }
        derived.truncate(octets);
        derived
    }

    fn algorithm(self) -> &'static digest::Algorithm {
        match self {
            Hash::Sha256 => &digest::SHA256,
            Hash::Sha384 => &digest::SHA384,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::hex;

    #[test]
    fn kdfa_and_kdfe_take_blocks_until_there_is_enough() {
        for octets in [1, 16, 32, 33, 48, 100] {
            for hash in [Hash::Sha256, Hash::Sha384] {
                assert_eq!(hash.kdfa(b"key", "STORAGE", b"context", octets).len(), octets);
                assert_eq!(hash.kdfe(b"z", "IDENTITY", b"u", b"v", octets).len(), octets);
            }
        }
        let one_block = Hash::Sha256.hmac(b"key", &[b"\0\0\0\x01STORAGE\0context\0\0\0\x80"]);
        assert_eq!(*Hash::Sha256.kdfa(b"key", "STORAGE", b"context", 16), one_block.as_ref()[..16]);
    }

    #[test]
    fn digests_are_those_of_the_standard() {
        let sha256 = Hash::Sha256.digest(&[b"a", b"bc"]);
        assert_eq!(hex(&sha256.as_ref()[..4]), "ba7816bf");
        let sha384 = Hash::Sha384.digest(&[b"abc"]);
        assert_eq!(hex(&sha384.as_ref()[..4]), "cb00753f");
        assert_eq!((Hash::from_id(0x000b), Hash::from_id(0x000c)), (Some(Hash::Sha256), Some(Hash::Sha384)));
        assert_eq!(Hash::from_id(0x0004), None, "SHA-1");
    }
}
