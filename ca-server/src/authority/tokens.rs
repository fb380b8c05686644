//! Join tokens: what an operator may make them for. The CA takes their public halves only.

use std::time::Duration;

use ring::digest::{SHA256, digest};

use super::{Authority, Refusal, fleets::useless, refuse_barred};
use crate::{
    audit::Draft,
    identity::{DeviceId, FleetName, Kind, Subject, TokenId, hex},
    inventory::{
        device::Status,
        fleet::{Method, Tier},
    },
    pki::PublicKey,
    store::{NewHolder, Role, TokenRow, TokenState},
};

/// How long a token may live that is for one holder.
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a fleet token may live: it could be used by whoever finds it.
const MAX_FLEET_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How long a token lives where nothing is said.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How often a fleet token may be used.
const MAX_USES: u32 = 100_000;

/// Whom a token lets in.
#[derive(Clone, Debug)]
pub enum TokenFor {
    /// One device of a fleet; one that is active only where `reenroll` says so.
    Device {
        /// Its fleet.
        fleet: FleetName,
        /// Its ID.
        id: DeviceId,
        /// It is active and enrolls again.
        reenroll: bool,
    },
    /// Devices of a fleet that never existed before.
    NewDevices {
        /// Their fleet.
        fleet: FleetName,
        /// What their IDs look like: `*` stands for any run of characters.
        pattern: String,
        /// How many.
        uses: u32,
    },
    /// A gateway.
    Gateway(DeviceId),
    /// An operator.
    Operator(DeviceId, Role),
}

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Its public half: Ed25519.
    pub public_key: [u8; 32],
    /// Whom it lets in.
    pub target: TokenFor,
    /// How long it lives; zero: a day.
    pub lifetime: Duration,
}

impl Authority {
    /// Makes a token, and registers the holder that it is for.
    pub async fn create_token(&self, new: NewToken, actor: &str) -> Result<TokenRow, Refusal> {
        let now = self.now();
        let lifetime = if new.lifetime.is_zero() { DEFAULT_LIFETIME } else { new.lifetime };
        let longest = if matches!(new.target, TokenFor::NewDevices { .. }) { MAX_FLEET_LIFETIME } else { MAX_LIFETIME };
        if lifetime > longest {
            return Err(Refusal::invalid("lifetime", format!("must be at most {} hours", longest.as_secs() / 3600)));
        }
        let mut token = TokenRow {
            id: token_id(&new.public_key)?,
            public_key: new.public_key,
            kind: Kind::Device,
            fleet: None,
            role: None,
            subject_id: None,
            id_pattern: None,
            uses: 1,
            uses_left: 1,
            reenroll: false,
            expires_at: now + lifetime,
            state: TokenState::Live,
            created_at: now,
            created_by: actor.into(),
        };
        match new.target {
            TokenFor::Device { fleet, id, reenroll } => {
                token = TokenRow { fleet: Some(fleet), subject_id: Some(id), reenroll, ..token };
            }
            TokenFor::NewDevices { fleet, pattern, uses } => {
                check_pattern(&pattern)?;
                if !(1..=MAX_USES).contains(&uses) {
                    return Err(Refusal::invalid("uses", format!("must be from 1 to {MAX_USES}")));
                }
                token = TokenRow { fleet: Some(fleet), id_pattern: Some(pattern), uses, uses_left: uses, ..token };
            }
            TokenFor::Gateway(id) => {
                token = TokenRow { kind: Kind::Gateway, subject_id: Some(id), reenroll: true, ..token };
            }
            TokenFor::Operator(id, role) => {
                token =
                    TokenRow { kind: Kind::Operator, role: Some(role), subject_id: Some(id), reenroll: true, ..token };
            }
        }
        if let Some(fleet) = &token.fleet {
            let policy = self.policy(fleet).await?;
            policy.admit(Method::Token, Tier::Token).map_err(|why| useless(fleet, Method::Token, why))?;
        }
        let register = self.holder_to_register(&token).await?;
        let mut audit = Draft::done(now, actor, "token.created", format!("token/{}", token.id))
            .fact("kind", token.kind.as_str())
            .fact("uses", token.uses)
            .fact("expires_at", token.expires_at.to_string());
        for (name, value) in [
            ("for", token.subject_id.as_ref().map(DeviceId::as_str)),
            ("pattern", token.id_pattern.as_deref()),
            ("fleet", token.fleet.as_ref().map(FleetName::as_str)),
            ("role", token.role.map(Role::as_str)),
        ] {
            if let Some(value) = value {
                audit = audit.fact(name, value);
            }
        }
        self.store.record_token(token.clone(), register, audit).await?;
        Ok(token)
    }

    /// The holder that a bound token needs and that does not exist yet; refused where the one that exists is cut off, of
    /// another fleet or role, or active without anybody having said that it shall enroll again.
    async fn holder_to_register(&self, token: &TokenRow) -> Result<Option<NewHolder>, Refusal> {
        let Some(id) = &token.subject_id else { return Ok(None) };
        let subject = Subject::new(token.kind, id.clone());
        let Some(holder) = self.store.holder(&subject).await? else {
            if self.store.holder_folded(subject.kind, &subject.id.folded()).await?.is_some() {
                return Err(Refusal::IdTaken);
            }
            return Ok(Some(NewHolder {
                subject,
                fleet: token.fleet.clone(),
                role: token.role,
                handle: self.new_handle()?,
                created_at: token.created_at,
            }));
        };
        refuse_barred(&holder, self.now())?;
        if holder.fleet != token.fleet {
            return Err(Refusal::State("the device belongs to another fleet".into()));
        }
        if holder.role != token.role {
            return Err(Refusal::State("the operator has another role; revoke it and make a new one".into()));
        }
        if holder.status == Status::Active && !token.reenroll {
            return Err(Refusal::AlreadyEnrolled(Method::Token));
        }
        Ok(None)
    }

    /// Ends a token.
    pub async fn revoke_token(&self, id: &TokenId, actor: &str) -> Result<TokenRow, Refusal> {
        let audit = Draft::done(self.now(), actor, "token.revoked", format!("token/{id}"));
        Ok(self.store.record_token_revocation(id, audit).await?)
    }
}

/// The ID that follows from a token's key; a key for which anybody can sign is refused.
fn token_id(public_key: &[u8; 32]) -> Result<TokenId, Refusal> {
    PublicKey::from_ed25519(public_key).map_err(|error| Refusal::invalid("public_key", error.to_string()))?;
    let hash = digest(&SHA256, public_key);
    let text = hex(&hash.as_ref()[..8]);
    text.parse().map_err(Refusal::name("public_key"))
}

/// A pattern is an ID in which `*` may stand: at most four of them, and not alone without a reason.
fn check_pattern(pattern: &str) -> Result<(), Refusal> {
    let stars = pattern.bytes().filter(|byte| *byte == b'*').count();
    let ok = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'*');
    if pattern.is_empty() || pattern.len() > 64 || stars > 4 || !pattern.bytes().all(ok) {
        return Err(Refusal::invalid("id_pattern", "must be an ID of at most 64 characters with one to four `*`"));
    }
    Ok(())
}
