//! What would happen if a device came now, by each way that there is: the answers of the code that decides, for evidence
//! that holds and a key that nobody has seen before. It reads, and changes nothing.

mod proviso;

use ring::signature::{Ed25519KeyPair, KeyPair};

use super::{
    admit::{By, Case, Decision, Shown},
    continued, known, previous,
    request::Asks,
    unknown::{self, Wanted},
    verify::Proven,
};
use crate::{
    attestation::{AttestationError, Claims},
    authority::{Authority, Refusal, refuse_key_kind, renew},
    identity::{FleetName, HardwareId, KeyFingerprint, Kind, Subject, Timestamp},
    inventory::fleet::{Method, Policy, Tier},
    pki::{PeerCertificate, PublicKey},
    store::{Holder, KeyUse, NewcomerQuery, NewcomerRow, StoreError, TokenRow, TokenState},
};

/// How many of those that wait under one name are explained.
const MOST_WAITING: u32 = 20;
/// How many of a device's keys are explained.
const MOST_KEYS: usize = 50;

/// A device, and what would come of each way.
#[derive(Debug)]
pub struct Explained {
    /// The device, if it is known.
    pub holder: Option<Holder>,
    /// Whether a device that nobody registered waits under this name.
    pub waits: bool,
    /// What would come of each way.
    pub ways: Vec<Way>,
}

/// A way to a certificate, and what would come of it.
#[derive(Debug)]
pub struct Way {
    /// The method, or `renew`.
    pub way: &'static str,
    /// The hardware or the key that this is about; `None`: any that nobody knows.
    pub identity: Option<String>,
    /// What it would get, or why it gets nothing.
    pub outcome: Result<Answer, Refusal>,
    /// Of what it would get: what nobody can know before it comes, and has to hold then. Of a refusal: more about it.
    pub note: Option<String>,
}

impl Way {
    fn new(way: &'static str, outcome: Result<Answer, Refusal>) -> Self {
        Self { way, identity: None, outcome, note: None }
    }
}

/// What a device would get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A certificate, to be confirmed or not.
    Certificate {
        /// Whether the next thing is `Confirm`.
        confirm: bool,
    },
    /// Nothing, until an operator approves it.
    Waits,
}

impl Authority {
    /// What would come of each way that this device could take into this fleet now: with this hardware, where it is said;
    /// else with what is known of it.
    pub async fn explain(
        &self,
        fleet: &FleetName,
        device: &Subject,
        hardware: Option<HardwareId>,
    ) -> Result<Explained, Refusal> {
        self.refuse_restored()?;
        let policy = self.policy(fleet).await?;
        let holder = self.store.holder(device).await?;
        if holder.as_ref().is_some_and(|holder| holder.fleet.as_ref() != Some(fleet)) {
            return Err(Refusal::State("the device belongs to another fleet".into()));
        }
        let look = Look { authority: self, fleet, device, policy, holder, now: self.now() };
        let waiting = look.waiting().await?;
        let mut ways = vec![
            Way::new("token", look.by_token(false).await),
            Way::new("token --reenroll", look.by_token(true).await),
        ];
        ways.extend(look.by_registered_keys().await?);
        for method in [Method::Factory, Method::Tpm] {
            for (id, wanted) in look.hardware(method, hardware.as_ref(), &waiting).await? {
                let identity = id.as_ref().map(|id| format!("{}:{id}", id.kind()));
                let (outcome, note) = look.by_hardware(method, id, wanted).await;
                ways.push(Way { way: method.as_str(), identity, outcome, note });
            }
        }
        ways.push(Way::new("renew", look.by_renewal().await));
        let outcome = look.by_previous().await;
        let note = if matches!(outcome, Err(Refusal::CertificateExpired)) { look.end_of_grace().await? } else { None };
        ways.push(Way { note, ..Way::new("previous", outcome) });
        let no_answer =
            |way: &Way| matches!(way.outcome, Err(Refusal::Store(_) | Refusal::Internal(_) | Refusal::Contended));
        if let Some(at) = ways.iter().position(no_answer) {
            ways.swap_remove(at).outcome?;
        }
        Ok(Explained { holder: look.holder, waits: !waiting.is_empty(), ways })
    }

    /// A key that nobody has seen.
    fn unseen_key(&self) -> Result<PublicKey, Refusal> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&self.random::<32>()?);
        let pair = pair.map_err(|_| Refusal::Internal("no key"))?;
        let raw = pair.public_key().as_ref().try_into().map_err(|_| Refusal::Internal("no key"))?;
        PublicKey::from_ed25519(&raw).map_err(|_| Refusal::Internal("no key"))
    }

    /// Hardware that nobody has seen.
    fn unseen_hardware(&self, method: Method) -> Result<HardwareId, Refusal> {
        let octets = self.random::<32>()?;
        match method {
            Method::Tpm => Ok(HardwareId::Ek(octets)),
            _ => HardwareId::of_idevid(octets, "unseen").map_err(|_| Refusal::Internal("no hardware")),
        }
    }
}

/// The device that is looked at.
struct Look<'a> {
    authority: &'a Authority,
    fleet: &'a FleetName,
    device: &'a Subject,
    policy: Policy,
    holder: Option<Holder>,
    now: Timestamp,
}

impl Look<'_> {
    /// What waits under its name for an operator.
    async fn waiting(&self) -> Result<Vec<NewcomerRow>, Refusal> {
        let query = NewcomerQuery {
            fleet: Some(self.fleet.clone()),
            id: Some(self.device.id.clone()),
            after: None,
            now: self.now,
            limit: MOST_WAITING,
        };
        Ok(self.authority.store.newcomers(&query).await?)
    }

    /// By a token that an operator makes for it.
    async fn by_token(&self, reenroll: bool) -> Result<Answer, Refusal> {
        let token = TokenRow {
            id: "0000000000000000".parse().map_err(Refusal::name("token"))?,
            public_key: [0; 32],
            kind: Kind::Device,
            fleet: Some(self.fleet.clone()),
            role: None,
            subject_id: Some(self.device.id.clone()),
            id_pattern: None,
            uses: 1,
            uses_left: 1,
            reenroll,
            expires_at: self.now,
            state: TokenState::Live,
            created_at: self.now,
            created_by: String::new(),
        };
        let claims = Claims { method: Method::Token, tier: Tier::Token, identity: String::new() };
        let (known, shown) = (self.holder.clone(), Shown { claims: &claims, key_use: &KeyUse::default() });
        let decision =
            self.authority.decide_by_token(self.device, known, &token, shown, &self.policy, self.now).await?;
        self.answer(&decision).await
    }

    /// By each key that was registered for it: those in force first.
    async fn by_registered_keys(&self) -> Result<Vec<Way>, Refusal> {
        let way = Method::RegisteredKey.as_str();
        let mut keys = self.authority.store.registered_keys(self.device).await?;
        let (Some(holder), false) = (&self.holder, keys.is_empty()) else {
            // What it would take first: to register a key in a fleet that takes none is of no use.
            let why = self.takes(Method::RegisteredKey).err();
            let why = why.unwrap_or(Refusal::Attestation(AttestationError::Unregistered));
            return Ok(vec![Way::new(way, Err(why))]);
        };
        keys.sort_by_key(|key| (!key.is_in_force(self.now), std::cmp::Reverse(key.active_from)));
        let mut ways = Vec::new();
        for key in keys.into_iter().take(MOST_KEYS) {
            let identity = key.thumbprint.to_string();
            let (outcome, note) = if key.is_in_force(self.now) {
                let by = By::Known(Box::new(holder.clone()));
                (self.known(by, Method::RegisteredKey, identity.clone()).await, None)
            } else {
                let when = match key.retires_at.filter(|end| *end <= self.now) {
                    Some(end) => format!("this key has retired, {end}"),
                    None => format!("this key counts from {} on", key.active_from),
                };
                (Err(Refusal::KeyNotInForce(self.device.clone())), Some(when))
            };
            ways.push(Way { way, identity: Some(identity), outcome, note });
        }
        Ok(ways)
    }

    /// The hardware by which it could come: what the operator says, or else what was registered for it, or what waits
    /// under its name with a key; or any.
    async fn hardware(
        &self,
        method: Method,
        said: Option<&HardwareId>,
        waiting: &[NewcomerRow],
    ) -> Result<Vec<(Option<HardwareId>, Option<KeyFingerprint>)>, Refusal> {
        let registered = self.authority.store.hardware_of(self.device).await?.into_iter().map(|own| (own.id, None));
        let waits = waiting.iter().map(|row| (row.asking.hardware.clone(), Some(row.asking.key)));
        let mut found: Vec<_> = registered.chain(waits).collect();
        if let Some(said) = said {
            found.retain(|(id, _)| id == said);
            if found.is_empty() {
                found.push((said.clone(), None));
            }
        }
        found.retain(|(id, _)| match id {
            HardwareId::Ek(_) => method == Method::Tpm,
            HardwareId::IdevId { .. } => method == Method::Factory,
        });
        let any = if found.is_empty() { Some((None, None)) } else { None };
        Ok(found.into_iter().map(|(id, key)| (Some(id), key)).chain(any).collect())
    }

    /// By hardware: its own, or what a maker vouches for; and what has to hold of its chain.
    async fn by_hardware(
        &self,
        method: Method,
        hardware: Option<HardwareId>,
        key: Option<KeyFingerprint>,
    ) -> (Result<Answer, Refusal>, Option<String>) {
        let decided = match self.decide_by_hardware(method, hardware.as_ref(), key).await {
            Err(why) => Err(why),
            Ok((answer, is_known)) => {
                self.proviso(method, hardware.as_ref(), is_known).await.map(|proviso| (answer, proviso))
            }
        };
        decided.map_or_else(|why| (Err(why), None), |(answer, proviso)| (Ok(answer), proviso))
    }

    /// What still has to hold of its evidence. `is_known`: it is a device's.
    async fn proviso(
        &self,
        method: Method,
        hardware: Option<&HardwareId>,
        is_known: bool,
    ) -> Result<Option<String>, Refusal> {
        let rivals = if is_known { Vec::new() } else { self.authority.takers().await?.rivals(method, self.fleet) };
        proviso::of(&self.policy, method, hardware, proviso::Standing { is_known, rivals: &rivals })
    }

    /// Refuses a method that the fleet does not take from anybody, or not as enough.
    fn takes(&self, method: Method) -> Result<(), Refusal> {
        let tier = method.tier().ok_or(Refusal::Internal("a method without tier"))?;
        Ok(self.policy.admit(method, tier)?)
    }

    /// What it would get, and whether the hardware is a device's.
    async fn decide_by_hardware(
        &self,
        method: Method,
        hardware: Option<&HardwareId>,
        key: Option<KeyFingerprint>,
    ) -> Result<(Answer, bool), Refusal> {
        let authority = self.authority;
        let said = hardware.is_some();
        let id = hardware.map_or_else(|| authority.unseen_hardware(method), |id| Ok(id.clone()))?;
        let newcomer = match known::owner(authority, &id).await? {
            Some(_) => None,
            None => {
                self.takes(method)?;
                let newcomer = unknown::welcome(authority, &id, |takers| {
                    let taker = takers.named(method, self.fleet).map_err(Refusal::Attestation)?;
                    proviso::refuse_hopeless(&taker.policy, method, &id)?;
                    Ok(taker)
                });
                Some(newcomer.await?)
            }
        };
        if !said && self.policy.unknown.id_template.is_some() {
            let why = "what it proves gives it its ID in this fleet: say it with --identity ek:... or idevid:...";
            return Err(Refusal::invalid("identity", why));
        }
        let asks = Asks { kind: Kind::Device, id: Some(&self.device.id) };
        let case = authority.case_of_hardware(asks, &id, newcomer.as_ref()).await?;
        match case.by {
            By::Unknown(newcomer) => {
                let tier = method.tier().ok_or(Refusal::Internal("a method without tier"))?;
                let claims = Claims { method, tier, identity: id.to_string() };
                let key = key.map_or_else(|| authority.unseen_key().map(|key| key.fingerprint()), Ok)?;
                let wanted = Wanted { key, kind: None };
                let decision =
                    unknown::decide(authority, &newcomer, &case.subject, &claims, wanted, &self.policy, self.now)
                        .await?;
                Ok((self.answer(&decision).await?, false))
            }
            by => {
                // As the evidence would be: before anything else is decided.
                proviso::refuse_hopeless(&self.policy, method, &id)?;
                let answer = self.known(by, method, id.to_string()).await?;
                match self.policy.key_types.iter().any(|kind| method.vouches_for(*kind)) {
                    true => Ok((answer, true)),
                    false => Err(Refusal::KeyTypeRefused),
                }
            }
        }
    }

    /// By what is known of it.
    async fn known(&self, by: By, method: Method, identity: String) -> Result<Answer, Refusal> {
        let tier = method.tier().ok_or(Refusal::Internal("a method without tier"))?;
        let claims = Claims { method, tier, identity };
        let proven =
            Proven { claims, key: self.authority.unseen_key()?, assertion: None, judged: None, newcomer: None };
        let case = Case { subject: self.device.clone(), by };
        let decision = self.authority.decide_enrollment(&case, &proven, &self.policy, self.now).await?;
        self.answer(&decision).await
    }

    /// What comes of a decision, if somebody signs for the fleet now and its quotas have room.
    async fn answer(&self, decision: &Decision) -> Result<Answer, Refusal> {
        if let Answer::Certificate { .. } = self.signed(decision)? {
            let new = matches!(decision, Decision::Create(_) | Decision::Approved(_));
            let usage = self.authority.store.usage(self.fleet, self.now).await?;
            self.policy.quotas.admit(&usage, new).map_err(StoreError::Quota)?;
        }
        Ok(answer(decision))
    }

    /// The same, where quotas do not matter. What was signed already is given again.
    fn signed(&self, decision: &Decision) -> Result<Answer, Refusal> {
        let answer = answer(decision);
        if matches!(answer, Answer::Certificate { .. }) && !matches!(decision, Decision::Again { .. }) {
            self.refuse_unsigned()?;
        }
        Ok(answer)
    }

    /// Refuses where no issuing CA signs for the fleet now.
    fn refuse_unsigned(&self) -> Result<(), Refusal> {
        let (authority, spread) = (self.authority, &self.policy.spread);
        authority.issuers.for_subject(self.device, spread, self.now, authority.publisher.now()).map(drop)
    }

    /// By the certificate in force, or the one that waits for Confirm; with a new key of the same kind.
    async fn by_renewal(&self) -> Result<Answer, Refusal> {
        let (tier, presented) = self.newest().await?;
        let key = self.next_key(tier, &presented)?;
        let facts = self.authority.store.renewal(presented.serial, &key.fingerprint()).await?;
        let facts = facts.ok_or(Refusal::CertificateUnknown)?;
        self.authority.refuse_of_revoked(&facts.peer)?;
        let decision = renew::judge(&facts, &self.policy, &presented, &key, false, self.now)?;
        let confirm = renew::gives(decision)?;
        refuse_key_kind(&self.policy, presented.key.kind())?;
        self.refuse_unsigned()?;
        Ok(Answer::Certificate { confirm })
    }

    /// By the same certificate once it has expired.
    async fn by_previous(&self) -> Result<Answer, Refusal> {
        let (tier, presented) = self.newest().await?;
        let claims = Claims { method: Method::Previous, tier, identity: presented.serial.to_string() };
        let key = self.next_key(tier, &presented)?;
        let proven = Proven { claims, key, assertion: None, judged: None, newcomer: None };
        let facts = previous::facts(self.authority, None, &presented, &proven).await?;
        let decision = previous::decide(self.authority, &facts, &proven, &self.policy, self.now)?;
        refuse_key_kind(&self.policy, presented.key.kind())?;
        self.signed(&decision)
    }

    /// Why its certificate has expired for good.
    async fn end_of_grace(&self) -> Result<Option<String>, Refusal> {
        let (fleet, until) = (self.fleet, self.newest().await?.1.not_after + self.policy.grace());
        Ok(match self.policy.grace_secs {
            0 => Some(format!("its certificate has expired, and the fleet has no grace: `fleet set {fleet} --grace`")),
            _ if until < self.now => Some(format!(
                "its certificate has expired, and the fleet's grace was over at {until}: `fleet set {fleet} --grace`"
            )),
            _ => None,
        })
    }

    /// The newest certificate that counts, and the tier that it descends from.
    async fn newest(&self) -> Result<(Tier, PeerCertificate), Refusal> {
        let holder = self.holder.as_ref().ok_or(Refusal::NotEnrolled)?;
        let serial = holder.lineage.head.or(holder.lineage.pending).ok_or(Refusal::NotEnrolled)?;
        let (_, der) = self.authority.store.certificate(serial).await?.ok_or(Refusal::NotFound("certificate"))?;
        let certificate = PeerCertificate::parse(&der, &self.authority.domain().trust_domain);
        let certificate = certificate.map_err(|_| Refusal::Internal("a certificate of ours is unreadable"))?;
        let peer = self.authority.store.peer(serial).await?.ok_or(Refusal::NotFound("certificate"))?;
        Ok((renew::recorded_tier(&peer), certificate))
    }

    /// The key that it would ask a certificate for: one in hardware stays.
    fn next_key(&self, tier: Tier, presented: &PeerCertificate) -> Result<PublicKey, Refusal> {
        match tier {
            Tier::Hardware => Ok(presented.key.clone()),
            Tier::Token | Tier::Registered | Tier::Factory => self.authority.unseen_key(),
        }
    }
}

/// What the device gets by a decision.
fn answer(decision: &Decision) -> Answer {
    match decision {
        Decision::Again { confirm_required, .. } => Answer::Certificate { confirm: *confirm_required },
        Decision::Create(_) | Decision::Approved(_) => Answer::Certificate { confirm: false },
        Decision::Wait(_) | Decision::Ask(..) => Answer::Waits,
        Decision::Admit { holder, promote } => Answer::Certificate { confirm: continued(holder, *promote).has_begun() },
    }
}
