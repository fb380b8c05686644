//! RSAES-OAEP encryption (RFC 8017, section 7.1.1) to an RSA key of 2048 bits: the one thing about RSA that neither ring
//! nor anything else in the tree does. A public operation: there is no private key here, and what is encrypted is
//! raised to the power in constant time.

use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Odd, U64, U2048};
use zeroize::Zeroizing;

use super::hash::Hash;

/// Length of the modulus, in octets.
pub(super) const OCTETS: usize = 256;

/// Encrypts `message` to the key, under `label`; `seed` is as long as the hash, random, and used once. `None` where the
/// modulus is even or has not [`OCTETS`], or the message is too long.
pub(super) fn encrypt(
    modulus: &[u8],
    exponent: u32,
    hash: Hash,
    label: &[u8],
    message: &[u8],
    seed: &[u8],
) -> Option<Vec<u8>> {
    let modulus: &[u8; OCTETS] = modulus.try_into().ok()?;
    let modulus: Odd<U2048> = Odd::new(U2048::from_be_slice(modulus)).into_option()?;
    let encoded = encode(hash, label, message, seed)?;
    let parameters = FixedMontyParams::new_vartime(modulus);
    let base = Zeroizing::new(U2048::from_be_slice(&encoded));
    let power = FixedMontyForm::new(&base, &parameters).pow_vartime(&U64::from_u32(exponent));
    Some(power.retrieve().to_be_bytes().as_ref().to_vec())
}

/// EME-OAEP: `0 ‖ masked seed ‖ masked (hash of label ‖ zeros ‖ 1 ‖ message)`.
fn encode(hash: Hash, label: &[u8], message: &[u8], seed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let size = hash.size();
    let padding = OCTETS.checked_sub(2 * size + 2)?.checked_sub(message.len())?;
    if seed.len() != size {
        return None;
    }
    let mut block = Zeroizing::new(Vec::with_capacity(OCTETS));
    block.extend_from_slice(hash.digest(&[label]).as_ref());
    block.resize(size + padding, 0);
    block.push(1);
    block.extend_from_slice(message);
    mask(hash, seed, &mut block);
    let mut seed = Zeroizing::new(seed.to_vec());
    mask(hash, &block, &mut seed);
    let mut encoded = Zeroizing::new(Vec::with_capacity(OCTETS));
    encoded.push(0);
    encoded.extend_from_slice(&seed);
    encoded.extend_from_slice(&block);
    Some(encoded)
}

/// Exclusive-or with MGF1 of `seed`.
fn mask(hash: Hash, seed: &[u8], target: &mut [u8]) {
    for (counter, chunk) in (0_u32..).zip(target.chunks_mut(hash.size())) {
        let block = hash.digest(&[seed, &counter.to_be_bytes()]);
        chunk.iter_mut().zip(block.as_ref()).for_each(|(octet, mask)| *octet ^= mask);
    }
}
