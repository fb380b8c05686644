//! From an answer that fits to a credential in force: a new generation is written, read back, checked, swapped in and
//! confirmed over a connection that presents it. If it cannot be put in force, the way back to the one before it.

use fleetca_proto::v1::{ConfirmRequest, GetRenewalInfoRequest};
use ring::rand::{SecureRandom, SystemRandom};
use tracing::{info, warn};

use crate::{
    connect::{Connection, ServerUrl},
    credential::{Contents, Credential, Holder, LockedFolder, State},
    flow::{FlowError, Observer, Step},
    identity::{Kind, TrustDomain},
    issued::Issued,
    keys::{Key, KeyError},
    refusal::Refusal,
    renewal::Action,
};

/// The reason of a refusal when two hold one identity.
const FORK: &str = "LINEAGE_FORK";

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
            control_roots: &new.issued.control_roots,
            device_roots: &new.issued.device_roots,
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
    pub(crate) key: &'a Key,
    pub(crate) server: &'a ServerUrl,
    pub(crate) trust_domain: &'a TrustDomain,
    pub(crate) kind: Kind,
    /// The request, as its key was made for it.
    pub(crate) purpose: &'a str,
    /// Programs that use the credential need not be told of it.
    pub(crate) announced: bool,
}

impl New<'_> {
    fn state(&self, folder: &LockedFolder) -> Result<State, FlowError> {
        let issued = self.issued;
        let holder = Holder {
            server: self.server.clone(),
            trust_domain: self.trust_domain.clone(),
            kind: self.kind,
            id: issued.id.clone(),
        };
        Ok(State {
            confirm_required: issued.confirm_required,
            announced: self.announced,
            obtained_by: self.purpose.to_owned(),
            previous: folder.current_name()?,
            ..State::new(holder, issued.trust_sequence, issued.window, random()?)
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
    let Err(refusal) = confirm(&connection, credential.state().forked).await else {
        folder.update_state(|state| (state.confirm_required, state.forked) = (false, false))?;
        observer.reached(Step::Confirmed);
        return Ok(true);
    };
    if refusal.reason.as_deref() == Some(FORK) {
        folder.update_state(|state| state.forked = true)?;
    }
    match refusal.action {
        Action::Retry { .. } => Err(refusal.into()),
        Action::Reattest | Action::Stop if fall_back(folder, &credential).await? => Err(FlowError::FellBack(refusal)),
        Action::Reattest | Action::Stop => Err(refusal.into()),
    }
}

/// Confirms. After a fork it asks first whether that is still to be done: an operator may have decided for the
/// certificate before this one, and to confirm this one again would be the next fork.
async fn confirm(connection: &Connection, forked: bool) -> Result<(), Refusal> {
    let mut renewal = connection.renewal();
    if forked && !renewal.get_renewal_info(GetRenewalInfoRequest {}).await?.into_inner().confirm_required {
        return Ok(());
    }
    renewal.confirm(ConfirmRequest {}).await?;
    Ok(())
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
