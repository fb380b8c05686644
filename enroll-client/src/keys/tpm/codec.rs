//! The TPM's encoding: big-endian integers, and octets behind a size of 16 bits (TPM 2.0 Library, part 3).

use super::TpmError;

const WITHOUT_SESSIONS: u16 = 0x8001;
const WITH_SESSIONS: u16 = 0x8002;
/// TPM_RS_PW: a session that is a password, here always the empty one.
const PASSWORD: u32 = 0x4000_0009;

/// A command under construction.
pub(super) struct Command {
    /// Its name, for errors.
    pub(super) name: &'static str,
    code: u32,
    handles: Vec<u8>,
    sessions: Vec<u8>,
    parameters: Vec<u8>,
}

impl Command {
    pub(super) fn new(name: &'static str, code: u32) -> Self {
        Self { name, code, handles: Vec::new(), sessions: Vec::new(), parameters: Vec::new() }
    }

    /// A handle that needs no authorization.
    pub(super) fn handle(mut self, handle: u32) -> Self {
        self.handles.extend(handle.to_be_bytes());
        self
    }

    /// A handle, authorized by the empty password. Those come before the ones that need none.
    pub(super) fn authorized(self, handle: u32) -> Self {
        self.authorized_by(handle, PASSWORD)
    }

    /// A handle, authorized by a session, which ends with this command.
    pub(super) fn authorized_by(mut self, handle: u32, session: u32) -> Self {
        self.sessions.extend(session.to_be_bytes());
        // No nonce, no attributes, no HMAC.
        self.sessions.extend([0, 0, 0, 0, 0]);
        self.handle(handle)
    }

    pub(super) fn u8(mut self, value: u8) -> Self {
        self.parameters.push(value);
        self
    }

    pub(super) fn u16(self, value: u16) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub(super) fn u32(self, value: u32) -> Self {
        self.raw(&value.to_be_bytes())
    }

    /// A TPM2B. What is longer than its size can say is cut, and refused by the TPM.
    pub(super) fn sized(self, octets: &[u8]) -> Self {
        self.raw(&sized(octets))
    }

    pub(super) fn raw(mut self, octets: &[u8]) -> Self {
        self.parameters.extend_from_slice(octets);
        self
    }

    pub(super) fn has_sessions(&self) -> bool {
        !self.sessions.is_empty()
    }

    /// The whole, as it travels.
    pub(super) fn encode(&self) -> Vec<u8> {
        let tag = if self.has_sessions() { WITH_SESSIONS } else { WITHOUT_SESSIONS };
        let mut body = self.handles.clone();
        if self.has_sessions() {
            body.extend((self.sessions.len() as u32).to_be_bytes());
            body.extend_from_slice(&self.sessions);
        }
        body.extend_from_slice(&self.parameters);
        let length = (body.len() + 10) as u32;
        [&tag.to_be_bytes()[..], &length.to_be_bytes(), &self.code.to_be_bytes(), &body].concat()
    }
}

/// A TPM2B.
pub(super) fn sized(octets: &[u8]) -> Vec<u8> {
    let size = octets.len().min(usize::from(u16::MAX));
    [&(size as u16).to_be_bytes(), &octets[..size]].concat()
}

/// What of an answer has not been read yet.
pub(super) struct Answer<'a> {
    name: &'static str,
    rest: &'a [u8],
}

impl<'a> Answer<'a> {
    /// `octets` of an answer to the command `name`.
    pub(super) fn new(name: &'static str, octets: &'a [u8]) -> Self {
        Self { name, rest: octets }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], TpmError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(TpmError::Answer(self.name))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, TpmError> {
        self.take(1).map(|octets| octets[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, TpmError> {
        self.take(2).map(|octets| u16::from_be_bytes([octets[0], octets[1]]))
    }

    pub(super) fn u32(&mut self) -> Result<u32, TpmError> {
        self.take(4).map(|octets| u32::from_be_bytes([octets[0], octets[1], octets[2], octets[3]]))
    }

    /// A TPM2B's contents.
    pub(super) fn sized(&mut self) -> Result<&'a [u8], TpmError> {
        let size = self.u16()?;
        self.take(size.into())
    }

    /// All that is left.
    pub(super) fn rest(self) -> &'a [u8] {
        self.rest
    }
}
