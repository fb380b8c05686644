//! Steps 2 to 4: the challenge, the evidence, and the fresh proof that the CSR's key is the caller's.

use fleetca_proto::{transcript, v1};
use prost::Message;

use super::{
    EnrollmentRequest, Trail, factory, previous, registered_key, request::Evidence, token, tpm, unknown::Newcomer,
};
use crate::{
    attestation::{AttestationError, Claims, registered_key::Used, tpm::Secret},
    authority::{Authority, Refusal, Refused},
    inventory::fleet::Policy,
    pki::{Csr, PublicKey},
};

/// A challenge that was made for one stream, with what the server keeps of it.
#[derive(Debug)]
pub struct Challenge {
    bytes: Vec<u8>,
    /// What a TPM has to unwrap.
    secret: Option<Secret>,
}

impl Challenge {
    /// One without a part of the method's own, as it travels.
    pub fn plain(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), secret: None }
    }

    /// A serialized `Challenge`: what the proofs sign the hash of.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// What the evidence says of the CSR's key.
#[derive(Debug)]
pub(super) enum CsrKey {
    /// It is not the evidence's own, whose SubjectPublicKeyInfo ends with these octets.
    OtherThan(Vec<u8>),
    /// It is this one (SubjectPublicKeyInfo), which the evidence vouches for.
    This(Vec<u8>),
}

/// Evidence that holds.
#[derive(Debug)]
pub(super) struct Verified {
    pub claims: Claims,
    pub csr_key: CsrKey,
    /// What works once only.
    pub assertion: Option<Used>,
    /// The policy of the known device's fleet that it was held against.
    pub judged: Option<Policy>,
    /// It is of a device that nobody registered.
    pub newcomer: Option<Newcomer>,
}

/// Everything that is proven about an enrollment when the decision is made.
#[derive(Debug)]
pub(super) struct Proven {
    pub claims: Claims,
    pub key: PublicKey,
    /// What is used up with it.
    pub assertion: Option<Used>,
    /// The policy of the known device's fleet that the evidence was held against.
    pub judged: Option<Policy>,
    /// It is of a device that nobody had registered.
    pub newcomer: Option<Newcomer>,
}

impl Authority {
    /// Step 2: a challenge that nobody has seen before, and nobody will again.
    pub async fn challenge(&self, request: &EnrollmentRequest) -> Result<Challenge, Refused> {
        self.refuse_restored()?;
        let (tpm, secret) = match request.evidence() {
            Evidence::Tpm(evidence) => {
                let (part, secret) = tpm::challenge(evidence)?;
                (Some(part), Some(secret))
            }
            Evidence::Token(_) | Evidence::Factory(_) | Evidence::RegisteredKey(_) | Evidence::Previous(_) => {
                (None, None)
            }
        };
        let nonce = self.random::<32>()?.to_vec();
        Ok(Challenge { bytes: v1::Challenge { nonce, tpm }.encode_to_vec(), secret })
    }

    /// Steps 3 and 4.
    pub(super) async fn verify_enrollment(
        &self,
        request: &EnrollmentRequest,
        challenge: &Challenge,
        proof: &v1::Proof,
        trail: &mut Trail,
    ) -> Result<Proven, Refusal> {
        let (challenge, secret) = (challenge.bytes(), challenge.secret.as_ref());
        let Verified { claims, csr_key, assertion, judged, newcomer } = match request.evidence() {
            Evidence::Token(id) => token::verify(self, request, id, challenge, proof, trail).await?,
            Evidence::Factory(chain) => factory::verify(self, request, chain, challenge, proof, trail).await?,
            Evidence::RegisteredKey(id) => registered_key::verify(self, request, id, challenge, proof, trail).await?,
            Evidence::Tpm(evidence) => tpm::verify(self, request, evidence, (challenge, secret), proof, trail).await?,
            Evidence::Previous(certificate) => {
                previous::verify(self, request, certificate, challenge, proof, trail).await?
            }
        };
        let key = Csr::parse(request.csr())?.into_public_key();
        match csr_key {
            CsrKey::OtherThan(evidence) if key.spki_der().ends_with(&evidence) => {
                return Err(Refusal::Attestation(AttestationError::SameKey));
            }
            CsrKey::This(certified) if key.spki_der() != certified => {
                return Err(Refusal::Attestation(AttestationError::OtherKey));
            }
            CsrKey::OtherThan(_) | CsrKey::This(_) => {}
        }
        let method = request.evidence().method().as_str();
        let signed = transcript::enrollment(method, transcript::Role::Subject, request.start(), challenge);
        key.verify(&signed, &proof.subject_signature).map_err(|_| Refusal::PossessionFailed)?;
        Ok(Proven { claims, key, assertion, judged, newcomer })
    }
}
