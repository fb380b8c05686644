//! A TPM, asked. Objects that are loaded in it are values here, and are flushed when they are let go.

use std::{thread, time::Duration};

use ring::rand::{SecureRandom, SystemRandom};

use super::{
    Location, TpmError, Wrapped,
    codec::{Answer, Command},
    endorsement_chain,
    location::Link,
    template::{self, CHAIN, EndorsementKind, PROFILES, Profile},
};
use crate::keys::ecdsa;

const OWNER: u32 = 0x4000_0001;
const NULL_HANDLE: u32 = 0x4000_0007;
const ENDORSEMENT: u32 = 0x4000_000b;
const NULL: u16 = 0x0010;
const ECDSA: u16 = 0x0018;
const SHA256: u16 = 0x000b;

const CAP_HANDLES: u32 = 1;
const NV_INDICES: u32 = 0x0100_0000;
const LOADED_SESSIONS: u32 = 0x0200_0000;
const TRANSIENT: u32 = 0x8000_0000;

const RC_INITIALIZE: u32 = 0x100;
/// A warning (RC_WARN): the command may be carried out later. By these bits of the code.
const WARNING_MASK: u32 = 0x980;
const WARNING: u32 = 0x900;
/// "Not now": yielded, testing, retry.
const RC_AGAIN: [u32; 3] = [0x908, 0x90a, 0x922];
/// How often a command is sent again that is not taken yet, and how long is waited in between.
const TIMES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);
/// Every TPM reads so many octets of an NV index at a time.
const NV_CHUNK: u16 = 512;
/// The longest NV index that can hold a certificate of use.
const NV_LONGEST: u16 = 8192;

/// An open TPM. It begins with nothing loaded: what an earlier program left on a TPM without resource manager is
/// flushed, since there is room for three objects only.
pub struct Chip {
    link: Link,
}

/// An object that is loaded.
#[derive(Debug)]
pub struct Loaded {
    handle: u32,
    /// TPMT_PUBLIC.
    public: Vec<u8>,
}

impl Loaded {
    /// TPMT_PUBLIC.
    pub fn public(&self) -> &[u8] {
        &self.public
    }
}

/// An endorsement key that is loaded, and what its maker says of it.
#[derive(Debug)]
pub struct Endorsement {
    /// The key.
    pub key: Loaded,
    /// Of which kind it is.
    pub kind: EndorsementKind,
    /// Its certificate (DER), then those that the TPM keeps besides. Empty where there is none.
    pub chain: Vec<Vec<u8>>,
}

impl Endorsement {
    /// SHA-256 of the key's SubjectPublicKeyInfo (DER): what a TPM is registered by.
    pub fn fingerprint(&self) -> Result<[u8; 32], TpmError> {
        let spki = template::spki_of(&self.key.public).ok_or(TpmError::Answer("CreatePrimary"))?;
        let mut hash = [0; 32];
        hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, &spki).as_ref());
        Ok(hash)
    }
}

/// What TPM2_ActivateCredential takes.
#[derive(Clone, Copy, Debug)]
pub struct Credential<'a> {
    /// The contents of TPM2B_ID_OBJECT.
    pub blob: &'a [u8],
    /// The contents of TPM2B_ENCRYPTED_SECRET.
    pub encrypted_secret: &'a [u8],
}

/// What TPM2_Certify gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// TPMS_ATTEST.
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
}

impl Chip {
    /// Opens the TPM and flushes what is loaded. Behind the kernel, which looks after who uses it, sessions may be its own.
    pub fn open(location: &Location) -> Result<Self, TpmError> {
        let mut chip = Self { link: Link::open(location)? };
        let kinds: &[u32] = if chip.link.is_kernels() { &[TRANSIENT] } else { &[TRANSIENT, LOADED_SESSIONS] };
        for &kind in kinds {
            for handle in chip.handles(kind)? {
                chip.flush_handle(handle)?;
            }
        }
        Ok(chip)
    }

    /// Flushes what is loaded, and tells a TPM that no kernel looks after to be ready for the power to fail: one that
    /// loses it in disorder, after a key was used that it guards against guessing, counts that as a guess.
    pub fn close(mut self) -> Result<(), TpmError> {
        for handle in self.handles(TRANSIENT)? {
            self.flush_handle(handle)?;
        }
        if !self.link.is_kernels() {
            self.run(&Command::new("Shutdown", 0x145).u16(0))?;
        }
        Ok(())
    }

    /// The endorsement key: of this kind, or else one with a certificate, or else the one that is made most quickly.
    pub fn endorsement(&mut self, kind: Option<EndorsementKind>) -> Result<Endorsement, TpmError> {
        let indices = self.handles(NV_INDICES)?;
        let fits = |profile: &&Profile| kind.is_none_or(|kind| profile.kind == kind);
        let mut certified = None;
        for profile in PROFILES.iter().filter(fits).filter(|profile| indices.contains(&profile.certificate)) {
            let own = self.nv_if_readable(profile.certificate)?;
            let others = indices.iter().filter(|index| CHAIN.contains(index));
            let others = others.map(|index| self.nv_if_readable(*index)).collect::<Result<Vec<_>, _>>()?;
            let chain = endorsement_chain::chain(&own, &others);
            // An index without a certificate in it is as good as none.
            if !chain.is_empty() {
                certified = Some((profile, chain));
                break;
            }
        }
        let uncertified = || PROFILES.iter().find(fits).map(|profile| (profile, Vec::new()));
        let (profile, chain) = certified.or_else(uncertified).ok_or(TpmError::NoEndorsementKey)?;
        let mut area =
            if indices.contains(&profile.template) { self.nv(profile.template)? } else { (profile.default)() };
        if let Some(nonce) = profile.nonce.filter(|nonce| indices.contains(nonce)) {
            area = template::with_nonce(&area, &self.nv(nonce)?)?;
        }
        let key = self.create_primary(ENDORSEMENT, &area)?;
        Ok(Endorsement { key, kind: profile.kind, chain })
    }

    /// The storage root key, which other keys are wrapped to. It is the same one every time.
    pub fn storage_root(&mut self) -> Result<Loaded, TpmError> {
        self.create_primary(OWNER, &template::storage_root())
    }

    /// A new attestation key, wrapped.
    pub fn create_attestation_key(&mut self, parent: &Loaded) -> Result<Wrapped, TpmError> {
        self.create(parent, &template::attestation_key())
    }

    /// A new key by a template, wrapped.
    pub(super) fn create(&mut self, parent: &Loaded, area: &[u8]) -> Result<Wrapped, TpmError> {
        let command = with_template(Command::new("Create", 0x153).authorized(parent.handle), area);
        let answer = self.run(&command)?;
        let mut answer = Answer::new(command.name, &answer.parameters);
        Ok(Wrapped { private: answer.sized()?.to_vec(), public: answer.sized()?.to_vec() })
    }

    fn create_primary(&mut self, hierarchy: u32, area: &[u8]) -> Result<Loaded, TpmError> {
        let command = with_template(Command::new("CreatePrimary", 0x131).authorized(hierarchy), area);
        let answer = self.run_for_handle(&command)?;
        let public = Answer::new(command.name, &answer.parameters).sized()?.to_vec();
        Ok(Loaded { handle: answer.handle, public })
    }

    /// Loads a wrapped key. Only the TPM that wrapped it does that.
    pub fn load(&mut self, parent: &Loaded, key: &Wrapped) -> Result<Loaded, TpmError> {
        let command = Command::new("Load", 0x157).authorized(parent.handle).sized(&key.private).sized(&key.public);
        let answer = self.run_for_handle(&command)?;
        Ok(Loaded { handle: answer.handle, public: key.public.clone() })
    }

    /// Lets an object go.
    pub fn flush(&mut self, object: Loaded) -> Result<(), TpmError> {
        self.flush_handle(object.handle)
    }

    /// Takes an object out of the TPM, to put it back more quickly than it could be made again.
    pub fn save(&mut self, object: Loaded) -> Result<Saved, TpmError> {
        let answer = self.run(&Command::new("ContextSave", 0x162).handle(object.handle))?;
        self.flush_handle(object.handle)?;
        Ok(Saved { context: answer.parameters, public: object.public })
    }

    /// Puts an object back.
    pub fn restore(&mut self, object: &Saved) -> Result<Loaded, TpmError> {
        let answer = self.run_for_handle(&Command::new("ContextLoad", 0x161).raw(&object.context))?;
        Ok(Loaded { handle: answer.handle, public: object.public.clone() })
    }

    /// Unwraps a secret that was wrapped for `endorsement` and the name of `attestation`.
    pub fn activate(
        &mut self,
        attestation: &Loaded,
        endorsement: &Loaded,
        credential: Credential<'_>,
    ) -> Result<Vec<u8>, TpmError> {
        let command = Command::new("ActivateCredential", 0x147).authorized(attestation.handle);
        let (command, session) = if template::takes_password(&endorsement.public) {
            (command.authorized(endorsement.handle), None)
        } else {
            let session = self.endorsement_session()?;
            (command.authorized_by(endorsement.handle, session), Some(session))
        };
        let command = command.sized(credential.blob).sized(credential.encrypted_secret);
        let answer = self.run(&command);
        let answer = self.or_flushed(answer, session)?;
        Ok(Answer::new(command.name, &answer.parameters).sized()?.to_vec())
    }

    /// A policy session that satisfies the policy of endorsement keys: whoever has the endorsement hierarchy's password.
    fn endorsement_session(&mut self) -> Result<u32, TpmError> {
        let mut nonce = [0; 16];
        SystemRandom::new().fill(&mut nonce).map_err(|_| TpmError::Request)?;
        let start = Command::new("StartAuthSession", 0x176).handle(NULL_HANDLE).handle(NULL_HANDLE);
        // No salt; a policy session; no encryption of parameters.
        let start = start.sized(&nonce).sized(&[]).u8(1).u16(NULL).u16(SHA256);
        let session = self.run_for_handle(&start)?.handle;
        let secret = Command::new("PolicySecret", 0x151).authorized(ENDORSEMENT).handle(session);
        // No nonce, no parameters' hash, no reference, no expiry.
        let answer = self.run(&secret.sized(&[]).sized(&[]).sized(&[]).u32(0));
        self.or_flushed(answer, Some(session))?;
        Ok(session)
    }

    /// An answer; or the refusal, with the session let go that ends by itself where its command is carried out. Nobody else
    /// does that behind `/dev/tpm0`.
    fn or_flushed<T>(&mut self, answer: Result<T, TpmError>, session: Option<u32>) -> Result<T, TpmError> {
        if let (Err(_), Some(session)) = (&answer, session) {
            let _ = self.flush_handle(session);
        }
        answer
    }

    /// Has the TPM say, signed by `attestation`, that it holds `key`. `qualifying` goes into what is signed.
    pub fn certify(&mut self, key: &Loaded, attestation: &Loaded, qualifying: &[u8]) -> Result<Certified, TpmError> {
        let command = Command::new("Certify", 0x148).authorized(key.handle).authorized(attestation.handle);
        let command = command.sized(qualifying).u16(NULL);
        let answer = self.run(&command)?;
        let mut answer = Answer::new(command.name, &answer.parameters);
        Ok(Certified { attest: answer.sized()?.to_vec(), signature: answer.rest().to_vec() })
    }

    /// ECDSA with SHA-256 over a digest, in ASN.1 DER.
    pub(super) fn sign(&mut self, key: &Loaded, digest: &[u8]) -> Result<Vec<u8>, TpmError> {
        let command = Command::new("Sign", 0x15d).authorized(key.handle).sized(digest).u16(ECDSA).u16(SHA256);
        // A ticket that says nothing: the key signs what it is given.
        let command = command.u16(0x8024).u32(NULL_HANDLE).sized(&[]);
        let answer = self.run(&command)?;
        let mut answer = Answer::new(command.name, &answer.parameters);
        if (answer.u16()?, answer.u16()?) != (ECDSA, SHA256) {
            return Err(TpmError::Answer(command.name));
        }
        let (r, s) = (answer.sized()?, answer.sized()?);
        ecdsa::to_der(r, s).map_err(|_| TpmError::Answer(command.name))
    }

    /// The contents of an NV index that may have been defined and never written, or is for its owner's eyes: nothing then.
    /// What a TPM refuses for the time being is no answer.
    fn nv_if_readable(&mut self, index: u32) -> Result<Vec<u8>, TpmError> {
        match self.nv(index) {
            Err(TpmError::Refused { code, .. }) if code & WARNING_MASK != WARNING => Ok(Vec::new()),
            read => read,
        }
    }

    /// The contents of an NV index that everybody may read.
    fn nv(&mut self, index: u32) -> Result<Vec<u8>, TpmError> {
        let command = Command::new("NV_ReadPublic", 0x169).handle(index);
        let answer = self.run(&command)?;
        let mut area = Answer::new(command.name, Answer::new(command.name, &answer.parameters).sized()?);
        // The index, its name's hash, its attributes, its policy.
        area.take(4 + 2 + 4)?;
        area.sized()?;
        let size = area.u16()?.min(NV_LONGEST);
        let mut contents = Vec::with_capacity(size.into());
        while contents.len() < usize::from(size) {
            let offset = contents.len() as u16;
            let command = Command::new("NV_Read", 0x14e).authorized(index).handle(index);
            let command = command.u16(NV_CHUNK.min(size - offset)).u16(offset);
            let answer = self.run(&command)?;
            let chunk = Answer::new(command.name, &answer.parameters).sized()?;
            if chunk.is_empty() {
                return Err(TpmError::Answer(command.name));
            }
            contents.extend_from_slice(chunk);
        }
        Ok(contents)
    }

    /// The handles of this kind that are in use.
    fn handles(&mut self, kind: u32) -> Result<Vec<u32>, TpmError> {
        let command = Command::new("GetCapability", 0x17a).u32(CAP_HANDLES).u32(kind).u32(254);
        let answer = self.run(&command)?;
        let mut answer = Answer::new(command.name, &answer.parameters);
        let _more = answer.u8()?;
        answer.u32()?;
        let count = answer.u32()?;
        (0..count).map(|_| answer.u32()).collect()
    }

    fn flush_handle(&mut self, handle: u32) -> Result<(), TpmError> {
        // The handle is a parameter of this command.
        self.run(&Command::new("FlushContext", 0x165).u32(handle)).map(|_| ())
    }

    fn run(&mut self, command: &Command) -> Result<Parameters, TpmError> {
        self.send(command, false)
    }

    fn run_for_handle(&mut self, command: &Command) -> Result<Parameters, TpmError> {
        self.send(command, true)
    }

    /// Sends a command until it is taken, and reads the frame of its answer.
    fn send(&mut self, command: &Command, gives_handle: bool) -> Result<Parameters, TpmError> {
        let request = command.encode();
        for _ in 0..TIMES {
            let octets = self.link.exchange(&request)?;
            let mut answer = Answer::new(command.name, &octets);
            answer.u16()?;
            answer.u32()?;
            match answer.u32()? {
                0 => {
                    let handle = if gives_handle { answer.u32()? } else { 0 };
                    let parameters = if command.has_sessions() {
                        let length = answer.u32()?;
                        answer.take(length as usize)?
                    } else {
                        answer.rest()
                    };
                    return Ok(Parameters { handle, parameters: parameters.to_vec() });
                }
                RC_INITIALIZE => drop(self.link.exchange(&Command::new("Startup", 0x144).u16(0).encode())?),
                code if RC_AGAIN.contains(&code) => thread::sleep(PAUSE),
                code => return Err(TpmError::Refused { command: command.name, code }),
            }
        }
        Err(TpmError::Refused { command: command.name, code: RC_AGAIN[2] })
    }
}

/// An object that was taken out of the TPM. Only the same TPM takes it back, and only until it is restarted.
#[derive(Clone, Debug)]
pub struct Saved {
    context: Vec<u8>,
    public: Vec<u8>,
}

impl Saved {
    /// TPMT_PUBLIC.
    pub fn public(&self) -> &[u8] {
        &self.public
    }
}

struct Parameters {
    /// 0 where the command gives none.
    handle: u32,
    parameters: Vec<u8>,
}

/// The parameters that Create and CreatePrimary share: no password, the template, no outside information, no PCRs.
fn with_template(command: Command, area: &[u8]) -> Command {
    command.sized(&[0, 0, 0, 0]).sized(area).sized(&[]).u32(0)
}

impl std::fmt::Debug for Chip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chip")
    }
}
