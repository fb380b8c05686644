//! A private key in a file, its owner's only.

use std::{fmt, path::Path};

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use zeroize::Zeroizing;

use super::{Passphrase, Signer, SignerError, file, key_pem};
use crate::pki::PublicKey;

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
        let pkcs8 = key_pem::decode(&file::read(path)?, passphrase, path)?;
        Self::from_pkcs8(pkcs8).ok_or_else(|| SignerError::Kind { path: path.to_owned() })
    }

    /// Writes the key to a new file, encrypted where a passphrase is given. It is on disk when this returns; an existing
    /// file is left as it is.
    pub fn save(&self, path: &Path, passphrase: Option<&Passphrase>) -> Result<(), SignerError> {
        file::write_new(path, self.to_pem(passphrase)?.as_bytes())
    }

    /// The key as text, encrypted where a passphrase is given.
    pub fn to_pem(&self, passphrase: Option<&Passphrase>) -> Result<Zeroizing<String>, SignerError> {
        key_pem::encode(&self.pkcs8, passphrase)
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
}
