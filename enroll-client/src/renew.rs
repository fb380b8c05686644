//! Renewal: the next certificate, asked for with the one in force, under a key that is on disk before it is asked
//! with; under the same key where that is in a TPM.
//!
//! A kill at any moment leaves a working credential: before the swap the old one is current, and the next run asks
//! again with the same key and gets the same answer; after it the new one is, and the next run confirms it first.

use fleetca_proto::v1;

use crate::{
    adoption::{self, New},
    certificate::hex,
    connect::Connection,
    credential::{Credential, LockedFolder, NextKey},
    flow::{FlowError, Observer, Step},
    issued::{Expected, Issued},
    keys::Key,
    refusal::Refusal,
    wall_time::WallTime,
};

/// Renews now, whether it is due or not, and returns the new credential. A confirmation that an earlier run left
/// outstanding is done first, and is then all that is done.
///
/// ```no_run
/// use enroll_client::{credential::LockedFolder, flow::Observer, renew::renew};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = LockedFolder::open("/var/lib/fleetca".as_ref())?;
/// let credential = renew(&folder, Observer::none()).await?;
/// println!("next renewal at {}", credential.state().renew_at);
/// # Ok(()) }
/// ```
pub async fn renew(folder: &LockedFolder, observer: Observer<'_>) -> Result<Credential, FlowError> {
    // Step 1: what an earlier run left.
    if settle(folder, observer).await? {
        return Ok(folder.load()?);
    }

    // Steps 2 and 3: a key that is durable, and the question.
    let credential = folder.load()?;
    let purpose = format!("renew {}", hex(&credential.leaf().fingerprint()));
    let connection = Connection::with_credential(&credential).await?;
    let (next, answer) = match ask(folder, &credential, &purpose, &connection, observer).await {
        // What was issued for this key has been taken away since, by a release: a fresh key is a fresh question.
        Err(FlowError::Refused(refusal)) if refusal.reason.as_deref() == Some("KEY_REUSED") => {
            folder.drop_next_key()?;
            ask(folder, &credential, &purpose, &connection, observer).await?
        }
        answered => answered?,
    };
    observer.reached(Step::Answered);

    // Step 4: take nothing but a certificate of our own.
    let state = credential.state();
    let expected = Expected {
        trust_domain: &state.trust_domain,
        kind: state.kind,
        id: Some(&state.id),
        spki: &next.key.spki(),
        trusted: credential.control_roots(),
        sequence: state.trust_sequence,
        device_roots: Some(credential.device_roots()),
    };
    let issued = Issued::verify(&answer, &expected, WallTime::now())?;

    // Step 5: on disk, current and in force.
    let new = New {
        issued: &issued,
        key: &next.key,
        server: &state.server,
        trust_domain: &state.trust_domain,
        kind: state.kind,
        purpose: &purpose,
        announced: false,
    };
    adoption::adopt(folder, &new, observer).await
}

/// Asks for the next certificate, with a key that is durable before: for this purpose the same one every time, and one
/// that is in a TPM always.
async fn ask(
    folder: &LockedFolder,
    credential: &Credential,
    purpose: &str,
    connection: &Connection,
    observer: Observer<'_>,
) -> Result<(NextKey, v1::Issued), FlowError> {
    let next = match credential.key() {
        // It cannot have been copied, and the CA knows where it is; of a new one it would have to be told.
        Key::Tpm(key) => NextKey { key: Key::Tpm(key.clone()), is_retry: false },
        Key::File(_) => folder.next_key(purpose, Key::generate)?,
    };
    observer.reached(Step::NextKeyDurable);
    let request = v1::RenewRequest { csr: next.key.csr()?, trust_bundle_sequence: credential.state().trust_sequence };
    let answer = connection.renewal().renew(request).await.map_err(Refusal::from)?.into_inner();
    Ok((next, answer))
}

/// Confirms the current credential if an earlier run left that outstanding. `true` where it did.
pub async fn settle(folder: &LockedFolder, observer: Observer<'_>) -> Result<bool, FlowError> {
    let confirmed = adoption::settle(folder, observer).await?;
    if confirmed {
        adoption::finish(folder, observer)?;
    }
    Ok(confirmed)
}
