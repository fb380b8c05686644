//! A key as files of a folder: `key.pem`, or for a key in a TPM `tpm-key.pem` (which is of use in that TPM only) and
//! `tpm-device` (where the TPM is).

use std::{io, path::Path};

use zeroize::Zeroizing;

use super::CredentialError;
use crate::{
    durable::{self, PUBLIC, SECRET},
    keys::{FileKey, Key, KeyError, tpm::TpmKey},
};

const FILE: &str = "key.pem";
const TPM_KEY: &str = "tpm-key.pem";
const TPM_DEVICE: &str = "tpm-device";

/// Writes the key into a folder where there is none.
pub(super) fn write(folder: &Path, key: &Key) -> Result<(), CredentialError> {
    let new = |name: &str, text: &str, mode| {
        let path = folder.join(name);
        durable::write_new(&path, text.as_bytes(), mode).map_err(|source| CredentialError::Io { path, source })
    };
    match key {
        Key::File(key) => new(FILE, &key.to_pem(), SECRET),
        Key::Tpm(key) => {
            new(TPM_KEY, &key.to_pem().map_err(KeyError::from)?, SECRET)?;
            new(TPM_DEVICE, &format!("{}\n", key.location()), PUBLIC)
        }
    }
}

/// Reads what [`write`] has written.
pub(super) fn read(folder: &Path) -> Result<Key, CredentialError> {
    let whole = |name: &str| {
        let path = folder.join(name);
        let bytes = std::fs::read(&path).map_err(|source| CredentialError::Io { path, source })?;
        Ok::<_, CredentialError>(Zeroizing::new(bytes))
    };
    let pem = match whole(TPM_KEY) {
        Err(CredentialError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(Key::File(FileKey::from_pem(&whole(FILE)?)?));
        }
        pem => pem?,
    };
    let device = whole(TPM_DEVICE)?;
    let location = String::from_utf8_lossy(&device).trim_end().parse().map_err(KeyError::from)?;
    Ok(Key::Tpm(TpmKey::from_pem(&location, &pem).map_err(KeyError::from)?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::keys::tpm::Location;

    /// As a TPM wrapped it, its private half aside.
    const WRAPPED: &str = "\
-----BEGIN TSS2 PRIVATE KEY-----\n\
MIHwBgZngQUKAQOgAwEB/wIEQAAAAQRYAFYAIwALAAQEcgAAABAAEAADABAAIHAY\n\
wLnw+XSWh4oxkqiSo+8avZ/NZF35t6mEpGCxLMFXACCslZ5cYaDfypXFiDHFlIjQ\n\
hdKJBv73jSsYWGjaP5YfegSBgAB+AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBka\n\
GxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0BBQkNERUZHSElK\n\
S0xNTk9QUVJTVFVWV1hZWltcXV5fYGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6\n\
e3x9\n\
-----END TSS2 PRIVATE KEY-----\n";

    #[test]
    fn a_key_in_a_tpm_is_kept_without_a_key_file() {
        let folder = tempfile::tempdir().unwrap();
        let location: Location = "/dev/tpmrm0".parse().unwrap();
        let key = TpmKey::from_pem(&location, WRAPPED.as_bytes()).unwrap();
        write(folder.path(), &Key::Tpm(key.clone())).unwrap();
        let Key::Tpm(read) = read(folder.path()).unwrap() else { panic!("not in a TPM") };
        assert_eq!((read.wrapped(), read.location()), (key.wrapped(), &location));
        assert_eq!(read.to_pem().unwrap(), WRAPPED);
        assert!(!folder.path().join(FILE).exists());
        let mode = std::fs::metadata(folder.path().join(TPM_KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_in_a_file_is_kept_as_it_always_was() {
        let folder = tempfile::tempdir().unwrap();
        let key = FileKey::generate().unwrap();
        let spki = key.spki();
        write(folder.path(), &Key::File(key)).unwrap();
        assert_eq!(read(folder.path()).unwrap().spki(), spki);
    }
}
