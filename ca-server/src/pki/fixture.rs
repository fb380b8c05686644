//! Keys, CAs and requests for the tests of this room.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

use super::*;
use crate::identity::{DeviceId, FleetName, SerialNumber, Timestamp, TrustDomain};

/// Some instant in 2026.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_790_000_000);

/// A P-256 key pair.
pub(crate) struct TestKey {
    pair: EcdsaKeyPair,
    pub(crate) public: PublicKey,
}

impl TestKey {
    pub(crate) fn generate() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let public = PublicKey::from_p256_point(pair.public_key().as_ref()).unwrap();
        Self { pair, public }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }
}

/// A CA with its key.
pub(crate) struct TestCa {
    pub(crate) issuer: Issuer,
    pub(crate) key: TestKey,
}

pub(crate) fn trust_domain() -> TrustDomain {
    "fleet.example".parse().unwrap()
}

pub(crate) fn locations() -> Locations {
    Locations::new("http://ca.fleet.example:7080").unwrap()
}

pub(crate) fn serial(number: u8) -> SerialNumber {
    SerialNumber::new(NOW, [number; 10])
}

pub(crate) fn device_id() -> DeviceId {
    "pump-7".parse().unwrap()
}

pub(crate) fn fleet() -> FleetName {
    "pumps".parse().unwrap()
}

impl TestCa {
    pub(crate) fn root(role: CaRole) -> Self {
        let key = TestKey::generate();
        let request =
            CaRequest { role, key: &key.public, serial: serial(1), not_before: NOW, not_after: NOW + ROOT_VALIDITY };
        Self::taking(role, prepare_root(&trust_domain(), &request).unwrap(), None, key)
    }

    pub(crate) fn below(root: &TestCa, role: CaRole) -> Self {
        let key = TestKey::generate();
        let request =
            CaRequest { role, key: &key.public, serial: serial(2), not_before: NOW, not_after: NOW + CA_VALIDITY };
        Self::taking(role, root.issuer.prepare_authority(&request).unwrap(), Some(&root.key), key)
    }

    fn taking(role: CaRole, prepared: Prepared, signer: Option<&TestKey>, key: TestKey) -> Self {
        let signature = signer.unwrap_or(&key).sign(prepared.tbs());
        let certificate = IssuerCertificate::parse(&prepared.assemble(&signature).der).unwrap();
        Self { issuer: Issuer::new(role, certificate, trust_domain(), locations()).unwrap(), key }
    }

    /// Both of a hierarchy.
    pub(crate) fn hierarchy(role: CaRole) -> (Self, Self) {
        let root = Self::root(role.root());
        let below = Self::below(&root, role);
        (root, below)
    }

    pub(crate) fn issue(&self, request: &LeafRequest<'_>) -> Certificate {
        let prepared = self.issuer.prepare_leaf(request).unwrap();
        let signature = self.key.sign(prepared.tbs());
        prepared.assemble(&signature)
    }
}
