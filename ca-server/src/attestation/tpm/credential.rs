//! TPM2_MakeCredential in software (TPM 2.0 Library, part 1, section 24): a secret that only the TPM which holds an
//! endorsement key gives out again, and only if it holds the key with a given name as well.

use aws_lc_rs::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey};
use aws_lc_rs::cipher::{AES_128, AES_256, Algorithm, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OaepPublicEncryptingKey, PublicKeyComponents};
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

use super::TpmError;
use super::hash::Hash;
use super::public::{Name, Point, Public, Symmetric};

const SECRET_OCTETS: usize = 32;
/// What a TPM means by no initialization vector: a key is used once.
const NO_VECTOR: [u8; 16] = [0; 16];

/// What a challenge carries for the TPM: both as TPM2_ActivateCredential takes them, without their outer sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// TPMS_ID_OBJECT: the integrity's HMAC behind its size, then the encrypted secret.
    pub blob: Vec<u8>,
    /// The seed, encrypted to the endorsement key: OAEP's output, or the ephemeral TPMS_ECC_POINT.
    pub encrypted_secret: Vec<u8>,
}

/// What the TPM has to give back. It never travels in the clear, and is wiped when dropped.
pub struct Secret(Zeroizing<[u8; SECRET_OCTETS]>);

impl Secret {
    /// One that was made before: for those who play the TPM.
    pub fn of(octets: [u8; SECRET_OCTETS]) -> Self {
        Self(Zeroizing::new(octets))
    }

    /// Whether `mac` is HMAC-SHA256 under it over `message`, in constant time.
    pub(super) fn verifies(&self, message: &[u8], mac: &[u8]) -> bool {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &*self.0);
        ring::hmac::verify(&key, message, mac).is_ok()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Wraps a fresh secret for the TPM that holds `ek`, if it also holds the key named `name`.
pub(super) fn make(ek: &Public, name: &Name, random: &dyn SecureRandom) -> Result<(Credential, Secret), TpmError> {
    let symmetric = ek.symmetric().ok_or(TpmError::Algorithm)?;
    let mut secret = Zeroizing::new([0; SECRET_OCTETS]);
    random.fill(&mut *secret).map_err(|_| TpmError::Random)?;
    let (seed, encrypted_secret) = match ek.point() {
        Point::Rsa { modulus, exponent } => encrypted_seed(modulus, *exponent, ek.hash(), random)?,
        Point::P256(point) => agreed_seed(&agreement::ECDH_P256, point, ek.hash())?,
        Point::P384(point) => agreed_seed(&agreement::ECDH_P384, point, ek.hash())?,
    };
    let blob = wrap(ek.hash(), symmetric, &seed, name, secret.as_slice()).map_err(|_| TpmError::Algorithm)?;
    Ok((Credential { blob, encrypted_secret }, Secret(secret)))
}

type Seed = Zeroizing<Vec<u8>>;

/// A random seed, encrypted to an RSA key. The label's zero octet belongs to it.
fn encrypted_seed(
    modulus: &[u8],
    exponent: u32,
    hash: Hash,
    random: &dyn SecureRandom,
) -> Result<(Seed, Vec<u8>), TpmError> {
    let mut seed = Zeroizing::new(vec![0; hash.size()]);
    random.fill(&mut seed).map_err(|_| TpmError::Random)?;
    let algorithm = match hash {
        Hash::Sha256 => &OAEP_SHA256_MGF1SHA256,
        Hash::Sha384 => &OAEP_SHA384_MGF1SHA384,
    };
    let exponent = exponent.to_be_bytes();
    let digits = exponent.iter().position(|octet| *octet != 0).unwrap_or(exponent.len());
    let encrypt = || -> Result<Vec<u8>, Unspecified> {
        let key = PublicKeyComponents { n: modulus, e: &exponent[digits..] }.try_into()?;
        let key = OaepPublicEncryptingKey::new(key)?;
        let mut encrypted = vec![0; key.ciphertext_size()];
        key.encrypt(algorithm, &seed, &mut encrypted, Some(b"IDENTITY\0"))?;
        Ok(encrypted)
    };
    let encrypted = encrypt().map_err(|_| TpmError::Algorithm)?;
    Ok((seed, encrypted))
}

/// A seed that both sides come to: ours by a key used once, whose point is sent.
fn agreed_seed(curve: &'static agreement::Algorithm, point: &[u8], hash: Hash) -> Result<(Seed, Vec<u8>), TpmError> {
    let ours = EphemeralPrivateKey::generate(curve, &SystemRandom::new()).map_err(|_| TpmError::Random)?;
    let sent = ours.compute_public_key().map_err(|_| TpmError::Random)?;
    let coordinate = |point: &[u8], index: usize| {
        let octets = point.len() / 2;
        point[1 + index * octets..][..octets].to_vec()
    };
    let (x, y) = (coordinate(sent.as_ref(), 0), coordinate(sent.as_ref(), 1));
    let theirs = coordinate(point, 0);
    let derive = |z: &[u8]| Ok(hash.kdfe(z, "IDENTITY", &x, &theirs, hash.size()));
    // A point off the curve ends here.
    let malformed = TpmError::Malformed { structure: "TPMT_PUBLIC" };
    let seed = agreement::agree_ephemeral(ours, UnparsedPublicKey::new(curve, point), malformed, derive)?;
    Ok((seed, [sized(&x), sized(&y)].concat()))
}

/// Encrypts the secret, then signs what was encrypted together with the name.
fn wrap(hash: Hash, symmetric: Symmetric, seed: &[u8], name: &Name, secret: &[u8]) -> Result<Vec<u8>, Unspecified> {
    let mut identity = sized(secret);
    let (cipher, octets): (&Algorithm, usize) = match symmetric {
        Symmetric::Aes128 => (&AES_128, 16),
        Symmetric::Aes256 => (&AES_256, 32),
    };
    let key = hash.kdfa(seed, "STORAGE", name.as_bytes(), octets);
    EncryptingKey::cfb128(UnboundCipherKey::new(cipher, &key)?)?
        .less_safe_encrypt(&mut identity, EncryptionContext::Iv128(FixedLength::from(NO_VECTOR)))?;
    let key = hash.kdfa(seed, "INTEGRITY", &[], hash.size());
    let integrity = hash.hmac(&key, &[&identity, name.as_bytes()]);
    Ok([sized(integrity.as_ref()), identity].concat())
}

/// A TPM2B. What is encoded here has 48 octets at most.
fn sized(octets: &[u8]) -> Vec<u8> {
    [&(octets.len() as u16).to_be_bytes(), octets].concat()
}
