//! PEM (RFC 7468), strict.

use std::ops::Range;

use base64::{Engine, prelude::BASE64_STANDARD};
use der::pem::LineEnding;

/// Octets and characters of a line (RFC 7468, section 2), its newline aside.
const LINE: (usize, usize) = (48, 64);
/// How many octets go into one piece: whole lines.
const PIECE: usize = LINE.0 * 1024;

/// What stands between BEGIN and END.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PemLabel {
    /// An X.509 certificate.
    Certificate,
    /// A CRL.
    Crl,
    /// A SubjectPublicKeyInfo.
    PublicKey,
    /// A PKCS#10 request.
    CertificateRequest,
}

impl PemLabel {
    const fn as_str(self) -> &'static str {
        match self {
            PemLabel::Certificate => "CERTIFICATE",
            PemLabel::Crl => "X509 CRL",
            PemLabel::PublicKey => "PUBLIC KEY",
            PemLabel::CertificateRequest => "CERTIFICATE REQUEST",
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

/// A block that is written a piece at a time, for what is long: all pieces are what [`to_pem`] writes.
#[derive(Clone, Copy, Debug)]
pub struct PemPieces<'a> {
    label: PemLabel,
    der: &'a [u8],
}

impl<'a> PemPieces<'a> {
    /// Of this block.
    pub fn of(label: PemLabel, der: &'a [u8]) -> Self {
        Self { label, der }
    }

    /// How many pieces there are.
    pub fn count(&self) -> usize {
        self.der.len().div_ceil(PIECE).max(1)
    }

    /// How long a piece is (characters), without writing it.
    pub fn length(&self, index: usize) -> usize {
        let characters = self.octets(index).len().div_ceil(3) * 4;
        let (head, foot) = self.frame(index);
        head.len() + characters + characters.div_ceil(LINE.1) + foot.len()
    }

    /// Writes a piece.
    pub fn write(&self, index: usize) -> String {
        let (head, foot) = self.frame(index);
        let mut text = String::with_capacity(self.length(index));
        text.push_str(&head);
        for line in self.der[self.octets(index)].chunks(LINE.0) {
            BASE64_STANDARD.encode_string(line, &mut text);
            text.push('\n');
        }
        text.push_str(&foot);
        text
    }

    fn octets(&self, index: usize) -> Range<usize> {
        let end = |index: usize| index.saturating_mul(PIECE).min(self.der.len());
        end(index)..end(index.saturating_add(1))
    }

    /// What stands before the first piece, and after the last.
    fn frame(&self, index: usize) -> (String, String) {
        let line = |is_there, word| {
            if is_there { format!("-----{word} {}-----\n", self.label.as_str()) } else { String::new() }
        };
        (line(index == 0, "BEGIN"), line(index + 1 == self.count(), "END"))
    }
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
    fn the_pieces_of_a_block_are_the_block() {
        for length in [1, 47, 48, 49, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 50] {
            let der: Vec<u8> = (0..length).map(|octet| octet as u8).collect();
            let pieces = PemPieces::of(PemLabel::Crl, &der);
            let written: Vec<String> = (0..pieces.count()).map(|index| pieces.write(index)).collect();
            assert_eq!(written.concat(), to_pem(PemLabel::Crl, &der), "{length} octets");
            for (index, piece) in written.iter().enumerate() {
                assert_eq!(piece.len(), pieces.length(index), "piece {index} of {length} octets");
            }
        }
    }

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
