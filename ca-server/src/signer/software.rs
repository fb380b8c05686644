//! A private key in a file: PKCS#8 in PEM, plain (0600) or encrypted (PBES2: scrypt and AES-256-CBC), as
//! `openssl pkcs8` reads and writes it.

use std::{fmt, path::Path};

use der::SecretDocument;
use der::pem::LineEnding;
use pkcs8::pkcs5::{pbes2, scrypt};
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use zeroize::Zeroizing;

use super::{Passphrase, Signer, SignerError, file};
use crate::pki::PublicKey;

const PLAIN: &str = "PRIVATE KEY";
const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";

/// scrypt's cost: N = 2^14, r = 8, p = 5, the strongest that OpenSSL reads without being told to allow more memory.
const SCRYPT: (u8, u32, u32) = (14, 8, 5);

/// An ECDSA key on P-256 in memory.
pub struct SoftwareSigner {
    pair: EcdsaKeyPair,
    public: PublicKey,
    random: SystemRandom,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl SoftwareSigner {
    /// Makes a new key. It is nowhere but in memory until it is [saved](Self::save).
    pub fn generate() -> Result<Self, SignerError> {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random);
        let pkcs8 = document.map_err(|_| SignerError::Failed)?.as_ref().to_vec();
        Self::from_pkcs8(Zeroizing::new(pkcs8)).ok_or(SignerError::Failed)
    }

    /// Reads a key from its file, which nobody else may be able to read. A passphrase that is not needed is not used.
    pub fn load(path: &Path, passphrase: Option<&Passphrase>) -> Result<Self, SignerError> {
        let format = || SignerError::Format { path: path.to_owned() };
        let text = file::read(path)?;
        let (label, document) = SecretDocument::from_pem(text.trim_start()).map_err(|_| format())?;
        let pkcs8 = match label {
            PLAIN => document.to_bytes(),
            ENCRYPTED => {
                let passphrase = passphrase.ok_or_else(|| SignerError::PassphraseNeeded { path: path.to_owned() })?;
                let encrypted = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|_| format())?;
                let decrypted = encrypted.decrypt(passphrase.as_bytes());
                decrypted.map_err(|_| SignerError::WrongPassphrase { path: path.to_owned() })?.to_bytes()
            }
            _ => return Err(format()),
        };
        Self::from_pkcs8(pkcs8).ok_or_else(|| SignerError::Kind { path: path.to_owned() })
    }

    /// Writes the key to a new file, encrypted where a passphrase is given. It is on disk when this returns; an existing
    /// file is left as it is.
    pub fn save(&self, path: &Path, passphrase: Option<&Passphrase>) -> Result<(), SignerError> {
        let pem = match passphrase {
            None => SecretDocument::try_from(&self.pkcs8[..]).and_then(|key| key.to_pem(PLAIN, LineEnding::LF)),
            Some(passphrase) => self.encrypt(passphrase)?.to_pem(ENCRYPTED, LineEnding::LF),
        };
        file::write_new(path, pem.map_err(|_| SignerError::Failed)?.as_bytes())
    }

    fn encrypt(&self, passphrase: &Passphrase) -> Result<SecretDocument, SignerError> {
        let (mut salt, mut iv) = ([0; 16], [0; 16]);
        self.random.fill(&mut salt).and_then(|()| self.random.fill(&mut iv)).map_err(|_| SignerError::Failed)?;
        let (log_n, r, p) = SCRYPT;
        let cost = scrypt::Params::new(log_n, r, p).map_err(|_| SignerError::Failed)?;
        let parameters =
            pbes2::Parameters::generate_scrypt_aes256cbc(cost, &salt, iv).map_err(|_| SignerError::Failed)?;
        let key = PrivateKeyInfoRef::try_from(&self.pkcs8[..]).map_err(|_| SignerError::Failed)?;
        key.encrypt_with_params(parameters, passphrase.as_bytes()).map_err(|_| SignerError::Failed)
    }

    fn from_pkcs8(pkcs8: Zeroizing<Vec<u8>>) -> Option<Self> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8, &random).ok()?;
        let public = PublicKey::from_p256_point(pair.public_key().as_ref()).ok()?;
        Some(Self { pair, public, random, pkcs8 })
    }
}

impl Signer for SoftwareSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        let signature = self.pair.sign(&self.random, message).map_err(|_| SignerError::Failed)?;
        Ok(signature.as_ref().to_vec())
    }
}

impl fmt::Debug for SoftwareSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SoftwareSigner({:?})", self.public)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn verifies(signer: &SoftwareSigner, by: &SoftwareSigner) -> bool {
        signer.public_key().verify(b"text", &by.sign(b"text").unwrap()).is_ok()
    }

    #[test]
    fn a_saved_key_loads_again_and_signs_as_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let signer = SoftwareSigner::generate().unwrap();
        signer.save(&path, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(verifies(&signer, &SoftwareSigner::load(&path, None).unwrap()));
        assert!(!verifies(&signer, &SoftwareSigner::generate().unwrap()));
    }

    #[test]
    fn an_encrypted_key_needs_its_passphrase() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let (right, wrong) = (Passphrase::new(b"correct horse"), Passphrase::new(b"battery staple"));
        let signer = SoftwareSigner::generate().unwrap();
        signer.save(&path, Some(&right)).unwrap();
        assert!(fs::read_to_string(&path).unwrap().starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
        assert!(verifies(&signer, &SoftwareSigner::load(&path, Some(&right)).unwrap()));
        assert!(matches!(SoftwareSigner::load(&path, None), Err(SignerError::PassphraseNeeded { .. })));
        assert!(matches!(SoftwareSigner::load(&path, Some(&wrong)), Err(SignerError::WrongPassphrase { .. })));
    }

    #[test]
    fn a_key_is_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let (first, second) = (SoftwareSigner::generate().unwrap(), SoftwareSigner::generate().unwrap());
        first.save(&path, None).unwrap();
        assert!(matches!(second.save(&path, None), Err(SignerError::Exists { .. })));
        assert!(verifies(&first, &SoftwareSigner::load(&path, None).unwrap()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_cure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        SoftwareSigner::generate().unwrap().save(&path, None).unwrap();
        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refused = SoftwareSigner::load(&path, None).unwrap_err();
            assert!(matches!(refused, SignerError::Permissions { mode: found, .. } if found == mode));
            assert!(refused.to_string().ends_with(&format!("chmod 600 {}", path.display())));
        }
    }

    #[test]
    fn what_is_no_p256_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
        for (text, kind) in [("", false), ("-----BEGIN PRIVATE KEY-----\n", false), (p384.as_str(), true)] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let refused = SoftwareSigner::load(&path, None).unwrap_err();
            assert_eq!(matches!(refused, SignerError::Kind { .. }), kind, "{refused}");
            assert_eq!(matches!(refused, SignerError::Format { .. }), !kind, "{refused}");
        }
        assert!(matches!(
            SoftwareSigner::load(folder.path().join("none").as_path(), None),
            Err(SignerError::Io { .. })
        ));
    }

    #[test]
    fn secrets_do_not_print() {
        let signer = SoftwareSigner::generate().unwrap();
        assert_eq!(format!("{signer:?}"), format!("SoftwareSigner({:?})", signer.public_key()));
        assert_eq!(format!("{:?}", Passphrase::new(b"secret")), "Passphrase(…)");
    }

    #[test]
    fn a_passphrase_is_the_first_line_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passphrase");
        fs::write(&path, "correct horse\r\nbattery\n").unwrap();
        assert_eq!(Passphrase::read(&path).unwrap().as_bytes(), b"correct horse");
        fs::write(&path, "\n").unwrap();
        assert!(matches!(Passphrase::read(&path), Err(SignerError::EmptyPassphrase { .. })));
    }
}
