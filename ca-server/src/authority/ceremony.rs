//! Ceremonies: what the roots sign about issuing CAs, wherever their keys are. Makes everything in memory; the caller
//! records it.

use std::sync::Arc;

use fleetca_proto::{transcript, v1};
use prost::Message;
use ring::rand::SystemRandom;

use super::{Refusal, random};
use crate::{
    identity::{IssuerId, SerialNumber, Timestamp},
    pki::{
        CA_VALIDITY, CaRequest, CaRole, IssuanceError, Issuer, IssuerCertificate, IssuerError, LocationError,
        Locations, PublicKey,
    },
    signer::{Signer, SignerError},
    store::{Domain, IssuerRow, TrustBundleRow},
};

/// Why a ceremony came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CeremonyError {
    /// A certificate was not made.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A certificate that can't be read, or is not signed by its root.
    #[error(transparent)]
    Certificate(#[from] IssuerError),
    /// The public URL.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The key.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// An issuing CA can't be taken in.
    #[error(transparent)]
    Issuer(#[from] IssuanceError),
    /// The device root's key is needed, and not at hand.
    #[error("the key of the device root is not at hand")]
    NoDeviceRoot,
    /// The trust bundle in force is not as this root has signed it.
    #[error("the trust bundle in force is not one that this control root has signed for this trust domain")]
    TrustBundle,
}

/// A root and its key.
pub struct RootKey {
    /// The root.
    pub certificate: IssuerCertificate,
    /// Its key.
    pub signer: Arc<dyn Signer>,
}

/// Both roots.
pub struct Roots {
    /// Signs the trust bundle.
    pub control: RootKey,
    /// Signs issuing CAs, where its key is at hand.
    pub device: Option<RootKey>,
}

impl RootKey {
    /// The certificate (DER) of a CA below this root, for this key.
    pub fn sign_authority(
        &self,
        domain: &Domain,
        role: CaRole,
        key: &PublicKey,
        (not_before, now): (Timestamp, Timestamp),
    ) -> Result<Vec<u8>, CeremonyError> {
        let locations = Locations::new(&domain.public_url)?;
        let root = Issuer::new(role.root(), self.certificate.clone(), domain.trust_domain.clone(), locations);
        let root = root.map_err(Refusal::from)?;
        let serial = SerialNumber::new(now, random(&SystemRandom::new())?);
        let request = CaRequest { role, key, serial, not_before, not_after: now + CA_VALIDITY };
        let prepared = root.prepare_authority(&request).map_err(Refusal::from)?;
        let signature = self.signer.sign(prepared.tbs())?;
        Ok(prepared.assemble(&signature).der)
    }

    /// A trust bundle, signed.
    pub fn sign_bundle(&self, bundle: v1::TrustBundle) -> Result<TrustBundleRow, CeremonyError> {
        let sequence = bundle.sequence;
        let bundle = bundle.encode_to_vec();
        let signature = self.signer.sign(&transcript::trust_bundle(&bundle))?;
        let signer = self.certificate.public_key().fingerprint().as_bytes().to_vec();
        let signatures = vec![v1::BundleSignature { root_spki_sha256: signer, signature }];
        Ok(TrustBundleRow { sequence, signed: v1::SignedTrustBundle { bundle, signatures }.encode_to_vec() })
    }

    /// What this root has signed as the trust bundle in force.
    fn read_bundle(&self, domain: &Domain, row: &TrustBundleRow) -> Result<v1::TrustBundle, CeremonyError> {
        let refused = |_| CeremonyError::TrustBundle;
        let signed = v1::SignedTrustBundle::decode(row.signed.as_slice()).map_err(refused)?;
        let (message, key) = (transcript::trust_bundle(&signed.bundle), self.certificate.public_key());
        let own = key.fingerprint();
        let is_ours = signed
            .signatures
            .iter()
            .any(|one| one.root_spki_sha256 == own.as_bytes() && key.verify(&message, &one.signature).is_ok());
        let bundle = v1::TrustBundle::decode(signed.bundle.as_slice()).map_err(refused)?;
        let fits = bundle.sequence == row.sequence && bundle.trust_domain == domain.trust_domain.as_str();
        if is_ours && fits { Ok(bundle) } else { Err(CeremonyError::TrustBundle) }
    }

    /// The trust bundle that follows on this one, with one issuing CA more, or one less.
    pub fn next_bundle(
        &self,
        domain: &Domain,
        row: &TrustBundleRow,
        (with, without): (Option<&[u8]>, Option<IssuerId>),
        now: Timestamp,
    ) -> Result<TrustBundleRow, CeremonyError> {
        let mut bundle = self.read_bundle(domain, row)?;
        let stays = |der: &Vec<u8>| IssuerCertificate::parse(der).ok().map(|issuer| issuer.id()) != without;
        bundle.device_issuers.retain(stays);
        bundle.device_issuers.extend(with.map(<[u8]>::to_vec));
        // After every one of a past that was lost.
        bundle.sequence = (row.sequence + 1).max(u64::try_from(now.millis()).unwrap_or(0));
        self.sign_bundle(bundle)
    }
}

impl Roots {
    /// A new issuing CA of devices for this key, and the trust bundle that names it.
    pub fn create_issuer(
        &self,
        domain: &Domain,
        bundle: &TrustBundleRow,
        key: &PublicKey,
        (not_before, now): (Timestamp, Timestamp),
    ) -> Result<(IssuerRow, TrustBundleRow), CeremonyError> {
        let root = self.device.as_ref().ok_or(CeremonyError::NoDeviceRoot)?;
        let der = root.sign_authority(domain, CaRole::DeviceIssuing, key, (not_before, now))?;
        let certificate = IssuerCertificate::parse(&der)?;
        certificate.verify(&root.certificate)?;
        self.adopt_issuer(domain, bundle, (&root.certificate, certificate), now)
    }

    /// An issuing CA of devices that the device root has signed, here or elsewhere, and that was judged; and the trust bundle
    /// that names it.
    pub fn adopt_issuer(
        &self,
        domain: &Domain,
        bundle: &TrustBundleRow,
        (root, certificate): (&IssuerCertificate, IssuerCertificate),
        now: Timestamp,
    ) -> Result<(IssuerRow, TrustBundleRow), CeremonyError> {
        let bundle = self.control.next_bundle(domain, bundle, (Some(certificate.der()), None), now)?;
        let row = IssuerRow::new(certificate.id(), CaRole::DeviceIssuing, certificate.der().to_vec(), now);
        // What a start would refuse is not recorded.
        Issuer::of_devices(root, certificate, domain.trust_domain.clone(), Locations::new(&domain.public_url)?)?;
        Ok((row, bundle))
    }
}
