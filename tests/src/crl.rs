//! A CRL as a relying party reads it, by x509-cert.

use der::{Decode, DecodePem, oid::AssociatedOid};
use x509_cert::{
    crl::CertificateList,
    ext::pkix::{CrlNumber, CrlReason},
};

use crate::{http, server::Server};

/// A CRL.
#[derive(Clone, Debug)]
pub struct Crl(CertificateList);

impl Crl {
    /// Reads DER.
    pub fn from_der(der: &[u8]) -> Crl {
        Crl(CertificateList::from_der(der).expect("a CRL"))
    }

    /// Reads all CRLs of a PEM text.
    pub fn all_from_pem(pem: &str) -> Vec<Crl> {
        const END: &str = "-----END X509 CRL-----\n";
        let read = |text: &str| Crl(CertificateList::from_pem(text).unwrap_or_else(|error| panic!("{error}: {text}")));
        pem.split_inclusive(END).map(read).collect()
    }

    /// The current complete CRL of an issuer, over HTTP.
    pub fn fetch(server: &Server, issuer: &str) -> Crl {
        Crl::from_der(&http::get(&server.http_url(&format!("/crl/{issuer}/full.crl"))).ok())
    }

    /// The CRL number.
    pub fn number(&self) -> u64 {
        let extensions = self.0.tbs_cert_list.crl_extensions.as_deref().unwrap_or_default();
        let number = extensions.iter().find(|extension| extension.extn_id == CrlNumber::OID);
        let number = CrlNumber::from_der(number.expect("a CRL number").extn_value.as_bytes()).expect("a number");
        number.0.as_bytes().iter().fold(0, |number, octet| number << 8 | u64::from(*octet))
    }

    /// The serial numbers on it, in lower-case hexadecimal.
    pub fn serials(&self) -> Vec<String> {
        let entries = self.0.tbs_cert_list.revoked_certificates.as_deref().unwrap_or_default();
        entries.iter().map(|entry| hex(entry.serial_number.as_bytes())).collect()
    }

    /// Whether a certificate is on it.
    pub fn lists(&self, serial: &str) -> bool {
        self.serials().iter().any(|listed| listed == serial)
    }

    /// The reason code of a certificate's entry; `None` where it isn't on the list, or has no reason.
    pub fn reason(&self, serial: &str) -> Option<CrlReason> {
        let entries = self.0.tbs_cert_list.revoked_certificates.as_deref().unwrap_or_default();
        let entry = entries.iter().find(|entry| hex(entry.serial_number.as_bytes()) == serial)?;
        let extensions = entry.crl_entry_extensions.as_deref().unwrap_or_default();
        let reason = extensions.iter().find(|extension| extension.extn_id == CrlReason::OID)?;
        Some(CrlReason::from_der(reason.extn_value.as_bytes()).expect("a reason code"))
    }

    /// thisUpdate and nextUpdate in Unix seconds.
    pub fn dates(&self) -> (u64, u64) {
        let list = &self.0.tbs_cert_list;
        let next = list.next_update.as_ref().expect("a nextUpdate");
        (list.this_update.to_unix_duration().as_secs(), next.to_unix_duration().as_secs())
    }

    /// The extension with this OID, critical or not, as its DER.
    pub fn extension(&self, oid: &str) -> Option<(bool, Vec<u8>)> {
        let extensions = self.0.tbs_cert_list.crl_extensions.as_deref().unwrap_or_default();
        let extension = extensions.iter().find(|extension| extension.extn_id.to_string() == oid)?;
        Some((extension.critical, extension.extn_value.as_bytes().to_vec()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|octet| format!("{octet:02x}")).collect()
}
