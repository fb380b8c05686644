//! Which fleet takes a device that nobody registered. What fleets pin is read once for many devices.

use std::{collections::BTreeSet, sync::Arc};

use arc_swap::ArcSwap;

use crate::{
    attestation::{
        AttestationError,
        chain::{Anchor, ChainError, Pinned, Roots},
    },
    authority::{Authority, Refusal},
    identity::FleetName,
    inventory::{
        fleet::{Method, Policy},
        unknown::UnknownDevices,
    },
};

/// The methods by which makers vouch for devices.
const VOUCHED: [Method; 2] = [Method::Factory, Method::Tpm];

/// What was read last: it counts until any fleet changes.
#[derive(Default)]
pub(in crate::authority) struct Kept {
    takers: ArcSwap<Read<Takers>>,
    factory: ArcSwap<Read<Roots>>,
}

/// What was read of all fleets, and their revision before; `None`: nothing was.
#[derive(Default)]
struct Read<T> {
    revision: Option<u64>,
    what: Arc<T>,
}

/// Fleets that take unknown devices.
#[derive(Default)]
pub(in crate::authority) struct Takers {
    by_method: Vec<(Method, Pinned, Vec<Taker>)>,
}

/// A fleet that takes unknown devices by a method.
pub(in crate::authority) struct Taker {
    pub name: FleetName,
    pub policy: Policy,
    /// Its own roots.
    pub roots: Roots,
    anchors: BTreeSet<Anchor>,
}

impl Takers {
    fn read(open: &[(FleetName, Policy)]) -> Result<Self, ChainError> {
        let mut by_method = Vec::new();
        for method in VOUCHED {
            let taking = open.iter().filter(|(_, policy)| takes(policy, method));
            let taker = |(name, policy): &(FleetName, Policy)| {
                let pinned = policy.roots(method).iter().map(Vec::as_slice);
                Ok(Taker {
                    name: name.clone(),
                    policy: policy.clone(),
                    roots: Roots::read(pinned.clone())?,
                    anchors: Pinned::read(pinned)?.anchors().cloned().collect(),
                })
            };
            let takers = taking.map(taker).collect::<Result<Vec<_>, _>>()?;
            let pinned = takers.iter().flat_map(|taker| taker.policy.roots(method)).map(Vec::as_slice);
            by_method.push((method, Pinned::read(pinned)?, takers));
        }
        Ok(Self { by_method })
    }

    /// The fleet of this name, if it takes unknown devices by this method.
    pub fn named(&self, method: Method, name: &FleetName) -> Result<&Taker, AttestationError> {
        self.by(method)?.1.iter().find(|taker| taker.name == *name).ok_or(AttestationError::Unregistered)
    }

    /// The other fleets that take unknown devices by this method with a root that one of this fleet's leads to, or that leads
    /// to one of this fleet's: what comes below both is nobody's.
    pub fn rivals(&self, method: Method, name: &FleetName) -> Vec<FleetName> {
        let Ok((pinned, takers)) = self.by(method) else { return Vec::new() };
        let above = |taker: &Taker| -> BTreeSet<Anchor> {
            let roots = taker.policy.roots(method).iter().map(std::slice::from_ref);
            roots.filter_map(|root| pinned.reached(root).ok()).flat_map(|reached| reached.anchors).collect()
        };
        let Some(own) = takers.iter().find(|taker| taker.name == *name) else { return Vec::new() };
        let above_own = above(own);
        let meets = |other: &&Taker| {
            other.name != *name && (!above_own.is_disjoint(&other.anchors) || !above(other).is_disjoint(&own.anchors))
        };
        takers.iter().filter(meets).map(|other| other.name.clone()).collect()
    }

    /// What is pinned for a method, and by whom.
    fn by(&self, method: Method) -> Result<(&Pinned, &[Taker]), AttestationError> {
        let found = self.by_method.iter().find(|(its, ..)| *its == method);
        found.map(|(_, pinned, takers)| (pinned, takers.as_slice())).ok_or(AttestationError::Unregistered)
    }

    /// The one fleet with a root that this chain leads to by any way, at any time: nothing that the sender can leave out or
    /// put in, and no fleet's ban or date, makes another one of it. Whether that fleet takes it is another question.
    pub fn taker(&self, method: Method, chain: &[Vec<u8>]) -> Result<&Taker, AttestationError> {
        let (pinned, takers) = self.by(method)?;
        let reached = pinned.reached(chain).map_err(AttestationError::Chain)?;
        let mut takers = takers.iter().filter(|taker| !taker.anchors.is_disjoint(&reached.anchors));
        match (takers.next(), takers.next()) {
            (Some(taker), None) => Ok(taker),
            (Some(one), Some(other)) => {
                let (one, other) = (&one.name, &other.name);
                tracing::warn!(%one, %other, "more than one fleet takes unknown devices of this maker; all are refused");
                Err(AttestationError::Ambiguous)
            }
            (None, _) => Err(AttestationError::Unregistered),
        }
    }
}

/// Whether a fleet takes unknown devices by this method, if a maker vouches for them.
pub(super) fn takes(policy: &Policy, method: Method) -> bool {
    policy.unknown.devices != UnknownDevices::Refuse && policy.vouched().contains(&method)
}

const UNREADABLE: Refusal = Refusal::Internal("a pinned root is unreadable");

impl Authority {
    /// The fleets that take unknown devices now.
    pub(in crate::authority) async fn takers(&self) -> Result<Arc<Takers>, Refusal> {
        let revision = Some(self.store.fleets_revision().await?);
        let kept = self.kept.takers.load();
        if kept.revision == revision {
            return Ok(kept.what.clone());
        }
        let takers = Arc::new(Takers::read(&self.store.open_fleets().await?).map_err(|_| UNREADABLE)?);
        self.kept.takers.store(Arc::new(Read { revision, what: takers.clone() }));
        Ok(takers)
    }

    /// The makers' roots of every fleet.
    pub(in crate::authority) async fn factory_roots(&self) -> Result<Arc<Roots>, Refusal> {
        let revision = Some(self.store.fleets_revision().await?);
        let kept = self.kept.factory.load();
        if kept.revision == revision {
            return Ok(kept.what.clone());
        }
        let roots = Arc::new(read(&self.store.factory_roots().await?)?);
        self.kept.factory.store(Arc::new(Read { revision, what: roots.clone() }));
        Ok(roots)
    }
}

/// Roots that are pinned.
pub(super) fn read(certificates: &[Vec<u8>]) -> Result<Roots, Refusal> {
    Roots::read(certificates.iter().map(Vec::as_slice)).map_err(|_| UNREADABLE)
}
