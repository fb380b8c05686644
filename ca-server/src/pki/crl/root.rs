//! The CRLs of roots. Somebody else's root gives serial numbers, reasons and extensions of its own, and lists CAs that are
//! none of ours: these CRLs are read and handed on, and never edited.

use std::collections::BTreeMap;

use bytes::Bytes;
use const_oid::db::rfc5280::ID_CE_CRL_REASONS;
use der::Decode;
use x509_cert::{crl::RevokedCert, ext::pkix::CrlReason};

use super::parsed::check_frames;
use super::{CrlError, EntryList, ParsedCrl, SuccessorError};
use crate::identity::AuthoritySerial;

/// certificateHold and removeFromCRL (RFC 5280, section 5.3.1): not for ever.
const NOT_FOR_EVER: [u8; 2] = [6, 8];

/// An entry of a root's CRL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootEntry {
    /// The number of its reason; 0 where none is said.
    pub reason: u8,
}

impl RootEntry {
    /// Whether it stands for ever, and no hold does.
    pub fn is_final(&self) -> bool {
        !NOT_FOR_EVER.contains(&self.reason)
    }
}

impl ParsedCrl {
    /// Reads the complete CRL of a root, ours or somebody else's. Not checked: its signature (see [`verify`](Self::verify))
    /// and its dates.
    pub fn parse_root(der: Bytes) -> Result<Self, CrlError> {
        let crl = Self::read(der, EntryList::read_any)?;
        if crl.distribution_point().is_some() {
            return Err(CrlError::Scope);
        }
        Ok(crl)
    }

    /// The CAs that it revokes.
    pub fn revoked_authorities(&self) -> BTreeMap<AuthoritySerial, RootEntry> {
        self.entries().raw().filter_map(|entry| read_entry(entry).ok()).collect()
    }
}

/// Reads an entry that any CA may have made. One that speaks of another CA's certificates is refused, as is every critical
/// extension.
pub(super) fn read_entry(der: &[u8]) -> Result<(AuthoritySerial, RootEntry), CrlError> {
    let read: RevokedCert = RevokedCert::from_der(der).map_err(|_| CrlError::Malformed)?;
    let mut reason = 0;
    for extension in read.crl_entry_extensions.as_deref().unwrap_or_default() {
        if extension.extn_id == ID_CE_CRL_REASONS {
            let read = CrlReason::from_der(extension.extn_value.as_bytes()).map_err(|_| CrlError::Entry)?;
            reason = read as u8;
        } else if extension.critical {
            return Err(CrlError::Entry);
        }
    }
    let serial = AuthoritySerial::from_integer(read.serial_number.as_bytes()).ok_or(CrlError::Entry)?;
    Ok((serial, RootEntry { reason }))
}

/// Whether `new` may follow `old`, both of one root: same issuer and key, a greater number, dates that don't go back. Gives
/// the serials that `old` lists and `new` does not.
pub fn check_root_successor(old: &ParsedCrl, new: &ParsedCrl) -> Result<Vec<AuthoritySerial>, SuccessorError> {
    check_frames(old, new)?;
    let listed = new.revoked_authorities();
    Ok(old.revoked_authorities().into_keys().filter(|serial| !listed.contains_key(serial)).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{CrlEntry, CrlTemplate};
    use super::*;
    use crate::identity::RevocationReason;
    use crate::pki::CaRole;
    use crate::pki::fixture::{NOW, TestCa, serial};

    fn crl(ca: &TestCa, number: u64, reasons: &[(u8, RevocationReason)], point: Option<&str>) -> Bytes {
        let template = CrlTemplate {
            issuer: ca.issuer.certificate(),
            number,
            this_update: NOW,
            next_update: NOW + Duration::from_secs(86_400),
            distribution_point: point,
        };
        let entries = reasons.iter().map(|(number, reason)| {
            let entry = CrlEntry { serial: serial(*number), revoked_at: NOW, reason: *reason };
            (entry.serial, Some(entry))
        });
        let prepared = template.prepare(None, entries);
        let signature = ca.key.sign(prepared.tbs());
        prepared.assemble(&signature)
    }

    #[test]
    fn a_roots_crl_tells_whom_it_revokes_for_ever() {
        use RevocationReason::{CaCompromise, CertificateHold};
        let ca = TestCa::root(CaRole::DeviceRoot);
        let read = ParsedCrl::parse_root(crl(&ca, 1, &[(1, CaCompromise), (2, CertificateHold)], None)).unwrap();
        assert_eq!((read.verify(ca.issuer.certificate()), read.entries().len()), (Ok(()), 2));
        let revoked = read.revoked_authorities();
        let is_final = |number| revoked.get(&serial(number).into()).map(RootEntry::is_final);
        assert_eq!((is_final(1), is_final(2), is_final(3)), (Some(true), Some(false), None));
        let next = ParsedCrl::parse_root(crl(&ca, 2, &[(2, CaCompromise)], None)).unwrap();
        assert_eq!(check_root_successor(&read, &next), Ok(vec![serial(1).into()]));
        assert_eq!(check_root_successor(&next, &read), Err(SuccessorError::Number { old: 2, new: 1 }));
    }

    #[test]
    fn a_part_of_a_roots_crl_is_refused() {
        let ca = TestCa::root(CaRole::DeviceRoot);
        let partial = crl(&ca, 1, &[], Some("http://ca.example/one.crl"));
        assert_eq!(ParsedCrl::parse_root(partial), Err(CrlError::Scope));
    }

    #[test]
    fn what_another_ca_gives_is_read_up_to_twenty_octets_and_no_critical_word_is_passed_over() {
        let entry = |serial: &[u8], extensions: &[u8]| {
            let time = [&[0x17, 13][..], b"261122000000Z"].concat();
            let serial = [&[2, serial.len() as u8][..], serial].concat();
            let content = [&serial[..], &time, extensions].concat();
            [&[0x30, content.len() as u8][..], &content].concat()
        };
        // reasonCode aACompromise, which this CA never gives.
        let reason = [0x30, 12, 0x30, 10, 6, 3, 0x55, 0x1d, 0x15, 4, 3, 0x0a, 1, 10];
        let (serial, read) = read_entry(&entry(&[0x7f; 20], &reason)).unwrap();
        assert_eq!((serial.to_string(), read.reason), ("7f".repeat(20), 10));
        assert_eq!(read_entry(&entry(&[0x80], &[])), Err(CrlError::Entry));
        assert!(read_entry(&entry(&[0x7f; 21], &[])).is_err());
        // certificateIssuer, critical: the entry is another CA's.
        let issuer = [0x30, 14, 0x30, 12, 6, 3, 0x55, 0x1d, 0x1d, 1, 1, 0xff, 4, 2, 0x30, 0];
        assert_eq!(read_entry(&entry(&[1], &issuer)), Err(CrlError::Entry));
        assert_eq!(read_entry(b"\x30\x00"), Err(CrlError::Malformed));
    }
}
