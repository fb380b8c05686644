//! Publish: the CRLs of every issuer, signed, recorded and only then served.
//!
//! A publication takes the changes since the last one, encodes, signs, holds the new CRL against the one before it,
//! records its head (compare-and-swap on the number) and swaps it in. `http` and `rpc` serve it from memory.

mod catch_up;
mod dating;
mod delta;
mod device_list;
mod error;
mod make;
mod patches;
mod pending;
mod published;
mod root;
mod turn;

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use ring::digest::{SHA256, digest};
use tokio::sync::{Notify, Semaphore, watch};

pub use self::{dating::Leap, error::PublishError, published::Published};

pub(super) use self::pending::Pending;

use self::{
    dating::Dating,
    delta::Deltas,
    device_list::{BENCH, Lists},
    patches::Patches,
    turn::Engine,
};
use super::{Issuers, OnlineIssuer, Refusal};
use crate::{
    clock::Clock,
    identity::{FleetName, IssuerId, Timestamp},
    inventory::fleet::Policy,
    pki::{CaRole, Locations, RETENTION},
    store::{Store, StoreError},
    telemetry::Telemetry,
};

/// Changes within this time go into one publication.
const TOGETHER: Duration = Duration::from_millis(200);
/// Before the first one after a quiet time: a burst has begun, and its first change is not alone.
const BURST: Duration = Duration::from_millis(20);
/// How often an issuer publishes where nothing changes. A device's own list is good for an hour.
pub(super) const CADENCE: Duration = Duration::from_secs(30 * 60);
/// How long a CRL is good: an outage of the CA this long locks nobody out.
pub(super) const LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often the store is asked for changes that nobody here knows of.
const POLL: Duration = Duration::from_secs(5);
/// How long a caller waits for its revocation to be published.
const PATIENCE: Duration = Duration::from_secs(30);
/// Signs and serves CRLs.
pub struct Publisher {
    store: Arc<dyn Store>,
    dating: Dating,
    issuers: Arc<Issuers>,
    locations: Locations,
    telemetry: Arc<Telemetry>,
    engines: tokio::sync::Mutex<HashMap<IssuerId, Engine>>,
    served: ArcSwap<HashMap<IssuerId, Arc<Published>>>,
    lists: Mutex<Lists>,
    /// Where devices' own lists are made.
    pub(super) list_bench: Semaphore,
    patches: Mutex<HashMap<IssuerId, Patches>>,
    /// Where patches are made.
    pub(super) bench: Arc<Semaphore>,
    most_in_delta: OnceLock<usize>,
    deltas: Mutex<HashMap<IssuerId, Deltas>>,
    /// Where deltas are made.
    delta_bench: tokio::sync::Mutex<()>,
    wake: Notify,
    publications: watch::Sender<u64>,
    failure: ArcSwap<Option<String>>,
    /// The newest CRL of each root that somebody has shown and that was forgotten here.
    newest_roots: Mutex<BTreeMap<IssuerId, u64>>,
    /// A past was restored, and nobody has decided yet: nothing is published, and nothing served but roots' CRLs.
    halted: AtomicBool,
}

impl Publisher {
    /// Takes up where the store says that the last publications ended, and publishes what has changed since.
    pub async fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        issuers: Arc<Issuers>,
        locations: Locations,
        telemetry: Arc<Telemetry>,
    ) -> Result<Arc<Self>, PublishError> {
        let undecided = store.restorations().await?.iter().any(|restoration| restoration.resumption.is_none());
        telemetry.restored(undecided);
        let newest_roots = root::forgotten(store.as_ref()).await?;
        let publisher = Arc::new(Self {
            halted: AtomicBool::new(undecided),
            store,
            dating: Dating::new(clock),
            issuers,
            locations,
            telemetry,
            engines: tokio::sync::Mutex::default(),
            served: ArcSwap::default(),
            lists: Mutex::default(),
            list_bench: Semaphore::new(BENCH),
            patches: Mutex::default(),
            bench: Arc::new(Semaphore::new(1)),
            most_in_delta: OnceLock::new(),
            deltas: Mutex::default(),
            delta_bench: tokio::sync::Mutex::default(),
            wake: Notify::new(),
            publications: watch::Sender::new(0),
            failure: ArcSwap::default(),
            newest_roots: Mutex::new(newest_roots),
        });
        publisher.load().await?;
        publisher.publish_due(None).await?;
        Ok(publisher)
    }

    /// Publishes on every change and at every cadence, until it is dropped with the task that it runs in.
    pub async fn run(self: Arc<Self>) {
        loop {
            // A time-out is no fault: the cadence and other processes' changes are looked at then.
            if tokio::time::timeout(POLL, self.wake.notified()).await.is_ok() {
                tokio::time::sleep(BURST).await;
            }
            if let Err(error) = self.publish_due(None).await {
                tracing::error!(%error, "publishing a CRL failed: the last one goes on being served");
            }
            tokio::time::sleep(TOGETHER).await;
        }
    }

    /// A past was restored, and nobody has decided yet: what this store would publish may lack revocations. Gateways keep
    /// what they have, which is good for days.
    pub async fn halt(&self) {
        // A publication under way ends first, and what it serves is taken back.
        let _engines = self.engines.lock().await;
        self.halted.store(true, Ordering::SeqCst);
        self.telemetry.restored(true);
        let mut served = (**self.served.load()).clone();
        served.retain(|_, crl| crl.role.is_root());
        self.served.store(Arc::new(served));
        self.lists.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.deltas.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.failure.store(Arc::new(Some(PublishError::Restored.to_string())));
    }

    /// Whether the CA stands still until an operator has decided.
    pub fn is_halted(&self) -> bool {
        self.halted.load(Ordering::SeqCst)
    }

    /// Something has changed that must be published.
    pub fn wake_if(&self, changed: bool) {
        if changed {
            self.wake.notify_one();
        }
    }

    /// Waits until every change named is on a CRL that is served, and gives these CRLs' numbers. An issuing CA whose root has
    /// revoked it has none: its root's refuses all that it signed.
    pub async fn in_force(&self, watermarks: &[(IssuerId, u64)]) -> Result<Vec<(IssuerId, u64)>, Refusal> {
        if self.is_halted() && !watermarks.is_empty() {
            return Err(Refusal::Unpublished);
        }
        let mut publications = self.watch();
        self.wake_if(!watermarks.is_empty());
        let served = |(issuer, watermark): &(IssuerId, u64)| {
            self.current(issuer).filter(|crl| crl.watermark >= *watermark).map(|crl| (*issuer, crl.number))
        };
        let publishes = |(issuer, _): &&(IssuerId, u64)| self.issuers.publishes(issuer);
        let all = async {
            loop {
                publications.borrow_and_update();
                let crls: Option<Vec<_>> = watermarks.iter().filter(publishes).map(served).collect();
                if let Some(mut crls) = crls {
                    crls.extend(self.of_revoked(watermarks.iter().map(|(issuer, _)| *issuer)));
                    return Some(crls);
                }
                publications.changed().await.ok()?;
            }
        };
        tokio::time::timeout(PATIENCE, all).await.ok().flatten().ok_or(Refusal::Unpublished)
    }

    /// Tells of every publication, whether it had anything to publish or not.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.publications.subscribe()
    }

    /// The CRL that is served for an issuer.
    pub fn current(&self, issuer: &IssuerId) -> Option<Arc<Published>> {
        self.served.load().get(issuer).cloned()
    }

    /// Every CRL that is served, in the order of the issuers' IDs.
    pub fn all(&self) -> Vec<Arc<Published>> {
        let mut all: Vec<_> = self.served.load().values().cloned().collect();
        all.sort_by_key(|crl| crl.issuer);
        all
    }

    /// What a gateway loads: the device roots' CRLs, then those of every issuing CA of devices that has not come to its end.
    /// `None` where one of them is missing: a gateway with an incomplete set would let the revoked in.
    pub fn bundle(&self) -> Option<Vec<Arc<Published>>> {
        self.bundle_of(&self.issuers.publishing(self.now()))
    }

    /// What a gateway of one fleet loads: of the issuing CAs only those that the fleet's devices have certificates of, or
    /// may be given some of.
    pub async fn fleet_bundle(
        &self,
        fleet: &FleetName,
        policy: &Policy,
    ) -> Result<Option<Vec<Arc<Published>>>, StoreError> {
        Ok(self.bundle_of(&self.issuers_for(fleet, policy).await?))
    }

    /// The issuing CAs whose CRLs a gateway of this fleet loads, in the order of their IDs.
    pub(super) async fn issuers_for(&self, fleet: &FleetName, policy: &Policy) -> Result<Vec<IssuerId>, StoreError> {
        let now = self.now();
        // Before what is live: a certificate that is made in between is of one of them.
        let mut members = self.issuers.members(&policy.spread, now);
        members.extend(self.store.issuers_needed_by(fleet, now - RETENTION).await?);
        let mut ids = self.issuers.publishing(now);
        ids.retain(|id| members.contains(id));
        Ok(ids)
    }

    /// The CRLs of the devices' roots that are served, in the order of their IDs.
    pub fn device_roots(&self) -> Vec<Arc<Published>> {
        self.all().into_iter().filter(|crl| crl.role == CaRole::DeviceRoot).collect()
    }

    /// The CRLs that refuse what these issuing CAs signed, as far as their root has revoked them: their own are not to be
    /// believed any more.
    pub fn of_revoked(&self, mut issuers: impl Iterator<Item = IssuerId>) -> Vec<(IssuerId, u64)> {
        let roots = if issuers.any(|id| self.issuers.is_revoked(&id)) { self.device_roots() } else { Vec::new() };
        roots.iter().map(|crl| (crl.issuer, crl.number)).collect()
    }

    fn bundle_of(&self, issuing: &[IssuerId]) -> Option<Vec<Arc<Published>>> {
        let certificates = self.issuers.certificates();
        let roots = certificates.filter(|(_, role, _)| *role == CaRole::DeviceRoot).map(|(id, ..)| *id);
        let mut roots: Vec<IssuerId> = roots.collect();
        roots.sort();
        roots.iter().chain(issuing).map(|id| self.current(id)).collect()
    }

    /// Publishes every issuing CA's CRL now. `accept_clock`: the clock has been checked, removals and dates may follow it.
    pub async fn publish_now(self: &Arc<Self>, accept_clock: bool) -> Result<(), PublishError> {
        let publisher = self.clone();
        to_its_end(async move { publisher.publish_due(Some(accept_clock)).await }).await
    }

    /// By what is dated what is signed now: the clock, as far as it is believed.
    pub fn now(&self) -> Timestamp {
        self.dating.now()
    }

    /// Whether the clock runs ahead of the time that goes by: readiness says so.
    pub fn leap(&self) -> Option<Leap> {
        self.dating.leap()
    }

    /// Why the last publication failed, if it did: readiness says so.
    pub fn failure(&self) -> Option<String> {
        self.failure.load().as_ref().clone()
    }

    fn patches_of<T>(&self, issuer: IssuerId, work: impl FnOnce(&mut Patches) -> T) -> T {
        work(self.patches.lock().unwrap_or_else(PoisonError::into_inner).entry(issuer).or_default())
    }

    fn online(&self, issuer: &IssuerId) -> Result<&OnlineIssuer, PublishError> {
        self.issuers.online().find(|online| online.issuer.id() == *issuer).ok_or(PublishError::UnknownIssuer)
    }

    /// Publishes every issuing CA's CRL that is due, or each one where somebody asked for it and said whether the clock
    /// is accepted. The first failure is told, after all have been tried.
    async fn publish_due(&self, asked: Option<bool>) -> Result<(), PublishError> {
        let mut engines = self.engines.lock().await;
        if let Some(leap) = self.dating.new_leap() {
            tracing::error!(says = %leap.says, expected = %leap.expected, "the clock leapt: CRLs are not dated by it");
            self.telemetry.event("clock.leapt", "clock", &leap.to_string(), leap.expected);
        }
        if self.is_halted() {
            self.failure.store(Arc::new(Some(PublishError::Restored.to_string())));
            self.publications.send_modify(|count| *count += 1);
            return if asked.is_some() { Err(PublishError::Restored) } else { Ok(()) };
        }
        if asked == Some(true) {
            self.dating.accept();
        }
        let mut outcome = Ok(());
        for online in self.issuers.online() {
            let engine = engines.entry(online.issuer.id()).or_default();
            let mut published = self.publish(online, engine, asked).await;
            if matches!(published, Err(PublishError::Store(StoreError::Conflict))) {
                // Somebody else has published: on from there.
                published = self.publish(online, engine, asked).await;
            }
            if let Err(error) = published {
                self.telemetry.publication_failed();
                outcome = outcome.and(Err(error));
            }
        }
        drop(engines);
        self.failure.store(Arc::new(outcome.as_ref().err().map(ToString::to_string)));
        self.publications.send_modify(|count| *count += 1);
        outcome
    }
}

/// Runs a publication to its end even where the caller goes away: what is recorded must be what is served.
async fn to_its_end(
    publication: impl Future<Output = Result<(), PublishError>> + Send + 'static,
) -> Result<(), PublishError> {
    tokio::spawn(publication).await.unwrap_or(Err(PublishError::CutOff))
}

/// SHA-256 of a CRL's bytes.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}
