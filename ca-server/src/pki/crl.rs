//! CRLs (RFC 5280, section 5): written here, signed elsewhere.
//!
//! A CRL's octets are a pure function of its [`CrlTemplate`] and its entries, so that every node and every restart
//! makes the same ones. Nothing in the entries can stop a CRL from being made.

mod delta;
mod entry;
mod list;
mod parsed;
mod root;

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use const_oid::db::rfc5280::{ID_CE_CRL_NUMBER, ID_CE_DELTA_CRL_INDICATOR, ID_CE_ISSUING_DISTRIBUTION_POINT};

use fleetca_proto::v1::CrlPatchStep;

use super::encode::{Der, INTEGER, SEQUENCE, TimeWriter, context_constructed, header};
use super::extensions::{authority_key_identifier, distribution_point_name, extension};
use super::issuer::IssuerCertificate;
use super::signature::SignatureAlgorithm;
use super::signed;
use crate::identity::{SerialNumber, Timestamp};

use entry::LONGEST as LONGEST_ENTRY;

pub use delta::ParsedDelta;
pub use entry::CrlEntry;
pub use list::{Edit, EntryList};
pub use parsed::{CrlError, ParsedCrl, SuccessorError, check_successor};
pub use root::{RootEntry, check_root_successor};

/// How long an entry stays after its certificate expired, and with it the CRL's issuer.
pub const RETENTION: Duration = Duration::from_secs(24 * 3600);

/// What is in a CRL besides its entries.
#[derive(Clone, Copy, Debug)]
pub struct CrlTemplate<'a> {
    /// Whose: its subject name, and its subjectKeyIdentifier as authorityKeyIdentifier.
    pub issuer: &'a IssuerCertificate,
    /// CRLNumber.
    pub number: u64,
    /// When it was made; whole seconds count.
    pub this_update: Timestamp,
    /// Until when the next one comes; whole seconds count.
    pub next_update: Timestamp,
    /// The URL in the critical issuingDistributionPoint of a partial CRL, as the certificates in question name it. A
    /// complete CRL has none: many verifiers can't do anything with it.
    pub distribution_point: Option<&'a str>,
}

impl CrlTemplate<'_> {
    /// Builds the CRL, version 2, from the entries of another one (none where there is none), and what has changed since:
    /// what stays is copied as it is, in one pass. Edits come in the order of their serials; one that does not is left out.
    pub fn prepare(&self, base: Option<&ParsedCrl>, edits: impl IntoIterator<Item = Edit>) -> PreparedCrl {
        let none = EntryList::default();
        let old = base.map_or(&none, ParsedCrl::entries);
        let algorithm = SignatureAlgorithm::usual(self.issuer.public_key().kind());
        let (mut head, tail) = (self.encode_head(algorithm), self.encode_extensions(None));
        // What stands in front tells how long the entries are: it is put in when they are there. Room that is not used
        // was never touched.
        let (edits, front) = (edits.into_iter(), FRONT + head.len());
        let room = old.octets().len() + edits.size_hint().0 * LONGEST_ENTRY;
        let mut octets = Vec::with_capacity(front + room + tail.len() + SIGNATURE);
        octets.resize(front, 0);
        let mut steps = Vec::new();
        old.edit(edits, &mut octets, base.is_some().then_some(&mut steps));
        let entries = front..octets.len();
        octets.extend_from_slice(&tail);
        // An empty list must not be there at all (section 5.1.2.6).
        if !entries.is_empty() {
            let (header, count) = header(SEQUENCE, entries.len());
            head.extend_from_slice(&header[..count]);
        }
        let (header, count) = header(SEQUENCE, head.len() + octets.len() - front);
        let content = put_before(&mut octets, front, &head);
        let tbs = put_before(&mut octets, content, &header[..count]);
        PreparedCrl { octets, tbs, entries, steps, algorithm, number: self.number }
    }

    /// Builds a delta CRL (section 5.2.4) to the complete one with the number `base`: what the certificates that are named
    /// have come to, each once and in the order of their serials; what is on the list no more is taken off.
    pub fn prepare_delta(&self, base: u64, changes: &[(SerialNumber, Option<CrlEntry>)]) -> PreparedCrl {
        let algorithm = SignatureAlgorithm::usual(self.issuer.public_key().kind());
        let (mut times, mut entries) = (TimeWriter::default(), Vec::new());
        for (serial, entry) in changes {
            match entry {
                Some(entry) => entry.encode(&mut times, &mut entries),
                None => CrlEntry::encode_removal(*serial, self.this_update, &mut times, &mut entries),
            }
        }
        let mut der = Der::with_capacity(FRONT + entries.len() + SIGNATURE);
        der.raw(&[0; FRONT]);
        der.nest(SEQUENCE, |tbs| {
            tbs.raw(&self.encode_head(algorithm));
            if !entries.is_empty() {
                tbs.primitive(SEQUENCE, &entries);
            }
            tbs.raw(&self.encode_extensions(Some(base)));
        });
        // Nothing is made of another list's entries.
        let (entries, steps) = (FRONT..FRONT, Vec::new());
        PreparedCrl { octets: der.into_bytes(), tbs: FRONT, entries, steps, algorithm, number: self.number }
    }

    /// Everything before the entries.
    fn encode_head(&self, algorithm: SignatureAlgorithm) -> Vec<u8> {
        let mut head = Der::with_capacity(256);
        head.primitive(INTEGER, &[1]);
        head.raw(algorithm.identifier());
        head.raw(self.issuer.subject_der());
        head.time(self.this_update);
        head.time(self.next_update);
        head.into_bytes()
    }

    /// Everything behind the entries. `base`: of a delta.
    fn encode_extensions(&self, base: Option<u64>) -> Vec<u8> {
        Der::build(context_constructed(0), |tagged| {
            tagged.nest(SEQUENCE, |list| {
                authority_key_identifier(list, &self.issuer.key_identifier());
                extension(list, &ID_CE_CRL_NUMBER, false, |value| value.unsigned(&self.number.to_be_bytes()));
                if let Some(base) = base {
                    extension(list, &ID_CE_DELTA_CRL_INDICATOR, true, |value| value.unsigned(&base.to_be_bytes()));
                }
                if let Some(url) = self.distribution_point {
                    extension(list, &ID_CE_ISSUING_DISTRIBUTION_POINT, true, |value| {
                        value.nest(SEQUENCE, |point| distribution_point_name(point, url));
                    });
                }
            });
        })
    }
}

/// Room for the headers of three SEQUENCEs: the CRL, what is signed, the entries.
const FRONT: usize = 3 * 10;

/// Puts octets in front of where the others begin, and says where they begin now.
fn put_before(octets: &mut [u8], start: usize, front: &[u8]) -> usize {
    let begin = start - front.len();
    octets[begin..start].copy_from_slice(front);
    begin
}

/// Room for the algorithm and the signature behind what is signed.
const SIGNATURE: usize = 1024;

/// A CRL built, not signed yet. It can be used once.
pub struct PreparedCrl {
    /// Room for the header that is put in front, then what is to be signed.
    octets: Vec<u8>,
    /// Where that begins.
    tbs: usize,
    /// Where its entries are in them.
    entries: Range<usize>,
    /// How these entries are made of the old ones.
    steps: Vec<CrlPatchStep>,
    algorithm: SignatureAlgorithm,
    number: u64,
}

impl PreparedCrl {
    /// What is to be signed.
    pub fn tbs(&self) -> &[u8] {
        &self.octets[self.tbs..]
    }

    /// Puts the signature in and gives the CRL (DER). That it verifies is not checked here.
    pub fn assemble(self, signature: &[u8]) -> Bytes {
        self.assemble_with_steps(signature).0
    }

    /// The same, and the steps that make the CRL of the one that its entries were taken from, signature and all.
    pub fn assemble_with_steps(mut self, signature: &[u8]) -> (Bytes, CrlSteps) {
        signed::append_signature(&mut self.octets, self.algorithm, signature);
        let (header, count) = header(SEQUENCE, self.octets.len() - self.tbs);
        let start = put_before(&mut self.octets, self.tbs, &header[..count]);
        let front = self.octets[start..self.entries.start].to_vec();
        let back = self.octets[self.entries.end..].to_vec();
        let steps = CrlSteps { front, entries: self.steps, back };
        (Bytes::from(self.octets).slice(start..), steps)
    }
}

impl fmt::Debug for PreparedCrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PreparedCrl({}, {} octets)", self.number, self.tbs().len())
    }
}

/// How a CRL is made of the one before it.
#[derive(Debug)]
pub struct CrlSteps {
    front: Vec<u8>,
    entries: Vec<CrlPatchStep>,
    back: Vec<u8>,
}

impl CrlSteps {
    /// As steps through the whole of the old CRL, such as [`fleetca_proto::patch::apply`] takes.
    pub fn through(self, old: &ParsedCrl) -> Vec<CrlPatchStep> {
        let mut steps = vec![CrlPatchStep { skip: 0, copy: 0, insert: self.front }];
        let mut skip = old.entries_range().start as u64;
        steps.extend(
            self.entries.into_iter().map(|step| CrlPatchStep { skip: step.skip + std::mem::take(&mut skip), ..step }),
        );
        // The first one is always there.
        if let Some(last) = steps.last_mut() {
            last.insert.extend(self.back);
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use const_oid::db::rfc5280::ID_CE_AUTHORITY_KEY_IDENTIFIER;
    use der::{Decode, Encode};
    use proptest::prelude::*;
    use x509_cert::crl::CertificateList;
    use x509_cert::ext::pkix::{AuthorityKeyIdentifier, CrlNumber, CrlReason, IssuingDistributionPoint};

    use super::super::fixture::{NOW, TestCa};
    use super::super::{CaRole, CrlScope, Holder, LeafRequest};
    use super::*;
    use crate::identity::{RevocationReason, SerialNumber};

    fn entry(number: u128) -> CrlEntry {
        CrlEntry {
            serial: SerialNumber::from_bytes(number.to_be_bytes()),
            revoked_at: NOW,
            reason: RevocationReason::KeyCompromise,
        }
    }

    fn template(ca: &TestCa) -> CrlTemplate<'_> {
        CrlTemplate {
            issuer: ca.issuer.certificate(),
            number: 7,
            this_update: NOW,
            next_update: NOW + Duration::from_secs(7 * 86_400),
            distribution_point: None,
        }
    }

    fn signed(ca: &TestCa, template: &CrlTemplate<'_>, entries: &[CrlEntry]) -> Vec<u8> {
        let prepared = template.prepare(None, edits(entries));
        let signature = ca.key.sign(prepared.tbs());
        prepared.assemble(&signature).to_vec()
    }

    fn edits(entries: &[CrlEntry]) -> Vec<Edit> {
        entries.iter().map(|entry| (entry.serial, Some(*entry))).collect()
    }

    // x509-cert 0.3.0 gives IssuingDistributionPoint another extension's OID, so it is asked for by number.
    fn extension<'a, T: Decode<'a, Error = der::Error>>(
        crl: &'a CertificateList,
        oid: const_oid::ObjectIdentifier,
    ) -> Option<(bool, T)> {
        let found = crl.tbs_cert_list.crl_extensions.as_ref()?.iter().find(|extension| extension.extn_id == oid)?;
        Some((found.critical, T::from_der(found.extn_value.as_bytes()).unwrap()))
    }

    #[test]
    fn an_empty_crl_has_no_list_at_all() {
        let ca = TestCa::root(CaRole::DeviceRoot);
        let crl: CertificateList = CertificateList::from_der(&signed(&ca, &template(&ca), &[])).unwrap();
        assert_eq!(crl.tbs_cert_list.revoked_certificates, None);
        assert_eq!(crl.tbs_cert_list.crl_extensions.as_ref().unwrap().len(), 2);
    }

    #[test]
    fn the_authority_key_identifier_is_the_issuers_own_subject_key_identifier() {
        let (_, ca) = TestCa::hierarchy(CaRole::DeviceIssuing);
        let crl: CertificateList = CertificateList::from_der(&signed(&ca, &template(&ca), &[entry(1)])).unwrap();
        let (critical, aki) = extension::<AuthorityKeyIdentifier>(&crl, ID_CE_AUTHORITY_KEY_IDENTIFIER).unwrap();
        assert_eq!(aki.key_identifier.unwrap().as_bytes(), ca.key.public.key_identifier());
        assert!(!critical);
    }

    #[test]
    fn a_device_list_has_the_leafs_distribution_point_byte_for_byte() {
        let (_, ca) = TestCa::hierarchy(CaRole::DeviceIssuing);
        let scope = CrlScope::Device("aAbBcCdDeEfFgG0-");
        let url = ca.issuer.locations().crl(&ca.issuer.id(), scope).unwrap();
        let template = CrlTemplate { distribution_point: Some(&url), ..template(&ca) };
        let crl = signed(&ca, &template, &[entry(1)]);
        let list: CertificateList = CertificateList::from_der(&crl).unwrap();
        let (critical, point) = extension::<IssuingDistributionPoint>(&list, ID_CE_ISSUING_DISTRIBUTION_POINT).unwrap();
        assert!(critical && !point.only_contains_user_certs && !point.indirect_crl);

        let (id, fleet) = ("pump-7".parse().unwrap(), "pumps".parse().unwrap());
        let leaf = ca.issue(&LeafRequest {
            holder: Holder::Device { id: &id, fleet: &fleet },
            key: &ca.key.public,
            serial: SerialNumber::new(NOW, [1; 10]),
            not_before: NOW,
            not_after: NOW + Duration::from_secs(3600),
            crl: scope,
            policy: None,
            ocsp: false,
        });
        let name = point.distribution_point.unwrap().to_der().unwrap();
        assert!(name.windows(url.len()).any(|window| window == url.as_bytes()));
        for der in [&leaf.der, &crl] {
            assert!(der.windows(name.len()).any(|window| window == name));
        }
    }

    #[test]
    fn what_comes_out_of_its_order_is_left_out() {
        let ca = TestCa::root(CaRole::DeviceRoot);
        let entries = [entry(1), entry(1), entry(3), entry(2), entry(3), entry(4)];
        let crl = ParsedCrl::parse(signed(&ca, &template(&ca), &entries).into()).unwrap();
        assert_eq!(crl.entries().iter().collect::<Vec<_>>(), [entry(1), entry(3), entry(4)]);
        let prepared = template(&ca).prepare(Some(&crl), edits(&[entry(5), entry(2), entry(6)]));
        assert_eq!(prepared.tbs(), template(&ca).prepare(None, edits(&[1, 3, 4, 5, 6].map(entry))).tbs());
    }

    #[test]
    fn serials_that_were_never_issued_do_not_stop_a_crl() {
        let ca = TestCa::root(CaRole::DeviceRoot);
        let entries = [entry(0), entry(0x7f), entry(0x80), entry(u128::MAX >> 1), entry(u128::MAX)];
        let crl: CertificateList = CertificateList::from_der(&signed(&ca, &template(&ca), &entries)).unwrap();
        let list = crl.tbs_cert_list.revoked_certificates.unwrap();
        let lengths: Vec<usize> = list.iter().map(|entry| entry.serial_number.as_bytes().len()).collect();
        assert_eq!(lengths, [1, 1, 2, 16, 17]);
    }

    fn any_entry() -> impl Strategy<Value = CrlEntry> {
        let reason = proptest::sample::select(&RevocationReason::ALL[..]);
        (1u128..u128::MAX / 2, 0i64..7_000_000_000, reason).prop_map(|(serial, at, reason)| CrlEntry {
            serial: SerialNumber::from_bytes(serial.to_be_bytes()),
            revoked_at: Timestamp::from_secs(at),
            reason,
        })
    }

    proptest! {
        #[test]
        fn another_parser_reads_what_was_written_and_would_write_the_same(
            entries in proptest::collection::btree_map(any::<u128>(), any_entry(), 0..40),
            number: u64,
            this_update in 0i64..7_000_000_000,
            partial: bool,
        ) {
            let ca = TestCa::root(CaRole::DeviceRoot);
            let mut entries: Vec<CrlEntry> = entries.into_values().collect();
            entries.sort_by_key(|entry| entry.serial);
            entries.dedup_by_key(|entry| entry.serial);
            let template = CrlTemplate {
                number,
                this_update: Timestamp::from_secs(this_update),
                next_update: Timestamp::from_secs(this_update + 1),
                distribution_point: partial.then_some("http://ca.example/one.crl"),
                ..template(&ca)
            };
            let der = signed(&ca, &template, &entries);
            let crl: CertificateList = CertificateList::from_der(&der).unwrap();
            prop_assert_eq!(crl.to_der().unwrap(), der.clone());

            prop_assert_eq!(crl.tbs_cert_list.version, x509_cert::certificate::Version::V2);
            prop_assert_eq!(crl.tbs_cert_list.issuer.to_der().unwrap(), template.issuer.subject_der());
            let read_number = extension::<CrlNumber>(&crl, ID_CE_CRL_NUMBER).unwrap().1;
            prop_assert_eq!(read_number.0, der::asn1::Uint::new(&number.to_be_bytes()).unwrap());
            prop_assert_eq!(extension::<IssuingDistributionPoint>(&crl, ID_CE_ISSUING_DISTRIBUTION_POINT).map(|(critical, _)| critical), partial.then_some(true));

            let list = crl.tbs_cert_list.revoked_certificates.unwrap_or_default();
            prop_assert_eq!(list.len(), entries.len());
            for (read, written) in list.iter().zip(&entries) {
                let serial = written.serial.as_bytes();
                let skip = serial.iter().position(|octet| *octet != 0).unwrap();
                let read_serial = read.serial_number.as_bytes();
                prop_assert_eq!(read_serial.strip_prefix(&[0]).unwrap_or(read_serial), &serial[skip..]);
                prop_assert_eq!(read.revocation_date.to_unix_duration().as_secs() as i64, written.revoked_at.secs());
                let reason = read.crl_entry_extensions.as_ref().map(|extensions| {
                    CrlReason::from_der(extensions[0].extn_value.as_bytes()).unwrap() as u8
                });
                let expected = (written.reason != RevocationReason::Unspecified).then_some(written.reason.number());
                prop_assert_eq!(reason, expected);
            }
            let parsed = ParsedCrl::parse(der.into()).unwrap();
            prop_assert_eq!(parsed.verify(template.issuer), Ok(()));
            prop_assert_eq!(parsed.entries().iter().collect::<Vec<_>>(), entries.clone());
            prop_assert!(entries.iter().all(|entry| parsed.entries().get(&entry.serial) == Some(*entry)));
        }

        #[test]
        fn edited_it_is_what_it_would_be_written_anew_and_the_steps_say_how(
            before in proptest::collection::btree_map(any::<u8>(), any_entry(), 0..300),
            edits in proptest::collection::btree_map(any::<u8>(), proptest::option::of(any_entry()), 0..100),
            damaged in any::<(proptest::sample::Index, u8)>(),
        ) {
            let ca = TestCa::root(CaRole::DeviceRoot);
            // Serials that lie close together, so that edits meet entries.
            let named = |number: u8, entry: CrlEntry| CrlEntry { serial: SerialNumber::from_bytes([number; 16]), ..entry };
            let serial = |number: u8| SerialNumber::from_bytes([number; 16]);
            let before: BTreeMap<SerialNumber, Option<CrlEntry>> = before.into_iter().map(|(number, entry)| (serial(number), Some(named(number, entry)))).collect();
            let edits: BTreeMap<SerialNumber, Option<CrlEntry>> =
                edits.into_iter().map(|(number, edit)| (serial(number), edit.map(|entry| named(number, entry)))).collect();
            let mut after = before.clone();
            after.extend(edits.clone());
            after.retain(|_, entry| entry.is_some());

            let template = template(&ca);
            let sign = |prepared: PreparedCrl| {
                let signature = ca.key.sign(prepared.tbs());
                prepared.assemble_with_steps(&signature)
            };
            let old = ParsedCrl::parse(sign(template.prepare(None, before.clone())).0).unwrap();
            let next = CrlTemplate { number: 8, ..template };
            let anew = next.prepare(None, after.clone());
            let edited = next.prepare(Some(&old), edits.clone());
            prop_assert_eq!(anew.tbs(), edited.tbs());
            let (new, steps) = sign(edited);
            let steps = steps.through(&old);
            let patched = fleetca_proto::patch::apply(&steps, old.der(), new.len());
            prop_assert_eq!(patched.unwrap(), new.to_vec());
            let read = ParsedCrl::parse_next(new.clone(), &old).unwrap();
            let anew = ParsedCrl::parse(new.clone()).unwrap();
            prop_assert_eq!((&read, read.entries().len()), (&anew, anew.entries().len()));
            prop_assert!(read.entries().is_ascending());
            prop_assert!(after.keys().all(|serial| read.entries().get(serial) == anew.entries().get(serial)));
            prop_assert_eq!(read.verify(template.issuer), Ok(()));
            let mut octets = new.to_vec();
            octets[damaged.0.index(new.len())] ^= damaged.1;
            let seen = |crl: &ParsedCrl| (crl.entries().len(), crl.entries().is_ascending());
            let (first, next) = (ParsedCrl::parse(octets.clone().into()), ParsedCrl::parse_next(octets.into(), &old));
            prop_assert_eq!(first.as_ref().map(seen), next.as_ref().map(seen));
            let lost = check_successor(&old, &read).unwrap();
            let taken_off = edits.iter().filter(|(serial, edit)| edit.is_none() && before.contains_key(serial));
            prop_assert_eq!(lost, taken_off.map(|(serial, _)| *serial).collect::<Vec<_>>());
        }
    }
}
