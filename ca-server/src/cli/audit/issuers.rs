//! Who may seal: the control CAs, which the server names and the control roots in the credential folder vouch for.

use std::collections::HashMap;

use enroll_client::trust::Roots;
use fleetca_proto::{
    transcript,
    v1::{self, ListIssuersRequest, operator_client::OperatorClient},
};
use tonic::transport::Channel;

use crate::{audit::Seal, cli::CommandError, identity::IssuerId, pki::IssuerCertificate};

/// The control CAs' certificates, each verified up to a control root. Dates are not looked at: a seal stays good when
/// the CA that made it has ended.
#[derive(Debug)]
pub struct Sealers(HashMap<IssuerId, IssuerCertificate>);

impl Sealers {
    /// Asks the server for its issuers, and keeps those that a control root has signed. That the server calls one a
    /// control CA counts for nothing.
    pub(super) async fn fetch(operator: &mut OperatorClient<Channel>, roots: &Roots) -> Result<Self, CommandError> {
        Ok(Self::among(&operator.list_issuers(ListIssuersRequest::default()).await?.into_inner().issuers, roots))
    }

    /// Those of a server's issuers that a control root has signed.
    pub fn among(issuers: &[v1::Issuer], roots: &Roots) -> Self {
        let certificates = issuers.iter().map(|issuer| issuer.certificate.as_slice());
        Self::signed_by(roots.certificates().iter().map(|root| root.der().as_ref()), certificates)
    }

    fn signed_by<'a>(roots: impl Iterator<Item = &'a [u8]>, certificates: impl Iterator<Item = &'a [u8]>) -> Self {
        let roots: Vec<_> = roots.filter_map(|der| IssuerCertificate::parse(der).ok()).collect();
        let is_sealer = |certificate: &IssuerCertificate| {
            !certificate.is_root() && roots.iter().any(|root| certificate.verify(root).is_ok())
        };
        let sealers = certificates.filter_map(|der| IssuerCertificate::parse(der).ok()).filter(is_sealer);
        Self(sealers.map(|certificate| (certificate.id(), certificate)).collect())
    }

    /// Whether one of them has signed the seal.
    pub(super) fn have_signed(&self, seal: &Seal) -> bool {
        let message = transcript::audit_head(seal.last_sequence, seal.at_millis, &seal.head.0);
        let sealer = self.0.get(&seal.issuer);
        sealer.is_some_and(|sealer| sealer.public_key().verify(&message, &seal.signature).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
        SerialNumber,
    };
    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
    };

    use super::*;
    use crate::{audit::Head, identity::KeyFingerprint};

    fn authority(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(SerialNumber::from_slice(&[1; 16]));
        params.use_authority_key_identifier_extension = true;
        params.not_after = rcgen::date_time_ymd(2040, 1, 1);
        params
    }

    fn seal(key: &KeyPair) -> Seal {
        let issuer = IssuerId::of(&KeyFingerprint::of(&key.subject_public_key_info()));
        let message = transcript::audit_head(7, 9, &[5; 32]);
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.serialized_der(), &random).unwrap();
        let signature = pair.sign(&random, &message).unwrap().as_ref().to_vec();
        Seal { first_sequence: 1, last_sequence: 7, head: Head([5; 32]), at_millis: 9, signature, issuer }
    }

    #[test]
    fn only_a_ca_that_a_control_root_has_signed_may_seal() {
        let (root_key, key, own_key) = (KeyPair::generate(), KeyPair::generate(), KeyPair::generate());
        let (root_key, key, own_key) = (root_key.unwrap(), key.unwrap(), own_key.unwrap());
        let root = authority("root").self_signed(&root_key).unwrap();
        let honest = authority("control").signed_by(&key, &Issuer::from_params(&authority("root"), &root_key)).unwrap();
        let forged = authority("control").self_signed(&own_key).unwrap();
        let claimed = [root.der().as_ref(), honest.der().as_ref(), forged.der().as_ref(), b"garbage"];
        let sealers = Sealers::signed_by([root.der().as_ref()].into_iter(), claimed.into_iter());

        assert!(sealers.have_signed(&seal(&key)));
        assert!(!sealers.have_signed(&seal(&own_key)));
        assert!(!sealers.have_signed(&seal(&root_key)));
        assert!(!sealers.have_signed(&Seal { last_sequence: 8, ..seal(&key) }));
        assert!(!sealers.have_signed(&Seal { issuer: seal(&key).issuer, ..seal(&own_key) }));
    }
}
