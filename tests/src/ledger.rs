//! What clients were told: every certificate, every revocation and every CRL that a server acknowledged, and the check
//! that it still knows them after whatever happened to it.

use std::collections::{BTreeSet, HashMap};

use fleetca_proto::v1::{GetCertificateRequest, ListCrlsRequest, RevocationReceipt};

use crate::{admin::Admin, crl::Crl, holder::Holder, http, server::Server};

/// Kept over all restarts of one server.
#[derive(Debug, Default)]
pub struct Ledger {
    /// DER by serial number.
    certificates: HashMap<String, Vec<u8>>,
    revoked: BTreeSet<String>,
    /// Every CRL seen, by issuer and number (DER).
    crls: HashMap<(String, u64), Vec<u8>>,
    /// The greatest number heard of, by issuer.
    newest: HashMap<String, u64>,
}

impl Ledger {
    /// Somebody was given a certificate.
    pub fn issued(&mut self, holder: &Holder) {
        let before = self.certificates.insert(holder.serial(), holder.certificate().to_vec());
        let same = before.is_none_or(|before| before == holder.certificate());
        assert!(same, "the serial number {} was given twice", holder.serial());
    }

    /// How many certificates were given out.
    pub fn certificates(&self) -> usize {
        self.certificates.len()
    }

    /// A revocation of this certificate was acknowledged.
    pub fn revoked(&mut self, serial: String, receipt: &RevocationReceipt) {
        self.told(receipt);
        self.revoked.insert(serial);
    }

    /// A hold of this certificate was ended, or may have been.
    pub fn released(&mut self, serial: &str) {
        self.revoked.remove(serial);
    }

    /// A receipt named CRLs.
    pub fn told(&mut self, receipt: &RevocationReceipt) {
        for crl in &receipt.crls {
            self.heard_of(&crl.issuer, crl.number);
        }
    }

    fn heard_of(&mut self, issuer: &str, number: u64) {
        let newest = self.newest.entry(issuer.to_owned()).or_default();
        *newest = number.max(*newest);
    }

    /// A CRL was fetched (DER), now or a while ago.
    pub fn seen(&mut self, issuer: &str, der: Vec<u8>) -> Crl {
        let crl = Crl::from_der(&der);
        self.heard_of(issuer, crl.number());
        let before = self.crls.insert((issuer.to_owned(), crl.number()), der.clone());
        assert!(before.is_none_or(|before| before == der), "issuer {issuer} used the number {} twice", crl.number());
        crl
    }

    /// Holds the server to all of it: certificates are known, revocations are on the CRLs that are served, numbers
    /// grow, and the audit log is whole and only grew.
    pub async fn check(&mut self, server: &Server) {
        let admin = Admin::of(server);
        for (serial, der) in &self.certificates {
            let asked = admin.client().get_certificate(GetCertificateRequest { serial: serial.clone() }).await;
            let known = asked.unwrap_or_else(|status| panic!("{serial} was given out, and is forgotten: {status}"));
            assert_eq!(&known.into_inner().der, der, "{serial}");
        }
        let crls = admin.client().list_crls(ListCrlsRequest {}).await.expect("a list of CRLs").into_inner().crls;
        let mut listed = BTreeSet::new();
        for status in crls {
            let url = server.http_url(&format!("/crl/{}/full.crl", status.issuer));
            let newest = self.newest.get(&status.issuer).copied().unwrap_or_default();
            let crl = self.seen(&status.issuer, http::get(&url).ok());
            assert!(crl.number() >= newest, "{url} went back from number {newest} to {}", crl.number());
            listed.extend(crl.serials());
        }
        let missing: Vec<_> = self.revoked.difference(&listed).collect();
        assert!(missing.is_empty(), "revoked, acknowledged, and on no CRL: {missing:?}");
        let head = server.scratch().join("ledger-head.json");
        server.admin().run(&["audit", "verify", "--head", head.to_str().expect("a path in UTF-8")]);
    }
}
