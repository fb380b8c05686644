//! Reads delta CRLs back, before they are given out: with the reader of complete ones, which has no part in the writing.
//! Nobody else here takes one.

use bytes::Bytes;

use super::{
    CrlEntry, CrlError, Edit, list,
    parsed::{read_fields, verify},
};
use crate::{
    identity::Timestamp,
    pki::{issuer::IssuerCertificate, signed::timestamp},
};

/// A delta CRL that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedDelta {
    der: Bytes,
    issuer: Vec<u8>,
    authority_key: [u8; 20],
    number: u64,
    base: u64,
    this_update: Timestamp,
    next_update: Timestamp,
    changes: Vec<Edit>,
}

impl ParsedDelta {
    /// Reads a delta such as this software makes. Not checked: its signature (see [`verify`](Self::verify)) and its dates.
    pub fn parse(der: Bytes) -> Result<Self, CrlError> {
        let (list, extensions) = read_fields(&der)?;
        let (Some(base), None) = (extensions.base, &extensions.distribution_point) else {
            return Err(CrlError::Scope);
        };
        let (mut rest, mut changes) = (list.entries, Vec::new());
        while !rest.is_empty() {
            let entry = list::first(rest).ok_or(CrlError::Malformed)?;
            changes.push(CrlEntry::decode_change(entry)?);
            rest = &rest[entry.len()..];
        }
        Ok(Self {
            issuer: list.issuer.to_vec(),
            authority_key: extensions.authority_key,
            number: extensions.number,
            base,
            this_update: timestamp(list.this_update),
            next_update: timestamp(list.next_update),
            changes,
            der: der.clone(),
        })
    }

    /// Checks that `issuer` signed it: name, key identifier, signature. Not checked: dates against a clock.
    pub fn verify(&self, issuer: &IssuerCertificate) -> Result<(), CrlError> {
        verify(&self.der, &self.issuer, &self.authority_key, issuer)
    }

    /// The delta (DER).
    pub fn into_der(self) -> Bytes {
        self.der
    }

    /// CRLNumber: that of the complete CRL that it makes.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The number of the complete CRL that it begins with.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// thisUpdate.
    pub fn this_update(&self) -> Timestamp {
        self.this_update
    }

    /// nextUpdate.
    pub fn next_update(&self) -> Timestamp {
        self.next_update
    }

    /// What has become of whom, in its order.
    pub fn changes(&self) -> &[Edit] {
        &self.changes
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::{CrlTemplate, ParsedCrl};
    use super::*;
    use crate::{
        identity::RevocationReason,
        pki::{
            CaRole,
            fixture::{NOW, TestCa, serial},
        },
    };

    fn template(ca: &TestCa) -> CrlTemplate<'_> {
        CrlTemplate {
            issuer: ca.issuer.certificate(),
            number: 9,
            this_update: NOW,
            next_update: NOW + Duration::from_secs(3600),
            distribution_point: None,
        }
    }

    fn changes() -> [Edit; 3] {
        let entry = |number, reason| Some(CrlEntry { serial: serial(number), revoked_at: NOW, reason });
        [
            (serial(1), entry(1, RevocationReason::KeyCompromise)),
            (serial(2), None),
            (serial(3), entry(3, RevocationReason::Unspecified)),
        ]
    }

    fn delta(ca: &TestCa, changes: &[Edit]) -> Bytes {
        let prepared = template(ca).prepare_delta(4, changes);
        let signature = ca.key.sign(prepared.tbs());
        prepared.assemble(&signature)
    }

    #[test]
    fn a_delta_reads_back_and_verifies_under_its_issuer_only_and_is_no_complete_crl() {
        let (ca, other) = (TestCa::root(CaRole::DeviceRoot), TestCa::root(CaRole::DeviceRoot));
        let der = delta(&ca, &changes());
        let read = ParsedDelta::parse(der.clone()).unwrap();
        assert_eq!((read.base(), read.number(), read.changes()), (4, 9, &changes()[..]));
        assert_eq!((read.this_update(), read.next_update()), (NOW, NOW + Duration::from_secs(3600)));
        assert_eq!(read.verify(ca.issuer.certificate()), Ok(()));
        assert_eq!(read.verify(other.issuer.certificate()), Err(CrlError::OtherIssuer));
        assert_eq!(ParsedCrl::parse(der), Err(CrlError::Scope));
        assert_eq!(ParsedDelta::parse(delta(&ca, &[])).unwrap().changes(), []);
        let complete = template(&ca).prepare(None, []);
        let signature = ca.key.sign(complete.tbs());
        assert_eq!(ParsedDelta::parse(complete.assemble(&signature)), Err(CrlError::Scope));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in 0usize..10_000, octet: u8) {
            let ca = TestCa::root(CaRole::DeviceRoot);
            let mut changed = delta(&ca, &changes()).to_vec();
            let at = at % changed.len();
            changed[at] = octet;
            let _ = ParsedDelta::parse(changed.into()).map(|delta| delta.verify(ca.issuer.certificate()));
        }
    }
}
