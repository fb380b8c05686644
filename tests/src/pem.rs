//! PEM files: one object each, for programs that want their input so.

use std::{
    fs,
    path::{Path, PathBuf},
};

use der::pem::{LineEnding, encode_string};
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// Writes a certificate (DER) as `FOLDER/NAME.pem`.
pub fn write_certificate(folder: &Path, name: &str, der: &[u8]) -> PathBuf {
    write(folder, name, "CERTIFICATE", der)
}

/// Writes a CRL (DER) as `FOLDER/NAME.pem`.
pub fn write_crl(folder: &Path, name: &str, der: &[u8]) -> PathBuf {
    write(folder, name, "X509 CRL", der)
}

/// Reads all certificates of a PEM file.
pub fn read_certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    let chain = CertificateDer::pem_file_iter(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    chain.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(folder: &Path, name: &str, label: &'static str, der: &[u8]) -> PathBuf {
    let path = folder.join(format!("{name}.pem"));
    let text = encode_string(label, LineEnding::LF, der).expect("DER fits into PEM");
    fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}
