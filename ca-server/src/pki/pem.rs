//! PEM (RFC 7468), strict.

use der::pem::LineEnding;

/// What stands between BEGIN and END.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PemLabel {
    /// An X.509 certificate.
    Certificate,
    /// A CRL.
    Crl,
    /// A SubjectPublicKeyInfo.
    PublicKey,
}

impl PemLabel {
    const fn as_str(self) -> &'static str {
        match self {
            PemLabel::Certificate => "CERTIFICATE",
            PemLabel::Crl => "X509 CRL",
            PemLabel::PublicKey => "PUBLIC KEY",
        }
    }
}

/// A text that is not made of PEM blocks with the label asked for, and of nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is something else in it than PEM blocks \"BEGIN {label}\"", label = .0.as_str())]
pub struct PemError(PemLabel);

/// Writes one block, with a newline at its end.
pub fn to_pem(label: PemLabel, der: &[u8]) -> String {
    // Unwrap safety: the labels are valid ones, and what is in memory is not too long to encode.
    der::pem::encode_string(label.as_str(), LineEnding::LF, der).unwrap_or_default()
}

/// Reads the blocks of a file in their order. All of them carry this label; there is nothing else in the file.
pub fn from_pem(label: PemLabel, text: &str) -> Result<Vec<Vec<u8>>, PemError> {
    const END: &str = "-----END ";
    let mut blocks = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest.find(END).ok_or(PemError(label))?;
        let length = rest[end..].find('\n').map_or(rest.len(), |line| end + line + 1);
        let (found, der) = der::pem::decode_vec(&rest.as_bytes()[..length]).map_err(|_| PemError(label))?;
        if found != label.as_str() {
            return Err(PemError(label));
        }
        blocks.push(der);
        rest = rest[length..].trim_start();
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_read_back_in_their_order() {
        let text = to_pem(PemLabel::Crl, b"one") + &to_pem(PemLabel::Crl, &[7; 100]);
        assert!(text.starts_with("-----BEGIN X509 CRL-----\n") && text.ends_with("-----END X509 CRL-----\n"));
        assert_eq!(from_pem(PemLabel::Crl, &text).unwrap(), [b"one".to_vec(), vec![7; 100]]);
        assert_eq!(from_pem(PemLabel::Crl, ""), Ok(vec![]));
    }

    #[test]
    fn another_label_and_stray_text_are_refused() {
        let text = to_pem(PemLabel::Certificate, b"one");
        assert_eq!(from_pem(PemLabel::Crl, &text), Err(PemError(PemLabel::Crl)));
        assert_eq!(from_pem(PemLabel::Certificate, &(text + "stray")), Err(PemError(PemLabel::Certificate)));
    }
}
