//! In place of `token`, in builds without the feature `pkcs11`: there is none.

use super::{Kind, Pkcs11Error, Uri};

pub(super) enum Token {}

impl Token {
    pub(super) fn open(_: &Uri, _: Kind) -> Result<Self, Pkcs11Error> {
        Err(Pkcs11Error::NotBuiltIn)
    }

    pub(super) fn ecdsa(&self, _: &[u8]) -> Result<Vec<u8>, Pkcs11Error> {
        match *self {}
    }

    pub(super) fn rsa_pkcs1_sha256(&self, _: &[u8]) -> Result<Vec<u8>, Pkcs11Error> {
        match *self {}
    }
}
