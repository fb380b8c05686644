//! Who may be our server: a chain up to the control root, the name that was dialled, and exactly one SPIFFE ID, of a
//! server, in the trust domain that we belong to.

use std::{fmt, io, sync::Arc};

use rustls::{
    CertificateError as TlsCertificateError, DigitallySignedStruct, Error as TlsError, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use crate::{
    certificate::{Certificate, CertificateError, sha256},
    identity::{Role, SpiffeId, TrustDomain},
    trust::Trust,
};

/// Why a server is not trusted.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Distrust {
    /// None of the certificates that it sent has the pinned fingerprint.
    #[error("none of the roots that it sent has the fingerprint given by --root-fingerprint")]
    NoSuchRoot,
    /// Its certificate does not say that it is a server of this CA.
    #[error("its certificate names {0}, which is no server of this CA")]
    NotAServer(String),
    /// It serves another environment.
    #[error("it serves trust domain {found}, and we belong to {expected}")]
    TrustDomain {
        /// The server's.
        found: TrustDomain,
        /// Ours.
        expected: TrustDomain,
    },
    /// Its certificate's dates do not fit this machine's clock.
    #[error("its certificate is not valid now, by the clock of this machine ({0})")]
    Dates(String),
    /// Its certificate is for another name.
    #[error(
        "its certificate is for {}, and not for {dialled}: call it by one of these, or give it that name (`names` in its \
         settings)",
        names.join(", ")
    )]
    Name {
        /// What it was called.
        dialled: String,
        /// What it is called.
        names: Vec<String>,
    },
    /// Its chain does not lead to the control root that we trust, or is broken.
    #[error("its certificate does not come from the control root that is trusted here ({0})")]
    Chain(String),
}

impl Distrust {
    /// What a failed handshake says about trust, if anything.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        match error.get_ref()?.downcast_ref::<TlsError>()? {
            TlsError::InvalidCertificate(TlsCertificateError::Other(OtherError(inner))) => {
                Some(inner.downcast_ref::<Distrust>().cloned().unwrap_or_else(|| Distrust::Chain(inner.to_string())))
            }
            TlsError::InvalidCertificate(reason) => Some(Self::of_certificate(reason)),
            _ => None,
        }
    }

    fn of_certificate(reason: &TlsCertificateError) -> Self {
        match reason {
            TlsCertificateError::Expired
            | TlsCertificateError::ExpiredContext { .. }
            | TlsCertificateError::NotValidYet
            | TlsCertificateError::NotValidYetContext { .. } => Distrust::Dates(reason.to_string()),
            _ => Distrust::Chain(reason.to_string()),
        }
    }
}

impl From<Distrust> for TlsError {
    fn from(reason: Distrust) -> Self {
        TlsError::InvalidCertificate(TlsCertificateError::Other(OtherError(Arc::new(reason))))
    }
}

/// Finds the pinned root among the certificates that a server sent after its own.
pub(super) fn root_by_fingerprint<'a, 'b>(
    chain: &'a [CertificateDer<'b>],
    fingerprint: &[u8; 32],
) -> Option<&'a CertificateDer<'b>> {
    chain.iter().find(|certificate| sha256(certificate) == *fingerprint)
}

/// Tells a certificate for other names from one that can't be judged.
fn another_name(error: TlsError, end_entity: &CertificateDer<'_>, dialled: &ServerName<'_>) -> TlsError {
    match error {
        TlsError::InvalidCertificate(
            TlsCertificateError::NotValidForName | TlsCertificateError::NotValidForNameContext { .. },
        ) => {
            let names = Certificate::parse(end_entity).map(|leaf| leaf.hosts()).unwrap_or_default();
            Distrust::Name { dialled: dialled.to_str().into_owned(), names }.into()
        }
        error => error,
    }
}

pub(super) struct ControlVerifier {
    trust: Trust,
    trust_domain: Option<TrustDomain>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ControlVerifier {
    pub(super) fn new(trust: Trust, trust_domain: Option<TrustDomain>, provider: &CryptoProvider) -> Self {
        Self { trust, trust_domain, algorithms: provider.signature_verification_algorithms }
    }

    fn anchors(&self, intermediates: &[CertificateDer<'_>]) -> Result<RootCertStore, TlsError> {
        let mut store = RootCertStore::empty();
        match &self.trust {
            Trust::Roots(roots) => {
                roots.certificates().iter().try_for_each(|root| store.add(root.der().clone()))?;
            }
            Trust::Fingerprint(fingerprint) => {
                let root = root_by_fingerprint(intermediates, fingerprint).ok_or(Distrust::NoSuchRoot)?;
                store.add(root.clone().into_owned())?;
            }
        }
        Ok(store)
    }

    fn check_identity(&self, end_entity: &CertificateDer<'_>) -> Result<(), Distrust> {
        let found = Certificate::parse(end_entity).and_then(|leaf| leaf.spiffe_id());
        let found: SpiffeId = found.map_err(|error: CertificateError| Distrust::NotAServer(error.to_string()))?;
        if found.role != Role::Server {
            return Err(Distrust::NotAServer(found.to_string()));
        }
        match &self.trust_domain {
            Some(expected) if *expected != found.trust_domain => {
                Err(Distrust::TrustDomain { found: found.trust_domain, expected: expected.clone() })
            }
            _ => Ok(()),
        }
    }
}

impl ServerCertVerifier for ControlVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let anchors = self.anchors(intermediates)?;
        verify_server_cert_signed_by_trust_anchor(&certificate, &anchors, intermediates, now, self.algorithms.all)?;
        verify_server_name(&certificate, server_name).map_err(|error| another_name(error, end_entity, server_name))?;
        self.check_identity(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl fmt::Debug for ControlVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlVerifier").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        keys::FileKey,
        test_pki::{Ca, House, now},
        trust::TrustError,
    };

    const SERVER: &str = "spiffe://fleet.example/server/one";

    fn verify(house: &House, trust: Trust, leaf: &Certificate, name: &str) -> Result<(), TlsError> {
        let provider = rustls::crypto::ring::default_provider();
        let ours = "fleet.example".parse().unwrap();
        let chain = [house.control_ca.certificate.der().clone(), house.control_root.certificate.der().clone()];
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now().unix()));
        ControlVerifier::new(trust, Some(ours), &provider)
            .verify_server_cert(leaf.der(), &chain, &ServerName::try_from(name.to_owned()).unwrap(), &[], time)
            .map(|_| ())
    }

    fn reason(result: Result<(), TlsError>) -> Distrust {
        Distrust::of(&io::Error::other(result.unwrap_err())).unwrap()
    }

    fn leaf(house: &House, uris: &[&str]) -> Certificate {
        house.control_ca.leaf(&FileKey::generate().unwrap(), uris, &["ca.example"])
    }

    #[test]
    fn a_server_is_accepted_under_its_root_or_its_roots_fingerprint() {
        let house = House::new();
        let leaf = leaf(&house, &[SERVER]);
        let pinned = Trust::Fingerprint(house.control_root.certificate.fingerprint());
        verify(&house, Trust::Roots(house.control_root.roots()), &leaf, "ca.example").unwrap();
        verify(&house, pinned, &leaf, "ca.example").unwrap();
    }

    #[test]
    fn another_root_or_fingerprint_is_refused() {
        let house = House::new();
        let leaf = leaf(&house, &[SERVER]);
        let other = Trust::Roots(Ca::root("control root").roots());
        assert!(matches!(reason(verify(&house, other, &leaf, "ca.example")), Distrust::Chain(_)));
        let device = Trust::Roots(house.device_root.roots());
        assert!(matches!(reason(verify(&house, device, &leaf, "ca.example")), Distrust::Chain(_)));
        let pinned = Trust::Fingerprint([7; 32]);
        assert!(matches!(reason(verify(&house, pinned, &leaf, "ca.example")), Distrust::NoSuchRoot));
    }

    #[test]
    fn another_name_is_refused() {
        let house = House::new();
        let trust = Trust::Roots(house.control_root.roots());
        let refused = verify(&house, trust, &leaf(&house, &[SERVER]), "evil.example");
        let text = reason(refused).to_string();
        assert!(text.starts_with("its certificate is for ca.example, and not for evil.example: "), "{text}");
    }

    #[test]
    fn only_one_spiffe_id_of_a_server_in_our_trust_domain_will_do() {
        let house = House::new();
        let refusal = |uris: &[&str]| {
            let trust = Trust::Roots(house.control_root.roots());
            reason(verify(&house, trust, &leaf(&house, uris), "ca.example"))
        };
        assert!(matches!(refusal(&[]), Distrust::NotAServer(_)));
        assert!(matches!(refusal(&[SERVER, SERVER]), Distrust::NotAServer(_)));
        assert!(matches!(refusal(&["https://ca.example"]), Distrust::NotAServer(_)));
        assert!(matches!(refusal(&["spiffe://fleet.example/operator/ana"]), Distrust::NotAServer(_)));
        assert!(matches!(refusal(&["spiffe://other.example/server/one"]), Distrust::TrustDomain { .. }));
    }

    #[test]
    fn a_fingerprint_of_what_is_no_root_pins_nothing() {
        let house = House::new();
        let chain = [house.control_ca.certificate.der().clone()];
        let found = root_by_fingerprint(&chain, &house.control_ca.certificate.fingerprint()).unwrap();
        assert!(matches!(crate::trust::Roots::from_ders(&[found]), Err(TrustError::NotARoot(_))));
    }
}
