//! TPM commands by hand, for what our own client never asks: keys with other attributes, quotes, loaded software keys.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use super::Tpm;

/// TPM_RH_OWNER.
pub const OWNER: u32 = 0x4000_0001;
/// TPM_RH_ENDORSEMENT.
pub const ENDORSEMENT: u32 = 0x4000_000b;
/// TPM_RS_PW: the empty password.
pub const PASSWORD: u32 = 0x4000_0009;
/// TPM_RH_NULL.
pub const NULL: u32 = 0x4000_0007;

/// Attributes of keys.
pub mod attribute {
    /// fixedTPM.
    pub const FIXED_TPM: u32 = 1 << 1;
    /// fixedParent.
    pub const FIXED_PARENT: u32 = 1 << 4;
    /// sensitiveDataOrigin.
    pub const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    /// userWithAuth and noDA.
    pub const USABLE: u32 = 1 << 6 | 1 << 10;
    /// restricted.
    pub const RESTRICTED: u32 = 1 << 16;
    /// decrypt.
    pub const DECRYPT: u32 = 1 << 17;
    /// sign.
    pub const SIGN: u32 = 1 << 18;
    /// What a good attestation key has.
    pub const ATTESTATION: u32 = DEVICE | RESTRICTED;
    /// What a good device key has.
    pub const DEVICE: u32 = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | USABLE | SIGN;
}

/// An open socket of a TPM.
pub struct Raw(UnixStream);

/// An object that was loaded.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its handle.
    pub handle: u32,
    /// TPMT_PUBLIC.
    pub public: Vec<u8>,
}

/// What TPM2_Certify and TPM2_Quote give.
#[derive(Clone, Debug)]
pub struct Attested {
    /// TPMS_ATTEST.
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
}

impl Raw {
    /// Connects. Only one connection is served at a time.
    pub fn open(tpm: &Tpm) -> Raw {
        Raw(UnixStream::connect(tpm.socket()).expect("the TPM takes connections"))
    }

    /// Sends a command whose first handles are authorized by the empty password, and returns what follows the answer's
    /// header, or its code.
    pub fn call(&mut self, code: u32, authorized: &[u32], parameters: &[u8]) -> Result<Vec<u8>, u32> {
        let authorized: Vec<_> = authorized.iter().map(|handle| (*handle, PASSWORD)).collect();
        self.call_by(code, &authorized, parameters)
    }

    /// The same, where each handle is authorized by a session of its own.
    pub fn call_by(&mut self, code: u32, authorized: &[(u32, u32)], parameters: &[u8]) -> Result<Vec<u8>, u32> {
        let mut body = authorized.iter().flat_map(|(handle, _)| handle.to_be_bytes()).collect::<Vec<_>>();
        let tag: u16 = if authorized.is_empty() { 0x8001 } else { 0x8002 };
        if !authorized.is_empty() {
            body.extend((authorized.len() as u32 * 9).to_be_bytes());
            authorized.iter().for_each(|(_, session)| {
                body.extend(session.to_be_bytes());
                body.extend([0; 5]);
            });
        }
        body.extend_from_slice(parameters);
        self.send(tag, code, &body)
    }

    fn send(&mut self, tag: u16, code: u32, body: &[u8]) -> Result<Vec<u8>, u32> {
        let length = body.len() as u32 + 10;
        let command = [&tag.to_be_bytes()[..], &length.to_be_bytes(), &code.to_be_bytes(), body].concat();
        self.0.write_all(&command).expect("the TPM takes a command");
        let mut header = [0; 10];
        self.0.read_exact(&mut header).expect("the TPM answers");
        let mut answer = vec![0; u32_at(&header, 2) as usize - 10];
        self.0.read_exact(&mut answer).expect("the TPM answers whole");
        match u32_at(&header, 6) {
            0 => Ok(answer),
            code => Err(code),
        }
    }

    /// A P-256 signing key as a primary key of the owner, with these attributes.
    pub fn signing_key(&mut self, attributes: u32) -> Object {
        self.primary(OWNER, &signing_area(attributes, &[0; 4]))
    }

    /// A primary key.
    pub fn primary(&mut self, hierarchy: u32, area: &[u8]) -> Object {
        let parameters = [&[0, 4, 0, 0, 0, 0], &sized(area)[..], &[0, 0], &[0; 4]].concat();
        let answer = self.call(0x131, &[hierarchy], &parameters).expect("CreatePrimary");
        Object { handle: u32_at(&answer, 0), public: sized_at(&answer, 8).to_vec() }
    }

    /// Loads the public half, and where there is one the private half, of a key that was made elsewhere.
    pub fn load_external(&mut self, area: &[u8], private: Option<&[u8; 32]>) -> Result<Object, u32> {
        // TPMT_SENSITIVE of an ECC key: no password, no seed, the scalar.
        let sensitive = private.map(|scalar| [&[0, 0x23, 0, 0, 0, 0][..], &sized(scalar)].concat());
        let parameters = [&sized(&sensitive.unwrap_or_default())[..], &sized(area), &NULL.to_be_bytes()].concat();
        let answer = self.call(0x167, &[], &parameters)?;
        Ok(Object { handle: u32_at(&answer, 0), public: area.to_vec() })
    }

    /// TPM2_Certify.
    pub fn certify(&mut self, key: &Object, signer: &Object, qualifying: &[u8]) -> Result<Attested, u32> {
        let parameters = [&sized(qualifying)[..], &[0, 0x10]].concat();
        self.call(0x148, &[key.handle, signer.handle], &parameters).map(|answer| attested(&answer))
    }

    /// A policy session for whoever has the endorsement hierarchy's password, which nobody has set.
    pub fn endorsement_session(&mut self) -> u32 {
        let none = NULL.to_be_bytes();
        let parameters = [&none[..], &none, &sized(&[7; 16]), &[0, 0], &[1, 0, 0x10, 0, 0x0b]].concat();
        let session = u32_at(&self.call(0x176, &[], &parameters).expect("StartAuthSession"), 0);
        let mut secret = session.to_be_bytes().to_vec();
        // The session is a handle, which follows the authorized one and precedes the authorizations.
        secret =
            [&ENDORSEMENT.to_be_bytes()[..], &secret, &9_u32.to_be_bytes(), &PASSWORD.to_be_bytes(), &[0; 5]].concat();
        secret.extend([0; 2 + 2 + 2 + 4]);
        self.send(0x8002, 0x151, &secret).expect("PolicySecret");
        session
    }

    /// TPM2_Quote of no register at all.
    pub fn quote(&mut self, signer: &Object, qualifying: &[u8]) -> Attested {
        let parameters = [&sized(qualifying)[..], &[0, 0x10], &[0, 0, 0, 0]].concat();
        attested(&self.call(0x158, &[signer.handle], &parameters).expect("Quote"))
    }

    /// TPM2_Sign of a SHA-256 digest with ECDSA: the TPMT_SIGNATURE.
    pub fn sign(&mut self, signer: &Object, digest: &[u8]) -> Result<Vec<u8>, u32> {
        let ticket = [&[0x80, 0x24][..], &NULL.to_be_bytes(), &[0, 0]].concat();
        let parameters = [&sized(digest)[..], &[0, 0x18, 0, 0x0b], &ticket].concat();
        self.call(0x15d, &[signer.handle], &parameters).map(|answer| answer[4..].to_vec())
    }

    /// Makes an NV index that everybody may read, and writes it: what a maker does.
    pub fn provision(&mut self, index: u32, contents: &[u8]) {
        // Read and written by the owner or by the index' own empty password, not guarded against guessing.
        let attributes: u32 = 1 << 1 | 1 << 2 | 1 << 17 | 1 << 18 | 1 << 25;
        let public = [&index.to_be_bytes()[..], &[0, 0x0b], &attributes.to_be_bytes(), &[0, 0]].concat();
        let public = [&public[..], &(contents.len() as u16).to_be_bytes()].concat();
        self.call(0x12a, &[OWNER], &[&[0, 0], &sized(&public)[..]].concat()).expect("NV_DefineSpace");
        for (part, contents) in contents.chunks(512).enumerate() {
            let handles = [OWNER.to_be_bytes(), index.to_be_bytes()].concat();
            let session = [&9_u32.to_be_bytes()[..], &PASSWORD.to_be_bytes(), &[0; 5]].concat();
            let parameters = [&sized(contents)[..], &(part as u16 * 512).to_be_bytes()].concat();
            self.send(0x8002, 0x137, &[handles, session, parameters].concat()).expect("NV_Write");
        }
    }

    /// Forgets an object.
    pub fn flush(&mut self, object: Object) {
        self.call(0x165, &[], &object.handle.to_be_bytes()).expect("FlushContext");
    }
}

/// The public area of a P-256 key that signs (with ECDSA and SHA-256, where it is restricted); `unique` is what stands
/// for the point.
pub fn signing_area(attributes: u32, unique: &[u8]) -> Vec<u8> {
    let scheme: &[u8] = if attributes & attribute::RESTRICTED == 0 { &[0, 0x10] } else { &[0, 0x18, 0, 0x0b] };
    let head = [&[0, 0x23, 0, 0x0b][..], &attributes.to_be_bytes(), &[0, 0]].concat();
    [&head[..], &[0, 0x10], scheme, &[0, 3, 0, 0x10], unique].concat()
}

/// What stands in a public area for a point (SEC 1, uncompressed).
pub fn unique_of(point: &[u8]) -> Vec<u8> {
    [sized(&point[1..33]), sized(&point[33..65])].concat()
}

fn attested(answer: &[u8]) -> Attested {
    let attest = sized_at(answer, 4).to_vec();
    let length = u32_at(answer, 0) as usize;
    Attested { signature: answer[4 + 2 + attest.len()..4 + length].to_vec(), attest }
}

/// A TPM2B.
pub fn sized(octets: &[u8]) -> Vec<u8> {
    [&(octets.len() as u16).to_be_bytes(), octets].concat()
}

fn sized_at(octets: &[u8], at: usize) -> &[u8] {
    let size = usize::from(u16::from_be_bytes([octets[at], octets[at + 1]]));
    &octets[at + 2..at + 2 + size]
}

fn u32_at(octets: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
}

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Raw")
    }
}
