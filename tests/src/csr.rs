//! Certification requests as no honest device sends them: put together by hand, or by the command `openssl`.

use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};

use crate::{openssl, process::run, stranger::SubjectKey};

/// AlgorithmIdentifier of ECDSA with SHA-256 (DER).
pub const ECDSA_SHA256: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
/// AlgorithmIdentifier of Ed25519 (DER).
pub const ED25519: &[u8] = &[0x30, 5, 6, 3, 0x2b, 0x65, 0x70];
/// AlgorithmIdentifier of RSA PKCS#1 v1.5 with SHA-256 (DER).
pub const RSA_SHA256: &[u8] = &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 11, 5, 0];

/// The parts of a request, to be changed before it is signed.
#[derive(Clone, Debug)]
pub struct Parts {
    /// 0 in every honest request.
    pub version: u8,
    /// The octets of the subject's CN, whatever they are.
    pub common_name: Vec<u8>,
    /// SubjectPublicKeyInfo (DER).
    pub spki: Vec<u8>,
    /// The content of the attributes' `[0]`.
    pub attributes: Vec<u8>,
    /// AlgorithmIdentifier (DER).
    pub algorithm: &'static [u8],
}

impl Parts {
    /// What an honest P-256 request has.
    pub fn of(spki: &[u8], common_name: &str) -> Parts {
        let (common_name, spki) = (common_name.into(), spki.to_vec());
        Parts { version: 0, common_name, spki, attributes: Vec::new(), algorithm: ECDSA_SHA256 }
    }

    /// The request (DER), with whatever `sign` gives for its content.
    pub fn signed(&self, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let attribute = [&[6, 3, 0x55, 4, 3][..], &tlv(0x0c, &self.common_name)].concat();
        let subject = tlv(0x30, &tlv(0x31, &tlv(0x30, &attribute)));
        let version = [2, 1, self.version];
        let attributes = tlv(0xa0, &self.attributes);
        let info = tlv(0x30, &[&version[..], &subject, &self.spki, &attributes].concat());
        let signature = tlv(3, &[&[0][..], &sign(&info)].concat());
        tlv(0x30, &[&info[..], self.algorithm, &signature].concat())
    }
}

/// Tag, length in as few octets as it takes, content.
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().position(|octet| *octet != 0).unwrap_or(length.len() - 1)..];
    let long = if content.len() < 128 { None } else { Some(0x80 | length.len() as u8) };
    [&[tag][..], long.as_slice(), length, content].concat()
}

/// An RSA public key (SubjectPublicKeyInfo, DER).
pub fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let unsigned = |octets: &[u8]| {
        let sign = if octets[0] & 0x80 == 0 { None } else { Some(0) };
        tlv(2, &[sign.as_slice(), octets].concat())
    };
    let key = tlv(0x30, &[unsigned(modulus), unsigned(exponent)].concat());
    let algorithm = tlv(0x30, &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 1, 5, 0]);
    tlv(0x30, &[algorithm, tlv(3, &[&[0][..], &key].concat())].concat())
}

/// A signature under an RSA key of 2048 bits whose exponent is 1, for which nobody needs a private key: RFC 8017's
/// encoded message itself.
pub fn rsa_signature_for_exponent_one(message: &[u8]) -> Vec<u8> {
    const DIGEST_INFO: &[u8] = &[0x30, 0x31, 0x30, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 32];
    let end = [&[0][..], DIGEST_INFO, digest(&SHA256, message).as_ref()].concat();
    [&[0, 1][..], &vec![0xff; 256 - 2 - end.len()], &end].concat()
}

/// An Ed25519 public key (SubjectPublicKeyInfo, DER).
pub fn ed25519_spki(point: &[u8]) -> Vec<u8> {
    [&[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0], point].concat()
}

/// The neutral element of Ed25519 as a public key: [`signature_under_neutral_point`] is good for every message.
pub fn neutral_point() -> [u8; 32] {
    std::array::from_fn(|at| u8::from(at == 0))
}

/// The signature that holds under [`neutral_point`]: R the neutral element, S zero.
pub fn signature_under_neutral_point() -> Vec<u8> {
    [neutral_point(), [0; 32]].concat()
}

/// The same P-256 key in compressed form (SubjectPublicKeyInfo, DER).
pub fn compressed(key: &SubjectKey) -> Vec<u8> {
    let spki = key.spki();
    let (algorithm, point) = (&spki[2..23], &spki[26..]);
    let point = [&[0, 2 + (point[64] & 1)], &point[1..33]].concat();
    tlv(0x30, &[algorithm, &tlv(3, &point)].concat())
}

/// Makes a key by `openssl genpkey` with these options, as `FOLDER/NAME.pem`; `None` where OpenSSL is missing.
pub fn openssl_key(folder: &Path, name: &str, options: &[&str]) -> Option<PathBuf> {
    let path = folder.join(format!("{name}.pem"));
    run(openssl::command()?.arg("genpkey").args(options).arg("-out").arg(&path)).succeeded();
    Some(path)
}

/// A request (DER) by `openssl req` with these options, for the private key in a PEM file.
pub fn openssl_request(key: &Path, options: &[&str]) -> Option<Vec<u8>> {
    let out = key.with_extension("csr");
    let mut command = openssl::command()?;
    command.args(["req", "-new", "-outform", "DER", "-key"]).arg(key).arg("-out").arg(&out).args(options);
    run(&mut command).succeeded();
    Some(std::fs::read(&out).unwrap_or_else(|error| panic!("{}: {error}", out.display())))
}
