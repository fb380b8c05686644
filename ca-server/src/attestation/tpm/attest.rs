//! TPMS_ATTEST of type certify: what a TPM says of a key that it holds.

use super::TpmError;
use super::reader::Reader;

/// TPM_GENERATED_VALUE: a restricted key signs nothing that begins with it unless the TPM itself has written it.
const GENERATED: u32 = 0xff54_4347;
const ATTEST_CERTIFY: u16 = 0x8017;
/// The longest that is looked at, in octets: three names and a nonce of the longest hashes have some 300.
const LONGEST: usize = 1024;
/// TPMS_CLOCK_INFO, then the firmware's version.
const CLOCK_AND_FIRMWARE: usize = 17 + 8;

/// A certification, read whole. Not checked: its clock and its firmware's version, of which no policy knows anything.
pub(super) struct Certification<'a> {
    /// What the caller of TPM2_Certify gave along.
    pub(super) extra_data: &'a [u8],
    /// The name of the key certified.
    pub(super) name: &'a [u8],
}

impl<'a> Certification<'a> {
    pub(super) fn read(octets: &'a [u8]) -> Result<Self, TpmError> {
        let mut reader = Reader::new(octets, "TPMS_ATTEST");
        if octets.len() > LONGEST || reader.u32()? != GENERATED {
            return Err(reader.malformed());
        }
        if reader.u16()? != ATTEST_CERTIFY {
            return Err(TpmError::NotACertification);
        }
        let _qualified_signer = reader.sized()?;
        let extra_data = reader.sized()?;
        reader.take(CLOCK_AND_FIRMWARE)?;
        let name = reader.sized()?;
        let _qualified_name = reader.sized()?;
        reader.finish()?;
        Ok(Self { extra_data, name })
    }
}
