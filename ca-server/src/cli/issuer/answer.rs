//! What a root that is elsewhere has answered to `issuer request`: judged, and taken in.

use std::path::Path;

use super::super::{CommandError, foreign, local, requests::Request};
use super::ceremony::Ceremony;
use super::create::{forget_key, record};
use crate::{
    identity::IssuerId,
    inventory::partition::Standing,
    pki::{IssuerCertificate, ParsedCrl},
    signer::{Signer, SoftwareSigner},
    store::IssuerRow,
};

/// A certificate that the device root has signed, and the request that it answers.
pub struct Answer<'a> {
    path: &'a Path,
    certificate: IssuerCertificate,
    /// Whose key it has, if that still waits.
    pub request: Request,
}

impl<'a> Answer<'a> {
    /// Reads it.
    pub fn read(ceremony: &Ceremony, path: &'a Path) -> Result<Self, CommandError> {
        let certificate = foreign::certificate(path)?;
        let request = Request::of(&ceremony.folder.requests(), certificate.public_key());
        Ok(Self { path, certificate, request })
    }

    /// The same, where it was taken in before, in the place of the same one. Refused where that signs no more.
    pub fn known(
        &self,
        ceremony: &Ceremony,
        before: Option<&IssuerRow>,
    ) -> Result<Option<IssuerCertificate>, CommandError> {
        let Some(known) = ceremony.issuers.certificate(&self.certificate.id()) else { return Ok(None) };
        let places = ceremony.issuers.places();
        let Some(place) = places.iter().find(|place| place.id == known.id()) else { return Ok(None) };
        let is_same = known.der() == self.certificate.der() && place.replaces == before.map(|before| before.id);
        match place.standing {
            _ if !is_same => Ok(None),
            Standing::Active => Ok(Some(known.clone())),
            standing => Err(foreign::wrong(
                self.path,
                &format!(
                    "it was taken in before, as {}, which is {} by now, and signs no more: ask for another with `ca-server issuer \
                     request`",
                    place.id,
                    standing.as_str()
                ),
            )),
        }
    }

    /// Judges it, puts its key to the others, and records it.
    pub async fn take_in(
        &self,
        ceremony: &Ceremony,
        before: Option<&IssuerRow>,
    ) -> Result<IssuerCertificate, CommandError> {
        let Some(signer) = self.request.load(ceremony.passphrase.as_ref())? else {
            let why = format!("no request waits for it: {} is not there", self.request.key().display());
            return Err(foreign::wrong(self.path, &why));
        };
        self.judge(ceremony, &signer).await?;
        let id = self.certificate.id();
        let key = ceremony.folder.issuer_key(id);
        put_key(ceremony, &signer, &key)?;
        let taken = async {
            let bundle = ceremony.store.trust_bundle().await.map_err(local)?;
            let parts = (&ceremony.device_root, self.certificate.clone());
            let made = ceremony.roots.adopt_issuer(&ceremony.domain, &bundle, parts, ceremony.now);
            record(ceremony, before, foreign::judged(self.path, made)?).await
        };
        match taken.await {
            Ok(certificate) => Ok(certificate),
            Err(error) => {
                forget_key(ceremony, id, &key).await;
                Err(error)
            }
        }
    }

    async fn judge(&self, ceremony: &Ceremony, signer: &SoftwareSigner) -> Result<(), CommandError> {
        let root = &ceremony.device_root;
        foreign::issuing(self.path, root, signer.public_key(), ceremony.now)?;
        // Names and key identifiers are by what verifiers tell issuers and their CRLs apart.
        let is_taken = |other: &IssuerCertificate| {
            let (name, other_name) = (self.certificate.subject_text(), other.subject_text());
            other.id() == self.certificate.id() || other_name.eq_ignore_ascii_case(name)
        };
        if let Some((id, _, other)) = ceremony.issuers.certificates().find(|(_, _, other)| is_taken(other)) {
            let why = format!("its name or its key identifier is that of {id}, {}, already", other.subject_text());
            return Err(foreign::wrong(self.path, &why));
        }
        let head = ceremony.store.crl_head(root.id()).await.map_err(local)?;
        if let Some(der) = head.and_then(|head| head.der) {
            let crl = ParsedCrl::parse_root(der.into()).map_err(local)?;
            foreign::lets_live(self.path, &crl, &self.certificate)?;
        }
        Ok(())
    }
}

/// Puts a key to those that sign, if it is not there since an attempt that was cut short.
fn put_key(ceremony: &Ceremony, signer: &SoftwareSigner, path: &Path) -> Result<(), CommandError> {
    if !path.exists() {
        return signer.save(path, ceremony.passphrase.as_ref()).map_err(local);
    }
    let there = SoftwareSigner::load(path, ceremony.passphrase.as_ref()).map_err(local)?;
    let id = |signer: &SoftwareSigner| IssuerId::of(&signer.public_key().fingerprint());
    if id(&there) == id(signer) { Ok(()) } else { Err(foreign::wrong(path, "another key is there already")) }
}
