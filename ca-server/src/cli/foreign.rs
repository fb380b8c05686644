//! What somebody else's root has signed, read from its files and judged: each fault is told with its file.

use std::{fs, path::Path};

use super::{CommandError, crl::read_crl};
use crate::{
    identity::Timestamp,
    pki::{IssuerCertificate, ParsedCrl, PemLabel, PublicKey, from_pem, judge_issuing, judge_root},
};

/// Larger files are none of these.
const LARGEST: u64 = 16 << 20;

/// The certificate of a CA, alone in its file: DER, or PEM with the text before it that OpenSSL writes there.
pub fn certificate(path: &Path) -> Result<IssuerCertificate, CommandError> {
    let bytes = read(path)?;
    let der = match bytes.first() {
        Some(0x30) => bytes,
        _ => {
            let text = String::from_utf8_lossy(&bytes);
            let begin = text.find("-----BEGIN").ok_or_else(|| wrong(path, "not a certificate in PEM or DER"))?;
            let mut blocks = judged(path, from_pem(PemLabel::Certificate, &text[begin..]))?;
            match (blocks.pop(), blocks.is_empty()) {
                (Some(der), true) => der,
                _ => return Err(wrong(path, "more than one certificate: the one that was asked for is wanted, alone")),
            }
        }
    };
    judged(path, IssuerCertificate::parse(&der))
}

/// A root that somebody else has.
pub fn root(path: &Path, now: Timestamp) -> Result<IssuerCertificate, CommandError> {
    let root = certificate(path)?;
    judged(path, judge_root(&root, now))?;
    Ok(root)
}

/// The certificate of an issuing CA of devices, for this key and by this root.
pub fn issuing(
    path: &Path,
    root: &IssuerCertificate,
    key: &PublicKey,
    now: Timestamp,
) -> Result<IssuerCertificate, CommandError> {
    let certificate = certificate(path)?;
    judged(path, judge_issuing(&certificate, root, key, now))?;
    Ok(certificate)
}

/// A root's CRL: who has signed it, and when, is not judged yet.
pub fn root_crl(path: &Path) -> Result<ParsedCrl, CommandError> {
    read(path)?;
    judged(path, ParsedCrl::parse_root(read_crl(path)?.into()))
}

/// Refuses a CRL that revokes this CA.
pub fn lets_live(path: &Path, crl: &ParsedCrl, issuing: &IssuerCertificate) -> Result<(), CommandError> {
    match crl.revoked_authorities().contains_key(&issuing.serial()) {
        true => {
            Err(wrong(path, &format!("it revokes the issuing CA's certificate, serial number {}", issuing.serial())))
        }
        false => Ok(()),
    }
}

/// What came of a judgement, with the file that it was about.
pub fn judged<T>(path: &Path, judgement: Result<T, impl ToString>) -> Result<T, CommandError> {
    judgement.map_err(|error| wrong(path, &error.to_string()))
}

/// A fault of a file's content.
pub fn wrong(path: &Path, reason: &str) -> CommandError {
    CommandError::Content { path: path.to_owned(), reason: reason.to_owned() }
}

fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    let length = fs::metadata(path).map_err(CommandError::file(path))?.len();
    if length > LARGEST {
        return Err(wrong(path, "longer than any certificate or CRL of a root"));
    }
    fs::read(path).map_err(CommandError::file(path))
}
