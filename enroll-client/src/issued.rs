//! The check of every `Issued`, from enrollment and renewal alike: our own ID, our own key, a chain up to roots that
//! a control root which we trust already has signed. Pure.

use fleetca_proto::v1;

use crate::{
    certificate::{Certificate, CertificateError, verify_client_chain},
    identity::{Id, Kind, Role, SpiffeId, TrustDomain},
    renewal::Window,
    trust::{Roots, TrustBundle, TrustError},
    wall_time::WallTime,
};

/// Why an answer that says "issued" is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssuedError {
    /// No certificate in it.
    #[error("the server sent no certificate")]
    Empty,
    /// A certificate in it that cannot be read or does not verify.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Its trust bundle is not taken.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A certificate for somebody else.
    #[error("the server sent a certificate for {0}, which is not us")]
    NotOurs(SpiffeId),
    /// A certificate for another key.
    #[error("the server sent a certificate for another key")]
    OtherKey,
}

/// What an answer must fit.
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    /// The environment.
    pub trust_domain: &'a TrustDomain,
    /// Whom the certificate is for.
    pub kind: Kind,
    /// Its ID, unless the evidence alone names it.
    pub id: Option<&'a Id>,
    /// The CSR's key, a SubjectPublicKeyInfo in DER.
    pub spki: &'a [u8],
    /// Control roots that are trusted already.
    pub trusted: &'a Roots,
    /// The sequence of the trust bundle that is kept, or 0.
    pub sequence: u64,
    /// The roots of devices that are kept of it. An answer may leave the bundle out, where both are there.
    pub device_roots: Option<&'a Roots>,
}

/// An answer that fits.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The leaf, then its issuing CA.
    pub chain: Vec<Certificate>,
    /// The ID that the leaf carries.
    pub id: Id,
    /// The sequence of the trust bundle from now on.
    pub trust_sequence: u64,
    /// Its roots of server, operators and gateways.
    pub control_roots: Roots,
    /// Its roots of devices.
    pub device_roots: Roots,
    /// When to renew.
    pub window: Window,
    /// The certificate is in force only once it is confirmed.
    pub confirm_required: bool,
}

impl Issued {
    /// Checks an answer. The leaf's dates are the CA's business: `now` is moved into its validity, because a device's
    /// clock may be off.
    pub fn verify(wire: &v1::Issued, expected: &Expected<'_>, now: WallTime) -> Result<Self, IssuedError> {
        let chain: Vec<_> = wire.chain.iter().map(|der| Certificate::parse(der)).collect::<Result<_, _>>()?;
        let leaf = chain.first().ok_or(IssuedError::Empty)?;
        let (trust_sequence, control_roots, device_roots) = match (&wire.trust_bundle, expected.device_roots) {
            (Some(signed), _) => {
                let bundle = TrustBundle::verify(signed, expected.trusted, expected.trust_domain, expected.sequence)?;
                (bundle.sequence, bundle.control_roots, bundle.device_roots)
            }
            (None, Some(kept)) => (expected.sequence, expected.trusted.clone(), kept.clone()),
            (None, None) => return Err(TrustError::Malformed.into()),
        };
        let id = own_id(leaf, expected)?;
        check_chain(&chain, expected.kind, &control_roots, &device_roots, now)?;
        let window = wire.renewal_window.as_ref().and_then(Window::from_wire);
        let window = window.unwrap_or_else(|| Window::of_validity(leaf.not_before(), leaf.not_after()));
        Ok(Self {
            id,
            trust_sequence,
            control_roots,
            device_roots,
            window,
            confirm_required: wire.confirm_required,
            chain,
        })
    }
}

/// Verifies a client's chain under the roots of its own hierarchy, at `now` moved into the leaf's validity.
pub fn check_chain(
    chain: &[Certificate],
    kind: Kind,
    control_roots: &Roots,
    device_roots: &Roots,
    now: WallTime,
) -> Result<(), CertificateError> {
    let leaf = chain.first().ok_or(CertificateError::Malformed)?;
    let roots = match kind {
        Kind::Device => device_roots,
        Kind::Gateway | Kind::Operator => control_roots,
    };
    let last = leaf.not_after().max(leaf.not_before());
    verify_client_chain(chain, roots.certificates(), now.clamp(leaf.not_before(), last))
}

fn own_id(leaf: &Certificate, expected: &Expected<'_>) -> Result<Id, IssuedError> {
    let found = leaf.spiffe_id()?;
    let ours = found.trust_domain == *expected.trust_domain
        && found.role == Role::Client(expected.kind)
        && expected.id.is_none_or(|id| *id == found.id);
    if !ours {
        return Err(IssuedError::NotOurs(found));
    }
    if leaf.spki() != expected.spki {
        return Err(IssuedError::OtherKey);
    }
    Ok(found.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        keys::FileKey,
        test_pki::{Ca, House, now},
    };

    struct Asked {
        house: House,
        key: FileKey,
        kept: Option<Roots>,
        trust_domain: TrustDomain,
        id: Id,
    }

    impl Asked {
        fn new() -> Self {
            Self {
                house: House::new(),
                key: FileKey::generate().unwrap(),
                kept: None,
                trust_domain: "fleet.example".parse().unwrap(),
                id: "pump-7".parse().unwrap(),
            }
        }

        fn verify(&self, wire: &v1::Issued) -> Result<Issued, IssuedError> {
            let expected = Expected {
                trust_domain: &self.trust_domain,
                kind: Kind::Device,
                id: Some(&self.id),
                spki: &self.key.spki(),
                trusted: &self.house.control_root.roots(),
                sequence: 3,
                device_roots: self.kept.as_ref(),
            };
            Issued::verify(wire, &expected, now())
        }
    }

    const OURS: &str = "spiffe://fleet.example/device/pump-7";

    #[test]
    fn a_certificate_for_our_id_and_key_is_taken() {
        let asked = Asked::new();
        let issued = asked.verify(&asked.house.issued(&asked.key, OURS)).unwrap();
        assert_eq!(issued.id, asked.id);
        let leaf = &issued.chain[0];
        assert_eq!(issued.window, Window::of_validity(leaf.not_before(), leaf.not_after()));
    }

    #[test]
    fn a_clock_that_is_years_off_does_not_stop_an_enrollment() {
        let asked = Asked::new();
        let mut wire = asked.house.issued(&asked.key, OURS);
        wire.confirm_required = true;
        let expected = Expected {
            trust_domain: &asked.trust_domain,
            kind: Kind::Device,
            id: None,
            spki: &asked.key.spki(),
            trusted: &asked.house.control_root.roots(),
            sequence: 0,
            device_roots: None,
        };
        assert!(Issued::verify(&wire, &expected, WallTime::from_unix(0)).unwrap().confirm_required);
    }

    #[test]
    fn somebody_elses_certificate_is_not_taken() {
        let asked = Asked::new();
        for other in [
            "spiffe://fleet.example/device/pump-8",
            "spiffe://fleet.example/operator/pump-7",
            "spiffe://other.example/device/pump-7",
        ] {
            let refused = asked.verify(&asked.house.issued(&asked.key, other));
            assert!(matches!(refused, Err(IssuedError::NotOurs(id)) if id.to_string() == other));
        }
    }

    #[test]
    fn a_certificate_for_another_key_is_not_taken() {
        let asked = Asked::new();
        let refused = asked.verify(&asked.house.issued(&FileKey::generate().unwrap(), OURS));
        assert!(matches!(refused, Err(IssuedError::OtherKey)));
    }

    #[test]
    fn a_devices_certificate_from_the_control_hierarchy_is_not_taken() {
        let asked = Asked::new();
        let mut wire = asked.house.issued(&asked.key, OURS);
        let control_ca = &asked.house.control_ca;
        wire.chain =
            vec![control_ca.leaf(&asked.key, &[OURS], &[]).der().to_vec(), control_ca.certificate.der().to_vec()];
        assert!(matches!(asked.verify(&wire), Err(IssuedError::Certificate(CertificateError::Chain(_)))));
    }

    #[test]
    fn a_bundle_that_a_stranger_signed_is_not_taken() {
        let asked = Asked::new();
        let mut wire = asked.house.issued(&asked.key, OURS);
        wire.trust_bundle = Some(asked.house.bundle(9, &Ca::root("stranger")));
        assert!(matches!(asked.verify(&wire), Err(IssuedError::Trust(TrustError::NotSigned))));
    }

    #[test]
    fn an_older_bundle_is_not_taken() {
        let asked = Asked::new();
        let mut wire = asked.house.issued(&asked.key, OURS);
        wire.trust_bundle = Some(asked.house.bundle(2, &asked.house.control_root));
        let refused = asked.verify(&wire);
        assert!(matches!(refused, Err(IssuedError::Trust(TrustError::Older { found: 2, kept: 3 }))));
    }

    #[test]
    fn an_answer_without_a_bundle_is_judged_by_the_roots_that_are_kept() {
        let mut asked = Asked::new();
        let mut wire = asked.house.issued(&asked.key, OURS);
        wire.trust_bundle = None;
        assert!(matches!(asked.verify(&wire), Err(IssuedError::Trust(TrustError::Malformed))));
        let house = asked.house.device_root.roots();
        asked.kept = Some(house.clone());
        let issued = asked.verify(&wire).unwrap();
        assert_eq!((issued.trust_sequence, issued.device_roots.to_pem()), (3, house.to_pem()));
        assert_eq!(issued.control_roots.to_pem(), asked.house.control_root.roots().to_pem());
        asked.kept = Some(Ca::root("stranger").roots());
        assert!(matches!(asked.verify(&wire), Err(IssuedError::Certificate(CertificateError::Chain(_)))));
    }

    #[test]
    fn an_answer_without_certificate_or_with_garbage_is_not_taken() {
        let asked = Asked::new();
        let mut wire = asked.house.issued(&asked.key, OURS);
        wire.chain.clear();
        assert!(matches!(asked.verify(&wire), Err(IssuedError::Empty)));
        wire.chain = vec![vec![0x30, 0x03, 0x02]];
        assert!(matches!(asked.verify(&wire), Err(IssuedError::Certificate(CertificateError::Malformed))));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_refused_and_never_panic(leaf: Vec<u8>, bundle: Vec<u8>, signature: Vec<u8>) {
            let asked = Asked::new();
            let mut wire = asked.house.issued(&asked.key, OURS);
            wire.chain[0] = leaf;
            proptest::prop_assert!(asked.verify(&wire).is_err());
            let mut wire = asked.house.issued(&asked.key, OURS);
            let signed = wire.trust_bundle.as_mut().unwrap();
            signed.bundle = bundle;
            signed.signatures[0].signature = signature;
            proptest::prop_assert!(asked.verify(&wire).is_err());
        }

        #[test]
        fn a_leaf_with_any_changed_byte_is_refused(at in 0usize..10_000, flip in 1u8..=255) {
            let asked = Asked::new();
            let mut wire = asked.house.issued(&asked.key, OURS);
            let at = at % wire.chain[0].len();
            wire.chain[0][at] ^= flip;
            proptest::prop_assert!(asked.verify(&wire).is_err());
        }
    }
}
