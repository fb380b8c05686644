//! A P-256 key in a PKCS#8 PEM file, readable by its owner only. Writing it durably is `credential`'s business.

use std::fmt;

use rcgen::{
    CertificateParams, DistinguishedName, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey,
};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use zeroize::Zeroizing;

/// What can go wrong with a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not one P-256 private key as PKCS#8 PEM.
    #[error("not a P-256 private key in PKCS#8 PEM")]
    Unreadable,
    /// The TPM that has it, or should.
    #[error(transparent)]
    Tpm(#[from] super::tpm::TpmError),
    /// The token that has it, or should.
    #[error(transparent)]
    Pkcs11(#[from] super::pkcs11::Pkcs11Error),
    /// The key could not be made or used.
    #[error("the key cannot be made or used")]
    Unusable,
}

/// A P-256 private key held in memory; its encoded form is zeroized when dropped.
///
/// ```
/// use enroll_client::keys::FileKey;
/// let key = FileKey::generate()?;
/// let same = FileKey::from_pem(key.to_pem().as_bytes())?;
/// assert_eq!(same.spki(), key.spki());
/// # Ok::<(), enroll_client::keys::KeyError>(())
/// ```
pub struct FileKey {
    pkcs8: Zeroizing<Vec<u8>>,
    pair: EcdsaKeyPair,
}

impl FileKey {
    /// A new key.
    pub fn generate() -> Result<Self, KeyError> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map_err(|_| KeyError::Unusable)?;
        Self::from_pkcs8(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// Reads `-----BEGIN PRIVATE KEY-----`.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| KeyError::Unreadable)?;
        Self::from_pkcs8(Zeroizing::new(der.secret_pkcs8_der().to_vec()))
    }

    fn from_pkcs8(pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8, &SystemRandom::new())
            .map_err(|_| KeyError::Unreadable)?;
        Ok(Self { pkcs8, pair })
    }

    /// The key as PKCS#8 PEM: a secret.
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(crate::certificate::pem("PRIVATE KEY", &self.pkcs8))
    }

    /// For TLS.
    pub fn to_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pkcs8.to_vec()))
    }

    /// The public half: a SubjectPublicKeyInfo in DER.
    pub fn spki(&self) -> Vec<u8> {
        self.subject_public_key_info()
    }

    /// A PKCS#10 request in DER. It names nothing: the CA takes the public key only.
    pub fn csr(&self) -> Result<Vec<u8>, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(self).map_err(|_| KeyError::Unusable)?;
        Ok(request.der().to_vec())
    }

    /// ECDSA with SHA-256 over `message`, in ASN.1 DER.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| KeyError::Unusable)?;
        Ok(signature.as_ref().to_vec())
    }
}

impl PublicKeyData for FileKey {
    fn der_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for FileKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

impl fmt::Debug for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
    use x509_cert::{der::Decode, request::CertReq};

    use super::*;

    #[test]
    fn a_csr_carries_the_key_and_nothing_else() {
        let key = FileKey::generate().unwrap();
        let request = CertReq::from_der(&key.csr().unwrap()).unwrap();
        let spki = x509_cert::der::Encode::to_der(&request.info.public_key).unwrap();
        assert_eq!(spki, key.spki());
        assert!(request.info.subject.is_empty());
        assert_eq!(request.info.attributes.len(), 0);
    }

    #[test]
    fn its_signature_verifies_under_its_public_key() {
        let key = FileKey::generate().unwrap();
        let signature = key.sign(b"transcript").unwrap();
        let point = key.spki()[26..].to_vec();
        assert!(UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(b"transcript", &signature).is_ok());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            assert!(matches!(FileKey::from_pem(text.as_bytes()), Err(KeyError::Unreadable)));
        }
    }

    #[test]
    fn debug_tells_nothing() {
        assert_eq!(format!("{:?}", FileKey::generate().unwrap()), "FileKey { .. }");
    }
}
