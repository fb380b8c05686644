//! CRLs over mTLS, judged by the signed trust bundle of the same server.

use std::{path::Path, time::Duration};

use fleetca_proto::v1::{Bundle, CrlChunk, GetCrlRequest, GetTrustBundleRequest, get_crl_request};
use tokio::time::timeout;
use tonic::Streaming;

use super::{Fetched, Form, SyncError, acknowledge::acknowledge, http::MOST_BYTES, state::State};
use crate::{connect::Connection, credential::Credential, refusal::Refusal, trust::TrustBundle};

const MOST_CRLS: u32 = 10_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// Fetches with the credential in `dir`; once more if the agent has renewed it meanwhile. What is held is acknowledged
/// first: a CA whose past was restored, and that learns of it here, would give out CRLs that lack revocations.
pub(super) async fn fetch(dir: &Path, form: &Form, kept: &State) -> Result<(Connection, Fetched), SyncError> {
    let credential = Credential::load(dir)?;
    let fetched = fetch_with(&credential, form, kept).await;
    if !matches!(fetched, Err(SyncError::Refused(_))) {
        return fetched;
    }
    let now = Credential::load(dir)?;
    if now.leaf().der() == credential.leaf().der() { fetched } else { fetch_with(&now, form, kept).await }
}

async fn fetch_with(credential: &Credential, form: &Form, kept: &State) -> Result<(Connection, Fetched), SyncError> {
    let (connection, bundle) = meet(credential, kept).await?;
    let form = match form {
        Form::Full(issuer) => get_crl_request::Form::Full(issuer.to_string()),
        form => get_crl_request::Form::Bundle(bundle_of(form)),
    };
    let request = GetCrlRequest { form: Some(form) };
    let chunks = connection.revocation().get_crl(request).await.map_err(Refusal::from)?.into_inner();
    let (crls, head_signatures) = assemble(chunks).await?;
    let fetched = Fetched {
        crls,
        head_signatures,
        roots: bundle.device_roots,
        issuers: bundle.device_issuers,
        is_closed: true,
        etag: None,
    };
    Ok((connection, fetched))
}

/// Acknowledges what is held, and learns which issuers there are.
pub(super) async fn meet(credential: &Credential, kept: &State) -> Result<(Connection, TrustBundle), SyncError> {
    let connection = Connection::with_credential(credential).await?;
    acknowledge(&connection, kept).await?;
    let signed = connection.enrollment().get_trust_bundle(GetTrustBundleRequest {}).await.map_err(Refusal::from)?;
    let state = credential.state();
    let bundle = TrustBundle::verify(
        &signed.into_inner(),
        credential.control_roots(),
        &state.trust_domain,
        state.trust_sequence,
    )?;
    Ok((connection, bundle))
}

/// A bundle's form on the wire.
pub(super) fn bundle_of(form: &Form) -> Bundle {
    Bundle { fleet: if let Form::Fleet(name) = form { name.to_string() } else { String::new() } }
}

/// Puts the CRLs together, and the signature that came with each.
async fn assemble(mut chunks: Streaming<CrlChunk>) -> Result<(Vec<Vec<u8>>, Vec<Vec<u8>>), SyncError> {
    let (mut crls, mut signatures): (Vec<Vec<u8>>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
    let (mut total, mut bytes) = (None, 0);
    loop {
        let next = timeout(PATIENCE, chunks.message()).await.map_err(|_| SyncError::TimedOut)?;
        let Some(chunk) = next.map_err(Refusal::from)? else { break };
        let total = *total.get_or_insert(chunk.total);
        bytes += chunk.data.len();
        if total > MOST_CRLS || chunk.index >= total || bytes > MOST_BYTES {
            return Err(SyncError::NotCrls("more than fits"));
        }
        let index = usize::try_from(chunk.index).map_err(|_| SyncError::NotCrls("more than fits"))?;
        if index == crls.len() {
            crls.push(chunk.data);
            signatures.push(chunk.head_signature);
        } else if index + 1 == crls.len() {
            crls[index].extend_from_slice(&chunk.data);
        } else {
            return Err(SyncError::NotCrls("chunks out of order"));
        }
    }
    match total {
        Some(total) if usize::try_from(total) == Ok(crls.len()) => Ok((crls, signatures)),
        _ => Err(SyncError::NotCrls("the answer was cut off")),
    }
}
