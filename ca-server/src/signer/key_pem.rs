//! A private key as text: PKCS#8 in PEM, plain or encrypted (PBES2: scrypt and AES-256-CBC), as `openssl pkcs8` reads and
//! writes it.

use std::path::Path;

use der::SecretDocument;
use der::pem::{LineEnding, PemLabel};
use pkcs8::pkcs5::{pbes2, pbes2::Kdf, scrypt};
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::{Passphrase, SignerError, file};

const PLAIN: &str = PrivateKeyInfoRef::PEM_LABEL;
const BEGIN: &str = "-----BEGIN ";
const ENCRYPTED: &str = EncryptedPrivateKeyInfoRef::PEM_LABEL;

/// Where a chain begins that follows a key.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// scrypt's cost: N = 2^14, r = 8, p = 5, the strongest that OpenSSL reads without being told to allow more memory.
const SCRYPT: (u8, u32, u32) = (14, 8, 5);

/// The most that opening a key may cost, a dozen times as much as ours: whoever wrote the file says what it does cost, and
/// a damaged one may ask for more memory than there is.
const MOST_SCRYPT: u64 = 1 << 23;
const MOST_SCRYPT_OCTETS: u64 = 256 << 20;
const MOST_PBKDF2: u32 = 10_000_000;

/// The text of a key (PKCS#8 DER), encrypted where a passphrase is given.
pub fn encode(pkcs8: &[u8], passphrase: Option<&Passphrase>) -> Result<Zeroizing<String>, SignerError> {
    let pem = match passphrase {
        None => SecretDocument::try_from(pkcs8).and_then(|key| key.to_pem(PLAIN, LineEnding::LF)),
        Some(passphrase) => encrypt(pkcs8, passphrase)?.to_pem(ENCRYPTED, LineEnding::LF),
    };
    pem.map_err(|_| SignerError::Failed)
}

/// The key (PKCS#8 DER) that a text holds, and nothing else but a chain after it. `path` is where the text is from, for errors. A passphrase that is not
/// needed is not used.
pub fn decode(text: &str, passphrase: Option<&Passphrase>, path: &Path) -> Result<Zeroizing<Vec<u8>>, SignerError> {
    let format = || SignerError::Format { path: path.to_owned() };
    let key = split(text).0.trim_start();
    // What stands before it would hide from [`is_encrypted`] whether it is encrypted.
    if !key.starts_with(BEGIN) {
        return Err(format());
    }
    let (label, document) = SecretDocument::from_pem(key).map_err(|_| format())?;
    match label {
        PLAIN if is_key(document.as_bytes()) => Ok(document.to_bytes()),
        ENCRYPTED => {
            let passphrase = passphrase.ok_or_else(|| SignerError::PassphraseNeeded { path: path.to_owned() })?;
            let encrypted = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|_| format())?;
            if !encrypted.encryption_algorithm.pbes2().is_some_and(|parameters| is_affordable(&parameters.kdf)) {
                return Err(SignerError::Cost { path: path.to_owned() });
            }
            // What the passphrase of another file gives may look well padded.
            let decrypted = encrypted.decrypt(passphrase.as_bytes()).ok().filter(|key| is_key(key.as_bytes()));
            let wrong = || SignerError::WrongPassphrase { path: path.to_owned(), from: passphrase.origin() };
            Ok(decrypted.ok_or_else(wrong)?.to_bytes())
        }
        _ => Err(format()),
    }
}

fn is_key(pkcs8: &[u8]) -> bool {
    PrivateKeyInfoRef::try_from(pkcs8).is_ok()
}

/// Whether a passphrase can be tried at all.
fn is_affordable(kdf: &Kdf) -> bool {
    match kdf {
        Kdf::Pbkdf2(parameters) => parameters.iteration_count <= MOST_PBKDF2,
        Kdf::Scrypt(parameters) => {
            let (n, r) = (parameters.cost_parameter, u64::from(parameters.block_size));
            let work = n.saturating_mul(r).saturating_mul(u64::from(parameters.parallelization));
            n > 1 && work <= MOST_SCRYPT && n.saturating_mul(r).saturating_mul(128) <= MOST_SCRYPT_OCTETS
        }
        _ => false,
    }
}

/// Whether a text begins with a key that is encrypted.
pub fn is_encrypted(text: &str) -> bool {
    text.trim_start().strip_prefix(BEGIN).is_some_and(|label| label.starts_with(ENCRYPTED))
}

/// A file's text with its key encrypted with `new`, and what follows the key as it is. `None` where that is so already.
/// The key is plain before, or encrypted with `old`.
pub fn encrypted_anew(
    path: &Path,
    old: Option<&Passphrase>,
    new: &Passphrase,
) -> Result<Option<Zeroizing<String>>, SignerError> {
    let text = file::read(path)?;
    let (key, rest) = split(&text);
    if is_encrypted(key) && decode(key, Some(new), path).is_ok() {
        return Ok(None);
    }
    let key = encode(&decode(key, old, path)?, Some(new))?;
    Ok(Some(Zeroizing::new([&key, rest].concat())))
}

/// The key, and the chain that follows it.
fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find(CERTIFICATE).unwrap_or(text.len()))
}

fn encrypt(pkcs8: &[u8], passphrase: &Passphrase) -> Result<SecretDocument, SignerError> {
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    let random = SystemRandom::new();
    random.fill(&mut salt).and_then(|()| random.fill(&mut iv)).map_err(|_| SignerError::Failed)?;
    let (log_n, r, p) = SCRYPT;
    let cost = scrypt::Params::new(log_n, r, p).map_err(|_| SignerError::Failed)?;
    let parameters = pbes2::Parameters::generate_scrypt_aes256cbc(cost, &salt, iv).map_err(|_| SignerError::Failed)?;
    let key = PrivateKeyInfoRef::try_from(pkcs8).map_err(|_| SignerError::Failed)?;
    key.encrypt_with_params(parameters, passphrase.as_bytes()).map_err(|_| SignerError::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSPHRASE: &[u8] = b"correct horse";

    fn cheap() -> pbes2::Parameters {
        let cost = scrypt::Params::new(1, 1, 1).unwrap();
        pbes2::Parameters::generate_scrypt_aes256cbc(cost, &[7; 16], [7; 16]).unwrap()
    }

    /// Opens a file with these parameters and this ciphertext.
    fn open(parameters: pbes2::Parameters, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, SignerError> {
        let encrypted = EncryptedPrivateKeyInfoRef {
            encryption_algorithm: parameters.into(),
            encrypted_data: der::asn1::OctetStringRef::new(ciphertext).unwrap(),
        };
        let text = SecretDocument::encode_msg(&encrypted).unwrap().to_pem(ENCRYPTED, LineEnding::LF).unwrap();
        decode(&text, Some(&Passphrase::new(PASSPHRASE)), Path::new("key.pem"))
    }

    /// Opens a file that asks for this scrypt.
    fn asks_for(n: u64, r: u16, p: u16) -> Result<Zeroizing<Vec<u8>>, SignerError> {
        let mut parameters = cheap();
        let Kdf::Scrypt(scrypt) = &mut parameters.kdf else { panic!("scrypt was asked for") };
        (scrypt.cost_parameter, scrypt.block_size, scrypt.parallelization) = (n, r, p);
        open(parameters, b"nobody looks at it")
    }

    #[test]
    fn a_key_with_something_before_it_is_refused_whether_it_is_encrypted_or_not() {
        let key = ring::signature::EcdsaKeyPair::generate_pkcs8(
            &ring::signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            &ring::rand::SystemRandom::new(),
        )
        .unwrap();
        let passphrase = Passphrase::new(PASSPHRASE);
        for with in [None, Some(&passphrase)] {
            let text = encode(key.as_ref(), with).unwrap();
            let opened = |text: &str| decode(text, Some(&passphrase), Path::new("key.pem"));
            assert!(opened(&text).is_ok() && opened(&format!(" \n{}", *text)).is_ok());
            let refused = opened(&format!("0\n{}", *text));
            assert!(matches!(refused, Err(SignerError::Format { .. })));
        }
    }

    #[test]
    fn what_decrypts_to_something_else_than_a_key_is_refused() {
        for plaintext in [&[0x30, 3, 2, 1, 1][..], &[0x30, 0], b"no key"] {
            let ciphertext = cheap().encrypt(PASSPHRASE, plaintext).unwrap();
            let refused = open(cheap(), &ciphertext);
            assert!(matches!(refused, Err(SignerError::WrongPassphrase { .. })), "{refused:?}");
        }
    }

    #[test]
    fn a_key_that_would_cost_too_much_to_open_is_refused_before_it_is_tried() {
        for (n, r, p) in
            [(1 << 40, 8, 1), (u64::MAX, u16::MAX, u16::MAX), (1 << 20, 8, 100), (1 << 19, 16, 1), (0, 8, 1)]
        {
            let refused = asks_for(n, r, p);
            assert!(matches!(refused, Err(SignerError::Cost { .. })), "{n} {r} {p}: {refused:?}");
        }
        let tried = asks_for(1 << 10, 8, 5);
        assert!(matches!(tried, Err(SignerError::WrongPassphrase { .. })), "{tried:?}");
    }
}
