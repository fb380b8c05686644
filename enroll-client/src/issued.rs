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
}

/// An answer that fits.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The leaf, then its issuing CA.
    pub chain: Vec<Certificate>,
    /// The ID that the leaf carries.
    pub id: Id,
    /// The roots from now on.
    pub bundle: TrustBundle,
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
        let signed = wire.trust_bundle.as_ref().ok_or(TrustError::Malformed)?;
        let bundle = TrustBundle::verify(signed, expected.trusted, expected.trust_domain, expected.sequence)?;
        let id = own_id(leaf, expected)?;
        check_chain(&chain, expected.kind, &bundle.control_roots, &bundle.device_roots, now)?;
        let window = wire.renewal_window.as_ref().and_then(Window::from_wire);
        let window = window.unwrap_or_else(|| Window::of_validity(leaf.not_before(), leaf.not_after()));
        Ok(Self { id, bundle, window, confirm_required: wire.confirm_required, chain })
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
