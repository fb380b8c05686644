//! The receipt of a cut-off: what changed, and which CRLs hold it.

use fleetca_proto::v1;
use serde::Serialize;

use super::{
    loaded::LoadedAt,
    output::{count, printable},
    words::Status,
};

/// A CRL by issuer and number.
#[derive(Debug, Serialize)]
pub struct CrlReceipt {
    issuer: String,
    number: u64,
    loaded: Option<LoadedAt>,
}

impl From<v1::CrlReceipt> for CrlReceipt {
    fn from(wire: v1::CrlReceipt) -> Self {
        Self { issuer: wire.issuer, number: wire.number, loaded: wire.loaded.map(LoadedAt::from) }
    }
}

impl CrlReceipt {
    /// For people.
    pub fn words(&self) -> String {
        let loaded = self.loaded.as_ref().map(|loaded| format!("; {}", loaded.words())).unwrap_or_default();
        format!("issuer {}: CRL number {}{loaded}", self.issuer, self.number)
    }
}

/// What `revoke`, `hold`, `release` and `decommission` answer. When it is here, the CRLs are served.
#[derive(Debug, Serialize)]
pub struct Receipt {
    subject: String,
    status: Option<Status>,
    certificates: u32,
    tokens: u32,
    crls: Vec<CrlReceipt>,
    unreadable: u32,
    /// Where somebody waited for them.
    gateways: Option<LoadedAt>,
}

impl From<v1::RevocationReceipt> for Receipt {
    fn from(wire: v1::RevocationReceipt) -> Self {
        Self {
            subject: wire.subject,
            status: Status::from_wire(wire.status),
            certificates: wire.certificates,
            tokens: wire.tokens,
            crls: wire.crls.into_iter().map(CrlReceipt::from).collect(),
            unreadable: wire.unreadable,
            gateways: None,
        }
    }
}

/// What is told when something is in force; then gateways may be waited for.
pub trait InForce: Serialize {
    /// The same, with what the gateways that were waited for have loaded.
    fn loaded(self, gateways: Option<LoadedAt>) -> Self;

    /// For people: a line of what changed, then one line a CRL.
    fn words(&self) -> String;

    /// Rows that the CA could not read, and passed over.
    fn unreadable(&self) -> u64;
}

impl InForce for Receipt {
    fn loaded(self, gateways: Option<LoadedAt>) -> Self {
        Self { gateways, ..self }
    }

    fn words(&self) -> String {
        let status = self.status.map_or("in a state that this program does not know", Status::as_str);
        let certificates = count(self.certificates.into(), "certificate");
        let tokens = count(self.tokens.into(), "token");
        let mut words = format!("{} is {status} ({certificates} and {tokens} changed)\n", self.subject);
        self.crls.iter().for_each(|crl| words += &format!("{}\n", crl.words()));
        words.lines().map(|line| printable(line) + "\n").collect()
    }

    fn unreadable(&self) -> u64 {
        self.unreadable.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_get_one_line_a_crl() {
        let receipt = Receipt::from(v1::RevocationReceipt {
            subject: "device/pump-7".into(),
            status: v1::DeviceStatus::Revoked.into(),
            certificates: 2,
            tokens: 1,
            crls: vec![v1::CrlReceipt { issuer: "00ff".into(), number: 17, loaded: None }],
            unreadable: 0,
        });
        let expected = "device/pump-7 is revoked (2 certificates and 1 token changed)\nissuer 00ff: CRL number 17\n";
        assert_eq!(receipt.words(), expected);
    }
}
