//! From an answer that fits to a credential in force: a new generation is written, read back, checked, swapped in and
//! confirmed over a connection that presents it. If it cannot be put in force, the way back to the one before it.

use fleetca_proto::v1::{ConfirmRequest, GetRenewalInfoRequest};
use ring::rand::{SecureRandom, SystemRandom};
use tracing::{info, warn};

use crate::{
    connect::{Connection, ServerUrl},
    credential::{Contents, Credential, LockedFolder, State},
    flow::{FlowError, Observer, Step},
    identity::Kind,
    issued::Issued,
    keys::{FileKey, KeyError},
    refusal::Refusal,
    renewal::Action,
};

/// Makes `issued` the current credential and, where the CA asks for it, confirms it.
pub(crate) async fn adopt(
    folder: &LockedFolder,
    new: &New<'_>,
    observer: Observer<'_>,
) -> Result<Credential, FlowError> {
    if !is_current(folder, new.issued) {
        let state = new.state(folder)?;
        let contents = Contents {
            key: new.key,
            chain: &new.issued.chain,
            control_roots: &new.issued.bundle.control_roots,
            device_roots: &new.issued.bundle.device_roots,
            state: &state,
        };
        folder.install(&contents, observer)?;
    }
    settle(folder, observer).await?;
    finish(folder, observer)?;
    Ok(folder.load()?)
}

/// What a new generation comes from.
pub(crate) struct New<'a> {
    pub(crate) issued: &'a Issued,
    pub(crate) key: &'a FileKey,
    pub(crate) server: &'a ServerUrl,
    pub(crate) kind: Kind,
    /// Programs that use the credential need not be told of it.
    pub(crate) announced: bool,
}

impl New<'_> {
    fn state(&self, folder: &LockedFolder) -> Result<State, FlowError> {
        Ok(State {
            server: self.server.clone(),
            trust_domain: self.issued.bundle.trust_domain.clone(),
            kind: self.kind,
            id: self.issued.id.clone(),
            trust_sequence: self.issued.bundle.sequence,
            renewal_window: self.issued.window,
            renew_at: self.issued.window.draw(random()?),
            confirm_required: self.issued.confirm_required,
            announced: self.announced,
            previous: folder.current_name()?,
            last_error: None,
        })
    }
}

/// Confirms the current credential if that is outstanding. `true` where it was.
pub(crate) async fn settle(folder: &LockedFolder, observer: Observer<'_>) -> Result<bool, FlowError> {
    let credential = folder.load()?;
    if !credential.state().confirm_required {
        return Ok(false);
    }
    let connection = Connection::with_credential(&credential).await?;
    match connection.renewal().confirm(ConfirmRequest {}).await.map_err(Refusal::from) {
        Ok(_) => {
            folder.update_state(|state| state.confirm_required = false)?;
            observer.reached(Step::Confirmed);
            Ok(true)
        }
        Err(refusal) if matches!(refusal.action, Action::Retry { .. }) => Err(refusal.into()),
        Err(refusal) if fall_back(folder, &credential).await? => Err(FlowError::FellBack(refusal)),
        Err(refusal) => Err(refusal.into()),
    }
}

/// Forgets the next key and old generations.
pub(crate) fn finish(folder: &LockedFolder, observer: Observer<'_>) -> Result<(), FlowError> {
    folder.drop_next_key()?;
    folder.prune()?;
    observer.reached(Step::Done);
    Ok(())
}

/// Goes back to the generation before `refused`, if the server still knows it as ours. It asks first: when the device
/// as a whole is held or revoked, going back would gain nothing.
async fn fall_back(folder: &LockedFolder, refused: &Credential) -> Result<bool, FlowError> {
    let Some(name) = refused.state().previous.as_deref() else { return Ok(false) };
    let Ok(previous) = folder.load_generation(name) else { return Ok(false) };
    let (now, before) = (refused.state(), previous.state());
    if (&now.trust_domain, now.kind, &now.id) != (&before.trust_domain, before.kind, &before.id) {
        return Ok(false);
    }
    let connection = Connection::with_credential(&previous).await?;
    match connection.renewal().get_renewal_info(GetRenewalInfoRequest {}).await.map_err(Refusal::from) {
        Ok(_) => {
            warn!(serial = previous.leaf().serial(), "the new certificate was refused: back to the one before it");
            folder.swap(name)?;
            folder.drop_next_key()?;
            folder.prune()?;
            Ok(true)
        }
        Err(refusal) if matches!(refusal.action, Action::Retry { .. }) => Err(refusal.into()),
        Err(refusal) => {
            info!(%refusal, "the certificate before it is refused too");
            Ok(false)
        }
    }
}

fn is_current(folder: &LockedFolder, issued: &Issued) -> bool {
    let leaf = issued.chain.first().map(|leaf| leaf.der());
    folder.load().is_ok_and(|current| Some(current.leaf().der()) == leaf)
}

/// 64 random bits of the system.
pub(crate) fn random() -> Result<u64, KeyError> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::Unusable)?;
    Ok(u64::from_ne_bytes(bytes))
}
