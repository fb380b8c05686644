//! Reads CRLs back: those that were signed offline, and our own before they are given out.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;
use const_oid::db::rfc5280::{
    ID_CE_AUTHORITY_KEY_IDENTIFIER, ID_CE_CRL_NUMBER, ID_CE_DELTA_CRL_INDICATOR, ID_CE_ISSUING_DISTRIBUTION_POINT,
};
use der::asn1::AnyRef;
use der::{Decode, Encode, Reader, SliceReader, Tag, TagMode, TagNumber};
use spki::AlgorithmIdentifierRef;
use x509_cert::certificate::Version;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, CrlNumber, IssuingDistributionPoint};
use x509_cert::name::Name;
use x509_cert::time::Time;

use super::EntryList;
use crate::identity::{SerialNumber, Timestamp};
use crate::pki::encode::SEQUENCE;
use crate::pki::issuer::IssuerCertificate;
use crate::pki::signed::{Signed, timestamp};

/// Why a CRL is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CrlError {
    /// Not the DER of a CRL of version 2, with both dates.
    #[error("not the DER of a version 2 CRL with a nextUpdate")]
    Malformed,
    /// No CRLNumber, or one of more than 64 bits.
    #[error("the CRL has no number, or one of more than 64 bits")]
    Number,
    /// No authorityKeyIdentifier of 20 octets.
    #[error("the CRL does not name its issuer's key: it has no authority key identifier of 20 octets")]
    AuthorityKey,
    /// A critical extension that is not understood here: a delta, or one restricted in another way than ours are.
    #[error("the CRL is a delta, or restricted in a way that this software does not make")]
    Scope,
    /// An entry with a serial number or a reason that this CA does not give.
    #[error("the CRL has an entry that this CA cannot have made")]
    Entry,
    /// Its issuer's name or key is not the issuer's.
    #[error("the CRL is another issuer's")]
    OtherIssuer,
    /// Its signature does not verify under the issuer's key.
    #[error("the CRL is not signed by its issuer")]
    Signature,
}

/// A CRL that was read. Its octets are shared, not copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedCrl {
    der: Bytes,
    issuer: Vec<u8>,
    authority_key: [u8; 20],
    number: u64,
    this_update: Timestamp,
    next_update: Timestamp,
    distribution_point: Option<String>,
    entries: EntryList,
    /// Where the entries begin: not the list's header, which is missing where there are none.
    entries_at: usize,
}

impl ParsedCrl {
    /// Reads a CRL such as this software makes. Not checked: its signature (see [`verify`](Self::verify)) and its dates.
    pub fn parse(der: Bytes) -> Result<Self, CrlError> {
        Self::read(der, |octets| EntryList::read_after(octets, &EntryList::default()))
    }

    /// The same, where the CRL before it has been read: entries that stand in both are not read again.
    pub fn parse_next(der: Bytes, last: &ParsedCrl) -> Result<Self, CrlError> {
        Self::read(der, |octets| EntryList::read_after(octets, &last.entries))
    }

    /// The same, with entries that are read in this way.
    pub(super) fn read(
        der: Bytes,
        entries: impl FnOnce(Bytes) -> Result<EntryList, CrlError>,
    ) -> Result<Self, CrlError> {
        let (list, extensions) = read_fields(&der)?;
        if extensions.base.is_some() {
            return Err(CrlError::Scope);
        }
        let entries = entries(der.slice_ref(list.entries))?;
        Ok(Self {
            issuer: list.issuer.to_vec(),
            authority_key: extensions.authority_key,
            number: extensions.number,
            this_update: timestamp(list.this_update),
            next_update: timestamp(list.next_update),
            distribution_point: extensions.distribution_point,
            entries_at: list.entries.as_ptr().addr() - der.as_ptr().addr(),
            entries,
            der,
        })
    }

    /// Checks that `issuer` signed it: name, key identifier, signature. Not checked: dates against a clock.
    pub fn verify(&self, issuer: &IssuerCertificate) -> Result<(), CrlError> {
        verify(&self.der, &self.issuer, &self.authority_key, issuer)
    }

    /// The CRL (DER).
    pub fn der(&self) -> &Bytes {
        &self.der
    }

    /// Where its entries begin and end in it. Without entries: where they would.
    pub(super) fn entries_range(&self) -> Range<usize> {
        self.entries_at..self.entries_at + self.entries.octets().len()
    }

    /// Its issuer's Name (DER).
    pub fn issuer_der(&self) -> &[u8] {
        &self.issuer
    }

    /// The key identifier of its issuer.
    pub fn authority_key(&self) -> [u8; 20] {
        self.authority_key
    }

    /// CRLNumber.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// thisUpdate.
    pub fn this_update(&self) -> Timestamp {
        self.this_update
    }

    /// nextUpdate.
    pub fn next_update(&self) -> Timestamp {
        self.next_update
    }

    /// The URL in its issuingDistributionPoint; none in a complete CRL.
    pub fn distribution_point(&self) -> Option<&str> {
        self.distribution_point.as_deref()
    }

    /// Its entries, in their order.
    pub fn entries(&self) -> &EntryList {
        &self.entries
    }

    /// The signature's octets.
    pub fn signature(&self) -> &[u8] {
        let signed = Signed::read(&self.der).ok();
        signed.and_then(|signed| signed.signature.as_bytes()).unwrap_or_default()
    }
}

/// What stands in a CRL, complete or not: its entries are not read yet.
pub(super) fn read_fields(der: &[u8]) -> Result<(TbsCrl<'_>, CrlExtensions), CrlError> {
    let signed = Signed::read(der).map_err(|_| CrlError::Malformed)?;
    let list = TbsCrl::read(signed.content).map_err(|_| CrlError::Malformed)?;
    let same_algorithm = list.algorithm.to_der().ok() == signed.algorithm.to_der().ok();
    if !same_algorithm {
        return Err(CrlError::Malformed);
    }
    let extensions = CrlExtensions::read(&list.extensions)?;
    Ok((list, extensions))
}

/// Checks that `issuer` signed a CRL which names this issuer and key.
pub(super) fn verify(
    der: &[u8],
    name: &[u8],
    authority_key: &[u8; 20],
    issuer: &IssuerCertificate,
) -> Result<(), CrlError> {
    if name != issuer.subject_der() || *authority_key != issuer.key_identifier() {
        return Err(CrlError::OtherIssuer);
    }
    let signed = Signed::read(der).map_err(|_| CrlError::Malformed)?;
    signed.verify(issuer.public_key()).map_err(|_| CrlError::Signature)
}

/// Why a CRL must not follow another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SuccessorError {
    /// Of another issuer, or of another of its keys.
    #[error("the new CRL is another issuer's")]
    OtherIssuer,
    /// Complete after partial, or the other way round, or of another part.
    #[error("the new CRL covers another part of the issuer's certificates")]
    OtherScope,
    /// The number does not grow.
    #[error("the new CRL's number {new} does not exceed {old}")]
    Number {
        /// The number before.
        old: u64,
        /// The number now.
        new: u64,
    },
    /// thisUpdate or nextUpdate goes back.
    #[error("the new CRL's dates go back")]
    Dates,
}

/// Whether `new` may follow `old`: same issuer, key and scope, a greater number, dates that don't go back. Gives the
/// serials that `old` lists and `new` does not: the caller knows which of them have expired or were released.
pub fn check_successor(old: &ParsedCrl, new: &ParsedCrl) -> Result<Vec<SerialNumber>, SuccessorError> {
    check_frames(old, new)?;
    if old.entries.is_ascending() && new.entries.is_ascending() {
        return Ok(old.entries.missing_in(&new.entries));
    }
    // Not of our making: rare, and taken as it is.
    let listed: BTreeSet<SerialNumber> = new.entries.serials().collect();
    let lost: BTreeSet<SerialNumber> = old.entries.serials().filter(|serial| !listed.contains(serial)).collect();
    Ok(lost.into_iter().collect())
}

/// Whether `new` may follow `old`, whatever they list.
pub(super) fn check_frames(old: &ParsedCrl, new: &ParsedCrl) -> Result<(), SuccessorError> {
    if old.issuer != new.issuer || old.authority_key != new.authority_key {
        return Err(SuccessorError::OtherIssuer);
    }
    if old.distribution_point != new.distribution_point {
        return Err(SuccessorError::OtherScope);
    }
    if new.number <= old.number {
        return Err(SuccessorError::Number { old: old.number, new: new.number });
    }
    if new.this_update < old.this_update || new.next_update <= new.this_update {
        return Err(SuccessorError::Dates);
    }
    Ok(())
}

/// The fields of a TBSCertList of version 2, as slices of it.
pub(super) struct TbsCrl<'a> {
    algorithm: AlgorithmIdentifierRef<'a>,
    /// Name (DER).
    pub issuer: &'a [u8],
    pub this_update: Time,
    pub next_update: Time,
    /// The content of revokedCertificates; empty, at its place, where that is missing.
    pub entries: &'a [u8],
    extensions: Vec<Extension>,
}

impl<'a> TbsCrl<'a> {
    /// Reads one that has both dates. Not checked: the entries.
    fn read(tbs: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(tbs)?;
        let crl = reader.sequence(|fields| -> der::Result<Self> {
            if Version::decode(fields)? != Version::V2 {
                return Err(Tag::Integer.value_error().into());
            }
            let (algorithm, issuer) = (fields.decode()?, fields.tlv_bytes()?);
            // Compared octet by octet; but what is no Name is no CRL.
            Name::from_der(issuer)?;
            let (this_update, next_update) = (Time::decode(fields)?, Time::decode(fields)?);
            let entries = match fields.peek_byte() {
                Some(SEQUENCE) => {
                    let list = AnyRef::decode(fields)?.value();
                    // An empty list must not be there at all (section 5.1.2.6).
                    if list.is_empty() {
                        return Err(Tag::Sequence.value_error().into());
                    }
                    list
                }
                _ => &tbs[tbs.len() - usize::try_from(fields.remaining_len())?..][..0],
            };
            let extensions = fields.context_specific(TagNumber(0), TagMode::Explicit)?;
            Ok(Self {
                algorithm,
                issuer,
                this_update,
                next_update,
                entries,
                extensions: extensions.unwrap_or_default(),
            })
        })?;
        reader.finish()?;
        Ok(crl)
    }
}

pub(super) struct CrlExtensions {
    pub number: u64,
    pub authority_key: [u8; 20],
    pub distribution_point: Option<String>,
    /// Of a delta: the number of the complete CRL that it begins with.
    pub base: Option<u64>,
}

impl CrlExtensions {
    fn read(extensions: &[Extension]) -> Result<Self, CrlError> {
        let (mut number, mut authority_key, mut distribution_point, mut base) = (None, None, None, None);
        for extension in extensions {
            let value = extension.extn_value.as_bytes();
            // Each is taken once: a second one finds its place taken.
            let first = match extension.extn_id {
                ID_CE_CRL_NUMBER => number.replace(read_number(value)?).is_none(),
                ID_CE_AUTHORITY_KEY_IDENTIFIER => authority_key.replace(read_authority_key(value)?).is_none(),
                ID_CE_ISSUING_DISTRIBUTION_POINT => {
                    distribution_point.replace(read_distribution_point(value)?).is_none()
                }
                // Whoever does not know it has to refuse the whole.
                ID_CE_DELTA_CRL_INDICATOR if extension.critical => base.replace(read_number(value)?).is_none(),
                ID_CE_DELTA_CRL_INDICATOR => false,
                _ if extension.critical => return Err(CrlError::Scope),
                _ => true,
            };
            if !first {
                return Err(CrlError::Malformed);
            }
        }
        Ok(Self {
            number: number.ok_or(CrlError::Number)?,
            authority_key: authority_key.ok_or(CrlError::AuthorityKey)?,
            distribution_point,
            base,
        })
    }
}

fn read_number(value: &[u8]) -> Result<u64, CrlError> {
    let number = CrlNumber::from_der(value).map_err(|_| CrlError::Number)?;
    let octets = number.0.as_bytes();
    if octets.len() > 8 {
        return Err(CrlError::Number);
    }
    Ok(octets.iter().fold(0, |number, octet| number << 8 | u64::from(*octet)))
}

fn read_authority_key(value: &[u8]) -> Result<[u8; 20], CrlError> {
    let aki = AuthorityKeyIdentifier::from_der(value).map_err(|_| CrlError::AuthorityKey)?;
    aki.key_identifier.and_then(|id| id.as_bytes().try_into().ok()).ok_or(CrlError::AuthorityKey)
}

fn read_distribution_point(value: &[u8]) -> Result<String, CrlError> {
    let point = IssuingDistributionPoint::from_der(value).map_err(|_| CrlError::Scope)?;
    let restricted = point.only_contains_user_certs
        || point.only_contains_ca_certs
        || point.only_some_reasons.is_some()
        || point.indirect_crl
        || point.only_contains_attribute_certs;
    match point.distribution_point {
        Some(DistributionPointName::FullName(names)) if !restricted => match &names[..] {
            [GeneralName::UniformResourceIdentifier(url)] => Ok(url.as_str().to_owned()),
            _ => Err(CrlError::Scope),
        },
        _ => Err(CrlError::Scope),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::{CrlEntry, CrlTemplate};
    use super::*;
    use crate::identity::RevocationReason;
    use crate::pki::CaRole;
    use crate::pki::fixture::{NOW, TestCa, serial};

    const DAY: Duration = Duration::from_secs(86_400);

    fn crl(ca: &TestCa, number: u64, this_update: Timestamp, serials: &[u8]) -> ParsedCrl {
        scoped(ca, number, this_update, serials, None)
    }

    fn scoped(ca: &TestCa, number: u64, this_update: Timestamp, serials: &[u8], point: Option<&str>) -> ParsedCrl {
        let template = CrlTemplate {
            issuer: ca.issuer.certificate(),
            number,
            this_update,
            next_update: this_update + DAY,
            distribution_point: point,
        };
        let entries = serials.iter().map(|number| CrlEntry {
            serial: serial(*number),
            revoked_at: NOW,
            reason: RevocationReason::Superseded,
        });
        let prepared = template.prepare(None, entries.map(|entry| (entry.serial, Some(entry))));
        let signature = ca.key.sign(prepared.tbs());
        ParsedCrl::parse(prepared.assemble(&signature)).unwrap()
    }

    #[test]
    fn a_crl_reads_back_and_verifies_under_its_issuer_only() {
        let (ca, other) = (TestCa::root(CaRole::DeviceRoot), TestCa::root(CaRole::DeviceRoot));
        let read = crl(&ca, 1 << 40, NOW, &[1, 2]);
        assert_eq!((read.number(), read.this_update(), read.next_update()), (1 << 40, NOW, NOW + DAY));
        assert_eq!((read.entries().len(), read.distribution_point()), (2, None));
        assert_eq!(read.verify(ca.issuer.certificate()), Ok(()));
        assert_eq!(read.verify(other.issuer.certificate()), Err(CrlError::OtherIssuer));

        let mut forged = read.der().to_vec();
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(ParsedCrl::parse(forged.into()).unwrap().verify(ca.issuer.certificate()), Err(CrlError::Signature));
        assert_eq!(ParsedCrl::parse([read.der(), &[0][..]].concat().into()), Err(CrlError::Malformed));
    }

    #[test]
    fn an_issuer_that_is_no_name_makes_no_crl() {
        let ca = TestCa::root(CaRole::DeviceRoot);
        let read = crl(&ca, 5, NOW, &[1]);
        let name = ca.issuer.certificate().subject_der();
        let mut octets = read.der().to_vec();
        let at = octets.windows(name.len()).position(|window| window == name).unwrap();
        // Of its first attribute, a SEQUENCE in a SET in a SEQUENCE.
        assert_eq!(octets[at + 4], SEQUENCE);
        octets[at + 4] = 0xff;
        assert_eq!(ParsedCrl::parse(octets.into()), Err(CrlError::Malformed));
    }

    #[test]
    fn a_successor_has_a_greater_number_and_the_same_issuer_and_scope() {
        let (ca, other) = (TestCa::root(CaRole::DeviceRoot), TestCa::root(CaRole::DeviceRoot));
        let old = crl(&ca, 5, NOW, &[1, 2, 3]);
        assert_eq!(check_successor(&old, &crl(&ca, 6, NOW, &[1, 2, 3, 4])), Ok(vec![]));
        assert_eq!(check_successor(&old, &crl(&ca, 6, NOW, &[2, 4])), Ok(vec![serial(1), serial(3)]));
        for new in [4, 5] {
            let refused = SuccessorError::Number { old: 5, new };
            assert_eq!(check_successor(&old, &crl(&ca, new, NOW, &[1, 2, 3])), Err(refused));
        }
        let earlier = crl(&ca, 6, NOW - DAY, &[1, 2, 3]);
        assert_eq!(check_successor(&old, &earlier), Err(SuccessorError::Dates));
        assert_eq!(check_successor(&old, &crl(&other, 6, NOW, &[])), Err(SuccessorError::OtherIssuer));
        let partial = scoped(&ca, 6, NOW, &[1], Some("http://ca.example/one.crl"));
        assert_eq!(check_successor(&old, &partial), Err(SuccessorError::OtherScope));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            at in 0usize..10_000,
            octet: u8,
        ) {
            let _ = ParsedCrl::parse(bytes.into());
            let ca = TestCa::root(CaRole::DeviceRoot);
            let mut changed = crl(&ca, 1, NOW, &[1, 2]).der().to_vec();
            let at = at % changed.len();
            changed[at] = octet;
            let _ = ParsedCrl::parse(changed.into()).map(|crl| crl.verify(ca.issuer.certificate()));
        }
    }
}
