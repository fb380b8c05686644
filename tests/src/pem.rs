//! PEM files: one object each, for programs that want their input so; and what is in them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use der::{
    Decode,
    pem::{LineEnding, encode_string},
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_cert::Certificate;

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

/// The serial number of a certificate (DER): 32 lower-case hexadecimal digits.
pub fn serial(certificate: &[u8]) -> String {
    let certificate = Certificate::from_der(certificate).expect("a certificate");
    let serial = certificate.tbs_certificate().serial_number().as_bytes();
    serial.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Writes a private key (PKCS#8 DER) as `FOLDER/NAME.pem`.
pub fn write_key(folder: &Path, name: &str, der: &[u8]) -> PathBuf {
    write(folder, name, "PRIVATE KEY", der)
}

fn write(folder: &Path, name: &str, label: &'static str, der: &[u8]) -> PathBuf {
    let path = folder.join(format!("{name}.pem"));
    let text = encode_string(label, LineEnding::LF, der).expect("DER fits into PEM");
    fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}
