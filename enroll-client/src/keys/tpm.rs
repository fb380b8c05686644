//! A P-256 key that was made in a TPM 2.0 and cannot leave it. What is kept on disk is the key as the TPM wrapped it,
//! which only that TPM can use.
//!
//! No library of the system is needed: commands are written and answers read here, and travel over the kernel's
//! `/dev/tpmrm0` or a socket of swtpm. Each use opens the TPM, loads what it needs, and leaves nothing behind, so that
//! restarts of the TPM, of the program and of the machine make no difference, and other programs are not in the way.

mod chip;
mod codec;
mod endorsement_chain;
mod key_file;
mod location;
mod template;
mod tls;

use std::fmt;

pub use chip::{Certified, Chip, Credential, Endorsement, Loaded, Saved};
pub use location::Location;
use rcgen::{
    CertificateParams, DistinguishedName, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey,
};
use ring::digest::{SHA256, digest};
pub use template::EndorsementKind;

/// What can go wrong with a TPM.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TpmError {
    /// It can't be reached.
    #[error("the TPM at {location} cannot be reached: {source}")]
    Unreachable {
        /// Where.
        location: Location,
        /// Why.
        source: std::io::Error,
    },
    /// It said no.
    #[error("the TPM refuses {command} with code {code:#05x}{}", advice(*.code))]
    Refused {
        /// What it was asked.
        command: &'static str,
        /// TPM_RC.
        code: u32,
    },
    /// Its answer can't be read.
    #[error("the TPM's answer to {0} cannot be read")]
    Answer(&'static str),
    /// Not `TSS2 PRIVATE KEY` in PEM, or not one of a P-256 key without a password below the owner hierarchy.
    #[error("not a TPM's P-256 key in PEM")]
    KeyFile,
    /// Not a place where a TPM could be.
    #[error(
        "a TPM is given by the absolute path of its device or socket, or as tcp:HOST:PORT; behind a comma may follow \
         rsa-2048, p-256 or p-384"
    )]
    Location,
    /// The TPM has no endorsement key of the kind asked for.
    #[error("the TPM makes no endorsement key of this kind")]
    NoEndorsementKey,
    /// The server's challenge has nothing for a TPM in it.
    #[error("the challenge has nothing for a TPM in it")]
    Challenge,
    /// The request could not be made.
    #[error("the request cannot be made")]
    Request,
}

/// What to do about an answer, where something can be done.
fn advice(code: u32) -> &'static str {
    match code {
        0x921 => ": it has locked itself after failed authorizations; wait, or reset the lockout",
        0x902 | 0x903 => ": it has no room left; use /dev/tpmrm0, which makes room",
        0x98e | 0x9a2 => ": a hierarchy has a password, which is not supported",
        _ => "",
    }
}

/// A P-256 key below the TPM's storage root key (P-256, owner hierarchy, as the TCG's provisioning guidance makes it).
#[derive(Clone)]
pub struct TpmKey {
    location: Location,
    wrapped: Wrapped,
    point: [u8; POINT],
}

const POINT: usize = 65;

/// A key as the TPM gives it out: its public area, and its private half encrypted to the storage root key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped {
    /// TPMT_PUBLIC.
    pub public: Vec<u8>,
    /// The contents of TPM2B_PRIVATE.
    pub private: Vec<u8>,
}

impl TpmKey {
    /// A new key in this TPM.
    pub fn generate(location: &Location) -> Result<Self, TpmError> {
        let mut chip = Chip::open(location)?;
        let root = chip.storage_root()?;
        let wrapped = chip.create(&root, &template::device_key())?;
        chip.close()?;
        Self::new(location, wrapped)
    }

    /// Reads `-----BEGIN TSS2 PRIVATE KEY-----`. The TPM is not asked.
    pub fn from_pem(location: &Location, pem: &[u8]) -> Result<Self, TpmError> {
        Self::new(location, key_file::read(pem)?)
    }

    fn new(location: &Location, wrapped: Wrapped) -> Result<Self, TpmError> {
        let point = template::point_of(&wrapped.public).ok_or(TpmError::KeyFile)?;
        Ok(Self { location: location.clone(), wrapped, point })
    }

    /// The key as `TSS2 PRIVATE KEY` in PEM, which other software of TPMs reads as well. It is of use in its TPM only.
    pub fn to_pem(&self) -> Result<String, TpmError> {
        key_file::write(&self.wrapped)
    }

    /// Where its TPM is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The key as its TPM wrapped it.
    pub fn wrapped(&self) -> &Wrapped {
        &self.wrapped
    }

    /// The public half: a SubjectPublicKeyInfo in DER.
    pub fn spki(&self) -> Vec<u8> {
        self.subject_public_key_info()
    }

    /// A PKCS#10 request in DER. It names nothing: the CA takes the public key only.
    pub fn csr(&self) -> Result<Vec<u8>, TpmError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(self).map_err(|_| TpmError::Request)?;
        Ok(request.der().to_vec())
    }

    /// ECDSA with SHA-256 over `message`, in ASN.1 DER. Takes as long as the TPM takes.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TpmError> {
        let mut chip = Chip::open(&self.location)?;
        let root = chip.storage_root()?;
        let key = chip.load(&root, &self.wrapped)?;
        let signature = chip.sign(&key, digest(&SHA256, message).as_ref())?;
        chip.close()?;
        Ok(signature)
    }
}

impl PublicKeyData for TpmKey {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for TpmKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

impl fmt::Debug for TpmKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TpmKey").field("location", &self.location).finish_non_exhaustive()
    }
}
