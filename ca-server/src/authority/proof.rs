//! Proof: at which gateways a CRL is loaded, by their word; and waiting until it is.
//!
//! A gateway that lies harms only its own row, and can hasten nothing: what waits for gateways waits for each of them. What was said in the last seconds before a kill is forgotten, and said
//! again by each gateway when it connects.

mod word;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout_at};

use self::word::Said;
pub(super) use self::word::{SaidCrl, Word};
pub use self::word::{Shown, Takes, Watching};
use super::{Authority, Refusal};
use crate::{
    identity::{IssuerId, Kind, Subject, Timestamp},
    store::GatewayRow,
};

/// Who was heard of within this time is waited for, though it watches nothing now.
const THERE: Duration = Duration::from_secs(5 * 60);
/// How often what they say is written down: so much of it a kill forgets.
const KEEP_EVERY: Duration = Duration::from_secs(3);
/// How long one call waits at most.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long waiters let further words come together.
const TOGETHER: Duration = Duration::from_millis(20);

/// A gateway in force, and what it has loaded, by its word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedBy {
    /// Which.
    pub gateway: Subject,
    /// It watches now.
    pub watches: bool,
    /// When it acknowledged anything last.
    pub heard_at: Option<Timestamp>,
    /// When the last certificate ends that it may come with.
    pub expires_at: Option<Timestamp>,
    /// Since when it is known, where it has said nothing yet and asked for no fleet's bundle: what it fetches first has every
    /// CRL that was out by then.
    pub fresh_since: Option<Timestamp>,
    /// For each issuing CA of devices whose CRL it takes, and their root where it takes bundles.
    pub crls: Vec<LoadedCrl>,
}

/// What a gateway has loaded of one issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadedCrl {
    /// Whose.
    pub issuer: IssuerId,
    /// The number, and when it was said last. None: nothing.
    pub said: Option<(u64, Timestamp)>,
    /// It is not what is served now, and so long ago the CRL was made that followed on what is loaded; where nothing is, so
    /// long the issuer's first CRL has been out and the gateway known.
    pub behind: Option<Duration>,
}

/// At how many gateways something is loaded, by their word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadedAt {
    /// How many there are that count.
    pub gateways: usize,
    /// Those where it is not, furthest behind first, each with those CRLs only that it lacks of what was asked about.
    pub behind: Vec<LoadedBy>,
    /// Where those count that were there when somebody began to wait: how many others it concerns. Nobody has waited for these.
    pub not_heard: Option<usize>,
}

impl LoadedBy {
    /// Those of these CRLs that concern it.
    fn taken(&self, crls: &[(IssuerId, u64)]) -> Vec<(IssuerId, u64)> {
        let takes = |(issuer, _): &&(IssuerId, u64)| self.crls.iter().any(|crl| crl.issuer == *issuer);
        crls.iter().filter(takes).copied().collect()
    }

    /// Whether it has loaded these CRLs, or later ones, as far as they concern it.
    fn has(&self, crls: &[(IssuerId, u64)]) -> bool {
        self.taken(crls).iter().all(|(issuer, number)| {
            let said = self.crls.iter().find(|crl| crl.issuer == *issuer).and_then(|crl| crl.said);
            said.is_some_and(|(loaded, _)| loaded >= *number)
        })
    }

    /// Itself, with those CRLs only that it lacks of these.
    fn lacking(&self, crls: &[(IssuerId, u64)]) -> Self {
        let lacks = |crl: &LoadedCrl| {
            let has = |number: u64| crl.said.is_some_and(|(loaded, _)| loaded >= number);
            crls.iter().any(|(issuer, number)| *issuer == crl.issuer && !has(*number))
        };
        Self { crls: self.crls.iter().copied().filter(lacks).collect(), ..self.clone() }
    }

    fn is_there(&self, now: Timestamp) -> bool {
        self.watches || self.heard_at.is_some_and(|at| now.since(at) <= THERE)
    }

    /// Whether it can come and take CRLs at this time.
    fn may_come(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|at| at >= now)
    }

    /// Whether a CRL that has been out since then is in the first bundle that it will fetch.
    fn will_fetch(&self, published_at: Option<Timestamp>) -> bool {
        // Dates of CRLs are in whole seconds.
        let out = published_at.map(|at| at + Duration::from_secs(1));
        self.fresh_since.zip(out).is_some_and(|(since, out)| since >= out)
    }

    /// How far it is behind with the issuer that it is furthest behind with.
    pub fn lag(&self) -> Duration {
        self.crls.iter().filter_map(|crl| crl.behind).max().unwrap_or_default()
    }
}

impl LoadedAt {
    /// Those of these gateways that they concern.
    fn of<'a>(all: impl IntoIterator<Item = &'a LoadedBy>, crls: &[(IssuerId, u64)]) -> Self {
        let concerned = |one: &&LoadedBy| crls.is_empty() || !one.taken(crls).is_empty();
        let all: Vec<_> = all.into_iter().filter(concerned).collect();
        let mut behind: Vec<_> = all.iter().filter(|one| !one.has(crls)).map(|one| one.lacking(crls)).collect();
        behind.sort_by_key(|gateway| std::cmp::Reverse(gateway.lag()));
        Self { gateways: all.len(), behind, not_heard: None }
    }

    /// At how many of those that were there when the waiting began. Who has come since is one of the others: nobody has waited
    /// for it.
    fn after_waiting(all: &[LoadedBy], there: &HashSet<&Subject>, crls: &[(IssuerId, u64)]) -> Self {
        let (there, others): (Vec<_>, Vec<_>) = all.iter().partition(|one| there.contains(&one.gateway));
        Self { not_heard: Some(Self::of(others, crls).gateways), ..Self::of(there, crls) }
    }
}

impl Authority {
    /// What every gateway in force has loaded, by ID. Who was cut off does not count.
    pub async fn loaded(&self) -> Result<Vec<LoadedBy>, Refusal> {
        let (rows, now) = (self.store.gateways().await?, self.now());
        let mut said = self.word.all();
        let (mut after, mut taken) = (HashMap::new(), HashMap::new());
        let mut all = Vec::with_capacity(rows.len());
        for row in rows {
            let said = said.remove(&row.subject).unwrap_or_default();
            let takes = said.takes.clone().unwrap_or(Takes::All);
            if !taken.contains_key(&takes) {
                taken.insert(takes.clone(), self.taken_by(&takes).await?);
            }
            let issuers = taken.get(&takes).map(Vec::as_slice).unwrap_or_default();
            all.push(self.loaded_by(row, said, issuers, now, &mut after).await?);
        }
        Ok(all)
    }

    /// The issuers whose CRLs somebody takes who asks for this.
    async fn taken_by(&self, takes: &Takes) -> Result<Vec<IssuerId>, Refusal> {
        let mut issuers = self.issuing();
        match takes {
            Takes::All => {}
            // It takes that one for good, though there is none any more.
            Takes::One(id) => {
                let is_known =
                    self.loadable().contains(id) || self.issuers.places().iter().any(|place| place.id == *id);
                return Ok(if is_known { vec![*id] } else { Vec::new() });
            }
            Takes::Fleet(fleet) => {
                if let Some(policy) = self.store.policy(fleet).await? {
                    let needed = self.publisher.issuers_for(fleet, &policy).await?;
                    issuers.retain(|one| needed.contains(one));
                }
            }
        }
        issuers.extend(self.publisher.device_roots().iter().map(|crl| crl.issuer));
        Ok(issuers)
    }

    /// A gateway asks for these CRLs: the others do not concern it.
    pub fn takes(&self, who: &Subject, what: Takes) {
        if who.kind == Kind::Gateway {
            self.word.takes(who, what);
        }
    }

    async fn loaded_by(
        &self,
        row: GatewayRow,
        said: Said,
        issuers: &[IssuerId],
        now: Timestamp,
        after: &mut HashMap<(IssuerId, u64), Option<Timestamp>>,
    ) -> Result<LoadedBy, Refusal> {
        let mut crls = Vec::new();
        for &issuer in issuers {
            // What was written down counts until it has said something else.
            let crl = match &said.loaded {
                Some(loaded) => loaded.get(&issuer).copied(),
                None => row.loaded.iter().find(|crl| crl.issuer == issuer).copied(),
            };
            let served = self.publisher.current(&issuer);
            let behind = match crl {
                // What it has is not to be believed any more, and nothing follows on it.
                _ if !self.issuers.publishes(&issuer) => Some(self.last_ending(now)),
                None => Some(self.first_out(&issuer, now).max(row.created_at)),
                Some(crl) if served.as_ref().is_some_and(|served| crl.number >= served.number) => None,
                Some(crl) => match after.get(&(issuer, crl.number)) {
                    Some(known) => *known,
                    None => {
                        // Of a root's CRLs the last one only is known.
                        let next = self.store.published_after(issuer, crl.number).await?;
                        let next = next.or(served.as_ref().map(|crl| crl.this_update));
                        *after.entry((issuer, crl.number)).or_insert(next)
                    }
                },
            };
            let behind = behind.map(|since| now.since(since));
            crls.push(LoadedCrl { issuer, said: crl.map(|crl| (crl.number, crl.at)), behind });
        }
        let heard_at = said.heard_at.or_else(|| row.loaded.iter().map(|crl| crl.at).max());
        let GatewayRow { subject: gateway, expires_at, created_at, .. } = row;
        let fresh = heard_at.is_none() && !matches!(said.takes, Some(Takes::Fleet(_)));
        let fresh_since = fresh.then_some(created_at);
        Ok(LoadedBy { gateway, watches: said.watches > 0, heard_at, expires_at, fresh_since, crls })
    }

    /// Since when gateways may have had a CRL of this issuer: of the first one, ever. A root's has been out since there is a CA.
    fn first_out(&self, issuer: &IssuerId, now: Timestamp) -> Timestamp {
        let places = self.issuers.places();
        match places.iter().find(|place| place.id == *issuer) {
            None => Timestamp::default(),
            Some(place) if place.is_first => place.created_at,
            Some(place) => place.published_at.unwrap_or(now),
        }
    }

    /// Since when an issuing CA that is not there any more has been gone, at least: so old is the CRL of its root.
    fn last_ending(&self, now: Timestamp) -> Timestamp {
        self.publisher.device_roots().iter().map(|crl| crl.this_update).max().unwrap_or(now)
    }

    /// The issuing CAs whose CRL every gateway has loaded that takes it, in whatever number; and there are some. Be it there or
    /// not: many come by a timer. Who has no certificate any more that it could come with counts no longer, and who came when
    /// its CRL was out already does not count yet.
    pub(super) async fn loaded_everywhere(&self) -> Result<Vec<IssuerId>, Refusal> {
        // A clock that leapt has made nobody's certificate expire.
        let now = self.publisher.now();
        let all: Vec<_> = self.loaded().await?.into_iter().filter(|gateway| gateway.may_come(now)).collect();
        let places = self.issuers.places();
        let everywhere = |id: &IssuerId| {
            let published_at = places.iter().find(|place| place.id == *id).and_then(|place| place.published_at);
            let mut counts = all.iter().filter(|gateway| !gateway.will_fetch(published_at));
            let takes = counts.clone().any(|gateway| !gateway.taken(&[(*id, 0)]).is_empty());
            takes && counts.all(|gateway| gateway.has(&[(*id, 0)]))
        };
        Ok(self.issuing().into_iter().filter(everywhere).collect())
    }

    /// Those whose CRLs gateways say that they have loaded: the issuing CAs of devices, and their root.
    fn loadable(&self) -> Vec<IssuerId> {
        let mut all = self.issuing();
        all.extend(self.publisher.device_roots().iter().map(|crl| crl.issuer));
        all
    }

    /// The issuing CAs of devices.
    fn issuing(&self) -> Vec<IssuerId> {
        self.issuers.publishing(self.publisher.now())
    }

    /// At how many gateways these CRLs or later ones are loaded. None, where gateways load none of them.
    pub fn loaded_at(&self, all: &[LoadedBy], crls: &[(IssuerId, u64)]) -> Option<LoadedAt> {
        let issuing = self.loadable();
        crls.iter().all(|(issuer, _)| issuing.contains(issuer)).then(|| LoadedAt::of(all, crls))
    }

    /// The CRLs that were the first to hold everything that cut this holder off.
    pub async fn held_since(&self, holder: &Subject) -> Result<Vec<(IssuerId, u64)>, Refusal> {
        let mut first = Vec::new();
        for (issuer, change) in self.store.last_changes(holder, self.now()).await? {
            let Some(served) = self.publisher.current(&issuer).filter(|crl| crl.watermark >= change) else { continue };
            let number = self.store.first_to_hold(issuer, change).await?;
            first.push((issuer, number.unwrap_or(served.number)));
        }
        Ok(first)
    }

    /// Waits until the gateways that are there have loaded these CRLs or later ones, at most so long: those that watch, or
    /// have acknowledged something within the last five minutes. Woken by what they say.
    pub async fn wait_for_gateways(&self, crls: &[(IssuerId, u64)], patience: Duration) -> Result<LoadedAt, Refusal> {
        if patience > LONGEST_WAIT {
            return Err(Refusal::invalid("patience", "must be at most 60 seconds"));
        }
        let issuing = self.loadable();
        if crls.iter().any(|(issuer, _)| !issuing.contains(issuer)) {
            return Err(Refusal::invalid("crls", "must be of CAs that issue devices' certificates, or of their root"));
        }
        let end = Instant::now() + patience;
        let mut told = self.word.listen();
        let now = self.now();
        let there: Vec<_> = self.loaded().await?.into_iter().filter(|gateway| gateway.is_there(now)).collect();
        let mut waiting: Vec<_> =
            there.iter().filter(|one| !one.has(crls)).map(|one| (&one.gateway, one.taken(crls))).collect();
        while !waiting.is_empty() && matches!(timeout_at(end, told.changed()).await, Ok(Ok(()))) {
            sleep(TOGETHER).await;
            told.borrow_and_update();
            waiting.retain(|(gateway, crls)| !self.word.has(gateway, crls));
        }
        // Who was cut off meanwhile counts no more.
        let there: HashSet<_> = there.iter().map(|one| &one.gateway).collect();
        Ok(LoadedAt::after_waiting(&self.loaded().await?, &there, crls))
    }

    /// A gateway watches until what this returns is dropped.
    pub fn watching(&self, who: &Subject) -> Option<Watching> {
        (who.kind == Kind::Gateway).then(|| self.word.watching(who))
    }

    /// Writes down what gateways say, for as long as the server runs.
    pub async fn keep_all_words(self: Arc<Self>) {
        loop {
            sleep(KEEP_EVERY).await;
            self.keep_words().await;
        }
    }

    /// Writes down what gateways have said since the last time.
    pub async fn keep_words(&self) {
        if let Err(error) = self.try_to_keep_words().await {
            tracing::warn!(%error, "what gateways say could not be written down yet");
        }
    }

    /// The same, tells metrics how far each is behind, and lets new issuing CAs sign that all have loaded.
    async fn try_to_keep_words(&self) -> Result<(), Refusal> {
        let unwritten = self.word.take_unwritten();
        if !unwritten.is_empty()
            && let Err(error) = self.store.record_acknowledgements(unwritten.clone()).await
        {
            self.word.put_back(&unwritten);
            return Err(error.into());
        }
        self.look_at_issuers().await?;
        let all = self.loaded().await?;
        self.telemetry.gateways(all.iter().map(|one| (one.gateway.id.to_string(), one.lag())).collect());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_while_somebody_waits_was_not_waited_for_and_is_told_of() {
        let issuer: IssuerId = "0123456789abcdef".parse().unwrap();
        let gateway = |id: &str, number: u64| LoadedBy {
            gateway: Subject::new(Kind::Gateway, id.parse().unwrap()),
            watches: true,
            heard_at: Some(Timestamp::default()),
            expires_at: None,
            fresh_since: None,
            crls: vec![LoadedCrl { issuer, said: Some((number, Timestamp::default())), behind: None }],
        };
        let all = [gateway("eu-7", 8), gateway("eu-8", 7)];
        let was_there = HashSet::from([&all[0].gateway]);
        let waited = LoadedAt::after_waiting(&all, &was_there, &[(issuer, 8)]);
        assert_eq!(waited, LoadedAt { gateways: 1, behind: vec![], not_heard: Some(1) });
    }
}
