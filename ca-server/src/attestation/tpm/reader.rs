//! Reading the TPM's own encoding: big-endian integers, and octets behind a size of 16 bits. Bounded by what is there,
//! and exact: whoever reads a structure asks at the end whether anything is left.

use super::TpmError;

/// What of a structure has not been read yet.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    structure: &'static str,
}

impl<'a> Reader<'a> {
    /// At the beginning of a structure with this name.
    pub(super) fn new(octets: &'a [u8], structure: &'static str) -> Self {
        Self { rest: octets, structure }
    }

    /// The next `count` octets.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], TpmError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(self.malformed())?;
        self.rest = rest;
        Ok(taken)
    }

    /// UINT16.
    pub(super) fn u16(&mut self) -> Result<u16, TpmError> {
        self.array().map(u16::from_be_bytes)
    }

    /// UINT32.
    pub(super) fn u32(&mut self) -> Result<u32, TpmError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A TPM2B: its size, then so many octets.
    pub(super) fn sized(&mut self) -> Result<&'a [u8], TpmError> {
        let size = self.u16()?;
        self.take(size.into())
    }

    /// Nothing may be left.
    pub(super) fn finish(self) -> Result<(), TpmError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }

    /// The refusal of this structure.
    pub(super) fn malformed(&self) -> TpmError {
        TpmError::Malformed { structure: self.structure }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TpmError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }
}
